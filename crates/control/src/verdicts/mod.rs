//! What verdicts mean. A recorded verdict is what a lane found, for good; whether it stops a variant is
//! worked out from it.
//!
//! ```text
//!  verdict ─evaluate─▶ Evaluation ─against─▶ Evaluation ─failure─▶ what people read
//!           exceptions             last good
//!           variant, today         digest's verdict
//! ```
//!
//! | rule | |
//! |---|---|
//! | an exception covers a failed check until its last day (UTC) | the check does not count, with a note |
//! | a failure of the infrastructure, or of a lane outside of its checks | it is no evidence about a check |
//! | the last good digest fails in the same place: not new | a failure of the check; the lane is run again |
//! | what is not new still fails | only an exception, with owner and end, covers it (decision 0005) |

mod novelty;
mod words;

pub(crate) use novelty::{Novelty, ReleasedChecks};
pub(crate) use words::{Blame, failure, joined};

use edgewright_model::glob::Glob;
use edgewright_model::names::{CheckId, VariantName};
use edgewright_model::outcome::FailureKind;
use edgewright_model::spec::{Exception, Lane};
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneResult, Note, Verdict};
use jiff::Timestamp;
use jiff::civil::Date;

/// What a verdict means for one variant on one day.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What counts.
    pub result: LaneResult,
    /// The failed checks that count, in check-set order.
    pub failed: Vec<CheckResult>,
    /// Whether the lane failed outside of its checks: its machine did not start, or ended.
    pub outside: bool,
    /// What does not count, and why; what is not new.
    pub notes: Vec<Note>,
}

impl Evaluation {
    /// Whether nothing that counts failed.
    pub fn passed(&self) -> bool {
        self.result == LaneResult::Passed
    }

    /// Whose fault it is.
    pub const fn kind(&self) -> Option<FailureKind> {
        match &self.result {
            LaneResult::Passed => None,
            LaneResult::Failed { kind, .. } => Some(*kind),
        }
    }

    fn is_new(&self, check: Option<&CheckId>) -> bool {
        !self
            .notes
            .iter()
            .any(|note| matches!(note, Note::NotNew { check: known, .. } if known.as_ref() == check))
    }

    /// The failure, where the last good digest's verdict in the same lane, with the same checks, is known.
    ///
    /// Only failures of the image are compared. Where all of them are not new, the failure becomes the
    /// check's: it does not block the digest for good.
    #[must_use]
    pub fn against(mut self, last_good: &Verdict) -> Self {
        if self.kind() != Some(FailureKind::Image) {
            return self;
        }
        let (lane, digest) = (last_good.lane, &last_good.manifest.digest);
        let not_new = |check: Option<CheckId>| Note::NotNew { lane, check, digest: digest.clone() };
        let before = Self::of(last_good);
        if self.outside {
            if before.outside && before.kind() == Some(FailureKind::Image) {
                self.notes.push(not_new(None));
                self.blame_the_check();
            }
            return self;
        }
        let (old, new): (Vec<&CheckResult>, Vec<&CheckResult>) = self
            .failed
            .iter()
            .filter(|check| kind_of(check) == Some(FailureKind::Image))
            .partition(|check| before.failed.iter().any(|known| known.id == check.id && counts(known)));
        let result = LaneResult::of_checks(new.iter().copied());
        let notes: Vec<Note> = old.iter().map(|check| not_new(Some(check.id.clone()))).collect();
        let all_old = new.is_empty();
        self.notes.extend(notes);
        if all_old {
            self.blame_the_check();
        } else {
            self.result = result;
        }
        self
    }

    fn blame_the_check(&mut self) {
        if let LaneResult::Failed { kind, .. } = &mut self.result {
            *kind = FailureKind::Check;
        }
    }

    /// A verdict as it is, without exceptions.
    fn of(verdict: &Verdict) -> Self {
        let failed = verdict.checks.iter().filter(|check| kind_of(check).is_some()).cloned().collect();
        let outside = verdict.result != LaneResult::of_checks(&verdict.checks);
        Self { result: verdict.result.clone(), failed, outside, notes: Vec::new() }
    }
}

/// Whose fault a check's failure is; none where it did not fail.
const fn kind_of(check: &CheckResult) -> Option<FailureKind> {
    match &check.outcome {
        CheckOutcome::Failed { kind, .. } => Some(*kind),
        CheckOutcome::Passed | CheckOutcome::Skipped { .. } => None,
    }
}

/// Whether a failure is evidence about the image or the check.
fn counts(check: &CheckResult) -> bool {
    matches!(kind_of(check), Some(FailureKind::Image | FailureKind::Check))
}

/// What a verdict means for a variant today.
pub fn evaluate(
    verdict: &Verdict,
    exceptions: &[Exception],
    variant: &VariantName,
    today: Date,
) -> Evaluation {
    let mut evaluation = Evaluation::of(verdict);
    if evaluation.passed() || evaluation.outside {
        return evaluation;
    }
    let covering = |check: &CheckResult| {
        exceptions.iter().filter(|_| counts(check)).find(|exception| {
            exception.until >= today && concerns(exception, &check.id, verdict.lane, variant)
        })
    };
    let mut notes = Vec::new();
    evaluation.failed.retain(|check| {
        let CheckOutcome::Failed { message, .. } = &check.outcome else { return false };
        let Some(exception) = covering(check) else { return true };
        notes.push(Note::Excepted {
            lane: verdict.lane,
            check: check.id.clone(),
            found: message.clone(),
            until: exception.until,
            owner: exception.owner.clone(),
            reason: exception.reason.clone(),
        });
        false
    });
    evaluation.notes = notes;
    evaluation.result = LaneResult::of_checks(&evaluation.failed);
    evaluation
}

/// Whether an exception is about this place, on whatever day.
fn concerns(exception: &Exception, check: &CheckId, lane: Lane, variant: &VariantName) -> bool {
    let variant = variant.to_string();
    // A pattern that does not read covers nothing: then its check counts.
    let fits = |pattern: &String| Glob::new(pattern).is_ok_and(|glob| glob.matches(&variant));
    exception.check == *check
        && (exception.lanes.is_empty() || exception.lanes.contains(&lane))
        && exception.variants.iter().any(fits)
}

/// The day in UTC, by which exceptions end.
pub fn day(now: Timestamp) -> Date {
    now.to_zoned(jiff::tz::TimeZone::UTC).date()
}

#[cfg(test)]
mod tests;
