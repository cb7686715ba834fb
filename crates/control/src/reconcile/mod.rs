//! Reconcilers: each brings one aspect of the world to the state in the store. One driver runs them all.
//!
//! ```text
//!            ┌──────────── period, a retry's pause, or a wake-up ───────────┐
//!            ▼                                                              │
//!  reconcile() ─▶ Ok(Outcome) ─▶ wait `period`, or as the outcome asks ─────┤
//!            └──▶ Err(_)      ─▶ wait for `backoff`, longer each time ──┘
//! ```
//!
//! A reconciler takes no input: what it does follows from the store and from what it sees outside. It is
//! idempotent and never retries inside. A wake-up only shortens the wait and carries no truth, so one that is
//! lost costs at most a period. Each publishes a status: when and why it started, what came of it, when it
//! starts next.

mod effort;
mod status;
mod wake;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_process::{Backoff, Clock, Tasks};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::effort::Effort;
use self::status::{Board, Place};
pub use self::status::{LastResult, ReconcilerStatus};
pub use self::wake::Wake;
use crate::ControlError;

/// The default pause after the first failure; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Waits are cut to this, so that a wait until a time of day notices a clock that was set.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Brings one aspect of the world to the state in the store.
pub trait Reconciler: Send + Sync + 'static {
    /// Its unique name, in words that people read: `runs`, `source plants`, `target harbor`.
    fn name(&self) -> String;

    /// How often it runs at least.
    fn period(&self) -> Duration;

    /// How long to wait after failures in a row.
    fn backoff(&self) -> Backoff {
        Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
    }

    /// Whether a wake-up ends the pause after a failure, too. It should not where events come thick and fast.
    fn wakes_from_backoff(&self) -> bool {
        true
    }

    /// Whether a pass may be dropped half-way at shutdown. A pass that is not must end by itself when control
    /// stops.
    fn is_interruptible(&self) -> bool {
        false
    }

    /// One pass.
    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>>;
}

/// What came of a pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was done, in one line for people; absent where there was nothing to do.
    pub done: Option<String>,
    /// When the next pass is due, where that is sooner than the period.
    pub next: Option<Duration>,
}

impl Outcome {
    /// Nothing was to be done.
    pub const fn idle() -> Self {
        Self { done: None, next: None }
    }

    /// Something was done, in one line for people.
    pub fn done(what: impl Into<String>) -> Self {
        Self { done: Some(what.into()), next: None }
    }

    /// So many were done; with none, nothing was to be done. The verb is in the past, the noun in the
    /// singular.
    pub fn counted(count: usize, verb: &str, noun: &str) -> Self {
        match count {
            0 => Self::idle(),
            1 => Self::done(format!("{verb} 1 {noun}")),
            _ => Self::done(format!("{verb} {count} {noun}s")),
        }
    }

    /// The next pass is due after this wait, if it is shorter than the period.
    #[must_use]
    pub fn then(self, next: Duration) -> Self {
        Self { next: Some(next), ..self }
    }
}

/// Runs reconcilers. Clones share them.
#[derive(Debug, Clone)]
pub struct Reconcilers {
    tasks: Tasks,
    clock: Clock,
    board: Board,
}

impl Reconcilers {
    /// None yet. They end when the tasks do.
    pub fn new(tasks: Tasks, clock: Clock) -> Self {
        Self { tasks, clock, board: Board::default() }
    }

    /// Runs a reconciler at once and again and again, until shutdown or `stop`. `wake` starts a pass early.
    pub fn start(&self, reconciler: Arc<dyn Reconciler>, wake: Wake, stop: CancellationToken) {
        let name = reconciler.name();
        let driver = Driver {
            clock: self.clock.clone(),
            board: self.board.clone(),
            place: self.board.place(),
            shutdown: self.tasks.token().clone(),
            name: name.clone(),
            reconciler,
            wake,
            stop,
        };
        self.tasks.spawn(name, driver.run());
    }

    /// How every reconciler is doing, by name.
    pub fn statuses(&self) -> Vec<ReconcilerStatus> {
        self.board.all()
    }
}

/// Runs one reconciler.
struct Driver {
    clock: Clock,
    board: Board,
    place: Place,
    shutdown: CancellationToken,
    name: String,
    reconciler: Arc<dyn Reconciler>,
    wake: Wake,
    stop: CancellationToken,
}

impl Driver {
    async fn run(self) {
        let mut failures: u32 = 0;
        let mut effort = Effort::new(Instant::now());
        let mut cause = "start";
        loop {
            let began = Instant::now();
            self.board.begin(self.place, &self.name, cause, self.clock.now());
            let Some(result) = self.pass().await else { break };
            effort.add(began, Instant::now());
            let wait = self.note(&result, &mut failures, began.elapsed());
            let Some(next) = self.wait(wait, failures, &effort).await else { break };
            cause = next;
        }
        self.board.remove(self.place);
    }

    /// One pass; none where it was interrupted.
    async fn pass(&self) -> Option<Result<Outcome, ControlError>> {
        let reconcile = AssertUnwindSafe(self.reconciler.reconcile()).catch_unwind();
        let result = if self.reconciler.is_interruptible() {
            tokio::select! {
                result = reconcile => result,
                () = self.stopped() => return None,
            }
        } else {
            reconcile.await
        };
        // A panic is a bug of one reconciler: the others, and its own next pass, continue.
        Some(result.unwrap_or_else(|_| Err(ControlError::Broken { what: "a reconciler panicked" })))
    }

    /// Publishes a result; how long to wait for the next pass.
    fn note(&self, result: &Result<Outcome, ControlError>, failures: &mut u32, took: Duration) -> Duration {
        let now = self.clock.now();
        let (last, wait) = match result {
            Ok(outcome) => {
                *failures = 0;
                let period = self.reconciler.period();
                let wait = outcome.next.map_or(period, |next| next.min(period));
                (LastResult::Succeeded { done: outcome.done.clone() }, wait)
            }
            Err(error) => {
                *failures = failures.saturating_add(1);
                let text = Chain(error).to_string();
                if !matches!(error, ControlError::Stopped) {
                    let failures = *failures;
                    tracing::warn!(
                        reconciler.name = self.name,
                        failures,
                        error = text,
                        "reconciliation failed, will retry"
                    );
                }
                (LastResult::Failed { error: text }, self.reconciler.backoff().pause(*failures))
            }
        };
        let next = now.checked_add(wait).unwrap_or(now);
        self.board.end(self.place, last, *failures, took, next);
        wait
    }

    /// Waits for the next pass and returns its reason; none at the end.
    async fn wait(&self, wait: Duration, failures: u32, effort: &Effort) -> Option<&'static str> {
        let until = Instant::now() + wait.min(LONGEST_WAIT);
        let is_deaf = failures > 0 && !self.reconciler.wakes_from_backoff();
        let woken = async {
            let cause = self.wake.woken().await;
            tokio::time::sleep_until(effort.rested()).await;
            cause
        };
        tokio::select! {
            () = self.stopped() => None,
            cause = woken, if !is_deaf => Some(cause),
            () = tokio::time::sleep_until(until) => Some(if failures > 0 { "retry" } else { "period" }),
        }
    }

    async fn stopped(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests;
