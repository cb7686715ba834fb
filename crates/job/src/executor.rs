//! The port by which control runs jobs: an executor admits a job first, and then runs it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use edgewright_model::order::{JobRequest, ManifestRef, StepAction};
use edgewright_model::outcome::{JobEvent, JobFailure, JobOutcome};
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::LaneProfile;
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::export::Exported;

/// A boxed future, so that executors can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A suitable capacity for a job's channel of events.
pub const EVENTS: usize = 1024;

/// Runs jobs. [`crate::conformance`] is the suite that every executor must pass.
///
/// An executor owns its capacity: whether there is a free slot, enough memory and enough disk is its
/// decision, made in [`Executor::admit`] before the order is packed. No job runs without the permit of an
/// admission.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Waits for a free slot, then decides whether a job may start: now, later, or never. Trusted jobs come
    /// first come, first served. Untrusted ones have slots of their own, which their sources take in turn,
    /// and never keep a trusted job waiting. Dropping the future gives up the place in the queue.
    fn admit(&self, demand: Demand) -> BoxFuture<'_, Admission>;

    /// Runs one job. The permit is freed when the job has ended, however it ended. `events` receives the
    /// job's progress, never its outcome; events that find the channel full are dropped, logs first. When
    /// `cancel` fires, the job is cleaned up, then the future ends. Cancel rather than drop the future: a
    /// dropped job is killed without cleaning up.
    ///
    /// # Errors
    /// Whatever prevented the job from reporting an outcome. A failure that the job reports itself is an
    /// outcome.
    fn run(
        &self,
        request: JobRequest,
        permit: Permit,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>>;

    /// The profile of a lane: verdicts of its jobs have these inputs. None: this executor cannot run the
    /// lane.
    fn lane_profile(&self, lane: Lane) -> Option<LaneProfile>;

    /// The programs that decide about the bytes of images, as a job would find them now. An executor that
    /// makes its tools itself makes them first where they are missing, which may take minutes and is reported
    /// as events. Empty: not known; jobs then fail with the reason.
    ///
    /// A job whose order was made with other versions fails.
    fn tools<'a>(
        &'a self,
        events: mpsc::Sender<JobEvent>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, ToolVersions>;

    /// The objects that would run a job which builds or tests `built`, so that a person can create them. They
    /// are no job of this executor. `with_token`: they hold a token, valid as long as the credential.
    ///
    /// # Errors
    /// This executor's jobs are no objects, or something that the objects name cannot be read.
    fn export<'a>(
        &'a self,
        request: JobRequest,
        built: &'a ManifestRef,
        with_token: bool,
    ) -> BoxFuture<'a, Result<Exported, ExecutorError>> {
        let _ = (request, built, with_token);
        Box::pin(std::future::ready(Err(ExecutorError::Platform {
            message: "jobs are processes on the server's host: there are no objects to export".to_owned(),
            hint: Some("name a cluster in `[cluster]` of the server's settings".to_owned()),
            output: Vec::new(),
        })))
    }

    /// How many trusted jobs run at the same time, and how many could.
    fn capacity(&self) -> Capacity;
}

/// The estimated needs of a job, known before its order is packed. A job that resolves a lock has neither
/// steps nor lanes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// The steps to execute.
    pub steps: Vec<StepKind>,
    /// The lanes to run.
    pub lanes: Vec<Lane>,
    /// Compressed size in bytes of the node's earlier build, if there is one.
    pub image_bytes: Option<u64>,
    /// The source of an untrusted job ([`edgewright_model::order::TrustDomain`]); none: it is trusted.
    pub untrusted: Option<u64>,
}

/// What kind of work a step is: this decides how much disk it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// Installs an operating system.
    Bootstrap,
    /// Runs the commands of a Containerfile.
    Containerfile,
    /// Writes a layer of files; nothing is unpacked.
    Files,
}

impl From<&StepAction> for StepKind {
    fn from(action: &StepAction) -> Self {
        match action {
            StepAction::Bootstrap { .. } => Self::Bootstrap,
            StepAction::Containerfile { .. } => Self::Containerfile,
            StepAction::Files { .. } => Self::Files,
        }
    }
}

/// The answer to a [`Demand`].
#[derive(Debug)]
pub enum Admission {
    /// The job may start.
    Now(Permit),
    /// Not at present: running jobs hold the resources that this one needs.
    Later {
        /// The missing resource, as text.
        reason: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// Never: this is the job's failure.
    Never(JobFailure),
}

/// One job's share of an executor's capacity. The share is free again when this is dropped.
pub struct Permit(#[expect(dead_code, reason = "it is held for its destructor")] Box<dyn Send + Sync>);

impl Permit {
    /// A permit that holds `share`, whose destructor frees the capacity.
    pub fn new(share: impl Send + Sync + 'static) -> Self {
        Self(Box::new(share))
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// How busy an executor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// How many jobs it runs at the same time at most.
    pub slots: usize,
    /// How many permits are held now.
    pub in_use: usize,
}
