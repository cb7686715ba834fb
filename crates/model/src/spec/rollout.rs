//! Rollout policies, as `edgewright.yaml` declares them.

use serde::{Deserialize, Serialize};

use super::Labels;
use crate::duration::Span;
use crate::names::{LabelKey, StageName};
use crate::window::Window;

/// A rollout policy. What is none has the engine's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// Its stages, in order, at least one.
    pub stages: Vec<StageSpec>,
    /// When devices may be offered a release for the first time; empty: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The time zone of the windows, by its IANA name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How many devices may have the release without having confirmed or left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// How many devices may be offered the release for the first time in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateSpec>,
    /// The label whose value names a device's redundancy group at its site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<LabelKey>,
    /// How many devices of a redundancy group may be unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<u32>,
    /// After how much silence a device is offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_after: Option<Span>,
}

/// A stage: which devices, and how long they must stay healthy. With neither selection nor size: all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSpec {
    /// Its name.
    pub name: StageName,
    /// Slot and site labels that all must match.
    pub select: Labels,
    /// Share of the devices whose digest would change, 1 to 100.
    pub percent: Option<u8>,
    /// This many devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// This many devices of each site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_site: Option<u32>,
    /// The share of its reachable devices that must have confirmed or left the release before the soak, 1 to
    /// 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u8>,
    /// How long to watch before the next stage.
    pub soak: Option<Span>,
    /// Whether a person must approve it before it begins.
    #[serde(default)]
    pub approval: bool,
    /// How many people must approve it; two or more are users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<u32>,
}

impl StageSpec {
    /// How many approvals it needs before it begins.
    pub fn approvals(&self) -> u32 {
        self.approvals.unwrap_or_else(|| u32::from(self.approval))
    }
}

/// `devices` in each `every`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateSpec {
    /// How many.
    pub devices: u32,
    /// In how much time.
    pub every: Span,
}
