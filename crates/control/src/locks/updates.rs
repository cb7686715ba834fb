//! Update checks on a schedule: base images and distributions move while no commit does.
//!
//! When the locks of a source were checked last is what its runs say, so there is no state to lose. A check
//! that is due is a run of its own; what it finds becomes an overlay, and its images are built, tested and
//! released as any commit's are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::names::ImageName;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_process::Clock;
use edgewright_store::Store;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;
use crate::reconcile::{Outcome, Reconciler};
use crate::settings::Watching;
use crate::sources::{Queued, SourceHandle, Sources};

/// How often the schedules are compared with the clock at least.
const PERIOD: Duration = Duration::from_mins(1);
/// Who queues the checks that are due.
static SCHEDULE: OperationContext = OperationContext::system("update checks");

/// Queues runs that resolve locks again. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct UpdateChecks {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) sources: Arc<Sources>,
    /// When each source is checked.
    pub(crate) schedules: Watching,
}

impl UpdateChecks {
    /// Queues a run that resolves the locks of some images of a source (none given: of all), and builds,
    /// tests and releases what moved. The commit is the one that the source's default branch was last decided
    /// at.
    ///
    /// # Errors
    /// Nothing of the source was run yet; the database cannot be written.
    pub(crate) async fn queue(
        &self,
        context: &OperationContext,
        handle: &SourceHandle,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let branch = handle.default_branch(&self.store).await?.ok_or(ControlError::NothingRun)?;
        let commit = self.store.decided(handle.id).await?.remove(&branch).ok_or(ControlError::NothingRun)?;
        let operation = Operation::UpdateLocks;
        let queued = Queued { branch, trigger: Trigger::Lock, images, context, operation };
        self.sources.queue(handle, &commit, queued).await
    }

    /// Queues an update check of a source, if it is due.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub(crate) async fn queue_if_due(
        &self,
        handle: &SourceHandle,
    ) -> Result<Option<RunNumber>, ControlError> {
        let Some(branch) = handle.default_branch(&self.store).await? else { return Ok(None) };
        let Some(last) = self.store.last_update_check(handle.id, &branch).await? else { return Ok(None) };
        let due = self.schedules.of(&handle.settings.name).after(last);
        if due.is_none_or(|due| due > self.clock.now()) {
            return Ok(None);
        }
        let run = self.queue(&SCHEDULE, handle, &BTreeSet::new()).await?;
        tracing::info!(source.name = %handle.settings.name, run.number = run.0, "update check queued");
        Ok(Some(run))
    }
}

impl Reconciler for UpdateChecks {
    fn name(&self) -> String {
        "update checks".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let (mut queued, mut failed) = (Vec::new(), None);
            for handle in self.sources.all() {
                // A source that cannot be checked does not keep the others from it.
                match self.queue_if_due(&handle).await {
                    Ok(run) => queued.extend(run.map(|run| run.to_string())),
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                Some(error) => Err(error),
                None if queued.is_empty() => Ok(Outcome::idle()),
                None => Ok(Outcome::done(format!("queued run {}", queued.join(", ")))),
            }
        }
        .boxed()
    }
}
