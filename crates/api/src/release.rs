//! Releases and channels.

use edgewright_model::digest::Digest;
use edgewright_model::names::{ChannelName, SourceName, VariantName};
use edgewright_model::reference::RepoName;
use edgewright_model::run::{EntryOrigin, ReleaseNumber, RunNumber};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A numbered, complete map variant → digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Its number, counted per source from 1.
    pub number: ReleaseNumber,
    /// Its source.
    pub source: SourceName,
    /// The branch that it was made of.
    pub branch: String,
    /// The commit that it was made of.
    pub commit: String,
    /// The run that made it.
    pub run: RunNumber,
    /// When.
    pub created: Timestamp,
    /// The channels that point to it now.
    pub channels: Vec<ChannelName>,
    /// Its entries, by variant.
    pub entries: Vec<ReleaseEntry>,
}

/// One entry of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseEntry {
    /// The variant.
    pub variant: VariantName,
    /// The repository that holds it.
    pub repository: RepoName,
    /// The index digest.
    pub digest: Digest,
    /// New, or from before.
    pub origin: EntryOrigin,
    /// Why, in words.
    pub reason: String,
}

/// A named pointer of a source to one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelView {
    /// Its source.
    pub source: SourceName,
    /// Its name, and the tag that projects it.
    pub name: ChannelName,
    /// The release that it points to; absent before the first.
    pub release: Option<ReleaseNumber>,
    /// When it last moved.
    pub moved: Option<Timestamp>,
    /// Why it does not follow at the moment; absent where it does.
    pub hold: Option<String>,
}
