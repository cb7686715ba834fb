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
    let mut lines = Lines::default();
    lines.add("device", &document.device);
    lines.add("image", &document.image);
    lines.add("state", &state(document));
    if let Some(doing) = &document.doing {
        let done = doing.total_bytes.map_or_else(String::new, |total| {
            format!(", {} of {}", megabytes(doing.done_bytes), megabytes(total))
        });
        lines.add("doing", &format!("{}{done}", doing.what));
    }
    let deployments = &document.deployments;
    let parts = [
        ("booted", &deployments.booted),
        ("fallback", &deployments.fallback),
        ("staged", &deployments.staged),
    ];
    for (name, deployment) in parts {
        if let Some(deployment) = deployment {
            lines.add(name, &describe(deployment));
        }
    }
    faults(document, &mut lines);
    let next = if document.next_check <= now { "now".to_owned() } else { document.next_check.to_string() };
    let last = document.last_check.map_or_else(|| "none yet".to_owned(), |last| format!("last {last}"));
    lines.add("checks", &format!("{last}, next {next}"));
    let policy = match document.policy {
        Policy::Download => "download only; `edgewright-agent update` applies",
        Policy::Window => "apply in the next maintenance window",
        Policy::Immediately => "apply as soon as it is staged",
    };
    lines.add("policy", policy);
    if let Some(queued) = document.queued_reports.filter(|queued| *queued > 0) {
        lines.add("reports", &format!("{queued} wait for the server"));
    }
    if !document.is_running {
        lines.add("agent", "not running: `systemctl start edgewright-agent`");
    }
    lines.0
}

/// What keeps the device from taking an update.
fn faults(document: &StatusDocument, lines: &mut Lines) {
    if let Some(hold) = &document.hold {
        let why = hold.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        lines.add("hold", &format!("since {}{why}", hold.since));
    }
    if let Some(problem) = &document.problem {
        lines.add("problem", &problem.message);
        if let Some(hint) = &problem.hint {
            lines.add("hint", hint);
        }
        if problem.failures > 1 {
            lines.add("failures", &format!("{} in a row", problem.failures));
        }
    }
    for failed in document.failed.iter().rev().take(3) {
        lines.add("failed", &format!("{} at {}: {}", short(&failed.digest), failed.at, failed.reason));
    }
}

/// Lines of a name and a value.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name:<10} {value}");
    }
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
                let output = output.iter().fold(String::new(), |text, line| text + "\n          " + line);
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
