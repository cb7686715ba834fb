//! Rollouts and the quarantine.

use std::collections::BTreeMap;

use edgewright_api::{QuarantineView, RolloutDeviceView, RolloutStage, RolloutSummary, RolloutView};
use edgewright_control::rollouts::{DeviceState, RolloutState, Rung, StageState};
use edgewright_model::names::SourceName;
use edgewright_model::run::RolloutNumber;
use edgewright_store::rollouts::RolloutRow;

use super::page::{Page, PageRequest};
use super::{ViewError, Views};

/// The devices after the last stage.
const REST: &str = "all other devices";

impl Views {
    /// A page of rollouts, newest first.
    pub async fn rollout_page(
        &self,
        source: Option<&SourceName>,
        page: &PageRequest,
    ) -> Result<Page<RolloutSummary>, ViewError> {
        let below: Option<RolloutNumber> = page.after(|text| text.parse().ok())?;
        let sources = self.selected(source).await?;
        let only = source.and_then(|_| sources.first()).map(|source| source.id);
        let limit = u32::try_from(page.rows()).unwrap_or(u32::MAX);
        let rows = self.store.rollouts(only, below, limit).await?;
        let names: BTreeMap<_, _> = sources.into_iter().map(|source| (source.id, source.name)).collect();
        let views = rows.into_iter().filter_map(|row| {
            let source = names.get(&row.source)?.clone();
            Some(summary(source, row))
        });
        Ok(page.cut(views.collect(), |last| last.number.to_string()))
    }

    /// The quarantined digests, newest first.
    pub async fn quarantine(&self) -> Result<Vec<QuarantineView>, ViewError> {
        let names: BTreeMap<_, _> =
            self.selected(None).await?.into_iter().map(|source| (source.id, source.name)).collect();
        let rows = self.store.quarantine().await?.into_iter();
        let view = |row: edgewright_store::quarantine::QuarantineRow| {
            Some(QuarantineView {
                source: names.get(&row.source)?.clone(),
                digest: row.digest,
                reason: row.reason,
                actor: row.actor.to_string(),
                since: row.at,
            })
        };
        Ok(rows.filter_map(view).collect())
    }
}

fn stage_name(row: &RolloutRow) -> String {
    row.spec.stages.get(usize::from(row.stage)).map_or(REST, |stage| stage.name.as_str()).to_owned()
}

fn summary(source: SourceName, row: RolloutRow) -> RolloutSummary {
    RolloutSummary {
        stage: stage_name(&row),
        number: row.number,
        source,
        channel: row.channel,
        release: row.release,
        before: row.before,
        kind: row.kind.name().to_owned(),
        policy: row.policy,
        state: row.state,
        reason: row.reason,
        started: row.started_at,
        ended: row.ended_at,
    }
}

/// A rollout as a document.
pub(crate) fn rollout(state: RolloutState) -> RolloutView {
    let RolloutState { row, source, explanation, stages, counts, evidence, is_urgent, next, .. } = state;
    RolloutView {
        rollout: summary(source, row),
        explanation,
        stages: stages.into_iter().map(stage).collect(),
        devices: counts.members,
        offered: counts.offered,
        healthy: counts.healthy,
        failed: counts.failed,
        unreachable: counts.unreachable,
        evidence,
        is_urgent,
        next,
    }
}

fn stage(stage: StageState) -> RolloutStage {
    let StageState { name, counts, is_open, needs_approval, approvals, approved_by } = stage;
    let now = match (needs_approval, is_open) {
        (true, _) => "approval",
        (false, true) => "open",
        (false, false) => "waiting",
    };
    RolloutStage {
        name,
        state: now.to_owned(),
        devices: counts.members,
        offered: counts.offered,
        healthy: counts.healthy,
        failed: counts.failed,
        unreachable: counts.unreachable,
        approvals,
        approved_by: approved_by.iter().map(ToString::to_string).collect(),
    }
}

/// A device of a rollout as a document.
pub(crate) fn rollout_device(device: DeviceState) -> RolloutDeviceView {
    let state = match device.rung {
        _ if device.has_failed => "failed",
        Some(Rung::Healthy) => Rung::Healthy.name(),
        _ if !device.is_member => "outside",
        _ if device.is_late => "late",
        None => "waiting",
        Some(rung) => rung.name(),
    };
    RolloutDeviceView {
        device: device.device,
        site: device.site,
        stage: device.stage,
        state: state.to_owned(),
        offered: device.offered_at,
        before: device.before,
        after: device.after,
        answer: device.answer,
        reason: device.reason,
    }
}
