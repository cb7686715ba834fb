//! The runner's input and output.
//!
//! In: one [`RunOrder`] as JSON on standard input. Out: one [`RunLine`] per line of standard output, a result
//! as soon as its check is decided, the summary last; without a summary the run was interrupted.

use edgewright_model::spec::{Check, Lane};
use edgewright_model::verdict::{CheckOutcome, CheckResult};
use serde::{Deserialize, Serialize};

/// The version of orders that this runner understands.
pub const ORDER_VERSION: u32 = 1;

/// The semantic version of the checks, part of every verdict's identity. Raise it when the same check on the
/// same image may have a different result than before: then every lane with a machine runs again. Changes of
/// messages, output, speed or the binary's bytes do not need it.
pub const RUNNER_SEMANTICS: u32 = 1;

/// The runner's order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOrder {
    /// [`ORDER_VERSION`].
    pub version: u32,
    /// The lane: a check for other lanes only is skipped.
    pub lane: Lane,
    /// The checks.
    pub checks: Vec<Check>,
    /// Factor for every time limit, 0.1 to 100: 1 on real hardware, more under an emulated processor.
    pub scale: f64,
    /// What the machine starts as process 1, for messages: "`/bin/app` as `daemon`".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<String>,
}

/// Why an order cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOrder {
    /// It is not a JSON order.
    #[error("malformed order on standard input")]
    Json(#[from] serde_json::Error),
    /// Its version is not supported.
    #[error(
        "unsupported order version {0}: this runner reads version {ORDER_VERSION}; use the runner of the same build of Edgewright"
    )]
    Version(u32),
}

impl RunOrder {
    /// Reads an order.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidOrder> {
        let order: Self = serde_json::from_slice(json)?;
        if order.version == ORDER_VERSION { Ok(order) } else { Err(InvalidOrder::Version(order.version)) }
    }
}

/// One line of the runner's standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum RunLine {
    /// A check is decided.
    Result(CheckResult),
    /// All checks are decided. Always the last line.
    Summary(RunSummary),
}

/// One record of the runner in a Pod or a machine without a channel, beside its results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum MachineLine {
    /// What explains the results.
    Evidence {
        /// `journal`, `failed-units`.
        name: String,
        /// The text.
        text: String,
    },
    /// The virtual machine runs: one that hangs is noticed by its silence.
    Alive {
        /// Seconds since the runner was started.
        seconds: u64,
    },
    /// The end of the boot, in a virtual machine.
    Boot {
        /// Why it did not come to its end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
    },
    /// What happened to a device, for the job's log.
    Note {
        /// The text.
        text: String,
    },
    /// What a device is waited for.
    Waits {
        /// What it must do: "run the image that was installed".
        what: String,
        /// What its agent reports.
        status: String,
    },
    /// A device runs the image that was installed on it.
    Settled,
    /// A device cannot continue on its way.
    Fault {
        /// Why.
        message: String,
    },
    /// Nothing follows.
    End,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The runner's version.
    pub runner: String,
    /// Number of checks that held.
    pub passed: usize,
    /// Number of checks that did not hold.
    pub failed: usize,
    /// Number of checks that are not for this lane.
    pub skipped: usize,
    /// Milliseconds from the start of the runner to the last result.
    pub duration_ms: u64,
}

impl RunSummary {
    /// Counts results.
    pub fn of(results: &[CheckResult], duration_ms: u64) -> Self {
        let count = |wanted: fn(&CheckOutcome) -> bool| results.iter().filter(|r| wanted(&r.outcome)).count();
        Self {
            runner: env!("CARGO_PKG_VERSION").to_owned(),
            passed: count(|outcome| matches!(outcome, CheckOutcome::Passed)),
            failed: count(|outcome| matches!(outcome, CheckOutcome::Failed { .. })),
            skipped: count(|outcome| matches!(outcome, CheckOutcome::Skipped { .. })),
            duration_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_is_unchanged() {
        let order = r#"{"version":1,"lane":"container","checks":[{"id":"up","assert":{"kind":"systemd","allow_failed":[]},"within":"1m"}],"scale":1.0}"#;
        let parsed = RunOrder::parse(order.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), order);

        let line = r#"{"line":"result","id":"up","outcome":{"outcome":"failed","kind":"image","message":"no","output":[]},"duration_ms":5,"tries":2}"#;
        let parsed: RunLine = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), line);

        let line = r#"{"line":"summary","runner":"0.1.0","passed":1,"failed":0,"skipped":0,"duration_ms":5}"#;
        let parsed: RunLine = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), line);
    }

    #[test]
    fn other_versions_are_rejected() {
        let error = RunOrder::parse(br#"{"version":9,"lane":"vm","checks":[],"scale":1}"#).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
        assert!(RunOrder::parse(b"").is_err());
    }
}
