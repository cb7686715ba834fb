//! Registries of others, and what they have.

use edgewright_model::names::{ChannelName, SourceName};
use edgewright_model::run::ReleaseNumber;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a target has of what a channel holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    /// The target, as configured.
    pub target: String,
    /// The source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Its channel.
    #[schema(value_type = String)]
    pub channel: ChannelName,
    /// The release that the channel holds and the target is to have.
    #[schema(value_type = u32)]
    pub release: ReleaseNumber,
    /// The release that its tags stand on; absent before the first.
    #[schema(value_type = Option<u32>)]
    pub copied: Option<ReleaseNumber>,
    /// Where the copy of `release` is: `waiting`, `copying`, `copied`, or `failed`, which is tried again by itself.
    pub state: String,
    /// Since when.
    pub changed: Timestamp,
    /// Failed tries in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}
