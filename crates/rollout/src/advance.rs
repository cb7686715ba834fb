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
            return engine.counts_to(stage, now).is_enough(100).then_some(Move::Complete);
        };
        let Some(from) = self.soak_from else {
            return engine.counts_to(stage, now).is_enough(rules.ended).then_some(Move::Soak { stage });
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
