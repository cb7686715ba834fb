//! Waiting: why a device has to, and what becomes of it with time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::engine::Engine;
use crate::fleet::StageNumber;
use crate::member::{Member, Part};
use crate::policy::Stage;
use crate::reason::Reason;
use crate::state::Status;

impl Engine {
    /// Why a device has to wait, if it has to.
    pub(crate) fn wait(&self, device: u32, member: &Member, now: Timestamp) -> Option<Reason> {
        match &self.status {
            Status::Active | Status::Complete => {}
            Status::Paused => return Some(Reason::Paused),
            Status::Stopped(_) | Status::Aborted | Status::Superseded | Status::RolledBack => {
                return Some(self.ended());
            }
        }
        if member.stage > self.stage {
            return Some(Reason::Stage { own: member.stage, open: self.stage });
        }
        if self.needs_approval(self.stage) && member.stage == self.stage {
            return Some(Reason::Approval { stage: self.stage });
        }
        if !self.is_urgent {
            if let Some(windows) = &self.policy.windows
                && !windows.is_open(now)
            {
                return Some(Reason::Window { next: windows.next(now, Duration::ZERO) });
            }
            if let Some(next) = self.next_by_rate(now) {
                return Some(Reason::Rate { next });
            }
        }
        // Late devices do not hold up others: the gate counts them.
        let in_flight = u32::try_from(self.under_way.len()).unwrap_or(u32::MAX).saturating_sub(self.late);
        if in_flight >= self.policy.in_flight {
            return Some(Reason::InFlight { count: in_flight });
        }
        let unavailable = self.unavailable(device, member, now);
        (unavailable >= self.policy.unavailable && member.group.is_some())
            .then_some(Reason::Group { unavailable })
    }

    /// Whether a stage waits for an approval before it begins.
    pub fn needs_approval(&self, stage: StageNumber) -> bool {
        self.rules(stage).is_some_and(|rules| rules.needs_approval) && !self.approved.contains(&stage)
    }

    pub(crate) fn rules(&self, stage: StageNumber) -> Option<&Stage> {
        self.policy.stages.get(usize::from(stage))
    }

    fn next_by_rate(&self, now: Timestamp) -> Option<Timestamp> {
        let rate = self.policy.rate?;
        let oldest = *self.recent.front().filter(|_| self.recent.len() >= rate.count as usize)?;
        let next = later(oldest, rate.period);
        (next > now).then_some(next)
    }

    /// How many other devices of its redundancy group are not available: offline, or with a release that they
    /// have neither confirmed nor left.
    fn unavailable(&self, device: u32, member: &Member, now: Timestamp) -> u32 {
        let Some(group) = member.group else { return 0 };
        let others = self.groups[group as usize].iter().filter(|other| **other != device);
        let count = others.filter(|other| {
            let other = &self.members[**other as usize];
            let has_open = other.progress.is_some_and(|progress| !progress.has_ended());
            other.part != Part::Gone && (self.is_offline(other, now) || has_open)
        });
        u32::try_from(count.count()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_offline(&self, member: &Member, now: Timestamp) -> bool {
        member.seen.is_none_or(|seen| later(seen, self.policy.offline_after) < now)
    }

    /// Devices that became late until now. A device is late after its own patience, if its site was heard of
    /// since then: a site that is silent as a whole has another problem than the release.
    pub fn note_late(&mut self, now: Timestamp) {
        let late: Vec<u32> = self
            .under_way
            .iter()
            .copied()
            .filter(|device| {
                let member = &self.members[*device as usize];
                let Some(progress) = member.progress.filter(|progress| !progress.is_late) else {
                    return false;
                };
                let due = later(progress.offered_at, member.patience);
                due < now && self.sites[member.site as usize].is_some_and(|seen| seen > due)
            })
            .collect();
        for device in late {
            self.update(device, |progress| progress.is_late = true);
        }
    }
}

impl Engine {
    /// When the next device becomes late, if nothing is heard of it.
    pub(crate) fn next_late(&self, now: Timestamp) -> Option<Timestamp> {
        let due = |device: &u32| {
            let member = self.members.get(*device as usize)?;
            let progress = member.progress.filter(|progress| !progress.is_late)?;
            Some(later(progress.offered_at, member.patience))
        };
        self.under_way.iter().filter_map(due).filter(|due| *due > now).min()
    }

    /// When the next device of an open stage is offline that was not offered the release, if nothing is heard
    /// of it.
    pub(crate) fn next_offline(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.members.iter().filter(|member| {
            member.part == Part::Member && member.progress.is_none() && member.stage <= self.stage
        });
        waiting
            .filter_map(|member| member.seen)
            .map(|seen| later(seen, self.policy.offline_after))
            .filter(|due| *due > now)
            .min()
    }
}

/// A moment after another one; the last that there is if it would be later.
pub(crate) fn later(moment: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}
