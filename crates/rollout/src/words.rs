//! Reasons in words, with the names of stages.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

use crate::advance::Counts;
use crate::engine::{Engine, later};
use crate::fleet::StageNumber;
use crate::gate::Stop;
use crate::reason::Reason;
use crate::state::Status;

/// The devices after the last stage.
const REST: &str = "all other devices";

impl Engine {
    /// The name of a stage.
    pub fn stage_name(&self, stage: StageNumber) -> &str {
        self.rules(stage).map_or(REST, |rules| rules.name.as_str())
    }

    /// Why a device gets what it gets. `variant` is the name of a variant.
    pub fn words<'a>(&self, reason: &Reason, variant: impl Fn(usize) -> &'a str) -> String {
        match reason {
            Reason::NoMember => "the release does not change this device".to_owned(),
            Reason::Turn => "it is the turn of this device".to_owned(),
            Reason::Given => "the device was offered this release before".to_owned(),
            Reason::Failed => "the device could not run this release".to_owned(),
            Reason::Paused => "the rollout is paused".to_owned(),
            Reason::Stopped(why) => format!("the gate stopped the rollout: {}", stop(why, variant)),
            Reason::Aborted => "the rollout was aborted".to_owned(),
            Reason::Superseded => "a newer release took the place of this one".to_owned(),
            Reason::RolledBack => "the release was rolled back".to_owned(),
            Reason::Stage { own, open } => format!(
                "the device is in stage {}, and stage {} is open",
                self.stage_name(*own),
                self.stage_name(*open)
            ),
            Reason::Approval { stage } => format!("stage {} waits for an approval", self.stage_name(*stage)),
            Reason::Window { next: Some(next) } => format!("the next window opens at {}", clock(*next)),
            Reason::Window { next: None } => "no window opens".to_owned(),
            Reason::Rate { next } => format!("the rate permits the next device at {}", clock(*next)),
            Reason::InFlight { count } => {
                format!("{count} devices have the release and have not confirmed it")
            }
            Reason::Group { unavailable } => {
                format!("{unavailable} other devices of its redundancy group are not available")
            }
        }
    }

    /// What the rollout waits for: "canary: 3 of 40 confirmed, soak ends 14:32, evidence 0.8 of the limit".
    pub fn explain<'a>(&self, now: Timestamp, variant: impl Fn(usize) -> &'a str) -> String {
        let mut parts = confirmed(self.counts(now));
        match self.status() {
            Status::Active if self.needs_approval(self.stage) => {
                parts.push("waits for an approval".to_owned());
            }
            Status::Active => {
                let soak = self.rules(self.stage).zip(self.soak_from);
                parts.extend(
                    soak.map(|(rules, from)| format!("soak ends {}", clock(later(from, rules.soak)))),
                );
                let windows = self.policy.windows.as_ref().filter(|_| !self.is_urgent);
                let closed = windows.filter(|windows| !windows.is_open(now));
                parts.extend(closed.map(|windows| match windows.next(now, std::time::Duration::ZERO) {
                    Some(next) => format!("next window opens at {}", clock(next)),
                    None => "no window opens".to_owned(),
                }));
            }
            Status::Paused => parts.push("paused".to_owned()),
            Status::Stopped(why) => parts.push(format!("stopped: {}", stop(why, variant))),
            Status::Aborted => parts.push("aborted".to_owned()),
            Status::Superseded => parts.push("superseded by a newer release".to_owned()),
            Status::RolledBack => parts.push("rolled back".to_owned()),
            Status::Complete => parts.push("complete".to_owned()),
        }
        let evidence = self.gate().pooled_evidence();
        format!("{}: {}, evidence {evidence:.1} of the limit", self.stage_name(self.stage), parts.join(", "))
    }
}

/// Why the gate stopped a rollout. `variant` is the name of a variant.
pub fn stop<'a>(why: &Stop, variant: impl Fn(usize) -> &'a str) -> String {
    match why {
        Stop::First => "too many of the first devices failed".to_owned(),
        Stop::Pooled => "more devices fail than with earlier releases".to_owned(),
        Stop::Variant(index) => {
            format!("more devices of variant {} fail than with earlier releases", variant(*index))
        }
    }
}

fn confirmed(counts: Counts) -> Vec<String> {
    let Counts { members, unreachable, healthy, failed, .. } = counts;
    let mut parts = vec![format!("{healthy} of {members} confirmed")];
    parts.extend((failed > 0).then(|| format!("{failed} failed")));
    parts.extend((unreachable > 0).then(|| format!("{unreachable} not reachable")));
    parts
}

/// A time to the minute, in UTC.
fn clock(at: Timestamp) -> String {
    let up = jiff::TimestampRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Ceil);
    let at = at.round(up).unwrap_or(at).to_zoned(TimeZone::UTC);
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
