//! Cancelling runs: recorded first, then signalled to the task that drives them in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_model::run::RunNumber;
use edgewright_process::Clock;
use edgewright_store::Store;
use tokio_util::sync::CancellationToken;

use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;
use crate::reconcile::Wake;

/// The tokens of open runs. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Cancellations {
    store: Store,
    clock: Clock,
    shutdown: CancellationToken,
    runs: Wake,
    tokens: Arc<Mutex<BTreeMap<RunNumber, CancellationToken>>>,
}

impl Cancellations {
    pub(crate) fn new((store, clock): (Store, Clock), shutdown: CancellationToken, runs: Wake) -> Self {
        Self { store, clock, shutdown, runs, tokens: Arc::default() }
    }

    /// The token that cancels a run; fires at shutdown, too.
    pub(crate) fn token(&self, run: RunNumber) -> CancellationToken {
        self.tokens().entry(run).or_insert_with(|| self.shutdown.child_token()).clone()
    }

    /// Cancels an open run, driven or not: its jobs end, what was recorded stays. The request is recorded
    /// before this returns, so the run ends as cancelled even where the server is killed at once.
    ///
    /// # Errors
    /// There is no such run, or it is over.
    pub(crate) async fn request(
        &self,
        context: &OperationContext,
        run: RunNumber,
    ) -> Result<(), ControlError> {
        let row = self.store.run(run).await?.ok_or(ControlError::NoRun { run })?;
        let (before, after) = (Some(row.state.name().into()), Some("cancelled".into()));
        let entry = context.entry(Operation::CancelRun, format!("runs/{run}"), before, after);
        if !self.store.request_cancel(run, (&entry, self.clock.now())).await? {
            return Err(ControlError::Over { run });
        }
        self.token(run).cancel();
        self.runs.wake("a run was cancelled");
        Ok(())
    }

    /// A run is over.
    pub(crate) fn forget(&self, run: RunNumber) {
        self.tokens().remove(&run);
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<RunNumber, CancellationToken>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
