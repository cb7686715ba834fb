//! Watching the outside: base images and distributions move while no commit does.
//!
//! When a source's locks were looked at last is what its runs say, so there is no state to lose. A look that is due is a
//! run of its own; what it finds becomes an overlay, and its images are built, tested and released as any commit's are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edgewright_model::format;
use edgewright_model::lock::Lock;
use edgewright_model::names::{CommitId, ImageName, SourceName};
use edgewright_model::run::{RunNumber, RunState, Trigger};
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::{LockOrigin, Locks};
use edgewright_store::sources::SourceId;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::access::Operation;
use crate::context::OperationContext;
use crate::reconcile::{Outcome, Reconciler};
use crate::sources::Queued;
use crate::{Control, ControlError};

/// How often the schedules are compared with the clock at least.
const PERIOD: Duration = Duration::from_mins(1);

impl Control {
    /// Queues a run that resolves the locks of a source anew, of some images only or (none given) of all, and builds,
    /// tests and releases what moved. The commit is the one that the source's default branch was last decided at.
    ///
    /// # Errors
    /// The source is not configured or nothing of it was run yet; the database cannot be written.
    pub async fn update(
        &self,
        context: &OperationContext,
        source: SourceId,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let watched = self.0.sources.get(source).ok_or(ControlError::UnknownSource)?;
        let store = &self.0.store;
        let branch = watched.default_branch(store).await?.ok_or(ControlError::NothingRun)?;
        let commit = store.decided(source).await?.remove(&branch).ok_or(ControlError::NothingRun)?;
        let operation = Operation::UpdateLocks;
        let queued = Queued { branch, trigger: Trigger::Lock, images, context, operation };
        self.queue_for(source, &commit, queued).await
    }

    /// As [`Control::update`], of the source of this name.
    ///
    /// # Errors
    /// As there.
    pub async fn update_named(
        &self,
        context: &OperationContext,
        source: &SourceName,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let watched = self.0.sources.named(source).ok_or(ControlError::UnknownSource)?;
        self.update(context, watched.id, images).await
    }

    /// Queues a run of a commit for [`Control::look_at_locks`].
    ///
    /// # Errors
    /// The source is not configured, the commit is unknown, or the database cannot be written.
    pub async fn queue_look(
        &self,
        context: &OperationContext,
        source: SourceId,
        branch: &str,
        commit: &CommitId,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let (branch, operation) = (branch.to_owned(), Operation::UpdateLocks);
        let queued = Queued { branch, trigger: Trigger::Lock, images, context, operation };
        self.queue_for(source, commit, queued).await
    }

    /// The locks that a run's commit is built with by now and does not hold itself: the overlays in effect.
    ///
    /// # Errors
    /// There is no such run, its source is not configured, or the database cannot be read.
    pub async fn overlays(&self, number: RunNumber) -> Result<BTreeMap<ImageName, Lock>, ControlError> {
        let run = self.0.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
        let driver = self.driver(run, self.0.shutdown.clone())?;
        let tree = driver.watched.mirror.read_tree(&driver.run.commit).await?;
        let Some(definition) = format::parse(&tree).definition else { return Ok(BTreeMap::new()) };
        let locks = Locks::choose(&definition, &driver.overlays().await?, COMPRESSOR_VERSION);
        let overlays =
            locks.images.into_iter().filter(|(_, lock)| matches!(lock.origin, LockOrigin::Overlay(_)));
        Ok(overlays.map(|(image, lock)| (image, lock.lock)).collect())
    }

    /// Resolves the locks of a queued run's images anew, keeps what moved as overlays and ends the run: nothing is built.
    ///
    /// # Errors
    /// There is no such run, its source is not configured, or the database cannot be written.
    pub async fn look_at_locks(&self, number: RunNumber) -> Result<RunState, ControlError> {
        let inner = &*self.0;
        let now = inner.clock.now();
        inner.store.move_run(number, RunState::Queued, RunState::Preparing, now).await?;
        let run = inner.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
        let driver = self.driver(run, inner.cancellations.token(number))?;
        let looked = driver.look().await;
        if driver.cancel.is_cancelled() {
            driver.cancelled().await?;
        } else if let Err(error) = &looked {
            driver.failed(error).await?;
        }
        inner.cancellations.forget(number);
        looked
    }

    /// Queues a run that looks at a source's outside inputs, if one is due.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn look_if_due(&self, source: SourceId) -> Result<Option<RunNumber>, ControlError> {
        let inner = &*self.0;
        let Some(watched) = self.0.sources.get(source) else { return Ok(None) };
        let Some(branch) = watched.default_branch(&inner.store).await? else { return Ok(None) };
        let Some(last) = inner.store.last_look(source, &branch).await? else { return Ok(None) };
        let due = inner.settings.watching.of(&watched.settings.name).after(last);
        if due.is_none_or(|due| due > inner.clock.now()) {
            return Ok(None);
        }
        let run = self.update(&OperationContext::system("updates"), source, &BTreeSet::new()).await?;
        tracing::info!(source.name = %watched.settings.name, run.number = run.0, "a look at the outside is due");
        Ok(Some(run))
    }
}

/// Queues a check for updates of every source whose schedule says so.
pub(crate) struct UpdateReconciler(pub(crate) Control);

impl Reconciler for UpdateReconciler {
    fn name(&self) -> String {
        "update checks".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let mut queued = Vec::new();
            for source in self.0.0.sources.ids() {
                queued.extend(self.0.look_if_due(source).await?.map(|run| run.to_string()));
            }
            Ok(if queued.is_empty() {
                Outcome::idle()
            } else {
                Outcome::done(format!("queued run {}", queued.join(", ")))
            })
        }
        .boxed()
    }
}
