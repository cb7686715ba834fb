//! Reasons of answers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::StageNumber;
use crate::gate::Stop;

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
    /// A newer release took its place.
    Superseded,
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
