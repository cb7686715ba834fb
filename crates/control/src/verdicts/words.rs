//! A lane's failure as text: which check, in which lane, what was found instead, whose fault it is, where to
//! read more.

use std::fmt::Write as _;

use edgewright_model::names::VariantName;
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::run::RunNumber;
use edgewright_model::spec::{Exception, Lane};
use edgewright_model::verdict::{CheckOutcome, LaneResult, Note, Verdict, VerdictOrigin};
use jiff::civil::Date;

use super::{Evaluation, Novelty, concerns};

/// Where a failure happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blame<'a> {
    /// The run whose job found it.
    pub(crate) run: RunNumber,
    /// The node.
    pub(crate) variant: &'a VariantName,
    /// The commit's exceptions, for those that are over.
    pub(crate) exceptions: &'a [Exception],
    /// Today, in UTC.
    pub(crate) today: Date,
    /// What is new in the lane since the last release.
    pub(crate) novelty: &'a Novelty,
}

/// The message for users; empty if everything that counts passed.
pub(crate) fn failure(verdict: &Verdict, evaluation: &Evaluation, blame: Blame<'_>) -> Option<JobFailure> {
    let LaneResult::Failed { kind, message } = &evaluation.result else { return None };
    let not_new: Vec<&Note> =
        evaluation.notes.iter().filter(|note| matches!(note, Note::NotNew { .. })).collect();
    let age = match not_new.is_empty() {
        true => Age::Unknown,
        false if is_first(evaluation, blame.novelty) => Age::NewCheck,
        false => Age::Old,
    };
    let mut text = format!("{} lane: {message}", verdict.lane);
    if let (Some(Note::NotNew { digest, .. }), FailureKind::Check) = (not_new.first(), kind) {
        let what = if age == Age::NewCheck { "the checks changed" } else { "not new" };
        // Writing to a string cannot fail.
        let _ = write!(text, "; {what}: the last good digest {} fails it, too", digest.short());
    }
    let is_posted = matches!(verdict.origin, VerdictOrigin::External { .. });
    let mut hint = hint(*kind, age, is_posted, &read_more(verdict, blame));
    if let Some(rule) = failed_rule(verdict.lane, evaluation) {
        let _ = write!(
            hint,
            "; a rule that is not meant for this image: `{{id: {rule}, off: REASON}}` in `checks:`"
        );
    }
    Some(JobFailure {
        kind: *kind,
        phase: Phase::Test,
        message: text,
        hint: Some(hint),
        output: output(verdict, evaluation, blame),
    })
}

/// The failures of a node's lanes as one: the first, then a block for each of the others.
pub(crate) fn joined(failures: impl IntoIterator<Item = JobFailure>) -> Option<JobFailure> {
    let mut failures = failures.into_iter();
    let mut first = failures.next()?;
    for other in failures {
        let lane = other.message.split(" lane: ").next().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(first.message, "; the {lane} lane failed, too");
        first.output.extend([String::new(), format!("{} failure in test: {}", other.kind, other.message)]);
        first.output.extend(other.output.iter().map(|line| format!("  {line}")));
        first.output.extend(other.hint.map(|hint| format!("  hint: {hint}")));
    }
    Some(first)
}

/// The first failed rule of the static lane: it can be switched off.
fn failed_rule(lane: Lane, evaluation: &Evaluation) -> Option<&str> {
    let mut failed = evaluation.failed.iter().map(|check| check.id.as_str());
    failed.find(|id| lane == Lane::Static && id.starts_with("static."))
}

/// The commands that show more.
fn read_more(verdict: &Verdict, blame: Blame<'_>) -> String {
    let Blame { run, variant, .. } = blame;
    let log = format!("`edgewright logs {run} {variant}`");
    match verdict.evidence.first() {
        Some(piece) => format!("{log} and `edgewright evidence {run} {variant} {}`", piece.name),
        None => log,
    }
}

/// Whether what the failure names is a check, or a lane, that the last good digest was released without.
fn is_first(evaluation: &Evaluation, novelty: &Novelty) -> bool {
    let named = evaluation.failed.first().filter(|_| !evaluation.outside);
    novelty.has(named.map(|check| &check.id))
}

/// What is known of when a fault came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// The last good digest passes, or there is none.
    Unknown,
    /// The last good digest fails a check that it was released without.
    NewCheck,
    /// The last good digest fails what it passed once.
    Old,
}

fn hint(kind: FailureKind, age: Age, is_posted: bool, log: &str) -> String {
    match kind {
        FailureKind::Image if is_posted => {
            "the image is at fault, according to the system that posted the verdict: look there for details"
                .to_owned()
        }
        FailureKind::Image => {
            format!(
                "the image is at fault: fix it (see {log}); a commit that gives the same digest is not tested again, `edgewright run` is"
            )
        }
        FailureKind::Check if age == Age::NewCheck => format!(
            "the check was added or changed, or the lane switched on, since the last release: fix the check, or make the image pass it; see {log}"
        ),
        FailureKind::Check if age == Age::Old => format!(
            "not caused by this change: fix the check or what it tests, or add an exception with owner and end date in exceptions/; see {log}"
        ),
        FailureKind::Check => {
            format!("the check itself is invalid: fix it or turn it `off`; see {log}")
        }
        FailureKind::Infrastructure => {
            format!(
                "this host, its network or its tools are at fault, not the image: see {log}; the next run tries again"
            )
        }
    }
}

/// Every failed check with what was found, exceptions that are over, then the evidence.
fn output(verdict: &Verdict, evaluation: &Evaluation, blame: Blame<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for check in &evaluation.failed {
        let CheckOutcome::Failed { kind, message, output } = &check.outcome else { continue };
        let is_old = !evaluation.is_new(Some(&check.id)) && !blame.novelty.has(Some(&check.id));
        let is_old = if is_old { ", not new" } else { "" };
        lines.push(format!("{} ({kind}{is_old}): {message}", check.id));
        lines.extend(output.iter().map(|line| format!("  {line}")));
        let over = blame.exceptions.iter().find(|exception| {
            exception.until < blame.today && concerns(exception, &check.id, verdict.lane, blame.variant)
        });
        if let Some(over) = over {
            lines.push(format!("  its exception by {} ended on {}: {}", over.owner, over.until, over.reason));
        }
    }
    let excepted = evaluation.notes.iter().filter(|note| matches!(note, Note::Excepted { .. }));
    lines.extend(excepted.map(ToString::to_string));
    if let VerdictOrigin::External { url, message } = &verdict.origin {
        lines.extend(message.clone());
        lines.extend(url.as_ref().map(|url| format!("see {url}")));
    }
    if !verdict.evidence.is_empty() {
        let names: Vec<&str> = verdict.evidence.iter().map(|piece| piece.name.as_str()).collect();
        let Blame { run, variant, .. } = blame;
        lines.push(format!("evidence: {}: `edgewright evidence {run} {variant} NAME`", names.join(", ")));
    }
    lines
}
