//! What can keep a job from giving an outcome. All of it is infrastructure: trying again may help.

use edgewright_model::duration::Span;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_process::{CommandError, Ended};

/// Why a job gave no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// Somebody did not want it any more.
    #[error("the job was cancelled")]
    Cancelled,
    /// It took longer than its order allows.
    #[error("the job took longer than {within}")]
    TimeLimit {
        /// The order's limit.
        within: Span,
        /// What it was doing.
        phase: Option<Phase>,
    },
    /// The job process could not be started or watched.
    #[error("cannot run the job process")]
    Start(#[source] CommandError),
    /// A job in this process broke off: a defect.
    #[error("the job broke off")]
    Broke(#[source] tokio::task::JoinError),
    /// The job process ended without an outcome.
    #[error("the job process ended with {ended} and without an outcome")]
    NoOutcome {
        /// How it ended.
        ended: Ended,
        /// What it was doing.
        phase: Option<Phase>,
        /// A line of its standard output that is no event, if there was one.
        garbage: Option<String>,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The job process speaks another version of the protocol.
    #[error(
        "the job process speaks version {found} of the job protocol, not {}",
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
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Cancelled => ErrorClass::Conflict,
            Self::TimeLimit { .. } | Self::Start(_) | Self::NoOutcome { .. } => ErrorClass::Unavailable,
            Self::Broke(_) | Self::Version { .. } | Self::Order(_) => ErrorClass::Bug,
        }
    }

    /// As the failure of the job that it is: of the infrastructure, whatever it was.
    pub fn failure(&self) -> JobFailure {
        let (phase, hint, output) = match self {
            Self::Cancelled | Self::Order(_) => (None, None, Vec::new()),
            Self::Broke(_) => {
                (None, Some("this is a defect: please report it with the server's log"), Vec::new())
            }
            Self::TimeLimit { phase, .. } => (
                *phase,
                Some("the job's log says what it waited for; `[jobs] within` in the settings is the limit"),
                Vec::new(),
            ),
            Self::Start(error) => (None, error.hint(), error.stderr_tail().to_vec()),
            Self::NoOutcome { phase, ended, garbage, log } => {
                let mut output: Vec<String> =
                    garbage.iter().map(|line| format!("on standard output: {line}")).collect();
                output.extend_from_slice(log);
                let hint = match ended {
                    Ended::Signal(9) => "it was killed: the machine may be short of memory (see `dmesg`)",
                    _ => "this is a defect if it happens again: please report it with the job's log",
                };
                (*phase, Some(hint), output)
            }
            Self::Version { .. } => {
                (None, Some("server and job process must be the same build: restart the server"), Vec::new())
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
