//! Rollouts, and quarantined digests.

use edgewright_model::digest::Digest;
use edgewright_model::names::{ChannelName, DeviceId, RolloutName, SiteId, SourceName, StageName};
use edgewright_model::run::{ReleaseNumber, RolloutNumber};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A rollout in a list: a release on its way to the devices of a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutSummary {
    /// Number of the rollout, counted over all sources of the server.
    #[schema(value_type = u32)]
    pub number: RolloutNumber,
    /// Name of the source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Name of the channel.
    #[schema(value_type = String)]
    pub channel: ChannelName,
    /// Number of the release that its devices get.
    #[schema(value_type = u32)]
    pub release: ReleaseNumber,
    /// Number of the release that the channel had completed; null if it had none.
    #[schema(value_type = Option<u32>)]
    pub before: Option<ReleaseNumber>,
    /// `release`, or `rollback` if an operator rolled the channel back.
    pub kind: String,
    /// Name of the rollout policy.
    #[schema(value_type = Option<String>)]
    pub policy: Option<RolloutName>,
    /// `active`, `paused`, `stopped`, `aborted`, `superseded`, `rolled_back` or `complete`.
    pub state: String,
    /// Name of the stage that is open.
    pub stage: String,
    /// Why the channel takes the release.
    pub reason: String,
    /// Time at which it began.
    pub started: Timestamp,
    /// Time at which it ended; null before.
    pub ended: Option<Timestamp>,
}

/// A rollout as it is now: the fields of the list, and what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// The fields of the list.
    #[serde(flatten)]
    pub rollout: RolloutSummary,
    /// What it waits for, or how it ended, as text.
    pub explanation: String,
    /// Stages, in order; the last one is all other devices.
    pub stages: Vec<RolloutStage>,
    /// Number of devices that get the release.
    pub devices: u32,
    /// Number of devices that were offered it.
    pub offered: u32,
    /// Number of devices that confirmed it.
    pub healthy: u32,
    /// Number of devices that could not run it, or left it again.
    pub failed: u32,
    /// Number of devices that are offline or late.
    pub unreachable: u32,
    /// Evidence against the release, as a part of the limit: 1 stops the rollout. On a logarithmic scale.
    pub evidence: f64,
    /// Whether windows, rate and soaks are skipped.
    pub is_urgent: bool,
    /// Time at which it changes by itself next, if nothing else happens; null if it does not.
    pub next: Option<Timestamp>,
}

/// A stage of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutStage {
    /// Its name.
    pub name: String,
    /// `waiting`, `approval` if it waits for one, or `open`.
    pub state: String,
    /// Number of its devices, without those of earlier stages.
    pub devices: u32,
    /// Number of them that were offered the release.
    pub offered: u32,
    /// Number of them that confirmed it.
    pub healthy: u32,
    /// Number of them that could not run it, or left it again.
    pub failed: u32,
    /// Number of them that are offline or late.
    pub unreachable: u32,
    /// Number of people who must approve it before it begins.
    #[serde(default)]
    pub approvals: u32,
    /// Who approved it, such as `user:anna`.
    #[serde(default)]
    pub approved_by: Vec<String>,
}

/// A device in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutDeviceView {
    /// Id of the device.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// Id of its site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Name of its stage.
    pub stage: String,
    /// `waiting`, `offered`, `downloaded`, `booted`, `healthy`, `failed`, `late`, or `outside` if it does not
    /// get the release.
    pub state: String,
    /// Time at which it was offered the release; null before.
    pub offered: Option<Timestamp>,
    /// Digest that it had before; null if none is known.
    #[schema(value_type = Option<String>)]
    pub before: Option<Digest>,
    /// Digest that the release has for it.
    #[schema(value_type = String)]
    pub after: Digest,
    /// Digest that the rollout answers it with now; null if the rollout does not decide about it.
    #[schema(value_type = Option<String>)]
    pub answer: Option<Digest>,
    /// Why, as text.
    pub reason: String,
}

/// An order to a rollout by an operator. One that was given before changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum RolloutPost {
    /// Offer the release to no further device.
    Pause,
    /// Offer it to further devices again, also after the gate stopped it.
    Resume,
    /// End the rollout where it is.
    Abort,
    /// Let a stage begin that needs an approval.
    Approve {
        /// Name of the stage; the one that is open if it is null.
        #[schema(value_type = Option<String>)]
        #[serde(default)]
        stage: Option<StageName>,
    },
    /// Skip windows, rate and soaks; gate, redundancy groups and approvals remain.
    Urgent,
}

/// A quarantined digest: no channel takes a release with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineView {
    /// Name of the source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Digest of the index.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Why it is quarantined.
    pub reason: String,
    /// Who quarantined it, such as `operator:token`.
    pub actor: String,
    /// Time at which it was quarantined.
    pub since: Timestamp,
}

/// The end of a quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantinePost {
    /// Digest of the index.
    #[schema(value_type = String)]
    pub clear: Digest,
}
