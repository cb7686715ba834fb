//! Releases and channels.

use edgewright_model::digest::Digest;
use edgewright_model::names::{ChannelName, SourceName, VariantName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A numbered, complete map variant → digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Its number, counted per source from 1.
    pub number: u64,
    /// Its source.
    pub source: SourceName,
    /// The commit that it was made of.
    pub commit: String,
    /// The run that made it.
    pub run: u64,
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
    /// The index digest.
    pub digest: Digest,
    /// New, or from before.
    pub state: EntryState,
    /// Why, in words.
    pub reason: String,
}

/// Whether an entry's digest is new in its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Built and passed in this release's run.
    New,
    /// The digest of the release before.
    Carried,
    /// Something newer than this reader.
    #[serde(other)]
    Other,
}

impl EntryState {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Carried => "carried",
            Self::Other => "other",
        }
    }
}

/// A named pointer of a source to one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelView {
    /// Its source.
    pub source: SourceName,
    /// Its name, and the tag that projects it.
    pub name: ChannelName,
    /// What it follows, in words: `branch main`, `channel dev`, `default branch`.
    pub follows: String,
    /// The release that it points to; absent before the first.
    pub release: Option<u64>,
    /// When it last moved.
    pub moved: Option<Timestamp>,
    /// Why it last moved, or why it stands, in words.
    pub reason: Option<String>,
}
