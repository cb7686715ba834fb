//! What a rollout does, for people.

use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::names::{DeviceId, SiteId, SourceName};
use edgewright_model::principal::PrincipalId;
use edgewright_model::run::RolloutNumber;
use edgewright_rollout::advance::Counts;
use edgewright_rollout::fleet::StageNumber;
use edgewright_rollout::gate::Outcomes;
use edgewright_rollout::state::Rung;
use edgewright_store::rollouts::{MemberPart, RolloutRow};
use jiff::Timestamp;

use super::Rollouts;
use super::memory::{Active, Place};
use super::orders::RolloutChoice;
use crate::ControlError;

/// A rollout as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutState {
    pub row: RolloutRow,
    pub source: SourceName,
    /// What it waits for, in words.
    pub explanation: String,
    /// In order; the last one is that of all other devices.
    pub stages: Vec<StageState>,
    /// Of all devices.
    pub counts: Counts,
    /// What the gate has counted.
    pub outcomes: Outcomes,
    /// The evidence against the release, as a part of the limit.
    pub evidence: f64,
    /// Whether a person made it urgent.
    pub is_urgent: bool,
    /// When time alone changes something next.
    pub next: Option<Timestamp>,
}

/// A stage of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageState {
    pub name: String,
    /// Of its devices alone.
    pub counts: Counts,
    pub is_open: bool,
    pub needs_approval: bool,
    /// How many people must approve it; 0: none.
    pub approvals: u32,
    /// Who did.
    pub approved_by: BTreeSet<PrincipalId>,
}

/// A device in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    pub device: DeviceId,
    pub site: SiteId,
    pub stage: String,
    /// Whether it gets the release at all.
    pub is_member: bool,
    /// How far it is; none if it was not offered the release.
    pub rung: Option<Rung>,
    pub has_failed: bool,
    pub is_late: bool,
    pub offered_at: Option<Timestamp>,
    pub before: Option<Digest>,
    pub after: Digest,
    /// What it is answered with now.
    pub answer: Option<Digest>,
    /// Why, in words.
    pub reason: String,
}

impl Rollouts {
    /// A rollout as it is now.
    ///
    /// # Errors
    /// There is no such rollout; the database cannot be read.
    pub async fn state(&self, choice: &RolloutChoice) -> Result<RolloutState, ControlError> {
        let now = self.0.clock.now();
        self.with(choice, |active, _| state(active, now)).await
    }

    /// The devices of a rollout, in the order of their stages and names; or one of them.
    ///
    /// # Errors
    /// There is no such rollout, or no such device in it; the database cannot be read.
    pub async fn devices(
        &self,
        choice: &RolloutChoice,
        device: Option<&DeviceId>,
    ) -> Result<Vec<DeviceState>, ControlError> {
        let now = self.0.clock.now();
        let devices = self.with(choice, |active, quarantine| {
            let members: Vec<u32> = match device {
                Some(device) => active.member_of(device).into_iter().collect(),
                None => active.index.values().copied().collect(),
            };
            let mut devices: Vec<_> =
                members.into_iter().filter_map(|member| describe(active, member, now, quarantine)).collect();
            devices.sort_by(|(one, a), (other, b)| (one, &a.device).cmp(&(other, &b.device)));
            devices.into_iter().map(|(_, device)| device).collect::<Vec<_>>()
        });
        let devices = devices.await?;
        match device {
            Some(device) if devices.is_empty() => {
                Err(ControlError::NoRolloutDevice { device: device.clone() })
            }
            _ => Ok(devices),
        }
    }

    /// The rollout that a device's answer comes from.
    pub fn rollout_of(&self, device: &DeviceId) -> Option<RolloutNumber> {
        match self.memory().devices.get(device)? {
            Place::Member { rollout, .. } => Some(*rollout),
            Place::Plain { .. } => None,
        }
    }

    /// Asks a rollout, in memory or from its rows.
    async fn with<T>(
        &self,
        choice: &RolloutChoice,
        ask: impl FnOnce(&mut Active, &BTreeSet<(edgewright_store::sources::SourceId, Digest)>) -> T,
    ) -> Result<T, ControlError> {
        self.load().await?;
        let (row, source) = self.source_of(choice).await?;
        {
            let mut memory = self.memory();
            let memory = &mut *memory;
            if let Some(active) = memory.rollouts.get_mut(&row.number) {
                return Ok(ask(active, &memory.quarantine));
            }
        }
        let mut active = self.read(row, &source).await?;
        let quarantine = self.memory().quarantine.clone();
        Ok(ask(&mut active, &quarantine))
    }
}

fn state(active: &Active, now: Timestamp) -> RolloutState {
    let engine = &active.engine;
    let rest = StageNumber::try_from(active.row.spec.stages.len()).unwrap_or(StageNumber::MAX);
    let mut before = Counts::default();
    let stages = (0..=rest).map(|stage| {
        let counts = engine.counts_to(stage, now);
        let own = less(counts, before);
        before = counts;
        StageState {
            name: engine.stage_name(stage).to_owned(),
            counts: own,
            is_open: stage <= engine.stage(),
            needs_approval: engine.needs_approval(stage),
            approvals: active.approvals_needed(stage),
            approved_by: active.approved.get(&stage).cloned().unwrap_or_default(),
        }
    });
    let stages: Vec<StageState> = stages.collect();
    RolloutState {
        row: active.row.clone(),
        source: active.source.clone(),
        explanation: explain(active, now),
        stages,
        counts: engine.counts_to(rest, now),
        outcomes: engine.gate().outcomes(),
        evidence: engine.gate().pooled_evidence(),
        is_urgent: engine.is_urgent(),
        next: engine.wake(now),
    }
}

fn explain(active: &Active, now: Timestamp) -> String {
    let explanation = active.engine.explain(now, |index| active.variant(index));
    let stage = active.engine.stage();
    match active.approvals_needed(stage) {
        needed @ 2.. if active.engine.needs_approval(stage) => {
            let given = active.approved.get(&stage).map_or(0, BTreeSet::len);
            format!("{explanation}, {given} of {needed} approvals given")
        }
        _ => explanation,
    }
}

const fn less(counts: Counts, before: Counts) -> Counts {
    Counts {
        members: counts.members - before.members,
        unreachable: counts.unreachable - before.unreachable,
        offered: counts.offered - before.offered,
        healthy: counts.healthy - before.healthy,
        failed: counts.failed - before.failed,
    }
}

/// A device, with its stage for sorting. Asking is no sign of life of the device.
fn describe(
    active: &Active,
    member: u32,
    now: Timestamp,
    quarantine: &BTreeSet<(edgewright_store::sources::SourceId, Digest)>,
) -> Option<(StageNumber, DeviceState)> {
    let row = active.members.get(member as usize)?;
    let stage = active.engine.stage_of(member)?;
    let progress = active.engine.progress(member);
    let answer = active.decide(member, now, quarantine);
    let is_member = active.engine.is_member(member);
    let reason = match &answer {
        Some(answer) => answer.reason.clone(),
        None if row.part == MemberPart::Watched => {
            "it counts in its redundancy group only: it has the release, is held or pinned".to_owned()
        }
        None if !is_member => {
            "it left the rollout: it is held, pinned, retired, or its slot has another image".to_owned()
        }
        None => "it has no image that is known here, and has to wait".to_owned(),
    };
    Some((
        stage,
        DeviceState {
            device: row.device.clone(),
            site: row.site.clone(),
            stage: active.engine.stage_name(stage).to_owned(),
            is_member,
            rung: progress.map(|progress| progress.rung),
            has_failed: progress.is_some_and(|progress| progress.has_failed),
            is_late: progress.is_some_and(|progress| progress.is_late),
            offered_at: progress.map(|progress| progress.offered_at),
            before: row.before.as_ref().map(|image| image.digest.clone()),
            after: row.after.digest.clone(),
            answer: answer.map(|answer| answer.digest),
            reason,
        },
    ))
}
