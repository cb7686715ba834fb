//! Cancelling runs that are driven in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_model::run::RunNumber;
use tokio_util::sync::CancellationToken;

use crate::reconcile::Wake;

/// The tokens of open runs. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Cancellations {
    shutdown: CancellationToken,
    runs: Wake,
    tokens: Arc<Mutex<BTreeMap<RunNumber, CancellationToken>>>,
}

impl Cancellations {
    pub(crate) fn new(shutdown: CancellationToken, runs: Wake) -> Self {
        Self { shutdown, runs, tokens: Arc::default() }
    }

    /// The token that cancels a run; fires at shutdown, too.
    pub(crate) fn token(&self, run: RunNumber) -> CancellationToken {
        self.tokens().entry(run).or_insert_with(|| self.shutdown.child_token()).clone()
    }

    /// Cancels a run, driven or not.
    pub(crate) fn cancel(&self, run: RunNumber) {
        self.token(run).cancel();
        self.runs.wake("a run was cancelled");
    }

    /// A run is over.
    pub(crate) fn forget(&self, run: RunNumber) {
        self.tokens().remove(&run);
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<RunNumber, CancellationToken>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
