//! Sources.

use edgewright_model::names::SourceName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::inventory::InventoryView;

/// A git repository that is polled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: SourceName,
    /// Its address, without any password or token.
    pub url: String,
    /// The branch that is followed; the remote's default branch where absent.
    pub branch: Option<String>,
    /// How often it is polled.
    pub poll_ms: u64,
    /// When it was last asked.
    pub last_poll: Option<Timestamp>,
    /// When it will be asked next.
    pub next_poll: Option<Timestamp>,
    /// The newest commit that was read.
    pub commit: Option<String>,
    /// That commit's first line.
    pub subject: Option<String>,
    /// Why the last poll failed; absent where it did not.
    pub error: Option<String>,
    /// Failed polls in a row.
    pub failures: u32,
    /// What the default branch declares apart from images.
    #[serde(default)]
    pub inventory: InventoryView,
}

/// The answer to a request to poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PollAnswer {
    /// The source that will be polled at once.
    #[schema(value_type = String)]
    pub source: SourceName,
}
