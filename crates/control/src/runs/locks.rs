//! Locks: missing ones, and in a run that looks for updates all, are resolved by jobs of their own and kept as numbered
//! overlays. What comes back equal to the effective lock is not kept: nothing moved.

use std::collections::BTreeMap;

use edgewright_model::lock::Lock;
use edgewright_model::names::ImageName;
use edgewright_model::order::JobId;
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::spec::Definition;
use edgewright_model::tree::Tree;
use edgewright_plan::{EffectiveLock, Locks};
use futures::future::try_join_all;

use super::Driver;
use crate::ControlError;

impl Driver<'_> {
    /// Resolves the locks of some images and stores what is new; gives the images for which that failed.
    pub(crate) async fn resolve_locks<'i>(
        &self,
        definition: &Definition,
        images: impl Iterator<Item = &'i ImageName>,
        locks: &Locks,
        tree: &Tree,
    ) -> Result<BTreeMap<ImageName, JobFailure>, ControlError> {
        let jobs = images.map(|image| self.resolve_lock(image, definition, locks.images.get(image), tree));
        let failures = try_join_all(jobs).await?;
        Ok(failures.into_iter().flatten().collect())
    }

    async fn resolve_lock(
        &self,
        image: &ImageName,
        definition: &Definition,
        effective: Option<&EffectiveLock>,
        tree: &Tree,
    ) -> Result<Option<(ImageName, JobFailure)>, ControlError> {
        let name = format!("lock {image}");
        let mut attempt = 1;
        loop {
            let permit = tokio::select! {
                permit = self.slots.acquire() => permit.map_err(|_| ControlError::Stopped)?,
                () = self.cancel.cancelled() => return Err(ControlError::Stopped),
            };
            let job = JobId(uuid::Uuid::now_v7());
            let Some(order) = self.lock_order(image, definition, tree, job).await? else { return Ok(None) };
            let log = self.logs.open(self.run.number, &name, None).await.ok();
            let outcome = self.perform(&name, order, log, None).await?;
            drop(permit);
            let failure = match (outcome.lock, outcome.failure) {
                (Some(lock), None) => {
                    let reason = match effective {
                        Some(old) if same_inputs(&old.lock, &lock) => return Ok(None),
                        Some(_) => format!("run {}: the outside moved", self.run.number),
                        None => format!("run {}: no lock for what the image asks", self.run.number),
                    };
                    self.store.add_lock(self.run.source, image, &lock, &reason, self.clock.now()).await?;
                    return Ok(None);
                }
                (_, Some(failure)) => failure,
                (None, None) => no_answer(),
            };
            if failure.kind != FailureKind::Infrastructure || attempt >= self.settings.attempts {
                return Ok(Some((image.clone(), failure)));
            }
            let pause = self.settings.retry_after * 2_u32.saturating_pow(attempt - 1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.cancel.cancelled() => return Err(ControlError::Stopped),
            }
            attempt += 1;
        }
    }
}

/// Whether two locks pin the same; the epoch is only when they were made.
fn same_inputs(a: &Lock, b: &Lock) -> bool {
    a.request == b.request && a.base == b.base && a.packages == b.packages
}

fn no_answer() -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Lock,
        message: "the job ended without a lock".to_owned(),
        hint: None,
        output: Vec::new(),
    }
}
