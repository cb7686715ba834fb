//! Why a job has no outcome. But for a job that writes too much, it is a failure of the infrastructure: a
//! retry may succeed.

use edgewright_model::duration::Span;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_process::{CommandError, Ended};

const MIB: u64 = 1024 * 1024;

/// Why a job has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// It was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// It took longer than its order allows.
    #[error("the job took longer than {within}")]
    TimeLimit {
        /// The order's limit.
        within: Span,
        /// Its last phase.
        phase: Option<Phase>,
    },
    /// It wrote more than it may.
    #[error("the job wrote {} MiB, more than the {} MiB that one job may write", written / MIB, bound / MIB)]
    Disk {
        /// What it had written, in bytes.
        written: u64,
        /// What it may write, in bytes.
        bound: u64,
        /// Its last phase.
        phase: Option<Phase>,
    },
    /// The job process could not be started or watched.
    #[error("cannot run the job process")]
    Start(#[source] CommandError),
    /// The job's sandbox could not be made.
    #[error("cannot make the job's sandbox")]
    Sandbox(#[source] std::sync::Arc<edgewright_sandbox::SandboxError>),
    /// The platform that runs the executor's jobs did not run this one.
    #[error("{message}")]
    Platform {
        /// What failed and why, on one line.
        message: String,
        /// The next action, in the imperative.
        hint: Option<String>,
        /// The last lines of the platform's own output.
        output: Vec<String>,
    },
    /// The order was made with other versions of the tools.
    #[error("the tools changed after the run was planned ({})", changes.join(", "))]
    ToolsChanged {
        /// Which, such as `buildah 1.38.1 → 1.39.3`.
        changes: Vec<String>,
    },
    /// A job in this process panicked: a defect.
    #[error("the job panicked")]
    Broke(#[source] tokio::task::JoinError),
    /// The job process ended without an outcome.
    #[error("the job process ended without an outcome: {ended}")]
    NoOutcome {
        /// How it ended.
        ended: Ended,
        /// Its last phase.
        phase: Option<Phase>,
        /// A line of its standard output that is not an event, if there was one.
        garbage: Option<String>,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The job process uses another version of the protocol.
    #[error(
        "unsupported version {found} of the job protocol from the job process, expected {}",
        edgewright_model::order::ORDER_VERSION
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// The order could not be written as JSON: a defect.
    #[error("the order cannot be written as JSON")]
    Order(#[source] serde_json::Error),
}

impl ExecutorError {
    /// The class.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Cancelled | Self::ToolsChanged { .. } => ErrorClass::Conflict,
            Self::Disk { .. } => ErrorClass::UserFault,
            Self::TimeLimit { .. } | Self::Start(_) | Self::NoOutcome { .. } | Self::Platform { .. } => {
                ErrorClass::Unavailable
            }
            Self::Sandbox(error) => error.class(),
            Self::Broke(_) | Self::Version { .. } | Self::Order(_) => ErrorClass::Bug,
        }
    }

    /// The failure of the job.
    pub fn failure(&self) -> JobFailure {
        let (phase, hint, output) = match self {
            Self::Cancelled | Self::Order(_) => (None, None, Vec::new()),
            Self::Sandbox(error) => {
                return JobFailure {
                    kind: FailureKind::Infrastructure,
                    phase: Phase::Fetch,
                    message: Chain(self).to_string(),
                    hint: error.hint(),
                    output: Vec::new(),
                };
            }
            Self::Disk { phase, .. } => {
                return JobFailure {
                    kind: FailureKind::Image,
                    phase: phase.unwrap_or(Phase::Build),
                    message: Chain(self).to_string(),
                    hint: Some(
                        "see the end of the job's log for the step that writes so much; `[jobs] disk_gib` in \
                         the settings is the limit, or half of the free space"
                            .to_owned(),
                    ),
                    output: Vec::new(),
                };
            }
            Self::Platform { hint, output, .. } => (None, hint.as_deref(), output.clone()),
            Self::ToolsChanged { .. } => {
                (None, Some("run the commit again: it is planned with the tools of now"), Vec::new())
            }
            Self::Broke(_) => (None, Some("report this defect with the server's log"), Vec::new()),
            Self::TimeLimit { phase, .. } => (
                *phase,
                Some("see the end of the job's log; `[jobs] timeout` in the settings is the limit"),
                Vec::new(),
            ),
            Self::Start(error) => (None, error.hint(), error.stderr_tail().to_vec()),
            Self::NoOutcome { phase, ended, garbage, log } => {
                let mut output: Vec<String> =
                    garbage.iter().map(|line| format!("on standard output: {line}")).collect();
                output.extend_from_slice(log);
                let hint = match ended {
                    Ended::Signal(9) => {
                        "check whether the machine ran out of memory (see `dmesg`): the process was killed"
                    }
                    _ => "if it happens again, report this defect with the job's log",
                };
                (*phase, Some(hint), output)
            }
            Self::Version { .. } => {
                (None, Some("restart the server: server and job process must be the same build"), Vec::new())
            }
        };
        JobFailure {
            kind: FailureKind::Infrastructure,
            phase: phase.unwrap_or(Phase::Fetch),
            message: Chain(self).to_string(),
            hint: hint.map(str::to_owned),
            output,
        }
    }
}
