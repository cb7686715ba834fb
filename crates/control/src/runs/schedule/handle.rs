//! The transitions: what an event changes, and what is to be done then.

use std::collections::BTreeSet;

use edgewright_model::outcome::FailureKind;
use edgewright_model::run::RunNumber;
use edgewright_plan::NodeId;
use jiff::Timestamp;

use super::state::{Check, Index, Next, Schedule, Stage};
use super::{Action, End, Event, JobEnd, Judgement};

/// The actions of one event, in the order in which they are to be done.
pub(super) type Actions = Vec<Action>;

impl Schedule {
    /// Takes an event in and gives what is to be done.
    #[must_use]
    pub(crate) fn handle(&mut self, event: Event, now: Timestamp) -> Actions {
        let mut actions = Actions::new();
        match event {
            Event::Started => self.begin(now, &mut actions),
            Event::Admitted(job) => self.admitted(&job, &mut actions),
            Event::Deferred { job, until } => self.deferred(&job, until),
            Event::Refused { job, kind } => self.refused(&job, kind, now, &mut actions),
            Event::JobEnded { node, end } => self.job_ended(&node, end, now, &mut actions),
            Event::Compared(verdict) => self.comparison_ended(&verdict, &mut actions),
            Event::Stopped(job) => self.stopped(&job, &mut actions),
            Event::Judged { node, judgement } => self.judged(&node, judgement, now, &mut actions),
            Event::Settled(node) => self.settled(&node, now, &mut actions),
            Event::VerdictsChecked { posted, newer } => self.checked(&posted, newer, now, &mut actions),
            Event::Tick => {}
            Event::Stop => self.stop(&mut actions),
        }
        self.advance(now, &mut actions);
        actions
    }

    /// A node in one of the stages in which an event about it makes sense.
    pub(super) fn place(&self, node: &NodeId, stage: &Stage) -> Option<Index> {
        self.index.get(node).copied().filter(|place| self.nodes[*place].stage == *stage)
    }

    fn begin(&mut self, now: Timestamp, actions: &mut Actions) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        for place in 0..self.nodes.len() {
            match self.nodes[place].stage {
                Stage::Waiting => self.consider(place, now, actions),
                Stage::Comparing | Stage::Awaiting => self.judge(place, actions),
                _ => {}
            }
        }
    }

    /// Looks at a waiting node after something that it waits for changed.
    fn consider(&mut self, place: Index, now: Timestamp, actions: &mut Actions) {
        if self.nodes[place].stage != Stage::Waiting {
            return;
        }
        match self.next(place) {
            Next::Wait => {}
            Next::Block(cause) => {
                let cause = self.nodes[cause].id.clone();
                self.settle(place, End::Blocked { cause }, actions);
            }
            Next::Start => match self.nodes[place].not_before.filter(|at| *at > now) {
                Some(at) => drop(self.delayed.insert((at, place))),
                None => drop(self.ready.insert(place)),
            },
        }
    }

    fn consider_dependents(&mut self, place: Index, now: Timestamp, actions: &mut Actions) {
        for dependent in self.nodes[place].dependents.clone() {
            self.consider(dependent, now, actions);
        }
    }

    pub(super) fn judge(&mut self, place: Index, actions: &mut Actions) {
        let node = &mut self.nodes[place];
        node.stage = Stage::Judging;
        if let Some(until) = node.until {
            self.awaiting.remove(&(until, place));
        }
        self.outstanding += 1;
        actions.push(Action::Judge(self.nodes[place].id.clone()));
    }

    pub(super) fn settle(&mut self, place: Index, end: End, actions: &mut Actions) {
        self.ready.remove(&place);
        self.nodes[place].stage = Stage::Settling(end.clone());
        self.outstanding += 1;
        actions.push(Action::Settle { node: self.nodes[place].id.clone(), end });
    }

    fn job_ended(&mut self, node: &NodeId, end: JobEnd, now: Timestamp, actions: &mut Actions) {
        let Some(place) = self.place(node, &Stage::Running) else { return };
        self.outstanding -= 1;
        match end {
            JobEnd::Done => self.judge(place, actions),
            JobEnd::Failed(kind) => self.failed(place, kind, now, actions),
        }
    }

    /// A failure of the infrastructure is tried again, up to the limit.
    pub(super) fn failed(&mut self, place: Index, kind: FailureKind, now: Timestamp, actions: &mut Actions) {
        let attempts = self.nodes[place].attempts;
        let end = if kind == FailureKind::Infrastructure && attempts < self.limits.attempts {
            End::Retry { at: now.checked_add(self.limits.retry.pause(attempts)).unwrap_or(Timestamp::MAX) }
        } else {
            End::Failed
        };
        self.settle(place, end, actions);
    }

    fn judged(&mut self, node: &NodeId, judgement: Judgement, now: Timestamp, actions: &mut Actions) {
        let Some(place) = self.place(node, &Stage::Judging) else { return };
        self.outstanding -= 1;
        match judgement {
            Judgement::Passed => self.settle(place, End::Passed, actions),
            Judgement::Failed(kind) => self.failed(place, kind, now, actions),
            Judgement::Compare(wanted) => {
                self.nodes[place].missing = wanted;
                if self.nodes[place].is_comparing {
                    self.wait_for_comparisons(place, actions);
                } else {
                    self.settle(place, End::Compare, actions);
                }
            }
            Judgement::Awaits { within } => match (self.nodes[place].until, self.newer) {
                (None, _) => {
                    let until = now.checked_add(within).unwrap_or(Timestamp::MAX);
                    self.settle(place, End::Await { until }, actions);
                }
                (Some(until), _) if now >= until => self.settle(place, End::Unanswered { until }, actions),
                (Some(_), Some(by)) => self.settle(place, End::Superseded { by }, actions),
                (Some(until), None) => {
                    self.nodes[place].stage = Stage::Awaiting;
                    self.awaiting.insert((until, place));
                }
            },
        }
    }

    fn settled(&mut self, node: &NodeId, now: Timestamp, actions: &mut Actions) {
        let Some(place) = self.index.get(node).copied() else { return };
        let Stage::Settling(end) = self.nodes[place].stage.clone() else { return };
        self.outstanding -= 1;
        match end {
            End::Retry { at } => {
                let node = &mut self.nodes[place];
                (node.stage, node.until, node.is_comparing) = (Stage::Waiting, None, false);
                self.delay(place, at);
            }
            End::Compare => {
                self.nodes[place].is_comparing = true;
                self.wait_for_comparisons(place, actions);
            }
            End::Await { until } => {
                let node = &mut self.nodes[place];
                (node.stage, node.until) = (Stage::Awaiting, Some(until));
                self.awaiting.insert((until, place));
                self.consider_dependents(place, now, actions);
            }
            end => {
                self.nodes[place].stage = Stage::Ended(end.state());
                self.open -= 1;
                self.consider_dependents(place, now, actions);
            }
        }
    }

    fn checked(
        &mut self,
        posted: &[NodeId],
        newer: Option<RunNumber>,
        now: Timestamp,
        actions: &mut Actions,
    ) {
        if self.check != Check::Outstanding {
            return;
        }
        self.outstanding -= 1;
        self.check = Check::Due(now.checked_add(self.limits.check_every).unwrap_or(Timestamp::MAX));
        self.newer = newer;
        let places: BTreeSet<Index> = if newer.is_some() {
            self.awaiting.iter().map(|(_, place)| *place).collect()
        } else {
            posted.iter().filter_map(|id| self.place(id, &Stage::Awaiting)).collect()
        };
        for place in places {
            self.judge(place, actions);
        }
    }

    pub(super) fn stop(&mut self, actions: &mut Actions) {
        if !self.is_stopping {
            self.is_stopping = true;
            actions.push(Action::Stop);
        }
    }
}
