//! The scripted behaviour of simulated jobs.

use edgewright_model::names::CheckId;
use edgewright_model::outcome::{FailureKind, JobFailure};
use serde::{Deserialize, Serialize};

/// The behaviour of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "behaviour", rename_all = "snake_case")]
pub enum Behaviour {
    /// Everything passes.
    #[default]
    Succeed,
    /// Everything passes, after this time in milliseconds.
    Slow {
        /// The time.
        ms: u64,
    },
    /// The last step fails, earlier ones are built.
    FailBuild {
        /// The kind of the failure.
        kind: FailureKind,
    },
    /// All is built; the first check of every lane fails.
    FailLanes {
        /// The kind of the failure.
        kind: FailureKind,
    },
    /// All is built; these checks fail in every lane that has them.
    FailChecks {
        /// The kind of the failure.
        kind: FailureKind,
        checks: Vec<CheckId>,
    },
    /// Prints this many log lines, then everything passes.
    Flood {
        /// The number of lines.
        lines: u64,
    },
    /// Ends without an outcome.
    Crash,
    /// Never ends by itself.
    Hang,
}

/// Why a job is not admitted.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection {
    /// It may ask again at once.
    Later,
    /// It fails.
    Never(JobFailure),
}
