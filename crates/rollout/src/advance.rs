//! Moves: when the next stage begins, and when the evidence stops a rollout.

use jiff::Timestamp;

use crate::engine::Engine;
use crate::fleet::StageNumber;
use crate::state::{Move, Status};
use crate::wait::later;

/// Devices of the stages that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub members: u32,
    /// Not heard of for long, or late.
    pub unreachable: u32,
    /// Offered the release.
    pub offered: u32,
    /// Healthy with the release.
    pub healthy: u32,
    /// Back on what they had.
    pub failed: u32,
}

impl Counts {
    /// Whether this share of the reachable devices has ended. Devices that are all unreachable show nothing.
    fn is_enough(self, percent: u8) -> bool {
        let reachable = u64::from(self.members - self.unreachable);
        let ended = u64::from(self.healthy + self.failed);
        ended >= (reachable * u64::from(percent)).div_ceil(100) && (ended > 0 || self.members == 0)
    }
}

impl Engine {
    /// What follows from what happened until now: the steps to record, in order. Equal histories give equal
    /// steps, so it may be asked at any time, and again.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Move> {
        self.note_late(now);
        if !matches!(self.status, Status::Active | Status::Paused) {
            return Vec::new();
        }
        if let Some(why) = self.gate.stop() {
            return vec![Move::Stop { why }];
        }
        if self.status == Status::Paused {
            return Vec::new();
        }
        let mut ahead = self.place();
        let mut moves = Vec::new();
        while let Some(step) = ahead.next(self, now) {
            ahead.take(&step, now);
            moves.push(step);
        }
        moves
    }

    /// When time alone changes an answer or a move, at the latest: a soak ends, a device becomes late or
    /// offline.
    pub fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        if self.status != Status::Active {
            return None;
        }
        let soak = self.rules(self.stage).zip(self.soak_from).map(|(rules, from)| later(from, rules.soak));
        [soak, self.next_late(now), self.next_offline(now)]
            .into_iter()
            .flatten()
            .filter(|moment| *moment > now)
            .min()
    }

    /// Devices of all stages that are open.
    pub fn counts(&self, now: Timestamp) -> Counts {
        self.counts_to(self.stage, now)
    }

    /// Devices of a stage and the ones before it.
    pub fn counts_to(&self, stage: StageNumber, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        for member in self.members.iter().filter(|member| member.stage <= stage && member.counts()) {
            counts.members += 1;
            match member.progress {
                None => counts.unreachable += u32::from(self.is_offline(member, now)),
                Some(progress) => {
                    counts.offered += 1;
                    if progress.has_failed {
                        counts.failed += 1;
                    } else if progress.has_ended() {
                        counts.healthy += 1;
                    } else {
                        counts.unreachable += u32::from(progress.is_late);
                    }
                }
            }
        }
        counts
    }

    /// Whether this share of the reachable devices of the stages until this one has ended.
    fn is_enough(&self, stage: StageNumber, percent: u8, now: Timestamp) -> bool {
        self.tallies.to(stage).may_be_enough(percent, self.late)
            && self.counts_to(stage, now).is_enough(percent)
    }

    const fn place(&self) -> Place {
        Place { stage: self.stage, soak_from: self.soak_from, is_complete: false }
    }
}

/// Where a rollout is, while steps are found one after the other.
#[derive(Debug)]
struct Place {
    stage: StageNumber,
    soak_from: Option<Timestamp>,
    is_complete: bool,
}

impl Place {
    fn next(&self, engine: &Engine, now: Timestamp) -> Option<Move> {
        let stage = self.stage;
        if self.is_complete || engine.needs_approval(stage) {
            return None;
        }
        // After the last stage: all other devices, without a soak. Devices that cannot be reached get the
        // release when they come back: it is complete without them.
        let Some(rules) = engine.rules(stage) else {
            return engine.is_enough(stage, 100, now).then_some(Move::Complete);
        };
        let Some(from) = self.soak_from else {
            return engine.is_enough(stage, rules.ended, now).then_some(Move::Soak { stage });
        };
        let is_over = engine.is_urgent || later(from, rules.soak) <= now;
        is_over.then_some(Move::Open { stage: stage + 1 })
    }

    fn take(&mut self, step: &Move, now: Timestamp) {
        match step {
            Move::Soak { .. } => self.soak_from = Some(now),
            Move::Open { stage } => *self = Self { stage: *stage, soak_from: None, is_complete: false },
            Move::Complete | Move::Stop { .. } => self.is_complete = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::Device;
    use crate::gate::{Baseline, Outcomes};
    use crate::policy::{Policy, Size, Stage};
    use crate::state::{Event, Rung};

    const DEVICES: u32 = 12;

    fn engine() -> Engine {
        let stage = |name: &str, size| Stage {
            name: name.parse().unwrap(),
            select: [].into(),
            size,
            ended: 60,
            soak: Duration::from_mins(20),
            needs_approval: false,
        };
        let device = |number: u32| Device {
            id: format!("press-{number}"),
            labels: [].into(),
            site: number / 4,
            variant: 0,
            group: None,
            patience: Duration::from_mins(10),
            seen: None,
        };
        let stages = vec![stage("canary", Size::Count(2)), stage("half", Size::Percent(50))];
        let devices: Vec<Device> = (0..DEVICES).map(device).collect();
        let policy = Policy { stages, offline_after: Duration::from_hours(1), ..Policy::default() };
        Engine::new(policy, "1", Baseline::of(Outcomes::default()), &devices)
    }

    proptest! {
        /// What is kept up to date is what counting gives, and never excludes what counting allows.
        #[test]
        fn tallies_are_counts(steps in proptest::collection::vec((0..DEVICES, 0..7_u8, 0_i64..1_200), 1..200)) {
            let mut engine = engine();
            let mut at: Timestamp = "2026-11-02T08:00:00Z".parse().unwrap();
            for (device, what, wait) in steps {
                at += SignedDuration::from_secs(wait);
                match what {
                    0 => engine.apply(&Event::Failed { device, at }),
                    1 => engine.apply(&Event::Left { device, is_gone: wait % 2 == 0, at }),
                    2 => engine.apply(&Event::Reached { device, rung: Rung::Healthy, at }),
                    3 => engine.apply(&Event::Seen { device, at }),
                    _ => engine.apply(&Event::Offered { device, at }),
                }
                for step in engine.advance(at) {
                    engine.apply(&Event::Moved { step, at });
                }
                for stage in 0..3 {
                    let (tally, counts) = (engine.tallies.to(stage), engine.counts_to(stage, at));
                    prop_assert_eq!(tally.offered, counts.offered);
                    prop_assert_eq!(tally.ended, counts.healthy + counts.failed);
                    for percent in [1, 60, 100] {
                        prop_assert!(!counts.is_enough(percent) || tally.may_be_enough(percent, engine.late));
                    }
                }
            }
        }
    }
}
