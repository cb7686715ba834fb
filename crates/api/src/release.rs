//! Releases and channels.

use edgewright_model::digest::Digest;
use edgewright_model::names::{ChannelName, SourceName, VariantName};
use edgewright_model::reference::RepoName;
use edgewright_model::run::{EntryOrigin, ReleaseNumber, RunNumber};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A numbered, complete map variant → digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    /// Its number, counted per source from 1.
    #[schema(value_type = u32)]
    pub number: ReleaseNumber,
    /// Its source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// The branch that it was made of.
    pub branch: String,
    /// The commit that it was made of.
    pub commit: String,
    /// The run that made it.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// When.
    pub created: Timestamp,
    /// The channels that point to it now.
    #[schema(value_type = Vec<String>)]
    pub channels: Vec<ChannelName>,
    /// Its entries, by variant.
    pub entries: Vec<ReleaseEntry>,
}

/// One entry of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseEntry {
    /// The variant.
    #[schema(value_type = String)]
    pub variant: VariantName,
    /// The repository that holds it.
    #[schema(value_type = String)]
    pub repository: RepoName,
    /// The index digest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// New, or from before.
    #[schema(value_type = String)]
    pub origin: EntryOrigin,
    /// Why, in words.
    pub reason: String,
}

/// A named pointer of a source to one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelView {
    /// Its source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Its name, and the tag that answers it.
    #[schema(value_type = String)]
    pub name: ChannelName,
    /// What it follows: `default branch`, `branch NAME` or `channel NAME`.
    #[serde(default)]
    pub follows: String,
    /// How old a release must be before the channel takes it, such as `24h`; absent for none.
    #[serde(default)]
    pub after: Option<String>,
    /// The rollout policy by which devices follow it.
    #[serde(default)]
    pub rollout: Option<String>,
    /// The release that it should be at; absent before the first.
    #[schema(value_type = Option<u32>)]
    #[serde(default)]
    pub target: Option<ReleaseNumber>,
    /// The release that its tag answers; absent before the first.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
    /// When its tag last moved.
    pub moved: Option<Timestamp>,
    /// Why it does not move at the moment: an operator holds it, or its declaration does. Absent where it moves.
    pub hold: Option<String>,
    /// The release that an operator pinned it to.
    #[schema(value_type = Option<u32>)]
    #[serde(default)]
    pub pin: Option<ReleaseNumber>,
    /// Why it is pinned.
    #[serde(default)]
    pub pin_reason: Option<String>,
    /// Since when the default branch no longer declares it; absent where it does.
    #[serde(default)]
    pub removed: Option<Timestamp>,
}
