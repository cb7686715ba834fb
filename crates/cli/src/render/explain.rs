//! How a variant comes about.

use std::fmt::Write as _;

use edgewright_api::documents::{ChangeView, ChangedKind, PlanExplanation, StepExplanation, StepState};

use super::style::{BOLD, DIM, GREEN, RED, YELLOW, paint, plain};
use super::table::Table;

/// The number of inputs of a step that are listed before the rest is counted.
const NAMED: usize = 4;
/// How much of a key people compare.
const SHORT: usize = 12;

/// How many changes of a step are listed before the rest is counted.
const LISTED: usize = 20;

/// Every step of a variant, and below what changed in it; with `all` every change that the document has.
pub(crate) fn explanation(explanation: &PlanExplanation, all: bool) -> String {
    let mut text = String::new();
    for platform in &explanation.platforms {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {}: {}",
            paint(BOLD, &explanation.variant),
            platform.platform,
            paint(YELLOW, platform.action.name()),
        );
        let _ = writeln!(text, "  {}", plain(&platform.reason));
        let mut table = Table::new(["key", "step", "compared", "shared with", "inputs"]);
        for step in &platform.steps {
            table.row([
                short(&step.key),
                plain(&step.title),
                state(step),
                variants(step.shared_with.len()),
                step.inputs.len().to_string(),
            ]);
        }
        text.push_str(&table.text("no steps"));
        changes(&mut text, "base", &platform.base_changes, 0, all);
        for step in &platform.steps {
            if step.changes.is_empty() && (all || step.change.is_none()) {
                inputs(&mut text, step, all);
            }
            changes(&mut text, &step.title, &step.changes, step.more_changes, all);
        }
    }
    text
}

/// The changes of a step, one a line: what was added, removed or changed.
fn changes(text: &mut String, title: &str, changes: &[ChangeView], more: u64, all: bool) {
    if changes.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint(BOLD, plain(title)));
    let listed = if all { changes.len() } else { LISTED };
    for ChangeView { kind, name, old, new } in changes.iter().take(listed) {
        let (name, kind) = (plain(name), word(*kind));
        let what = if kind.is_empty() { name } else { format!("{kind} {name}") };
        let _ = match (old, new) {
            (None, Some(new)) => writeln!(text, "  {} {what}{}", paint(GREEN, "+"), after(new)),
            (Some(old), None) => writeln!(text, "  {} {what}{}", paint(RED, "-"), after(old)),
            (old, new) => {
                let value = |value: &Option<String>| plain(value.as_deref().unwrap_or("none"));
                writeln!(text, "  {} {what}: {} → {}", paint(YELLOW, "~"), value(old), value(new))
            }
        };
    }
    let hidden = changes.len().saturating_sub(listed) as u64;
    if hidden + more > 0 {
        let hint = if hidden > 0 { "; --all lists them" } else { "" };
        let _ = writeln!(text, "  {}", paint(DIM, format!("and {} more{hint}", hidden + more)));
    }
}

fn after(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!(": {}", plain(value)) }
}

/// What kind of thing changed, before its name; a path needs no such word.
const fn word(kind: ChangedKind) -> &'static str {
    match kind {
        ChangedKind::Base => "base",
        ChangedKind::BaseDigest => "digest of",
        ChangedKind::Tool => "version of",
        ChangedKind::Epoch
        | ChangedKind::Setting
        | ChangedKind::Entry
        | ChangedKind::Containerfile
        | ChangedKind::Other => "",
        ChangedKind::Label => "label",
        ChangedKind::Package => "package",
        ChangedKind::LockedPackage => "locked",
        ChangedKind::Key => "key",
        ChangedKind::Argument => "argument",
        ChangedKind::Secret => "secret",
        ChangedKind::Deletion => "delete",
        ChangedKind::Variable => "variable",
    }
}

fn short(key: &str) -> String {
    key.strip_prefix("sha256:").unwrap_or(key).chars().take(SHORT).collect()
}

fn state(step: &StepExplanation) -> String {
    match step.change {
        None | Some(StepState::Other) => String::new(),
        Some(StepState::Same) => paint(GREEN, "same"),
        Some(StepState::Follows) => paint(DIM, "follows"),
        Some(StepState::Changed) => paint(YELLOW, "changed"),
        Some(StepState::New) => paint(YELLOW, "new"),
        Some(StepState::Removed) => paint(RED, "removed"),
    }
}

/// `3 variants`; empty for none.
fn variants(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "1 variant".to_owned(),
        count => format!("{count} variants"),
    }
}

/// The inputs of a step, one per line; with `all` every one.
fn inputs(text: &mut String, step: &StepExplanation, all: bool) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{}", paint(BOLD, plain(&step.title)));
    let listed = if all { step.inputs.len() } else { NAMED };
    for input in step.inputs.iter().take(listed) {
        let _ = writeln!(text, "  {}", plain(input));
    }
    if step.inputs.len() > listed {
        let hidden = step.inputs.len() - listed;
        let _ = writeln!(text, "  {}", paint(DIM, format!("and {hidden} more; --all lists them")));
    }
}
