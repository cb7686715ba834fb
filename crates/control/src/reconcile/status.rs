//! What every reconciler publishes about itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// How a reconciler is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcilerStatus {
    /// Its name.
    pub name: String,
    /// When its last pass started.
    pub started: Timestamp,
    /// Why: `start`, `period`, `retry`, or what woke it.
    pub cause: &'static str,
    /// Whether that pass is still running.
    pub is_running: bool,
    /// What came of the last pass that ended; none before the first end.
    pub result: Option<LastResult>,
    /// When a pass succeeded last.
    pub succeeded: Option<Timestamp>,
    /// How long the last pass that ended took.
    pub took: Duration,
    /// Failed passes in a row.
    pub failures: u32,
    /// When the next pass starts at the latest; none while one is running.
    pub next: Option<Timestamp>,
}

/// What came of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastResult {
    /// It succeeded.
    Succeeded {
        /// What was done, in one line; none where there was nothing to do.
        done: Option<String>,
    },
    /// It failed.
    Failed {
        /// Why, with all causes.
        error: String,
    },
}

/// The statuses of all reconcilers. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<Statuses>>);

#[derive(Debug, Default)]
struct Statuses {
    next: Place,
    /// By place: one that takes another's name over may start before that one has ended.
    all: BTreeMap<Place, ReconcilerStatus>,
}

/// A reconciler's place on the board.
pub(super) type Place = u64;

impl Board {
    /// A place for one more reconciler.
    pub(super) fn place(&self) -> Place {
        let mut statuses = self.lock();
        statuses.next += 1;
        statuses.next
    }

    pub(super) fn begin(&self, place: Place, name: &str, cause: &'static str, now: Timestamp) {
        let mut statuses = self.lock();
        let status = statuses.all.entry(place).or_insert_with(|| ReconcilerStatus {
            name: name.to_owned(),
            started: now,
            cause,
            is_running: true,
            result: None,
            succeeded: None,
            took: Duration::ZERO,
            failures: 0,
            next: None,
        });
        (status.started, status.cause, status.is_running, status.next) = (now, cause, true, None);
    }

    pub(super) fn end(
        &self,
        place: Place,
        result: LastResult,
        failures: u32,
        took: Duration,
        next: Timestamp,
    ) {
        if let Some(status) = self.lock().all.get_mut(&place) {
            if matches!(result, LastResult::Succeeded { .. }) {
                status.succeeded = Some(status.started);
            }
            (status.result, status.failures, status.took) = (Some(result), failures, took);
            (status.is_running, status.next) = (false, Some(next));
        }
    }

    pub(super) fn remove(&self, place: Place) {
        self.lock().all.remove(&place);
    }

    /// By name.
    pub(super) fn all(&self) -> Vec<ReconcilerStatus> {
        let mut all: Vec<ReconcilerStatus> = self.lock().all.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn lock(&self) -> MutexGuard<'_, Statuses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
