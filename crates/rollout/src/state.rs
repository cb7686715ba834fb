//! What happened in a rollout, as rows of its history, and what follows from it for each device.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::StageNumber;
use crate::gate::{Outcome, Stop};

/// How far a device is with the release, as far as there is evidence. Later ones include earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// It was answered with the release.
    Offered,
    /// It has all of its bytes.
    Downloaded,
    /// It runs it.
    Booted,
    /// It runs it, and its checks passed.
    Healthy,
}

impl Rung {
    /// Its name in rows and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Downloaded => "downloaded",
            Self::Booted => "booted",
            Self::Healthy => "healthy",
        }
    }
}

/// Something that happened. The history of a rollout is its only state: an engine that reads it again
/// decides as the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A device was heard of.
    Seen { device: u32, at: Timestamp },
    /// A device was answered with the release for the first time.
    Offered { device: u32, at: Timestamp },
    /// There is evidence of a device's progress.
    Reached { device: u32, rung: Rung, at: Timestamp },
    /// A device could not run the release, or left it again.
    Failed { device: u32, at: Timestamp },
    /// A device is no member any more: a person holds it or pinned it, or its slot has another image. It
    /// still counts in its redundancy group, unless it is gone.
    Left { device: u32, is_gone: bool, at: Timestamp },
    /// Someone gave an order.
    Ordered { order: Order, at: Timestamp },
    /// The engine moved.
    Moved { step: Move, at: Timestamp },
}

/// An order by a person, or by the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// No further device is offered the release.
    Pause,
    /// Further devices are; the gate of a stopped rollout counts only devices that come from now on.
    Resume,
    /// It ends where it is.
    Abort,
    /// It ends where it is, because a newer release takes its place.
    Supersede,
    /// It ends, also if it was complete: a release with the former digests takes its place.
    RollBack,
    /// A stage may begin.
    Approve { stage: StageNumber },
    /// A person approved a stage that more people have to approve. It changes nothing here.
    ApproveInPart { stage: StageNumber },
    /// Windows, rate and soaks are no reason to wait any more. Gate, groups and approvals are.
    Urgent,
}

/// A step that the engine decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// Enough devices of the stage have ended: its soak begins.
    Soak { stage: StageNumber },
    /// The stage begins.
    Open { stage: StageNumber },
    /// The evidence is against the release.
    Stop { why: Stop },
    /// All stages are done.
    Complete,
}

/// What a rollout does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Devices are offered the release.
    Active,
    /// A person paused it.
    Paused,
    /// The gate stopped it.
    Stopped(Stop),
    /// A person ended it.
    Aborted,
    /// A newer release took its place.
    Superseded,
    /// A person took it back.
    RolledBack,
    /// All stages are done.
    Complete,
}

impl Status {
    /// Whether it has ended for good.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Aborted | Self::Superseded | Self::RolledBack | Self::Complete)
    }
}

/// A device that was offered the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Its place among those that were offered the release.
    pub(crate) order: u32,
    /// When it was offered the release.
    pub offered_at: Timestamp,
    /// The highest evidence.
    pub rung: Rung,
    /// Whether it could not run the release, or left it again.
    pub has_failed: bool,
    /// Whether its confirmation is late.
    pub is_late: bool,
    /// Whether the gate counts it: it was offered the release after the last order to resume.
    pub(crate) counts: bool,
}

impl Progress {
    /// What is known about it. A failure remains one, whatever comes after it: so the order of reports does
    /// not matter.
    pub(crate) const fn outcome(&self) -> Option<Outcome> {
        match self.rung {
            _ if self.has_failed => Some(Outcome::Failed),
            Rung::Healthy => Some(Outcome::Good),
            _ if self.is_late => Some(Outcome::Late),
            _ => None,
        }
    }

    /// Whether nothing more is expected of it.
    pub const fn has_ended(&self) -> bool {
        self.has_failed || matches!(self.rung, Rung::Healthy)
    }
}
