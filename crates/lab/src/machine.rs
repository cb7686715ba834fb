//! What a lane runs on: a machine that starts a digest unmodified, takes the check runner in, and goes away again.
//!
//! ```text
//!  start ──▶ run_checks ──▶ state ──▶ evidence ──▶ stop   (a machine started with `keep` stays)
//!    └─ a fault ends the lane; the machine has removed what it made
//! ```
//!
//! A lane ([`crate::lane`]) knows machines by this trait only. podman's is in [`crate::container`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::FailureKind;
use edgewright_process::{CommandError, Ended, Stream};

use crate::evidence::Piece;

/// A boxed future, so that machines can be chosen at run time.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Receives the check runner's output, line by line.
pub(crate) type OnLine<'a> = &'a mut (dyn FnMut(Stream, &str) + Send);

/// One machine of one lane. It is made for a job, started once and stopped once.
pub(crate) trait Machine: fmt::Debug + Send + Sync {
    /// How this kind of machine is made and how fast it is. Known before it starts.
    fn facts(&self) -> MachineFacts;

    /// Fetches and starts a digest with its own init. Where this fails nothing is left.
    fn start<'a>(&'a mut self, start: Start<'a>) -> BoxFuture<'a, Result<(), Trouble>>;

    /// Brings the check runner in, gives it `order` and reads its lines until it ends, the machine ends, or the time is
    /// over. The same after a cancellation.
    fn run_checks<'a>(
        &'a self,
        order: Vec<u8>,
        within: Duration,
        on_line: OnLine<'a>,
    ) -> BoxFuture<'a, RunnerEnd>;

    /// Whether the image's init still runs.
    fn state(&self) -> BoxFuture<'_, Result<MachineState, Trouble>>;

    /// What shows why the lane ended as it did. What cannot be gathered is missing.
    fn evidence<'a>(&'a self, state: &'a MachineState) -> BoxFuture<'a, Vec<Piece>>;

    /// Removes the machine, also after a cancellation.
    fn stop(&mut self) -> BoxFuture<'_, ()>;
}

/// What a verdict says of the machine that it was found on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MachineFacts {
    /// How it is made: part of a verdict's identity.
    pub(crate) profile: &'static str,
    /// Factor on every time limit: 1 at the speed of real hardware, more under an emulated processor.
    pub(crate) scale: f64,
    /// What makes its processor fast, such as `kvm`; none where it is no virtual one.
    pub(crate) accelerator: Option<&'static str>,
    /// Digest of the check runner that is brought in.
    pub(crate) runner: Digest,
}

/// How a machine is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    /// The platform manifest.
    pub(crate) manifest: &'a ManifestRef,
    /// Whether it stays when its checks are done, for somebody to look into.
    pub(crate) keep: bool,
    /// How long it may take.
    pub(crate) within: Duration,
}

/// How the check runner ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunnerEnd {
    /// It exited, or was killed inside of the machine.
    Ended(Ended),
    /// The job was cancelled.
    Cancelled,
    /// The machine did not answer in time.
    Hung,
    /// It could not be started.
    Failed(Trouble),
}

/// How a machine's init is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MachineState {
    /// It runs.
    Runs,
    /// It ended.
    Ended {
        /// What the init is.
        init: String,
        /// Its exit code.
        code: i64,
        /// Whether the kernel killed it for want of memory.
        out_of_memory: bool,
    },
}

/// Why a lane cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Whose fault.
    pub(crate) kind: FailureKind,
    /// What happened, on one line.
    pub(crate) message: String,
}

impl Trouble {
    /// The host's fault.
    pub(crate) const fn of_host(message: String) -> Self {
        Self { kind: FailureKind::Infrastructure, message }
    }

    /// A subprocess of the host failed.
    pub(crate) fn infrastructure(what: &str, error: &CommandError) -> Self {
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Self::of_host(format!("{what}: {}{hint}", Chain(error)))
    }

    /// The image's fault.
    pub(crate) const fn of_image(message: String) -> Self {
        Self { kind: FailureKind::Image, message }
    }
}
