//! The first step after a start: the updater's findings and the record are brought together.

use super::context::Context;
use super::health::roll_back;
use super::step::Outcome;
use super::{Action, FailureReason, HeldBack, Record, State, Update};
use crate::report::ReportBody;
use crate::updater::{Deployment, Deployments};

pub(super) fn started(record: &Record, truth: Deployments, boot: String, context: &Context<'_>) -> Outcome {
    let mut same = Outcome::of(record);
    let is_new_boot = record.boot != boot;
    same.record.truth = truth;
    same.record.boot = boot;
    if is_new_boot {
        let truth = same.record.truth.clone();
        same = same.report(ReportBody::Booted { truth });
    }
    let booted = same.record.truth.booted.clone();
    let Some(booted) = booted else {
        // Nothing that an updater knows runs here: there is no update to continue.
        return same.resume_check(context);
    };
    let is_booted = |update: &Update| update.is(&booted.digest);
    match record.state.clone() {
        State::CheckingHealth { update, is_found: true, .. } if is_booted(&update) => {
            same.check_found(update)
        }
        // Another image was booted before the checks were decided. It was no trial: nothing fell back.
        State::CheckingHealth { is_found: true, .. } => at_rest(same, State::Idle, &booted, context),
        State::Rebooting { update, from, .. } | State::CheckingHealth { update, from, .. }
            if is_booted(&update) =>
        {
            same.check_health(update, from)
        }
        State::Rebooting { update, armed, .. } => {
            let exhausted =
                same.record.truth.staged.as_ref().is_some_and(|staged| is_exhausted(staged, &update));
            // Where boots are counted, an image that failed has no tries left. One whose entry a power cut took,
            // while the boot loader renamed it, was not tried: once more, but no endless series of reboots.
            let is_known = booted.entry.is_some() && !exhausted;
            let is_first = same.record.armed_again.as_ref() != Some(&update.digest);
            let is_untried = armed && is_known && is_first;
            if is_new_boot && is_untried {
                same.record.armed_again = Some(update.digest.clone());
            } else if is_new_boot && (armed || exhausted) {
                return fell_back(same, &update, FailureReason::FellBack, context);
            }
            // The boot loader may be set or not: it is set again.
            same.record.state = State::Idle;
            restage(same, update, context)
        }
        State::CheckingHealth { update, .. } => fell_back(same, &update, FailureReason::FellBack, context),
        State::Confirmed { update, blessed: false } if is_booted(&update) => same.act(Action::Bless),
        State::RollingBack { update, reason, attempts, .. } if is_booted(&update) => {
            roll_back(same, &update, reason, attempts, context)
        }
        State::RollingBack { update, reason, .. } => fell_back(same, &update, reason, context),
        state => at_rest(same, state, &booted, context),
    }
}

/// A state before a reboot.
fn at_rest(same: Outcome, state: State, booted: &Deployment, context: &Context<'_>) -> Outcome {
    let update = state.update().cloned();
    let is_trial = booted.tries_left.is_some();
    if let Some(update) = update.as_ref().filter(|update| update.is(&booted.digest)) {
        return match state {
            State::HeldBack { why: HeldBack::Failed, .. } => same.go(state).resume_due(context),
            State::Confirmed { .. } if !is_trial => same.go(state).resume_due(context),
            // Someone rebooted a staged image, or the record of the reboot is older than the boot.
            _ => same.check_health(update.clone(), None),
        };
    }
    if is_trial {
        // The record was lost, or is older than the boot.
        let reference = booted.reference.clone().unwrap_or_default();
        let update = Update { digest: booted.digest.clone(), index: None, reference };
        return same.check_health(update, None);
    }
    match state {
        State::Downloading { update } => {
            let action = Action::Download(update.clone());
            same.go(State::Downloading { update }).act(action)
        }
        State::Staged { update }
        | State::Waiting { update, .. }
        | State::Checking { staged: Some(update) } => restage(same, update, context),
        State::HeldBack { .. } => same.go(state).resume_due(context),
        _ => same.resume_check(context),
    }
}

/// The old image runs again.
fn fell_back(same: Outcome, update: &Update, reason: FailureReason, context: &Context<'_>) -> Outcome {
    let known = same.record.failure(update).map(|failed| failed.reason.clone());
    let reason = known.filter(|_| reason == FailureReason::FellBack).unwrap_or(reason);
    let report = ReportBody::RolledBack { digest: update.digest.clone(), reason: reason.to_string() };
    let same = same.remember(update, reason, context).report(report);
    same.hold_back(Some(update.clone()), HeldBack::Failed, context)
}

/// Continues with a staged image if it is still there; stages it again if not.
fn restage(same: Outcome, update: Update, context: &Context<'_>) -> Outcome {
    let staged = same.record.truth.staged.as_ref();
    if staged.is_some_and(|staged| update.is(&staged.digest) && !is_exhausted(staged, &update)) {
        return same.decide(update, context);
    }
    let action = Action::Download(update.clone());
    same.go(State::Downloading { update }).act(action)
}

/// Whether the boot loader has used up the tries of a staged image.
fn is_exhausted(staged: &Deployment, update: &Update) -> bool {
    update.is(&staged.digest) && staged.tries_left == Some(0)
}

impl Outcome {
    /// A check was interrupted, or is due: it is made at the next tick.
    fn resume_check(mut self, context: &Context<'_>) -> Self {
        let request = self.record.request;
        let (due, at) = (context.is_due(self.record.next_check), self.record.next_check);
        let interrupted = matches!(self.record.state, State::Checking { .. });
        self = self.rest(context);
        self.record.request = request;
        self.record.next_check = if due || interrupted || request.is_some() { context.now } else { at };
        self
    }

    /// The state stays; a check whose time comes from a wrong clock is due now.
    fn resume_due(mut self, context: &Context<'_>) -> Self {
        if context.is_due(self.record.next_check) {
            self.record.next_check = context.now;
        }
        self
    }
}
