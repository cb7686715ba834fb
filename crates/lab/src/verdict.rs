//! From the check runner's results to the result of a lane. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_model::duration::Span;
use edgewright_model::names::CheckId;
use edgewright_model::spec::{Assertion, Check};
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneResult};

use crate::machine::LaneFault;

/// The checks, with limits cut to the time that the lane has left.
pub(crate) fn cut_limits(checks: &[Check], left: Duration) -> Vec<Check> {
    let left: Option<Span> = format!("{}ms", milliseconds(left).max(1)).parse().ok();
    let cut = |check: &Check| {
        let within = left.map_or(check.within, |left| left.min(check.within));
        Check { within, ..check.clone() }
    };
    checks.iter().map(cut).collect()
}

/// The results in the order of `checks`; undecided checks are skipped, with the reason.
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

/// Sorts failed checks by how close they are to the cause, so that the first failure names it: a failed unit,
/// then the state of the whole system, other checks, and last the ports and addresses that need a running
/// service. `results` are in the order of `checks`; all others stay in it.
pub(crate) fn causes_first(checks: &[Check], results: Vec<CheckResult>) -> Vec<CheckResult> {
    let rank = |(check, result): &(&Check, CheckResult)| match (&result.outcome, &check.assert) {
        (CheckOutcome::Failed { .. }, Assertion::Unit { .. }) => 0,
        (CheckOutcome::Failed { .. }, Assertion::Systemd { .. }) => 1,
        (CheckOutcome::Failed { .. }, Assertion::Port { .. } | Assertion::Http { .. }) => 3,
        _ => 2,
    };
    let mut ranked: Vec<(&Check, CheckResult)> = checks.iter().zip(results).collect();
    ranked.sort_by_key(rank);
    let mut shown = BTreeMap::new();
    ranked.into_iter().map(|(check, result)| without_repeats(check, result, &mut shown)).collect()
}

/// Drops the status of units that an earlier failed check shows already. `shown` has the check of each such
/// unit.
fn without_repeats<'c>(
    check: &'c Check,
    mut result: CheckResult,
    shown: &mut BTreeMap<&'c str, &'c CheckId>,
) -> CheckResult {
    let CheckOutcome::Failed { output, .. } = &mut result.outcome else { return result };
    match &check.assert {
        Assertion::Unit { name } if !output.is_empty() => {
            shown.entry(name).or_insert(&check.id);
        }
        Assertion::Systemd { .. } => {
            let mut is_repeated = false;
            let lines = std::mem::take(output);
            for line in lines {
                if let Some(unit) = unit_of(&line) {
                    is_repeated = shown.contains_key(unit);
                    if let Some(check) = shown.get(unit) {
                        output.push(format!("{unit}: see check `{check}`"));
                    }
                }
                if !is_repeated {
                    output.push(line);
                }
            }
        }
        _ => {}
    }
    result
}

/// The unit whose status begins with a line: `× hmi.service - Operator panel`.
fn unit_of(line: &str) -> Option<&str> {
    let mut words = line.split(' ');
    let is_mark = matches!(words.next()?, "●" | "×" | "○" | "↻" | "*");
    words.next().filter(|name| is_mark && name.contains('.'))
}

/// The result of the checks, unless the lane failed outside of them.
pub(crate) fn judge(checks: &[CheckResult], fault: Option<LaneFault>) -> LaneResult {
    if let Some(LaneFault { kind, message }) = fault {
        return LaneResult::Failed { kind, message };
    }
    LaneResult::of_checks(checks)
}

/// One line of the job's log.
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

/// The output of a failed check, as lines of the job's log.
pub(crate) fn output_lines(result: &CheckResult) -> Vec<String> {
    match &result.outcome {
        CheckOutcome::Failed { output, .. } if !output.is_empty() => {
            let title = format!("output of check `{}`:", result.id);
            std::iter::once(title).chain(output.iter().map(|line| format!("  {line}"))).collect()
        }
        _ => Vec::new(),
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

    /// The kind of every check's failure, and the result of the lane.
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
        let fault = LaneFault { kind: Image, message: "init ended".to_owned() };
        let want = LaneResult::Failed { kind: Image, message: "init ended".to_owned() };
        assert_eq!(judge(&[result("a", Some(Infrastructure))], Some(fault)), want);
    }

    #[test]
    fn the_failed_unit_comes_first_and_is_shown_once() {
        let unit = |id: &str| {
            let assert = Assertion::Unit { name: format!("{id}.service") };
            Check { assert, ..check(id, "1s") }
        };
        let system =
            Check { assert: Assertion::Systemd { allow_failed: Vec::new() }, ..check("system-up", "1s") };
        let checks = [check("a-port", "1s"), check("b-port", "1s"), system, unit("logger"), unit("other")];
        let failed = |id: &str, output: &[&str]| CheckResult {
            outcome: CheckOutcome::Failed {
                kind: FailureKind::Image,
                message: format!("{id} is bad"),
                output: output.iter().map(ToString::to_string).collect(),
            },
            ..result(id, None)
        };
        let status = ["× logger.service - Logger", "  out of ink"];
        let results = vec![
            failed("a-port", &[]),
            result("b-port", None),
            failed("system-up", &[&status[..], &["× disk.mount - Disk", "  full"]].concat()),
            failed("logger", &status),
            result("other", None),
        ];
        let results = causes_first(&checks, results);
        let ids: Vec<&str> = results.iter().map(|result| result.id.as_str()).collect();
        assert_eq!(ids, ["logger", "system-up", "b-port", "other", "a-port"]);
        let want = [
            "output of check `system-up`:",
            "  logger.service: see check `logger`",
            "  × disk.mount - Disk",
            "    full",
        ];
        assert_eq!(output_lines(&results[1]), want);
        assert_eq!(output_lines(&results[2]), [""; 0]);
        let LaneResult::Failed { message, .. } = judge(&results, None) else { panic!("checks failed") };
        assert_eq!(message, "check `logger`: logger is bad (and 2 more checks failed)");
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
    fn limits_are_cut_to_the_time_that_is_left() {
        let checks = [check("a", "1s"), check("b", "10m")];
        let limits =
            |left| cut_limits(&checks, left).iter().map(|check| check.within.to_string()).collect::<Vec<_>>();
        assert_eq!(limits(Duration::from_mins(1)), ["1s", "1m"]);
        assert_eq!(limits(Duration::ZERO), ["1ms", "1ms"]);
        assert_eq!(limits(Duration::MAX), ["1s", "10m"]);
    }
}
