//! Sources.

use edgewright_model::names::SourceName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::inventory::InventoryView;

/// A source: a git repository that is polled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    /// Name of the source.
    #[schema(value_type = String)]
    pub name: SourceName,
    /// URL, without any password or token.
    pub url: String,
    /// Whether the server follows it: false if it is no longer in the settings; null if no server runs.
    #[serde(default)]
    pub followed: Option<bool>,
    /// Branch that is followed; null for the remote's default branch.
    pub branch: Option<String>,
    /// Time between two polls, in milliseconds.
    pub poll_ms: u64,
    /// Time of the last poll; null before the first.
    pub last_poll: Option<Timestamp>,
    /// Time of the next poll; null if no server runs.
    pub next_poll: Option<Timestamp>,
    /// Id of the newest commit of the branch that has a run; null before the first.
    pub commit: Option<String>,
    /// First line of that commit's message.
    pub subject: Option<String>,
    /// Why the last poll failed; null if it did not.
    pub error: Option<String>,
    /// Number of polls that failed in a row.
    pub failures: u32,
    /// The commit that sites and channels were read from.
    #[serde(default)]
    pub inventory: InventoryView,
}

/// The response to a request to poll a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PollResponse {
    /// Name of the source, which is polled at once.
    #[schema(value_type = String)]
    pub source: SourceName,
}
