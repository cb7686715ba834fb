//! From what the runner said to what a lane found. Pure.

use std::time::Duration;

use edgewright_model::duration::Span;
use edgewright_model::spec::Check;
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneResult};

use crate::machine::Trouble;

/// The checks with no limit longer than what the lane has left.
pub(crate) fn cut_limits(checks: &[Check], left: Duration) -> Vec<Check> {
    let left: Option<Span> = format!("{}ms", milliseconds(left).max(1)).parse().ok();
    let cut = |check: &Check| {
        let within = left.map_or(check.within, |left| left.min(check.within));
        Check { within, ..check.clone() }
    };
    checks.iter().map(cut).collect()
}

/// The results in the order's order; what was not decided is skipped, with the reason.
pub(crate) fn complete(checks: &[Check], mut results: Vec<CheckResult>, reason: &str) -> Vec<CheckResult> {
    let result = |check: &Check| match results.iter().position(|result| result.id == check.id) {
        Some(position) => results.swap_remove(position),
        None => CheckResult {
            id: check.id.clone(),
            outcome: CheckOutcome::Skipped { reason: reason.to_owned() },
            duration_ms: 0,
            tries: 0,
            notes: Vec::new(),
        },
    };
    checks.iter().map(result).collect()
}

/// What the checks say, unless the lane itself met trouble.
pub(crate) fn judge(checks: &[CheckResult], trouble: Option<Trouble>) -> LaneResult {
    if let Some(Trouble { kind, message }) = trouble {
        return LaneResult::Failed { kind, message };
    }
    LaneResult::of_checks(checks)
}

/// One line for people.
pub(crate) fn describe(result: &CheckResult) -> String {
    let time = Duration::from_millis(result.duration_ms);
    match &result.outcome {
        CheckOutcome::Passed => format!("check `{}` passed after {time:?}", result.id),
        CheckOutcome::Failed { kind, message, .. } => {
            format!("check `{}` failed after {time:?} ({kind}): {message}", result.id)
        }
        CheckOutcome::Skipped { reason } => format!("check `{}` skipped: {reason}", result.id),
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use edgewright_model::outcome::FailureKind;
    use edgewright_model::spec::Assertion;

    use super::*;

    fn result(id: &str, failed: Option<FailureKind>) -> CheckResult {
        let outcome = failed.map_or(CheckOutcome::Passed, |kind| CheckOutcome::Failed {
            kind,
            message: format!("{id} is bad"),
            output: Vec::new(),
        });
        CheckResult { id: id.parse().unwrap(), outcome, duration_ms: 1, tries: 1, notes: Vec::new() }
    }

    fn check(id: &str, within: &str) -> Check {
        let assert = Assertion::Port { host: "localhost".to_owned(), port: 1 };
        Check { id: id.parse().unwrap(), assert, within: within.parse().unwrap(), lanes: None }
    }

    /// The kind of every check's failure, and what the lane says.
    type Case<'a> = (&'a [Option<FailureKind>], Option<(FailureKind, &'a str)>);

    #[test]
    fn the_kind_that_decides_names_the_failure() {
        use FailureKind::{Check, Image, Infrastructure};
        let cases: [Case<'_>; 5] = [
            (&[], None),
            (&[None, None], None),
            (&[None, Some(Image)], Some((Image, "check `c1`: c1 is bad"))),
            (&[Some(Check), Some(Image)], Some((Image, "check `c1`: c1 is bad (and 1 more check failed)"))),
            (
                &[Some(Image), Some(Check), Some(Infrastructure)],
                Some((Infrastructure, "check `c2`: c2 is bad (and 2 more checks failed)")),
            ),
        ];
        for (kinds, want) in cases {
            let checks: Vec<_> =
                kinds.iter().enumerate().map(|(n, kind)| result(&format!("c{n}"), *kind)).collect();
            let want = want.map_or(LaneResult::Passed, |(kind, message)| LaneResult::Failed {
                kind,
                message: message.to_owned(),
            });
            assert_eq!(judge(&checks, None), want);
        }
        let trouble = Trouble { kind: Image, message: "init ended".to_owned() };
        let want = LaneResult::Failed { kind: Image, message: "init ended".to_owned() };
        assert_eq!(judge(&[result("a", Some(Infrastructure))], Some(trouble)), want);
    }

    #[test]
    fn every_check_has_a_result_in_order() {
        let checks = [check("a", "1s"), check("b", "1s"), check("c", "1s")];
        let results = complete(&checks, vec![result("c", None), result("a", None)], "cancelled");
        assert_eq!(results[0], result("a", None));
        assert_eq!(results[1].outcome, CheckOutcome::Skipped { reason: "cancelled".to_owned() });
        assert_eq!(results[2], result("c", None));
    }

    #[test]
    fn limits_are_cut_to_what_is_left() {
        let checks = [check("a", "1s"), check("b", "10m")];
        let limits =
            |left| cut_limits(&checks, left).iter().map(|check| check.within.to_string()).collect::<Vec<_>>();
        assert_eq!(limits(Duration::from_mins(1)), ["1s", "1m"]);
        assert_eq!(limits(Duration::ZERO), ["1ms", "1ms"]);
        assert_eq!(limits(Duration::MAX), ["1s", "10m"]);
    }
}
