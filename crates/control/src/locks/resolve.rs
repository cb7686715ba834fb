//! Resolving: missing locks, and in a run that checks for updates all, are resolved by jobs of their own.

use std::collections::BTreeMap;

use edgewright_job::Demand;
use edgewright_model::lock::Lock;
use edgewright_model::moves::{LockCheck, LockCheckResult};
use edgewright_model::names::ImageName;
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::spec::Definition;
use edgewright_model::tree::Tree;
use edgewright_plan::Locks as Chosen;
use futures::TryFutureExt as _;
use futures::future::try_join_all;

use super::Locks;
use super::keep::found;
use crate::ControlError;
use crate::jobs::{Label, RunScope};

/// A commit whose locks are resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolving<'a> {
    pub(crate) scope: RunScope<'a>,
    pub(crate) definition: &'a Definition,
    pub(crate) tree: &'a Tree,
    /// The locks in effect so far.
    pub(crate) effective: &'a Chosen,
    /// Whether what moved is only proposed, instead of becoming an overlay.
    pub(crate) proposes: bool,
}

/// Locks that are to be committed.
pub(super) type Proposed = BTreeMap<ImageName, Lock>;

/// What became of the images.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// Those whose lock could not be resolved, and why.
    pub(crate) failures: BTreeMap<ImageName, JobFailure>,
    /// What moved, where it is only proposed.
    pub(super) proposed: Proposed,
}

impl Locks {
    /// Resolves the locks of some images and keeps what is new. What was found is noted for each image.
    ///
    /// # Errors
    /// [`ControlError::Stopped`] where the run is stopped; the database.
    pub(crate) async fn resolve<'i>(
        &self,
        resolving: Resolving<'_>,
        images: impl Iterator<Item = &'i ImageName>,
    ) -> Result<Resolved, ControlError> {
        let mut resolved = Resolved::default();
        let jobs =
            images.map(|image| self.resolve_one(&resolving, image).map_ok(move |result| (image, result)));
        for (image, result) in try_join_all(jobs).await? {
            match result {
                Ok(proposed) => resolved.proposed.extend(proposed.map(|lock| (image.clone(), lock))),
                Err(failure) => drop(resolved.failures.insert(image.clone(), failure)),
            }
        }
        Ok(resolved)
    }

    /// Resolves one lock; gives it where it is to be proposed.
    async fn resolve_one(
        &self,
        resolving: &Resolving<'_>,
        image: &ImageName,
    ) -> Result<Result<Option<Lock>, JobFailure>, ControlError> {
        let name = format!("lock {image}");
        let label = Label { name: &name, platform: None, is_node: false };
        let scope = &resolving.scope;
        for attempt in 1.. {
            let task = self.jobs.lock_task(scope, image, resolving.definition, resolving.tree).await?;
            let Some(task) = task else { break };
            let outcome = self.jobs.run(scope, label, Demand::default(), task).await?;
            let failure = match (outcome.lock, outcome.failure) {
                (Some(lock), None) => return Ok(Ok(self.keep(resolving, image, lock).await?)),
                (_, Some(failure)) => failure,
                (None, None) => no_lock_came(),
            };
            if failure.kind != FailureKind::Infrastructure || attempt >= self.attempts {
                self.note_failure(resolving, image, &failure).await?;
                return Ok(Err(failure));
            }
            tokio::select! {
                () = tokio::time::sleep(self.retry.pause(attempt)) => {}
                () = scope.cancel.cancelled() => return Err(ControlError::Stopped),
            }
        }
        Ok(Ok(None))
    }

    /// An image that has a lock keeps it.
    async fn note_failure(
        &self,
        resolving: &Resolving<'_>,
        image: &ImageName,
        failure: &JobFailure,
    ) -> Result<(), ControlError> {
        if resolving.effective.images.contains_key(image) {
            let kept =
                LockCheck { message: Some(failure.message.clone()), ..found(image, LockCheckResult::Kept) };
            self.jobs.store.note_update_check(resolving.scope.run, &kept).await?;
        }
        Ok(())
    }
}

fn no_lock_came() -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Lock,
        message: "the job ended without a lock".to_owned(),
        hint: None,
        output: Vec::new(),
    }
}
