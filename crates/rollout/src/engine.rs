//! The engine of one rollout: what happened goes in; answers to devices, and moves, come out.
//!
//! It has no clock: `now` is an argument. It keeps nothing but what follows from its history, so a server
//! that was killed makes the same one from its rows.

use std::collections::{BTreeSet, VecDeque};

use jiff::Timestamp;

use crate::fleet::{Device, StageNumber, stages};
use crate::gate::{Baseline, Gate, Outcome};
use crate::member::{Member, Part};
use crate::policy::Policy;
use crate::reason::Reason;
use crate::state::{Event, Move, Order, Progress, Rung, Status};
use crate::tally::{Tallies, Tally};

/// What a device of a rollout is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The release, or what the device had before.
    pub is_new: bool,
    /// Whether [`Event::Offered`] is to be recorded before the answer is given.
    pub is_first: bool,
    /// Why.
    pub reason: Reason,
}

/// A rollout.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) policy: Policy,
    pub(crate) members: Vec<Member>,
    pub(crate) groups: Vec<Vec<u32>>,
    /// When each site was last heard of.
    pub(crate) sites: Vec<Option<Timestamp>>,
    baseline: Baseline,
    variants: usize,
    pub(crate) gate: Gate,
    pub(crate) status: Status,
    pub(crate) stage: StageNumber,
    pub(crate) soak_from: Option<Timestamp>,
    pub(crate) approved: BTreeSet<StageNumber>,
    pub(crate) is_urgent: bool,
    /// How many devices were offered the release since the gate counts.
    counted: u32,
    /// Devices that have neither confirmed nor left the release.
    pub(crate) under_way: BTreeSet<u32>,
    pub(crate) late: u32,
    pub(crate) tallies: Tallies,
    /// Times of the last first offers, as many as the rate counts.
    pub(crate) recent: VecDeque<Timestamp>,
}

impl Engine {
    /// A rollout at its beginning, to these devices: those whose digest it would change. `salt` is its own.
    pub fn new(policy: Policy, salt: &str, baseline: Baseline, devices: &[Device]) -> Self {
        let stages = stages(&policy, salt, devices);
        let variants = devices.iter().map(|device| device.variant as usize + 1).max().unwrap_or_default();
        let gate = Gate::new(policy.gate, baseline, variants);
        let mut engine = Self {
            policy,
            members: Vec::with_capacity(devices.len()),
            groups: Vec::new(),
            sites: Vec::new(),
            baseline,
            variants,
            gate,
            status: Status::Active,
            stage: 0,
            soak_from: None,
            approved: BTreeSet::new(),
            is_urgent: false,
            counted: 0,
            under_way: BTreeSet::new(),
            late: 0,
            tallies: Tallies::default(),
            recent: VecDeque::new(),
        };
        for (device, stage) in devices.iter().zip(stages) {
            engine.add(device, stage, Part::Member);
        }
        engine
    }

    /// Adds a device that came after the beginning: it is one of those after the last stage, so the stages
    /// stay as they are. Its variant must be one of the first devices, or it counts for all devices only.
    pub fn join(&mut self, device: &Device) {
        self.add(device, self.rest(), Part::Member);
    }

    /// Adds a device that does not get the release: it counts in its redundancy group.
    pub fn watch(&mut self, device: &Device) {
        self.add(device, self.rest(), Part::Watched);
    }

    fn rest(&self) -> StageNumber {
        StageNumber::try_from(self.policy.stages.len()).unwrap_or(StageNumber::MAX)
    }

    fn add(&mut self, device: &Device, stage: StageNumber, part: Part) {
        let index = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        if let Some(group) = device.group.map(|group| group as usize) {
            if self.groups.len() <= group {
                self.groups.resize(group + 1, Vec::new());
            }
            self.groups[group].push(index);
        }
        let site = device.site as usize;
        if self.sites.len() <= site {
            self.sites.resize(site + 1, None);
        }
        self.sites[site] = self.sites[site].max(device.seen);
        let member = Member::new(device, stage, part);
        self.tallies.change(stage, Tally::default(), member.tally());
        self.members.push(member);
    }

    /// What the rollout does.
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// What is known about the release.
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What happened. Repeating an event changes nothing; neither does the order of reports.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Seen { device, at } => self.see(*device, *at),
            Event::Offered { device, at } => self.offer(*device, *at),
            Event::Reached { device, rung, at } => {
                self.see(*device, *at);
                self.update(*device, |progress| progress.rung = progress.rung.max(*rung));
            }
            Event::Failed { device, at } => {
                self.see(*device, *at);
                self.update(*device, |progress| progress.has_failed = true);
            }
            Event::Left { device, is_gone, at: _ } => self.leave(*device, *is_gone),
            Event::Ordered { order, at: _ } => self.order(*order),
            Event::Moved { step, at } => self.step(step, *at),
        }
    }

    fn see(&mut self, device: u32, at: Timestamp) {
        let Some(member) = self.members.get_mut(device as usize) else { return };
        member.seen = member.seen.max(Some(at));
        let site = &mut self.sites[member.site as usize];
        *site = (*site).max(Some(at));
    }

    fn leave(&mut self, device: u32, is_gone: bool) {
        let Some(member) = self.members.get_mut(device as usize) else { return };
        let before = member.tally();
        member.part = if is_gone { Part::Gone } else { Part::Watched };
        self.tallies.change(member.stage, before, member.tally());
        self.under_way.remove(&device);
        self.update(device, |progress| progress.is_late = false);
    }

    fn offer(&mut self, device: u32, at: Timestamp) {
        self.see(device, at);
        let Some(member) = self.members.get_mut(device as usize) else { return };
        if member.progress.is_some() || member.part != Part::Member {
            return;
        }
        let before = member.tally();
        member.progress = Some(Progress {
            order: self.counted,
            offered_at: at,
            rung: Rung::Offered,
            has_failed: false,
            is_late: false,
            counts: true,
        });
        self.tallies.change(member.stage, before, member.tally());
        self.counted += 1;
        self.under_way.insert(device);
        if let Some(rate) = self.policy.rate {
            self.recent.push_back(at);
            while self.recent.len() > rate.count as usize {
                self.recent.pop_front();
            }
        }
    }

    /// Changes what is known about a device that was offered the release.
    pub(crate) fn update(&mut self, device: u32, change: impl FnOnce(&mut Progress)) {
        let Some(member) = self.members.get_mut(device as usize) else { return };
        let tally = member.tally();
        let Some(progress) = &mut member.progress else { return };
        let before = progress.outcome();
        change(progress);
        progress.is_late &= !progress.has_ended();
        let after = progress.outcome();
        let Progress { counts, order, .. } = *progress;
        let has_ended = progress.has_ended();
        self.tallies.change(member.stage, tally, member.tally());
        if has_ended {
            self.under_way.remove(&device);
        }
        if before == after {
            return;
        }
        let late = |outcome| u32::from(outcome == Some(Outcome::Late));
        self.late = self.late + late(after) - late(before);
        if counts {
            self.gate.change(member.variant as usize, order, before, after);
        }
    }

    fn order(&mut self, order: Order) {
        match (order, &self.status) {
            (Order::RollBack, Status::RolledBack) => {}
            // What is complete can still be taken back.
            (Order::RollBack, _) => self.status = Status::RolledBack,
            (_, status) if status.is_final() => {}
            (Order::Pause, Status::Active) => self.status = Status::Paused,
            (Order::Resume, Status::Paused) => self.status = Status::Active,
            (Order::Resume, Status::Stopped(_)) => self.resume(),
            (Order::Pause | Order::Resume | Order::ApproveInPart { .. }, _) => {}
            (Order::Abort, _) => self.status = Status::Aborted,
            (Order::Supersede, _) => self.status = Status::Superseded,
            (Order::Approve { stage }, _) => {
                self.approved.insert(stage);
            }
            (Order::Urgent, _) => self.is_urgent = true,
        }
    }

    /// A person judged what the gate had stopped: it begins again without the devices that it had counted.
    fn resume(&mut self) {
        self.status = Status::Active;
        self.gate = Gate::new(self.policy.gate, self.baseline, self.variants);
        self.counted = 0;
        for member in &mut self.members {
            if let Some(progress) = &mut member.progress {
                progress.counts = false;
            }
        }
    }

    fn step(&mut self, step: &Move, at: Timestamp) {
        if self.status.is_final() {
            return;
        }
        match step {
            Move::Soak { stage } if *stage == self.stage => {
                self.soak_from = self.soak_from.or(Some(at));
            }
            Move::Open { stage } if *stage > self.stage => {
                self.stage = *stage;
                self.soak_from = None;
            }
            Move::Stop { why } if matches!(self.status, Status::Active | Status::Paused) => {
                self.status = Status::Stopped(why.clone());
            }
            Move::Complete => self.status = Status::Complete,
            _ => {}
        }
    }

    /// What a device is answered with now.
    pub fn answer(&self, device: u32, now: Timestamp) -> Answer {
        let old = |reason| Answer { is_new: false, is_first: false, reason };
        let Some(member) = self.members.get(device as usize).filter(|member| member.part == Part::Member)
        else {
            return old(Reason::NoMember);
        };
        let Some(progress) = &member.progress else {
            return match self.wait(device, member, now) {
                Some(reason) => old(reason),
                None => Answer { is_new: true, is_first: true, reason: Reason::Turn },
            };
        };
        if progress.has_failed {
            return old(Reason::Failed);
        }
        // A device that runs the release is not taken back by a stop: it may be healthy.
        let is_ended = matches!(
            self.status,
            Status::Stopped(_) | Status::Aborted | Status::Superseded | Status::RolledBack
        );
        if is_ended && progress.rung < Rung::Booted {
            return old(self.ended());
        }
        Answer { is_new: true, is_first: false, reason: Reason::Given }
    }

    pub(crate) fn ended(&self) -> Reason {
        match &self.status {
            Status::Stopped(why) => Reason::Stopped(why.clone()),
            Status::RolledBack => Reason::RolledBack,
            Status::Superseded => Reason::Superseded,
            _ => Reason::Aborted,
        }
    }

    /// How far a device is; none if it was not offered the release, or there is no such device.
    pub fn progress(&self, device: u32) -> Option<Progress> {
        self.members.get(device as usize)?.progress
    }

    /// Whether a device gets the release at all: it is a member, and has not left.
    pub fn is_member(&self, device: u32) -> bool {
        self.members.get(device as usize).is_some_and(|member| member.part == Part::Member)
    }

    /// The stage of a device.
    pub fn stage_of(&self, device: u32) -> Option<StageNumber> {
        self.members.get(device as usize).map(|member| member.stage)
    }

    /// The stage that is open.
    pub const fn stage(&self) -> StageNumber {
        self.stage
    }

    /// Whether a person made it urgent.
    pub const fn is_urgent(&self) -> bool {
        self.is_urgent
    }
}
