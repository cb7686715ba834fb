//! Finds open runs that nothing drives, and drives the oldest of each domain.

use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_model::run::RunState;
use edgewright_store::runs::RunRow;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::Runs;
use crate::ControlError;
use crate::reconcile::{Outcome, Reconciler};

/// The longest time between two searches for open runs.
const PERIOD: Duration = Duration::from_secs(5);

impl Reconciler for Runs {
    fn name(&self) -> String {
        "runs".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let mut done = Vec::new();
            for run in self.0.store.open_runs().await? {
                done.extend(self.look_after(run).await?);
            }
            Ok(if done.is_empty() { Outcome::idle() } else { Outcome::done(done.join(", ")) })
        }
        .boxed()
    }
}

impl Runs {
    /// Drives an open run, or ends it where that was requested before its turn. Gives what was done, for
    /// people.
    async fn look_after(&self, run: RunRow) -> Result<Option<String>, ControlError> {
        let number = run.number;
        if self.begin(&run) {
            let runs = self.clone();
            self.0.tasks.spawn(format!("run {number}"), async move { runs.drive_in_turn(run).await });
            return Ok(Some(format!("started run {number}")));
        }
        if run.state == RunState::Queued && run.cancel_requested_at.is_some() {
            self.end(&run, RunState::Cancelled, "cancelled").await?;
            return Ok(Some(format!("cancelled run {number}")));
        }
        Ok(None)
    }

    /// Whether the caller may drive a run: one of each domain at a time, and only of configured sources.
    fn begin(&self, run: &RunRow) -> bool {
        self.0.sources.get(run.source).is_some() && self.0.state().driving.insert(run.domain())
    }

    async fn drive_in_turn(&self, run: RunRow) {
        if let Err(error) = self.drive(run.number).await
            && !matches!(error, ControlError::Stopped)
        {
            tracing::error!(run.number = run.number.0, error = %Chain(&error), "run is stuck, will retry");
            tokio::select! {
                () = tokio::time::sleep(self.0.retry.pause(1)) => {}
                () = self.0.tasks.token().cancelled() => {}
            }
        }
        self.0.state().driving.remove(&run.domain());
        self.0.wake.wake("a run ended");
    }
}
