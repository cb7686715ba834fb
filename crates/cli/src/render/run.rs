//! Runs.

use std::fmt::Write as _;

use edgewright_api::{DiagnosticView, NodeAction, NodeView, RunSummary, RunView, VerdictSummary};
use edgewright_model::moves::{LockCheck, LockCheckResult};
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::run::{NodeState, RunState};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneResult, Note};
use jiff::Timestamp;

use super::facts::Facts;
use super::style::{BOLD, DIM, GREEN, HINT, RED, YELLOW, paint, plain};
use super::table::Table;
use super::units::{age, duration, moment};

/// The columns that names of facts take.
const COLUMNS: usize = 9;
/// How much of a commit id people need.
const SHORT_COMMIT: usize = 10;

/// A commit id, short.
pub(crate) fn commit(id: &str) -> &str {
    id.get(..SHORT_COMMIT).unwrap_or(id)
}

/// A run's state.
pub(crate) fn state(state: RunState) -> String {
    match state {
        RunState::Passed => paint(GREEN, state),
        RunState::Failed => paint(RED, state),
        RunState::Cancelled | RunState::Superseded => paint(DIM, state),
        RunState::Queued | RunState::Preparing | RunState::Running | RunState::Releasing => {
            paint(YELLOW, state)
        }
    }
}

/// A node's state.
pub(crate) fn node_state(state: NodeState) -> String {
    match state {
        NodeState::Passed => paint(GREEN, state),
        NodeState::Failed | NodeState::Blocked => paint(RED, state),
        NodeState::Running => paint(YELLOW, state),
        NodeState::Waiting | NodeState::Reused | NodeState::Retired | NodeState::Cancelled => {
            paint(DIM, state)
        }
    }
}

/// `3 build, 1 test, 4 reuse, 1 failed`; zeros are left out.
fn counts(run: &RunSummary) -> String {
    let counts = run.counts;
    let named = [
        (counts.build, "build"),
        (counts.test, "test"),
        (counts.reuse, "reuse"),
        (counts.retire, "retire"),
        (counts.failed, "failed"),
        (counts.blocked, "blocked"),
    ];
    let parts: Vec<String> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    parts.join(", ")
}

/// The list of runs.
pub(crate) fn runs(runs: &[RunSummary], now: Timestamp) -> String {
    let head = ["run", "source", "ref", "commit", "trigger", "state", "plan", "release", "when", "subject"];
    let mut table = Table::new(head);
    for run in runs {
        table.row([
            run.number.to_string(),
            run.source.to_string(),
            reference(&run.branch),
            commit(&run.commit).to_owned(),
            run.trigger.to_string(),
            state(run.state),
            counts(run),
            run.release.map(|number| number.to_string()).unwrap_or_default(),
            age(run.created, now),
            plain(&run.subject),
        ]);
    }
    table.text("no runs yet")
}

/// A branch, or the number of a pull request: `#12` of `refs/pull/12/head`, `!3` of a merge request.
fn reference(name: &str) -> String {
    let number = |prefix: &str| {
        let number = name.strip_prefix(prefix)?.strip_suffix("/head")?;
        number.parse::<u64>().ok()
    };
    match (number("refs/pull/"), number("refs/merge-requests/")) {
        (Some(number), _) => format!("#{number}"),
        (None, Some(number)) => format!("!{number}"),
        (None, None) => plain(name),
    }
}

/// One run.
pub(crate) fn run(view: &RunView, now: Timestamp) -> String {
    let mut text = facts(view, now);
    text.push_str(&locks(&view.updates));
    for diagnostic in &view.diagnostics {
        text.push_str(&diagnostic_text(diagnostic));
    }
    if !view.nodes.is_empty() {
        text.push('\n');
        text.push_str(&nodes(view));
    }
    text.push_str(&failures(view));
    for node in &view.nodes {
        for note in &node.notes {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n{} {}", paint(BOLD, node_name(node, view)), plain(&note.to_string()));
        }
    }
    if view.nodes.iter().any(|node| node.failure.is_some() && node.job.is_some()) {
        let _ = writeln!(text, "\nlog: edgewright logs {}", view.run.number);
    }
    text
}

fn facts(view: &RunView, now: Timestamp) -> String {
    let run = &view.run;
    let mut facts = Facts::new(COLUMNS);
    facts.add("run", paint(BOLD, run.number));
    facts.add("source", format!("{} ({})", run.source, run.branch));
    facts.add("commit", format!("{} {}", commit(&run.commit), plain(&run.subject)));
    facts.add("author", plain(&run.author));
    facts.add("trigger", run.trigger.to_string());
    let took = run.started.zip(run.finished).map(|(from, to)| {
        format!(" after {}", duration(u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)))
    });
    facts.add("state", format!("{}{}", state(run.state), took.unwrap_or_default()));
    facts.add("created", moment(run.created, now));
    facts.add("plan", run.summary.as_deref().unwrap_or_default());
    facts.add("release", run.release.map(|number| number.to_string()).unwrap_or_default());
    facts.add("note", view.no_release.as_deref().map(plain).unwrap_or_default());
    let why = view.error.as_deref().map(plain).unwrap_or_default();
    if !why.is_empty() {
        facts.add("failure", paint(RED, why));
    }
    facts.into_text()
}

fn diagnostic_text(diagnostic: &DiagnosticView) -> String {
    let place = match (&diagnostic.file, diagnostic.place) {
        (Some(file), Some(place)) => format!("{file}:{}:{}: ", place.line, place.column),
        (Some(file), None) => format!("{file}: "),
        _ => String::new(),
    };
    let hint = diagnostic.hint.as_ref().map(|hint| format!("{} {hint}\n", paint(HINT, " hint:")));
    let message = plain(&diagnostic.message);
    format!("\n{} {place}{message}\n{}", paint(RED, "error:"), hint.unwrap_or_default())
}

/// Each failure once: blocked nodes repeat in their reason the failure of their ancestor, and the failure of
/// a lock is that of every node that needs it.
fn failures(view: &RunView) -> String {
    let mut text = String::new();
    let mut shown = Vec::new();
    for node in &view.nodes {
        let Some(failure) = &node.failure else { continue };
        let is_of_lock = failure.phase == Phase::Lock;
        if (node.state == NodeState::Blocked && !is_of_lock) || (is_of_lock && shown.contains(&failure)) {
            continue;
        }
        shown.push(failure);
        text.push('\n');
        text.push_str(&failed(&node_name(node, view), failure));
    }
    text
}

/// What a run found when it checked locks for updates, a line each; locks that did not move are counted.
pub(crate) fn locks(looks: &[LockCheck]) -> String {
    if looks.is_empty() {
        return String::new();
    }
    let unchanged = looks.iter().filter(|look| look.result == LockCheckResult::Unchanged).count();
    let mut text = "\n".to_owned();
    for look in looks.iter().filter(|look| look.result != LockCheckResult::Unchanged) {
        let words = plain(&look.to_string());
        let words = if look.result == LockCheckResult::Kept { paint(YELLOW, words) } else { words };
        let _ = writeln!(text, "lock of {}: {words}", paint(BOLD, &look.image));
    }
    if unchanged > 0 {
        let _ = writeln!(
            text,
            "{}",
            paint(
                DIM,
                match unchanged {
                    1 => "1 lock checked: nothing moved".to_owned(),
                    count => format!("{count} locks checked: nothing moved"),
                }
            )
        );
    }
    text
}

fn nodes(view: &RunView) -> String {
    let mut table = Table::new(["node", "action", "state", "took", "lanes", "reason"]);
    for node in &view.nodes {
        let running = node.phase.filter(|_| node.state == NodeState::Running);
        let phase = running.map(|running| format!(" ({})", running.name()));
        table.row([
            node_name(node, view),
            if node.action == NodeAction::Other { String::new() } else { node.action.name().to_owned() },
            node_state(node.state) + &phase.unwrap_or_default(),
            node.duration_ms.map(duration).unwrap_or_default(),
            lanes(&node.verdicts, &node.notes),
            plain(match &node.failure {
                Some(failure) if node.state == NodeState::Blocked => &failure.message,
                _ => &node.reason,
            }),
        ]);
    }
    table.text("")
}

/// A node's name, with its platform if the run has several.
pub(crate) fn node_name(node: &NodeView, view: &RunView) -> String {
    match &node.platform {
        Some(platform) if view.nodes.iter().any(|other| other.platform.as_ref() != Some(platform)) => {
            format!("{} {platform}", node.node)
        }
        _ => node.node.clone(),
    }
}

/// `container passed`; a failure that exceptions cover is `container passed (exception CHECK)`.
pub(super) fn lanes(verdicts: &[VerdictSummary], notes: &[Note]) -> String {
    let words: Vec<String> = verdicts
        .iter()
        .map(|verdict| match &verdict.result {
            LaneResult::Passed => format!("{} {}", verdict.lane, paint(GREEN, "passed")),
            LaneResult::Failed { kind, .. } => match exceptions(verdict.lane, notes).as_slice() {
                [] => format!("{} {}", verdict.lane, paint(RED, format!("failed ({kind})"))),
                checks => {
                    let covered = format!("passed (exception {})", checks.join(", "));
                    format!("{} {}", verdict.lane, paint(YELLOW, covered))
                }
            },
        })
        .collect();
    words.join(", ")
}

/// The checks of a lane that exceptions cover.
pub(super) fn exceptions(lane: Lane, notes: &[Note]) -> Vec<String> {
    let covered = notes.iter().filter_map(|note| match note {
        Note::Excepted { lane: of, check, .. } if *of == lane => Some(check.to_string()),
        _ => None,
    });
    covered.collect()
}

fn failed(node: &str, failure: &JobFailure) -> String {
    let phase = failure.phase.name();
    let mut text = format!(
        "{} {} failure in {phase}: {}\n",
        paint(BOLD, node),
        paint(RED, failure.kind),
        plain(&failure.message)
    );
    for line in &failure.output {
        let _ = writeln!(text, "  {} {}", paint(DIM, "│"), plain(line));
    }
    if let Some(hint) = &failure.hint {
        let _ = writeln!(text, "{} {hint}", paint(HINT, " hint:"));
    }
    text
}
