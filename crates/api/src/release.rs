//! Releases and channels.

use edgewright_model::digest::Digest;
use edgewright_model::names::{ChannelName, SourceName, VariantName};
use edgewright_model::reference::RepoName;
use edgewright_model::run::{EntryOrigin, ReleaseNumber, RunNumber};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A release: a numbered, complete map from variants to digests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    /// Number of the release: counted for each source, from 1.
    #[schema(value_type = u32)]
    pub number: ReleaseNumber,
    /// Name of the source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Branch that it was made from.
    pub branch: String,
    /// Commit id that it was made from.
    pub commit: String,
    /// Number of the run that made it.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// Time at which it was made.
    pub created: Timestamp,
    /// Channels that point to it now.
    #[schema(value_type = Vec<String>)]
    pub channels: Vec<ChannelName>,
    /// Entries, sorted by variant.
    pub entries: Vec<ReleaseEntry>,
}

/// One entry of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseEntry {
    /// Name of the variant.
    #[schema(value_type = String)]
    pub variant: VariantName,
    /// Repository in the registry.
    #[schema(value_type = String)]
    pub repository: RepoName,
    /// Digest of the index.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// `new`: passed in the release's run; `carried`: taken over from the release before.
    #[schema(value_type = String)]
    pub origin: EntryOrigin,
    /// Why the entry has this digest, as text.
    pub reason: String,
}

/// A channel: a named pointer of a source to one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelView {
    /// Name of the source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Name of the channel, and of its tag.
    #[schema(value_type = String)]
    pub name: ChannelName,
    /// What the channel follows: `default branch`, `branch NAME` or `channel NAME`.
    #[serde(default)]
    pub follows: String,
    /// Minimum age of a release before the channel takes it, such as `24h`; null for none.
    #[serde(default)]
    pub after: Option<String>,
    /// Name of the rollout policy by which devices follow the channel; null for none.
    #[serde(default)]
    pub rollout: Option<String>,
    /// Number of the release that the channel moves to; equal to `release` once its images are complete in
    /// the registry; null before the first.
    #[schema(value_type = Option<u32>)]
    #[serde(default, alias = "target")]
    pub target_release: Option<ReleaseNumber>,
    /// Number of the release that the channel's tag points to; null before the first.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
    /// Time at which the tag last moved; null before the first release.
    pub moved: Option<Timestamp>,
    /// Why the channel is held, by an operator or by its declaration; null if it is not.
    pub hold: Option<String>,
    /// Number of the release that an operator pinned the channel to; null if it is not pinned.
    #[schema(value_type = Option<u32>)]
    #[serde(default)]
    pub pin: Option<ReleaseNumber>,
    /// Why the channel is pinned; null if it is not.
    #[serde(default)]
    pub pin_reason: Option<String>,
    /// Test of an update that the channel waits for before it moves, or that failed, as text; null for none.
    #[serde(default)]
    pub awaited_test: Option<String>,
    /// Time since which the default branch no longer declares it; null if it does.
    #[serde(default)]
    pub removed: Option<Timestamp>,
}
