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
    /// Its name, and the tag that projects it.
    #[schema(value_type = String)]
    pub name: ChannelName,
    /// The release that it points to; absent before the first.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
    /// When it last moved.
    pub moved: Option<Timestamp>,
    /// Why it does not follow at the moment; absent where it does.
    pub hold: Option<String>,
}
