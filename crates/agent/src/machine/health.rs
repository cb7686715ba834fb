//! Health checks decide about what runs: after an update, and of an image that was found running.
//!
//! ```text
//!                      it passes               it fails
//!  after an update     confirmed, blessed      rolled back
//!  found running       confirmed, blessed      rolled back, if the fallback is the image confirmed last;
//!                                              else it stays, and is checked again after growing pauses
//! ```
//!
//! An image is found running if the registry offers the booted digest, and this record has no result for it:
//! the device was installed with it, lost its state, or a person updated it.

use std::time::Duration;

use edgewright_model::Digest;
use edgewright_process::Backoff;

use super::context::Context;
use super::step::Outcome;
use super::{
    Action, Confirmed, Failed, FailureReason, HeldBack, MAX_FAILED, MAX_ROLL_BACKS, Record, State, Update,
};
use crate::health::HealthResult;
use crate::report::ReportBody;

/// The longest pause before an image that runs, and failed its checks, is checked again. The first is the
/// interval between update checks.
const LONGEST_PAUSE: Duration = Duration::from_hours(6);

impl Outcome {
    /// Checks the health of an image on trial.
    pub(super) fn check_health(self, update: Update, from: Option<Digest>) -> Self {
        let state = State::CheckingHealth { update: update.clone(), from, is_found: false };
        self.go(state).act(Action::CheckHealth(update))
    }

    /// Checks the health of an image that was found running.
    pub(super) fn check_found(mut self, update: Update) -> Self {
        self.record.request = None;
        let state = State::CheckingHealth { update: update.clone(), from: None, is_found: true };
        self.go(state).act(Action::CheckFound(update))
    }

    /// Remembers a digest that failed, once.
    pub(super) fn remember(mut self, update: &Update, reason: FailureReason, context: &Context<'_>) -> Self {
        let failures = self.record.failure(update).map_or(0, |known| known.failures).saturating_add(1);
        let failed = &mut self.record.failed;
        failed.retain(|known| known.digest != update.digest);
        failed.push(Failed { digest: update.digest.clone(), reason, at: context.now, failures });
        if failed.len() > MAX_FAILED {
            failed.remove(0);
        }
        self
    }
}

/// The registry offers what runs.
pub(super) fn found_running(same: Outcome, update: Update, context: &Context<'_>) -> Outcome {
    let record = &same.record;
    let is_confirmed = record
        .confirmed
        .as_ref()
        .is_some_and(|known| record.booted().is_some_and(|booted| known.update.is(booted)));
    if is_confirmed {
        return same.well().rest(context);
    }
    let is_asked = record.request.is_some_and(|request| request.retry);
    if record.failure(&update).is_some_and(|failed| !is_asked && !is_due_again(failed, context)) {
        return same.well().hold_back(Some(update), HeldBack::Failed, context);
    }
    // A problem stays until the checks are decided: their own pauses grow although the registry responds.
    same.check_found(update)
}

/// Whether an image that failed its checks, and runs, is checked again.
fn is_due_again(failed: &Failed, context: &Context<'_>) -> bool {
    let pause = Backoff::new(context.rules.interval, LONGEST_PAUSE).pause(failed.failures);
    let elapsed = Duration::try_from(context.now.duration_since(failed.at));
    // A failure in the future comes from a clock that was wrong.
    elapsed.map_or(true, |elapsed| elapsed >= pause)
}

/// The checks are decided.
pub(super) fn decided(record: &Record, result: HealthResult, context: &Context<'_>) -> Outcome {
    let State::CheckingHealth { update, is_found, .. } = &record.state else { return Outcome::of(record) };
    let (update, is_found) = (update.clone(), *is_found);
    let same = Outcome::of(record).well();
    let failure = result.failure();
    let report = ReportBody::Health { digest: update.digest.clone(), result };
    let Some(message) = failure else {
        let mut same = same.report(report);
        same.record.confirmed = Some(Confirmed { update: update.clone(), at: context.now });
        same.record.failed.retain(|failed| failed.digest != update.digest);
        return same.go(State::Confirmed { update, blessed: false }).act(Action::Bless);
    };
    let reason = FailureReason::Unhealthy { message };
    if !is_found {
        return roll_back(same.report(report), &update, reason, 0, context);
    }
    let known = record.failure(&update);
    if known.is_none() && is_fallback_good(record) {
        return roll_back(same.report(report), &update, reason, 0, context);
    }
    // The same result again is no news.
    let is_news = known.is_none_or(|known| known.reason != reason);
    let same = if is_news { same.report(report) } else { same };
    same.remember(&update, reason, context).hold_back(Some(update), HeldBack::Failed, context)
}

/// Whether the fallback passed its checks on this device, last of all images, and was not left since.
fn is_fallback_good(record: &Record) -> bool {
    let Some(fallback) = &record.truth.fallback else { return false };
    let is_confirmed = record.confirmed.as_ref().is_some_and(|known| known.update.is(&fallback.digest));
    let was_left = record.failed.iter().any(|failed| failed.digest == fallback.digest);
    is_confirmed && !was_left && record.booted() != Some(&fallback.digest)
}

/// Leaves an image.
pub(super) fn roll_back(
    outcome: Outcome,
    update: &Update,
    reason: FailureReason,
    attempts: u32,
    context: &Context<'_>,
) -> Outcome {
    // What an operator leaves counts as failed once it is left: there may be nothing to return to.
    let outcome = if reason == FailureReason::RolledBack {
        outcome
    } else {
        outcome.remember(update, reason.clone(), context)
    };
    if attempts >= MAX_ROLL_BACKS {
        return outcome.hold_back(Some(update.clone()), HeldBack::Failed, context);
    }
    let boot = outcome.record.boot.clone();
    let state = State::RollingBack { update: update.clone(), reason, boot, attempts: attempts + 1 };
    outcome.go(state).act(Action::RollBack)
}
