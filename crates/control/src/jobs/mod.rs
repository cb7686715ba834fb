//! Jobs: from what a run wants to what the executor answers. Runs, locks and rebuilds use this; it knows none
//! of them.
//!
//! ```text
//!  node, lane, lock ─ order.rs ─▶ task ─ admission ─▶ permit ─ perform ─▶ outcome ─ results.rs ─▶ pins
//!                     pack.rs                          events, log ◀┘
//! ```

mod demand;
mod events;
mod order;
mod pack;
mod results;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use edgewright_job::{Admission, Demand, Executor, Permit};
use edgewright_model::duration::Span;
use edgewright_model::names::{Platform, SourceName};
use edgewright_model::order::{JobId, JobRequest, Task, TrustDomain};
use edgewright_model::outcome::{JobFailure, JobOutcome};
use edgewright_model::run::RunNumber;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneInputs, lane_inputs};
use edgewright_process::Clock;
use edgewright_source::Mirror;
use edgewright_store::Store;
use tokio_util::sync::CancellationToken;

use crate::ControlError;
use crate::events::Events;
use crate::hosting::Hosting;
use crate::logs::Logs;
use crate::settings::SecretGrant;

pub(crate) use demand::step_kinds;
pub(crate) use order::{image_task, repository_in};

/// How jobs are ordered.
#[derive(Debug, Clone)]
pub(crate) struct JobSettings {
    /// The time limit of one job.
    pub(crate) within: Span,
    /// The time limit of one lane.
    pub(crate) lane_within: Span,
    /// Folder for contexts while they are packed.
    pub(crate) scratch: PathBuf,
}

/// Has jobs done.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    pub(crate) store: Store,
    pub(crate) hosting: Hosting,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    pub(crate) logs: Logs,
    pub(crate) settings: JobSettings,
}

/// The run that a job belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunScope<'a> {
    pub(crate) run: RunNumber,
    /// Whose work it is.
    pub(crate) domain: TrustDomain,
    /// The name in the commit's definition: repositories are below it.
    pub(crate) source: &'a SourceName,
    /// Has the commit's files.
    pub(crate) mirror: &'a Mirror,
    /// The build secrets of the source's trusted refs.
    pub(crate) secrets: &'a SecretGrant,
    /// Ends the job.
    pub(crate) cancel: &'a CancellationToken,
}

/// What a job is called in events and logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    /// `hmi/plant-a`, `lock base`, `rebuild hmi/plant-a`.
    pub(crate) name: &'a str,
    /// The platform; absent for locks.
    pub(crate) platform: Option<&'a Platform>,
    /// Whether it is the job of a node of the run, whose row shows the phase.
    pub(crate) is_node: bool,
}

/// A new job's id.
pub(crate) fn new_job() -> JobId {
    JobId(uuid::Uuid::now_v7())
}

/// The outcome of a job that made nothing.
pub(crate) fn made_nothing(failure: Option<JobFailure>) -> JobOutcome {
    JobOutcome { failure, ..JobOutcome::empty() }
}

impl Jobs {
    /// The inputs of verdicts as jobs would find them today, by lane.
    pub(crate) fn lane_inputs(&self) -> BTreeMap<Lane, LaneInputs> {
        lane_inputs(|lane| self.executor.lane_profile(lane))
    }

    /// What the executor is asked for.
    pub(crate) const fn request(&self, scope: &RunScope<'_>, job: JobId, task: Task) -> JobRequest {
        JobRequest { job, domain: scope.domain, task, within: self.settings.within }
    }

    /// Asks the executor once whether a job may start.
    ///
    /// # Errors
    /// [`ControlError::Stopped`] where the run is stopped meanwhile.
    pub(crate) async fn ask(&self, scope: &RunScope<'_>, demand: Demand) -> Result<Admission, ControlError> {
        let TrustDomain { source, trusted } = scope.domain;
        let demand = Demand { untrusted: (!trusted).then_some(source), ..demand };
        tokio::select! {
            admission = self.executor.admit(demand) => Ok(admission),
            () = scope.cancel.cancelled() => Err(ControlError::Stopped),
        }
    }

    /// Waits until a job may start. The failure is the executor's reason why it never will.
    async fn admit(
        &self,
        scope: &RunScope<'_>,
        demand: Demand,
    ) -> Result<Result<Permit, JobFailure>, ControlError> {
        loop {
            match self.ask(scope, demand.clone()).await? {
                Admission::Now(permit) => return Ok(Ok(permit)),
                Admission::Never(failure) => return Ok(Err(failure)),
                Admission::Later { reason, retry_after } => {
                    tracing::info!(run.number = scope.run.0, reason, "a job has to wait");
                    tokio::select! {
                        () = tokio::time::sleep(retry_after) => {}
                        () = scope.cancel.cancelled() => return Err(ControlError::Stopped),
                    }
                }
            }
        }
    }

    /// Has a job done as soon as the executor admits it.
    ///
    /// # Errors
    /// [`ControlError::Stopped`] where the run is stopped. All else that goes wrong is a failure in the
    /// outcome.
    pub(crate) async fn run(
        &self,
        scope: &RunScope<'_>,
        label: Label<'_>,
        demand: Demand,
        task: Task,
    ) -> Result<JobOutcome, ControlError> {
        match self.admit(scope, demand).await? {
            Ok(permit) => self.perform(scope, label, self.request(scope, new_job(), task), permit).await,
            Err(failure) => Ok(made_nothing(Some(failure))),
        }
    }
}
