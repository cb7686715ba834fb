//! One step of the state machine.

use std::time::Duration;

use edgewright_process::Backoff;

use super::context::{ApplyAt, Context};
use super::health::{decided, found_running, roll_back};
use super::started::started;
use super::{
    Action, Command, Event, FailureReason, HeldBack, Hold, Problem, ProblemKind, Record, Reports, Request,
    State, Update,
};
use crate::report::ReportBody;

/// The first pause after a failure; it doubles up to the interval between checks. After a boot, the network
/// is often a few seconds late.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// What a step results in. Store the record and the reports first, then perform the actions in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The next record.
    pub record: Record,
    /// The actions.
    pub actions: Vec<Action>,
    /// What happened, for the server.
    pub reports: Reports,
}

/// A command that the state does not permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {command} now: the device is {state}")]
pub struct Rejected {
    /// The command.
    pub command: &'static str,
    /// The state, in words.
    pub state: &'static str,
}

impl Outcome {
    pub(super) fn of(record: &Record) -> Self {
        Self { record: record.clone(), actions: Vec::new(), reports: Vec::new() }
    }

    pub(super) fn go(mut self, state: State) -> Self {
        self.record.state = state;
        self.record.retry_at = None;
        self
    }

    pub(super) fn act(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    pub(super) fn report(mut self, body: ReportBody) -> Self {
        self.reports.push(body);
        self
    }

    /// The resting state of a device that has nothing to do, until the next regular check.
    pub(super) fn rest(mut self, context: &Context<'_>) -> Self {
        self.record.request = None;
        self.record.next_check = context.next_check();
        let state = match &self.record.confirmed {
            Some(confirmed) if self.record.booted().is_some_and(|booted| confirmed.update.is(booted)) => {
                State::Confirmed { update: confirmed.update.clone(), blessed: true }
            }
            _ => State::Idle,
        };
        self.go(state)
    }

    /// Holds an update back, until the next regular check.
    pub(super) fn hold_back(mut self, update: Option<Update>, why: HeldBack, context: &Context<'_>) -> Self {
        self.record.request = None;
        self.record.next_check = context.next_check();
        self.go(State::HeldBack { update, why })
    }

    /// Notes a problem and returns when to try again.
    fn trouble(&mut self, problem: Problem, context: &Context<'_>) -> jiff::Timestamp {
        let before = self.record.problem.take();
        let (failures, since) = before.map_or((0, None), |before| (before.failures, before.since));
        let failures = failures.saturating_add(1);
        let since = since.or(Some(context.now));
        self.record.problem = Some(Problem { failures, since, ..problem });
        let longest = context.rules.interval.max(FIRST_PAUSE);
        context.after(Backoff::new(FIRST_PAUSE, longest).pause(failures).saturating_add(context.jitter / 4))
    }

    /// Notes that what runs now is the problem's end.
    pub(super) fn well(mut self) -> Self {
        self.record.problem = None;
        self
    }

    /// Decides about a staged image by policy, request and hold.
    pub(super) fn decide(mut self, update: Update, context: &Context<'_>) -> Self {
        if self.record.hold.is_some() {
            return self.hold_back(Some(update), HeldBack::Hold, context);
        }
        let wanted = self.record.request.is_some_and(|request| request.apply);
        match context.apply_at() {
            ApplyAt::Later(until) if !wanted => self.go(State::Waiting { update, until }),
            ApplyAt::OnCommand if !wanted => self.go(State::Staged { update }),
            _ => {
                self.record.request = None;
                let (from, boot) = (self.record.booted().cloned(), self.record.boot.clone());
                let digest = update.digest.clone();
                self.go(State::Rebooting { update, from, boot, armed: false }).act(Action::Arm(digest))
            }
        }
    }
}

/// One step. Only commands are rejected; an event that means nothing in the state changes nothing.
pub fn step(record: &Record, event: Event, context: &Context<'_>) -> Result<Outcome, Rejected> {
    let same = Outcome::of(record);
    Ok(match event {
        Event::Started { truth, boot } => started(record, *truth, boot, context),
        Event::Command(command) => return commanded(record, command, context),
        Event::Tick => tick(record, context),
        Event::Found(update) => found(record, update, context),
        Event::Failed(problem) => failed(record, problem, context),
        Event::Downloaded { bytes } => match &record.state {
            State::Downloading { update } => {
                let staged = ReportBody::Staged { digest: update.digest.clone(), bytes };
                same.well().report(staged).decide(update.clone(), context)
            }
            _ => same,
        },
        Event::Armed => match &record.state {
            State::Rebooting { update, from, boot, armed: false } => {
                let state = State::Rebooting {
                    update: update.clone(),
                    from: from.clone(),
                    boot: boot.clone(),
                    armed: true,
                };
                let report = ReportBody::Rebooting { digest: update.digest.clone() };
                same.well().go(state).report(report).act(Action::Reboot)
            }
            _ => same,
        },
        Event::Health(result) => decided(record, result, context),
        Event::Blessed => match &record.state {
            State::Confirmed { update, blessed: false } => {
                let report = ReportBody::Confirmed { digest: update.digest.clone() };
                same.well().report(report).rest(context).act(Action::Collect)
            }
            _ => same,
        },
        Event::RolledBack => match &record.state {
            State::RollingBack { .. } => same.act(Action::Reboot),
            _ => same,
        },
    })
}

fn tick(record: &Record, context: &Context<'_>) -> Outcome {
    let same = Outcome::of(record);
    let retry = record.retry_at.is_some_and(|at| context.is_due(at));
    match &record.state {
        State::Staged { update } | State::Waiting { update, .. } if context.is_due(record.next_check) => {
            let staged = Some(update.clone());
            same.go(State::Checking { staged }).act(Action::Check)
        }
        State::Staged { update } | State::Waiting { update, .. } => {
            if record.retry_at.is_some() && !retry {
                return same;
            }
            let mut same = same;
            same.record.retry_at = None;
            let due = match (&record.state, context.apply_at()) {
                (State::Waiting { until: Some(until), .. }, ApplyAt::Now) => {
                    context.now >= *until || {
                        // Within the window: the delay of this device has not passed yet, unless the clock moved.
                        !context.rules.windows.holds(*until, context.now)
                    }
                }
                (_, ApplyAt::Now) => true,
                (State::Waiting { until, .. }, ApplyAt::Later(_)) => {
                    until.is_none_or(|until| until <= context.now)
                }
                _ => false,
            };
            if due { same.decide(update.clone(), context) } else { same }
        }
        State::Idle | State::HeldBack { .. } | State::Confirmed { blessed: true, .. }
            if context.is_due(record.next_check) =>
        {
            same.go(State::Checking { staged: None }).act(Action::Check)
        }
        State::Confirmed { blessed: false, .. } if retry => {
            let mut again = same;
            again.record.retry_at = None;
            again.act(Action::Bless)
        }
        State::Rebooting { armed: true, .. } if retry => {
            let mut again = same;
            again.record.retry_at = None;
            again.act(Action::Reboot)
        }
        _ => same,
    }
}

fn found(record: &Record, update: Update, context: &Context<'_>) -> Outcome {
    let State::Checking { staged } = &record.state else { return Outcome::of(record) };
    let mut same = Outcome::of(record);
    same.record.last_check = Some(context.now);
    same.record.next_check = context.next_check();
    if record.booted().is_some_and(|booted| update.is(booted)) {
        return found_running(same, update, context);
    }
    let retry = record.request.is_some_and(|request| request.retry);
    if record.failure(&update).is_some() && !retry {
        return same.well().hold_back(Some(update), HeldBack::Failed, context);
    }
    if record.hold.is_some() {
        return same.well().hold_back(Some(update), HeldBack::Hold, context);
    }
    if retry {
        same.record.failed.retain(|failed| !update.is(&failed.digest));
    }
    if staged.as_ref().is_some_and(|staged| staged.digest == update.digest) {
        return same.well().decide(update, context);
    }
    // A problem of the download before ends with this one: its pauses grow although the registry answers.
    let report = ReportBody::Offered { digest: update.digest.clone() };
    let state = State::Downloading { update: update.clone() };
    same.go(state).report(report).act(Action::Download(update))
}

fn failed(record: &Record, problem: Problem, context: &Context<'_>) -> Outcome {
    let mut same = Outcome::of(record);
    let is_new = record.problem.as_ref().is_none_or(|known| known.kind != problem.kind);
    let report = ReportBody::Problem { kind: problem.kind, message: problem.message.clone() };
    let kind = problem.kind;
    let message = problem.message.clone();
    let again = same.trouble(problem, context);
    if is_new {
        same = same.report(report);
    }
    match &record.state {
        State::Downloading { update } if kind == ProblemKind::Image => {
            let reason = FailureReason::Invalid { message };
            let update = update.clone();
            same.remember(&update, reason, context).hold_back(Some(update), HeldBack::Failed, context)
        }
        State::Checking { staged: Some(update) } => {
            same.record.next_check = again;
            // The policy still decides about what is staged: a window does not need the registry.
            same.decide(update.clone(), context)
        }
        State::Checking { staged: None }
        | State::Downloading { .. }
        | State::CheckingHealth { is_found: true, .. } => {
            // The request stays: it is fulfilled when the registry is back.
            let request = same.record.request;
            let mut next = same.rest(context);
            next.record.request = request;
            next.record.next_check = again;
            next
        }
        State::Rebooting { update, armed: false, .. } => {
            let mut next = same.go(State::Staged { update: update.clone() });
            next.record.retry_at = Some(again);
            next
        }
        State::Confirmed { blessed: false, .. } | State::Rebooting { armed: true, .. } => {
            same.record.retry_at = Some(again);
            same
        }
        State::RollingBack { update, reason, .. } => {
            let stuck = kind == ProblemKind::NoFallback;
            let by_hand = *reason == FailureReason::RolledBack;
            match (stuck, by_hand) {
                (true, true) => same.rest(context),
                (true, false) => same.hold_back(Some(update.clone()), HeldBack::Failed, context),
                // Without a blessing, the boot loader itself returns to the old image.
                (false, _) => same.act(Action::Reboot),
            }
        }
        _ => same,
    }
}

fn commanded(record: &Record, command: Command, context: &Context<'_>) -> Result<Outcome, Rejected> {
    let mut same = Outcome::of(record);
    let name = permitted(record, &command)?;
    let staged = match &record.state {
        State::Staged { update } | State::Waiting { update, .. } => Some(update.clone()),
        State::Checking { staged } => staged.clone(),
        _ => None,
    };
    Ok(match command {
        Command::Check | Command::Update { .. } => {
            if let Command::Update { retry } = command {
                same.record.request = Some(Request { apply: true, retry });
            }
            match &record.state {
                State::Downloading { .. } | State::Checking { .. } => same,
                _ => same.go(State::Checking { staged }).act(Action::Check),
            }
        }
        Command::RollBack => {
            let Some(booted) = &record.truth.booted else {
                return Err(Rejected { command: name, state: "not installed by an updater" });
            };
            let reference = booted.reference.clone().unwrap_or_default();
            let update = Update { digest: booted.digest.clone(), index: None, reference };
            roll_back(same.act(Action::Stop), &update, FailureReason::RolledBack, 0, context)
        }
        Command::Hold { reason } => {
            same.record.hold = Some(Hold { reason, since: context.now });
            match &record.state {
                State::Checking { .. }
                | State::Downloading { .. }
                | State::Staged { .. }
                | State::Waiting { .. } => {
                    let update = record.state.update().cloned();
                    same.act(Action::Stop).hold_back(update, HeldBack::Hold, context)
                }
                _ => same,
            }
        }
        Command::Resume => {
            same.record.hold = None;
            match &record.state {
                State::HeldBack { why: HeldBack::Hold, .. } => {
                    same.go(State::Checking { staged: None }).act(Action::Check)
                }
                _ => same,
            }
        }
    })
}

/// The name of a command that the state permits.
fn permitted(record: &Record, command: &Command) -> Result<&'static str, Rejected> {
    let name = match command {
        Command::Check => "check",
        Command::Update { .. } => "update",
        Command::RollBack => "roll back",
        // A hold takes effect after what is under way.
        Command::Hold { .. } => return Ok("hold"),
        Command::Resume => return Ok("resume"),
    };
    let busy = match &record.state {
        State::Rebooting { .. } => Some("rebooting"),
        // An image that was found running is no trial: a command comes first, and its checks begin again later.
        State::CheckingHealth { is_found: false, .. } | State::Confirmed { blessed: false, .. } => {
            Some("checking its health")
        }
        State::RollingBack { .. } => Some("rolling back"),
        _ if record.hold.is_some() && matches!(command, Command::Update { .. }) => {
            Some("on hold: run `edgewright-agent resume`")
        }
        _ => None,
    };
    busy.map_or(Ok(name), |state| Err(Rejected { command: name, state }))
}
