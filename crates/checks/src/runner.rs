//! Runs all checks concurrently, each until it holds or its time limit is over.
//!
//! A bounded pool of threads takes the next due attempt; a failed attempt is queued again with a growing
//! delay. The time limit of every check starts with the runner. A check has at least one attempt, and a last
//! one at its deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgewright_model::spec::Check;
use edgewright_model::verdict::{CheckOutcome, CheckResult};

use crate::probe::{self, Budget, Finding, Miss};
use crate::protocol::RunOrder;

/// Delay after the first failed attempt; it doubles up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Maximum delay between two attempts, and so the latest time after which a booted machine is noticed.
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// Time limit of the last attempt at the deadline, before scaling.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// Maximum number of concurrent attempts.
const THREADS: usize = 64;
/// The allowed factors; others are an error of the caller, and would overflow durations.
const SCALES: (f64, f64) = (0.1, 100.0);

/// A check that waits for its next attempt. Ordered by that time, then by position.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    position: usize,
    delay: Duration,
    tries: u32,
}

/// Runs all checks of an order and returns their results in the order of `order.checks`. Calls `on_result`
/// with each result as soon as it is decided.
pub fn run(order: &RunOrder, on_result: impl Fn(&CheckResult) + Sync) -> Vec<CheckResult> {
    let start = Instant::now();
    let scale = if order.scale.is_finite() { order.scale.clamp(SCALES.0, SCALES.1) } else { 1.0 };
    let results: Mutex<Vec<Option<CheckResult>>> = Mutex::new(vec![None; order.checks.len()]);
    let queue: Mutex<BinaryHeap<Reverse<Waiting>>> = Mutex::new(BinaryHeap::new());

    let decide = |position: usize, outcome: CheckOutcome, tries: u32, notes: Vec<String>| {
        let id = order.checks[position].id.clone();
        let result = CheckResult { id, outcome, duration_ms: milliseconds(start.elapsed()), tries, notes };
        on_result(&result);
        lock(&results)[position] = Some(result);
    };

    for (position, check) in order.checks.iter().enumerate() {
        let elsewhere = check.lanes.as_ref().is_some_and(|lanes| !lanes.contains(&order.lane));
        let reason = if elsewhere {
            Some(format!("not for the lane `{}`", order.lane))
        } else {
            check.assert.skip_reason(order.lane).map(str::to_owned)
        };
        match reason {
            Some(reason) => decide(position, CheckOutcome::Skipped { reason }, 0, Vec::new()),
            None => {
                lock(&queue).push(Reverse(Waiting { due: start, position, delay: FIRST_DELAY, tries: 0 }));
            }
        }
    }

    let pace = Pace { start, scale, has_no_init: AtomicBool::new(false) };
    let work = || {
        // A thread that queues a check takes from the queue again, so an empty queue means that every check
        // is being worked on.
        while let Some(Reverse(waiting)) = { lock(&queue).pop() } {
            match attempt(&order.checks[waiting.position], &waiting, &pace, order.starts.as_deref()) {
                Step::Decided { position, outcome, tries, notes } => decide(position, outcome, tries, notes),
                Step::Again(waiting) => lock(&queue).push(Reverse(waiting)),
            }
        }
    };
    let threads = lock(&queue).len().min(THREADS);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // If no more threads can be started, fewer do the work; this thread always does.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });

    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().flatten().collect()
}

enum Step {
    Decided { position: usize, outcome: CheckOutcome, tries: u32, notes: Vec<String> },
    Again(Waiting),
}

/// The time of a run.
struct Pace {
    start: Instant,
    scale: f64,
    /// Whether a check found that the machine has no init: the others are decided at their next attempt.
    has_no_init: AtomicBool,
}

/// The actual state, where the image's command is no init.
fn explained(miss: Miss, starts: Option<&str>) -> Miss {
    let Some(starts) = starts.filter(|_| miss.has_no_init) else { return miss };
    let message = format!("the image starts {starts}, which is no init: {}", miss.message);
    Miss { message, ..miss }
}

/// Waits until an attempt is due and makes it.
fn attempt(check: &Check, waiting: &Waiting, pace: &Pace, starts: Option<&str>) -> Step {
    let Pace { start, scale, .. } = *pace;
    let within = check.within.get().mul_f64(scale);
    let deadline = start.checked_add(within).unwrap_or(start);
    std::thread::sleep(waiting.due.saturating_duration_since(Instant::now()));

    let left = deadline.saturating_duration_since(Instant::now());
    let budget = Budget::new(left.max(LAST_LOOK.mul_f64(scale)), scale);
    let Waiting { position, delay, tries, .. } = *waiting;
    let tries = tries.saturating_add(1);
    match probe::look(&check.assert, budget) {
        Finding::Holds => Step::Decided { position, outcome: CheckOutcome::Passed, tries, notes: Vec::new() },
        Finding::HoldsWith(notes) => Step::Decided { position, outcome: CheckOutcome::Passed, tries, notes },
        Finding::Misses(miss) => {
            let now = Instant::now();
            if miss.has_no_init {
                pace.has_no_init.store(true, Ordering::Relaxed);
            }
            if miss.is_final || now >= deadline || pace.has_no_init.load(Ordering::Relaxed) {
                let outcome = explained(miss, starts).into_outcome();
                Step::Decided { position, outcome, tries, notes: Vec::new() }
            } else {
                let due = deadline.min(now + delay);
                Step::Again(Waiting { due, position, delay: (delay * 2).min(LONGEST_DELAY), tries })
            }
        }
    }
}

/// A worker that panicked leaves data that is whole: every critical section is one push, pop or store.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use edgewright_model::outcome::FailureKind;
    use edgewright_model::spec::{Assertion, Lane};

    use super::*;

    fn command(id: &str, argv: &[&str], within: &str) -> Check {
        Check {
            id: id.parse().unwrap(),
            assert: Assertion::Command {
                argv: argv.iter().map(ToString::to_string).collect(),
                exit: 0,
                stdout: None,
            },
            within: within.parse().unwrap(),
            lanes: None,
        }
    }

    fn order(checks: Vec<Check>) -> RunOrder {
        RunOrder { version: 1, lane: Lane::Container, checks, scale: 1.0, starts: None }
    }

    #[test]
    fn results_keep_the_order_and_are_reported_once() {
        let mut elsewhere = command("elsewhere", &["true"], "1s");
        elsewhere.lanes = Some(BTreeSet::from([Lane::Vm]));
        let checks = vec![
            command("fails", &["false"], "300ms"),
            command("hangs", &["sleep", "600"], "300ms"),
            command("holds", &["true"], "10s"),
            elsewhere,
        ];
        let heard = Mutex::new(Vec::new());
        let results = run(&order(checks), |result| lock(&heard).push(result.id.to_string()));
        let ids: Vec<&str> = results.iter().map(|result| result.id.as_str()).collect();
        assert_eq!(ids, ["fails", "hangs", "holds", "elsewhere"]);
        let mut heard = heard.into_inner().unwrap();
        heard.sort_unstable();
        assert_eq!(heard, ["elsewhere", "fails", "hangs", "holds"]);

        assert!(results[0].tries > 1, "{:?}", results[0]);
        let CheckOutcome::Failed { kind: FailureKind::Image, message, .. } = &results[1].outcome else {
            panic!("{:?}", results[1]);
        };
        assert!(message.contains("did not end"), "{message}");
        assert_eq!(results[2].outcome, CheckOutcome::Passed);
        assert_eq!(results[2].tries, 1);
        assert!(matches!(&results[3].outcome, CheckOutcome::Skipped { .. }));

        let karg = Check {
            assert: Assertion::Karg { name: "quiet".to_owned(), value: None },
            ..command("karg", &["true"], "1s")
        };
        let results = run(&order(vec![karg]), |_| {});
        assert!(
            matches!(&results[0].outcome, CheckOutcome::Skipped { reason } if reason.contains("host")),
            "{results:?}"
        );
    }

    #[test]
    fn a_command_that_is_no_init_is_named() {
        let miss = |finding| match finding {
            Finding::Misses(miss) => explained(miss, Some("`sleep 9` as `daemon`")),
            other => panic!("{other:?}"),
        };
        let no_init = miss(Finding::no_init("process 1 is `sleep`"));
        assert!(no_init.is_final);
        assert_eq!(
            no_init.message,
            "the image starts `sleep 9` as `daemon`, which is no init: process 1 is `sleep`"
        );
        assert_eq!(miss(Finding::image("no answer", Vec::new())).message, "no answer");
    }

    #[test]
    fn a_check_that_holds_later_passes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("there");
        let checks = vec![
            command("makes", &["sh", "-c", &format!("sleep 0.3; touch {}", path.display())], "20s"),
            Check {
                id: "waits".parse().unwrap(),
                assert: Assertion::File {
                    path: path.display().to_string(),
                    exists: true,
                    contains: None,
                    mode: None,
                    owner: None,
                },
                within: "20s".parse().unwrap(),
                lanes: None,
            },
        ];
        let results = run(&order(checks), |_| {});
        assert_eq!(results[1].outcome, CheckOutcome::Passed);
        assert!(results[1].tries > 1);
    }

    #[test]
    fn more_checks_than_threads_and_odd_scales_end() {
        let checks = (0..THREADS * 2).map(|n| command(&format!("c{n}"), &["true"], "10m")).collect();
        for scale in [1.0, f64::NAN, f64::INFINITY, -3.0] {
            let order = RunOrder { scale, ..order(Vec::clone(&checks)) };
            assert!(run(&order, |_| {}).iter().all(|result| result.outcome == CheckOutcome::Passed));
        }
        assert!(run(&order(Vec::new()), |_| {}).is_empty());
    }
}
