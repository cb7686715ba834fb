//! Rollouts, their devices, and the quarantine.

use edgewright_api::{QuarantineView, RolloutDeviceView, RolloutSummary, RolloutView};
use jiff::Timestamp;

use super::facts::Facts;
use super::style::{BOLD, DIM, GREEN, RED, YELLOW, paint, plain};
use super::table::Table;
use super::units::{age, moment};

/// The list of rollouts.
pub(crate) fn rollouts(rollouts: &[RolloutSummary], now: Timestamp) -> String {
    let mut table =
        Table::new(["rollout", "source", "channel", "release", "state", "stage", "began", "ended"]);
    for rollout in rollouts {
        table.row([
            rollout.number.to_string(),
            rollout.source.to_string(),
            rollout.channel.to_string(),
            rollout.release.to_string(),
            state(&rollout.state),
            rollout.stage.clone(),
            age(rollout.started, now),
            rollout.ended.map(|ended| age(ended, now)).unwrap_or_default(),
        ]);
    }
    table.text("no rollouts yet")
}

/// One rollout: its facts, then its stages.
pub(crate) fn rollout(view: &RolloutView, now: Timestamp) -> String {
    let rollout = &view.rollout;
    let mut facts = Facts::new("channel".len());
    let before = rollout.before.map(|before| format!(", before {before}")).unwrap_or_default();
    facts.add("rollout", format!("{} of {}", paint(BOLD, rollout.number), rollout.source));
    facts.add("channel", rollout.channel.as_str());
    facts.add("release", format!("{}{before} ({})", rollout.release, plain(&rollout.reason)));
    facts.add("policy", rollout.policy.as_ref().map(ToString::to_string).unwrap_or_default());
    let urgent = if view.is_urgent { ", urgent" } else { "" };
    facts.add("state", format!("{}{urgent}", state(&rollout.state)));
    facts.add("now", plain(&view.explanation));
    facts.add("began", moment(rollout.started, now));
    facts.add("ended", rollout.ended.map(|ended| moment(ended, now)).unwrap_or_default());
    facts.add("next", view.next.map(|next| moment(next, now)).unwrap_or_default());
    let mut table = Table::new(["stage", "state", "devices", "offered", "healthy", "failed", "unreachable"]);
    for stage in &view.stages {
        table.row([
            stage.name.clone(),
            match (stage.state.as_str(), stage.approvals) {
                ("approval", needed @ 2..) => format!("approval, {} of {needed}", stage.approved_by.len()),
                (state, _) => state.to_owned(),
            },
            stage.devices.to_string(),
            stage.offered.to_string(),
            stage.healthy.to_string(),
            stage.failed.to_string(),
            stage.unreachable.to_string(),
        ]);
    }
    format!("{}\n{}", facts.into_text(), table.text("no stages"))
}

/// The devices of a rollout, with why each waits.
pub(crate) fn devices(devices: &[RolloutDeviceView]) -> String {
    let mut table = Table::new(["device", "site", "stage", "state", "answer", "why"]);
    for device in devices {
        table.row([
            device.device.to_string(),
            device.site.to_string(),
            device.stage.clone(),
            state(&device.state),
            device.answer.as_ref().map_or_else(|| "-".to_owned(), |digest| digest.short().to_owned()),
            plain(&device.reason),
        ]);
    }
    table.text("no devices")
}

/// The quarantined digests.
pub(crate) fn quarantine(rows: &[QuarantineView], now: Timestamp) -> String {
    let mut table = Table::new(["source", "digest", "since", "by", "why"]);
    for row in rows {
        table.row([
            row.source.to_string(),
            row.digest.to_string(),
            age(row.since, now),
            plain(&row.actor),
            plain(&row.reason),
        ]);
    }
    table.text("no digest is quarantined")
}

fn state(state: &str) -> String {
    match state {
        "complete" | "healthy" => paint(GREEN, state),
        "stopped" | "failed" => paint(RED, state),
        "paused" | "late" => paint(YELLOW, state),
        "superseded" | "outside" | "waiting" => paint(DIM, state),
        _ => plain(state),
    }
}
