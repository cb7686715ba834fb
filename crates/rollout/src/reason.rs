//! Reasons in words.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::advance::Counts;
use crate::engine::{Engine, later};
use crate::fleet::StageNumber;
use crate::gate::Stop;
use crate::state::Status;

/// Why a device gets what it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The release does not change its digest.
    NoMember,
    /// It is its turn.
    Turn,
    /// It was offered the release before.
    Given,
    /// It could not run the release, or left it.
    Failed,
    /// A person paused the rollout.
    Paused,
    /// The gate stopped it.
    Stopped(Stop),
    /// A person ended it.
    Aborted,
    /// A person took it back.
    RolledBack,
    /// Its stage has not begun.
    Stage { own: StageNumber, open: StageNumber },
    /// Its stage waits for an approval.
    Approval { stage: StageNumber },
    /// No window is open.
    Window { next: Option<Timestamp> },
    /// As many as permitted were offered the release lately.
    Rate { next: Timestamp },
    /// As many as permitted have the release, and have not confirmed it.
    InFlight { count: u32 },
    /// Others of its redundancy group are not available.
    Group { unavailable: u32 },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMember => f.write_str("the release does not change this device"),
            Self::Turn => f.write_str("it is this device's turn"),
            Self::Given => f.write_str("the device was offered this release before"),
            Self::Failed => f.write_str("the device could not run this release"),
            Self::Paused => f.write_str("the rollout is paused"),
            Self::Stopped(why) => write!(f, "the rollout was stopped: {why}"),
            Self::Aborted => f.write_str("the rollout was aborted"),
            Self::RolledBack => f.write_str("the rollout was rolled back"),
            Self::Stage { own, open } => {
                write!(f, "the device is in stage {}, and stage {} is open", own + 1, open + 1)
            }
            Self::Approval { stage } => write!(f, "stage {} waits for an approval", stage + 1),
            Self::Window { next: Some(next) } => write!(f, "the next window opens at {next}"),
            Self::Window { next: None } => f.write_str("no window opens"),
            Self::Rate { next } => write!(f, "the rate permits the next device at {next}"),
            Self::InFlight { count } => {
                write!(f, "{count} devices have the release and have not confirmed it")
            }
            Self::Group { unavailable } => {
                write!(f, "{unavailable} other devices of its group are not available")
            }
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("too many of the first devices failed"),
            Self::Pooled => f.write_str("more devices fail than with earlier releases"),
            Self::Variant(variant) => {
                write!(f, "more devices of variant {variant} fail than with earlier releases")
            }
        }
    }
}

impl Engine {
    /// What the rollout waits for, in words: "canary: 3 of 40 confirmed, soak ends 14:32, evidence 0.8 of the
    /// limit".
    pub fn explain(&self, now: Timestamp) -> String {
        let counts = self.counts(now);
        let name = self.rules(self.stage).map_or("all other devices", |rules| rules.name.as_str());
        let mut parts = confirmed(counts);
        match &self.status {
            Status::Active if self.needs_approval(self.stage) => {
                parts.push("waits for an approval".to_owned());
            }
            Status::Active => {
                let soak = self.rules(self.stage).zip(self.soak_from);
                parts.extend(soak.map(|(rules, from)| format!("soak ends {}", later(from, rules.soak))));
            }
            Status::Paused => parts.push("paused".to_owned()),
            Status::Stopped(why) => parts.push(format!("stopped: {why}")),
            Status::Aborted => parts.push("aborted".to_owned()),
            Status::RolledBack => parts.push("rolled back".to_owned()),
            Status::Complete => parts.push("complete".to_owned()),
        }
        format!("{name}: {}, evidence {:.1} of the limit", parts.join(", "), self.gate.evidence())
    }

    /// What the rollout does.
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// What is known about the release.
    pub const fn gate(&self) -> &crate::gate::Gate {
        &self.gate
    }
}

fn confirmed(counts: Counts) -> Vec<String> {
    let Counts { members, unreachable, healthy, failed, .. } = counts;
    let mut parts = vec![format!("{healthy} of {members} confirmed")];
    parts.extend((failed > 0).then(|| format!("{failed} failed")));
    parts.extend((unreachable > 0).then(|| format!("{unreachable} not reachable")));
    parts
}
