//! Replication targets: external registries that receive copies of releases.

use edgewright_model::names::{ChannelName, SourceName};
use edgewright_model::run::ReleaseNumber;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The replication of one channel to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    /// Name of the target in the settings.
    pub target: String,
    /// Name of the source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Name of the channel.
    #[schema(value_type = String)]
    pub channel: ChannelName,
    /// Number of the release that the channel points to.
    #[schema(value_type = u32)]
    pub release: ReleaseNumber,
    /// Number of the release that the target's tags point to; null before the first copy.
    #[schema(value_type = Option<u32>)]
    pub copied: Option<ReleaseNumber>,
    /// State of the copy of `release`: `waiting`, `copying`, `copied`, or `failed`, which is retried
    /// automatically.
    pub state: String,
    /// Time at which the state last changed.
    pub changed: Timestamp,
    /// Number of attempts that failed in a row.
    pub failures: u32,
    /// Why the last attempt failed; null if it did not.
    pub error: Option<String>,
    /// What to do about the error; null if there is no advice.
    pub hint: Option<String>,
}
