//! Whose turn it is: admission, one request at a time, and what only the passing of time brings.

use edgewright_model::outcome::FailureKind;
use jiff::Timestamp;

use super::handle::Actions;
use super::state::{Check, Comparison, ComparisonStage, Index, Schedule, Stage};
use super::{Action, Job};

impl Schedule {
    /// Whether this is the job that the executor was asked about.
    fn answers(&mut self, job: &Job) -> bool {
        let is_answer = self.admitting.as_ref() == Some(job);
        if is_answer {
            self.admitting = None;
            self.outstanding -= 1;
        }
        is_answer
    }

    pub(super) fn admitted(&mut self, job: &Job, actions: &mut Actions) {
        if !self.answers(job) {
            return;
        }
        match job {
            Job::Node(id) => {
                let Some(place) = self.place(id, &Stage::Admitting) else { return };
                if self.is_stopping {
                    self.nodes[place].stage = Stage::Stopped;
                    return;
                }
                self.nodes[place].stage = Stage::Running;
                self.nodes[place].attempts += 1;
                self.outstanding += 1;
                actions.push(Action::Start(id.clone()));
            }
            Job::Comparison(verdict) => {
                let Some(comparison) = self.comparisons.get_mut(verdict) else { return };
                if self.is_stopping {
                    self.comparisons.remove(verdict);
                    return;
                }
                comparison.stage = ComparisonStage::Running;
                let node = self.nodes[comparison.waiters[0]].id.clone();
                self.outstanding += 1;
                actions.push(Action::Compare { verdict: verdict.clone(), node });
            }
        }
    }

    pub(super) fn deferred(&mut self, job: &Job, until: Timestamp) {
        if !self.answers(job) {
            return;
        }
        match job {
            Job::Node(id) => {
                if let Some(place) = self.place(id, &Stage::Admitting) {
                    self.nodes[place].stage = Stage::Waiting;
                    self.delay(place, until);
                }
            }
            Job::Comparison(verdict) => {
                if let Some(comparison) = self.comparisons.get_mut(verdict) {
                    comparison.stage = ComparisonStage::Waiting { not_before: Some(until) };
                }
            }
        }
    }

    pub(super) fn refused(&mut self, job: &Job, kind: FailureKind, now: Timestamp, actions: &mut Actions) {
        if !self.answers(job) {
            return;
        }
        match job {
            Job::Node(id) => {
                if let Some(place) = self.place(id, &Stage::Admitting) {
                    self.nodes[place].attempts += 1;
                    self.failed(place, kind, now, actions);
                }
            }
            // Without the verdict to compare with, the failure counts as it is.
            Job::Comparison(verdict) => self.end_comparison(verdict, actions),
        }
    }

    /// Only a stop ends jobs before their time; once one reports it, the rest stops, too.
    pub(super) fn stopped(&mut self, job: &Job, actions: &mut Actions) {
        let was_asked = self.answers(job);
        let is_known = match job {
            Job::Node(id) => {
                let stage = if was_asked { Stage::Admitting } else { Stage::Running };
                let place = self.place(id, &stage);
                if let Some(place) = place {
                    self.nodes[place].stage = Stage::Stopped;
                }
                place.is_some()
            }
            Job::Comparison(verdict) => {
                let running = |comparison: &Comparison| comparison.stage == ComparisonStage::Running;
                let is_known = was_asked || self.comparisons.get(verdict).is_some_and(running);
                is_known && self.comparisons.remove(verdict).is_some()
            }
        };
        if is_known {
            self.outstanding -= usize::from(!was_asked);
            self.stop(actions);
        }
    }

    /// Holds a waiting node back until a time, also where something that it waited for changes before.
    pub(super) fn delay(&mut self, place: Index, until: Timestamp) {
        self.nodes[place].not_before = Some(until);
        self.delayed.insert((until, place));
    }

    /// What follows from where everything is by now.
    pub(super) fn advance(&mut self, now: Timestamp, actions: &mut Actions) {
        if self.is_stopping || self.open == 0 {
            if self.outstanding == 0 {
                actions.push(Action::Done);
            }
            return;
        }
        while let Some((at, place)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.remove(&(at, place));
            if self.nodes[place].stage == Stage::Waiting {
                self.ready.insert(place);
            }
        }
        while let Some((_, place)) = self.awaiting.first().copied().filter(|(until, _)| *until <= now) {
            self.judge(place, actions);
        }
        if !self.awaiting.is_empty()
            && let Check::Due(at) = self.check
            && at <= now
        {
            self.check = Check::Outstanding;
            self.outstanding += 1;
            actions.push(Action::CheckVerdicts);
        }
        self.admit_next(now, actions);
        actions.extend(self.wake_at(now).map(Action::WakeAt));
    }

    /// Asks for the next job, where no request is outstanding. Comparisons come first: a node that is built
    /// waits for them.
    fn admit_next(&mut self, now: Timestamp, actions: &mut Actions) {
        if self.admitting.is_some() {
            return;
        }
        let is_due = |stage: ComparisonStage| match stage {
            ComparisonStage::Waiting { not_before } => not_before.is_none_or(|at| at <= now),
            ComparisonStage::Admitting | ComparisonStage::Running => false,
        };
        let comparison = self.comparisons.iter_mut().find(|(_, comparison)| is_due(comparison.stage));
        let job = if let Some((verdict, comparison)) = comparison {
            comparison.stage = ComparisonStage::Admitting;
            Job::Comparison(verdict.clone())
        } else if let Some(place) = self.ready.pop_first() {
            self.nodes[place].stage = Stage::Admitting;
            Job::Node(self.nodes[place].id.clone())
        } else {
            return;
        };
        self.admitting = Some(job.clone());
        self.outstanding += 1;
        actions.push(Action::Admit(job));
    }

    /// When something is due next that no event announces.
    fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let retry = self.delayed.first().map(|(at, _)| *at);
        let unanswered = self.awaiting.first().map(|(until, _)| *until);
        let check = match self.check {
            Check::Due(at) if !self.awaiting.is_empty() => Some(at),
            _ => None,
        };
        let deferred = self.comparisons.values().filter_map(|comparison| match comparison.stage {
            // One that is due already only waits for its turn.
            ComparisonStage::Waiting { not_before } => not_before.filter(|at| *at > now),
            ComparisonStage::Admitting | ComparisonStage::Running => None,
        });
        retry.into_iter().chain(unanswered).chain(check).chain(deferred).min()
    }
}
