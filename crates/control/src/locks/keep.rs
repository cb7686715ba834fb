//! What becomes of a lock that was resolved. One that equals the lock in effect is not kept: nothing moved.
//! Nor is one that is older: a mirror that lags behind moves no image backwards.

use edgewright_model::lock::Lock;
use edgewright_model::moves::{LockCheck, LockCheckResult, LockMoves};
use edgewright_model::names::ImageName;
use edgewright_plan::lock_request;

use super::Locks;
use super::resolve::Resolving;
use crate::ControlError;

impl Locks {
    /// Makes what was resolved the next overlay, where it moves the image and moves it forwards; gives it
    /// instead where it is to be proposed.
    pub(super) async fn keep(
        &self,
        resolving: &Resolving<'_>,
        image: &ImageName,
        mut new: Lock,
    ) -> Result<Option<Lock>, ControlError> {
        let run = resolving.scope.run;
        let old = resolving.effective.images.get(image).map(|old| &old.lock);
        let mut result = compare(resolving, image, old, &new);
        if let Some(old) = old.filter(|old| old.request == new.request && !result.moves.refreshed) {
            new.keep_epochs(old);
        }
        let is_proposed = result.result == LockCheckResult::Moved && resolving.proposes;
        if !is_proposed && matches!(result.result, LockCheckResult::First | LockCheckResult::Moved) {
            let reason = format!("run {run}: {result}");
            let (store, now) = (&self.jobs.store, self.jobs.clock.now());
            result.overlay = Some(store.add_lock(resolving.scope.domain, image, &new, &reason, now).await?);
        }
        self.jobs.store.note_update_check(run, &result).await?;
        Ok(is_proposed.then_some(new))
    }
}

fn compare(resolving: &Resolving<'_>, image: &ImageName, old: Option<&Lock>, new: &Lock) -> LockCheck {
    let Some(old) = old else { return found(image, LockCheckResult::First) };
    let spec = resolving.definition.images.get(image);
    let request = spec.map(|spec| lock_request(spec, &resolving.definition.source));
    let mut moves = LockMoves::between(old, new);
    moves.refreshed = request.is_some_and(|request| request.is_due(old.epoch, new.epoch));
    if same_inputs(old, new) && moves.is_empty() {
        return found(image, LockCheckResult::Unchanged);
    }
    match moves.backwards() {
        Some(package) => {
            let message = Some(format!("the mirror lags behind ({package})"));
            LockCheck { message, ..found(image, LockCheckResult::Kept) }
        }
        None => LockCheck { moves, ..found(image, LockCheckResult::Moved) },
    }
}

pub(super) fn found(image: &ImageName, result: LockCheckResult) -> LockCheck {
    LockCheck { image: image.clone(), result, overlay: None, moves: LockMoves::default(), message: None }
}

/// Whether two locks pin the same; the epoch is only when they were made, and the lines of archives only
/// where they were made. An index whose other platforms moved is the same base.
pub(super) fn same_inputs(a: &Lock, b: &Lock) -> bool {
    let is_same_base = LockMoves::between(a, b).base.is_none() && a.base.is_some() == b.base.is_some();
    a.request == b.request && is_same_base && a.images == b.images && a.packages == b.packages
}
