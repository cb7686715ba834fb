//! Documents as text.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::engine::StatusDocument;
use crate::health::HealthResult;
use crate::history::HistoryLine;
use crate::machine::{HeldBack, State};
use crate::policy::Policy;
use crate::updater::Deployment;

use edgewright_model::verdict::CheckOutcome;

/// The status as lines `name: value`.
pub(super) fn status(document: &StatusDocument, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("device", &document.device);
    line("image", &document.image);
    line("state", &state(document));
    if let Some(doing) = &document.doing {
        let done = doing.total_bytes.map_or_else(String::new, |total| {
            format!(", {} of {}", megabytes(doing.done_bytes), megabytes(total))
        });
        line("doing", &format!("{}{done}", doing.what));
    }
    let deployments = &document.deployments;
    let parts = [
        ("booted", &deployments.booted),
        ("fallback", &deployments.fallback),
        ("staged", &deployments.staged),
    ];
    for (name, deployment) in parts {
        if let Some(deployment) = deployment {
            line(name, &describe(deployment));
        }
    }
    if let Some(hold) = &document.hold {
        line(
            "hold",
            &format!(
                "since {}{}",
                hold.since,
                hold.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"))
            ),
        );
    }
    if let Some(problem) = &document.problem {
        line("problem", &problem.message);
        if let Some(hint) = &problem.hint {
            line("hint", hint);
        }
        if problem.failures > 1 {
            line("failures", &format!("{} in a row", problem.failures));
        }
    }
    for failed in document.failed.iter().rev().take(3) {
        line("failed", &format!("{} at {}: {}", short(&failed.digest), failed.at, failed.reason));
    }
    let next = if document.next_check <= now { "now".to_owned() } else { document.next_check.to_string() };
    line(
        "checks",
        &match document.last_check {
            Some(last) => format!("last {last}, next {next}"),
            None => format!("none yet, next {next}"),
        },
    );
    line(
        "policy",
        match document.policy {
            Policy::Download => "download only; `edgewright-agent update` applies",
            Policy::Window => "apply in the next maintenance window",
            Policy::Immediately => "apply as soon as it is staged",
        },
    );
    if let Some(queued) = document.queued_reports.filter(|queued| *queued > 0) {
        line("reports", &format!("{queued} wait for the server"));
    }
    if !document.is_running {
        line("agent", "not running: `systemctl start edgewright-agent`");
    }
    text
}

fn state(document: &StatusDocument) -> String {
    let name = document.state.name().replace('_', " ");
    let digest =
        document.state.update().map_or_else(String::new, |update| format!(" {}", short(&update.digest)));
    let more = match &document.state {
        State::Waiting { until: Some(until), .. } => format!(", until {until}"),
        State::Waiting { until: None, .. } => ", no window is configured".to_owned(),
        State::HeldBack { why: HeldBack::Failed, .. } => ": it failed on this device".to_owned(),
        State::HeldBack { why: HeldBack::Hold, .. } => ": the device is on hold".to_owned(),
        State::RollingBack { reason, .. } => format!(": {reason}"),
        _ => String::new(),
    };
    format!("{name}{digest}{more}")
}

fn describe(deployment: &Deployment) -> String {
    let mut text = short(&deployment.digest);
    if deployment.verity {
        text.push_str(", verity");
    }
    if let Some(tries) = deployment.tries_left {
        let _ = write!(text, ", {tries} tries left");
    }
    if deployment.is_next {
        text.push_str(", boots next");
    }
    if let Some(entry) = &deployment.entry {
        let _ = write!(text, ", {entry}");
    }
    text
}

/// A digest as people compare it.
fn short(digest: &edgewright_model::Digest) -> String {
    format!("{}:{}", digest.algorithm().name(), digest.short())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// The history.
pub(super) fn logs(lines: &[HistoryLine]) -> String {
    let mut text = String::new();
    for line in lines {
        let digest = line
            .digest
            .as_deref()
            .map_or_else(String::new, |digest| format!(" {}", digest.get(..19).unwrap_or(digest)));
        let message = line.message.as_deref().map_or_else(String::new, |message| format!(": {message}"));
        let _ = writeln!(text, "{} {}{digest}{message}", line.at, line.state);
    }
    text
}

/// Results of checks.
pub(super) fn health(result: &HealthResult) -> String {
    let mut text = String::new();
    for check in &result.checks {
        let _ = match &check.outcome {
            CheckOutcome::Passed => writeln!(text, "passed  {}", check.id),
            CheckOutcome::Skipped { reason } => writeln!(text, "skipped {}: {reason}", check.id),
            CheckOutcome::Failed { message, output, .. } => {
                let output: String = output.iter().map(|line| format!("\n          {line}")).collect();
                writeln!(text, "failed  {}: {message}{output}", check.id)
            }
        };
    }
    for warning in &result.warnings {
        let _ = writeln!(text, "warning {warning}");
    }
    if let Some(fault) = &result.fault {
        let _ = writeln!(text, "failed  {fault}");
    }
    if result.checks.is_empty() && result.fault.is_none() {
        text.push_str("there are no checks\n");
    }
    text
}
