//! Rollouts in memory: an engine for the newest rollout of each channel.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use edgewright_model::Digest;
use edgewright_model::names::{DeviceId, SourceName};
use edgewright_model::principal::PrincipalId;
use edgewright_model::run::RolloutNumber;
use edgewright_rollout::Engine;
use edgewright_rollout::fleet::StageNumber;
use edgewright_rollout::gate::{Baseline, Outcomes};
use edgewright_rollout::policy::Policy;
use edgewright_rollout::state::{Event, Order, Rung, Status};
use edgewright_store::rollouts::{EventRow, MemberImage, MemberPart, MemberRow, RolloutKind, RolloutRow};
use edgewright_store::sources::SourceId;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Evidence, RolloutAnswer, fleet};
use crate::ControlError;

/// All that is answered from.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The newest rollout of each channel.
    pub(super) rollouts: BTreeMap<RolloutNumber, Active>,
    /// Where each device's answer comes from.
    pub(super) devices: HashMap<DeviceId, Place>,
    pub(super) quarantine: BTreeSet<(SourceId, Digest)>,
    /// Whether it was made from the rows, and every row was written since.
    pub(super) is_good: bool,
}

/// Where a device's answer comes from.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A rollout.
    Member {
        /// Which.
        rollout: RolloutNumber,
        /// Its number in it.
        member: u32,
    },
    /// A channel without a policy: all of its devices get what it has.
    Plain {
        /// That.
        image: MemberImage,
        /// In words.
        reason: String,
    },
}

/// The newest rollout of a channel.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) row: RolloutRow,
    /// Its source as configured, for the audit trail.
    pub(super) source: SourceName,
    pub(super) engine: Engine,
    pub(super) members: Vec<MemberRow>,
    /// By the engine's number.
    pub(super) variants: Vec<String>,
    /// The newest number of each device.
    pub(super) index: HashMap<DeviceId, u32>,
    /// Devices whose first offer is being written.
    pub(super) pending: BTreeSet<u32>,
    /// Who approved each stage.
    pub(super) approved: BTreeMap<StageNumber, BTreeSet<PrincipalId>>,
    /// What its devices had, if it is a rollback.
    leaving: BTreeSet<Digest>,
    names: fleet::Names,
}

impl Active {
    /// From its rows.
    pub(super) fn new(
        row: RolloutRow,
        source: SourceName,
        members: Vec<MemberRow>,
        history: &[EventRow],
        now: Timestamp,
    ) -> Result<Self, ControlError> {
        let zone = row.spec.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        let policy = Policy::of(&row.spec, &zone.unwrap_or(TimeZone::UTC));
        let outcomes: Outcomes = serde_json::from_value(row.baseline.clone())?;
        let mut names = fleet::Names::default();
        let is_first = |member: &&MemberRow| member.part == MemberPart::First;
        let first: Vec<_> = members.iter().filter(is_first).map(|member| names.device(member)).collect();
        let mut engine = Engine::new(policy, &row.salt, Baseline::of(outcomes), &first);
        let variants = names.variants();
        for member in members.iter().filter(|member| member.part != MemberPart::First) {
            let device = names.device(member);
            match member.part {
                MemberPart::Watched => engine.watch(&device),
                MemberPart::First | MemberPart::Joined => engine.join(&device),
            }
        }
        let mut approved = BTreeMap::new();
        for row in history {
            let event = serde_json::from_value(row.event.clone())?;
            note_approval(&mut approved, &event, row.actor.as_deref());
            engine.apply(&event);
        }
        engine.note_late(now);
        let is_rollback = row.kind == RolloutKind::Rollback;
        let had = members.iter().filter(|_| is_rollback).filter_map(|member| member.before.as_ref());
        let leaving = had.map(|image| image.digest.clone()).collect();
        let index = members.iter().map(|member| (member.device.clone(), member.member)).collect();
        let pending = BTreeSet::new();
        Ok(Self { row, source, engine, members, variants, index, pending, approved, leaving, names })
    }

    /// Whether devices of this rollback may still run a digest.
    pub(super) fn is_leaving(&self, source: SourceId, digest: &Digest) -> bool {
        self.row.source == source && self.leaving.contains(digest) && !self.engine.status().is_final()
    }

    /// The name of a variant.
    pub(super) fn variant(&self, index: usize) -> &str {
        self.variants.get(index).map_or("?", String::as_str)
    }

    /// Adds devices that came later. Their rows are written first.
    pub(super) fn join(&mut self, members: Vec<MemberRow>) {
        for member in &members {
            let device = self.names.device(member);
            self.engine.join(&device);
            self.index.insert(member.device.clone(), member.member);
        }
        self.members.extend(members);
    }

    /// When a device was heard of, as far as the fleet's rows have it.
    pub(super) fn see(&mut self, device: &DeviceId, at: Timestamp) {
        if let Some(member) = self.member_of(device) {
            self.engine.apply(&Event::Seen { device: member, at });
        }
    }

    /// Its devices, with their numbers.
    pub(super) fn seats(&self) -> Vec<(DeviceId, u32)> {
        self.members.iter().map(|member| (member.device.clone(), member.member)).collect()
    }

    /// What a device that asks is answered with.
    pub(super) fn answer(
        &mut self,
        member: u32,
        now: Timestamp,
        quarantine: &BTreeSet<(SourceId, Digest)>,
    ) -> Option<RolloutAnswer> {
        self.engine.apply(&Event::Seen { device: member, at: now });
        self.decide(member, now, quarantine)
    }

    /// What a device would be answered with.
    pub(super) fn decide(
        &self,
        member: u32,
        now: Timestamp,
        quarantine: &BTreeSet<(SourceId, Digest)>,
    ) -> Option<RolloutAnswer> {
        if !self.engine.is_member(member) {
            return None;
        }
        let row = self.members.get(member as usize)?;
        let answer = self.engine.answer(member, now);
        let is_quarantined =
            answer.is_new && quarantine.contains(&(self.row.source, row.after.digest.clone()));
        let is_new = answer.is_new && !is_quarantined;
        let image = if is_new { &row.after } else { row.before.as_ref()? };
        Some(RolloutAnswer {
            repository: image.repository.clone(),
            digest: image.digest.clone(),
            is_new,
            is_first: is_new && (answer.is_first || self.pending.contains(&member)),
            reason: if is_quarantined {
                format!("release {} is quarantined", self.row.release)
            } else {
                self.engine.words(&answer.reason, |index| self.variant(index))
            },
        })
    }

    /// The event of a piece of evidence; none if it changes nothing.
    pub(super) fn news(
        &self,
        member: u32,
        digest: &Digest,
        evidence: Evidence,
        at: Timestamp,
    ) -> Option<Event> {
        let row = self.members.get(member as usize).filter(|row| row.after.digest == *digest)?;
        let progress = self.engine.progress(row.member)?;
        match evidence {
            Evidence::Reached(rung) if rung > progress.rung => {
                Some(Event::Reached { device: member, rung, at })
            }
            Evidence::Failed if !progress.has_failed => Some(Event::Failed { device: member, at }),
            Evidence::Reached(_) | Evidence::Failed => None,
        }
    }

    /// What a device has now, as far as this rollout knows.
    pub(super) fn current(&self, member: u32) -> Option<&MemberImage> {
        let row = self.members.get(member as usize)?;
        let progress = self.engine.progress(member);
        let has_new = progress.is_some_and(|it| !it.has_failed && it.rung >= Rung::Booted)
            || (progress.is_some_and(|it| !it.has_failed) && *self.engine.status() == Status::Complete);
        if has_new { Some(&row.after) } else { row.before.as_ref() }
    }

    /// The newest entry of a device.
    pub(super) fn member_of(&self, device: &DeviceId) -> Option<u32> {
        self.index.get(device).copied()
    }
}

/// Notes who approved a stage.
pub(super) fn note_approval(
    approved: &mut BTreeMap<StageNumber, BTreeSet<PrincipalId>>,
    event: &Event,
    actor: Option<&str>,
) {
    if let Event::Ordered { order: Order::Approve { stage } | Order::ApproveInPart { stage }, .. } = event
        && let Some(actor) = actor.and_then(|actor| actor.parse().ok())
    {
        approved.entry(*stage).or_default().insert(actor);
    }
}

/// The name of a status in the database, in documents and events.
pub(super) const fn state_name(status: &Status) -> &'static str {
    match status {
        Status::Active => "active",
        Status::Paused => "paused",
        Status::Stopped(_) => "stopped",
        Status::Aborted => "aborted",
        Status::Superseded => "superseded",
        Status::RolledBack => "rolled_back",
        Status::Complete => "complete",
    }
}
