//! Evidence of lanes: journal, console and other output that was gathered before the machine was removed.

use edgewright_model::digest::Digest;
use edgewright_model::names::Platform;
use edgewright_model::run::RunNumber;
use edgewright_model::spec::Lane;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One piece of evidence of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// Name of the lane that gathered it, such as `container`.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// Platform, such as `linux/amd64`.
    #[schema(value_type = String)]
    pub platform: Platform,
    /// Name: `journal`, `failed-units`, `runner`, `console`.
    pub name: String,
    /// Media type, as the lane recorded it. It is served as plain text.
    pub media_type: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Digest of the blob.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Number of the run whose lane gathered it: an earlier one if the verdict was reused.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// Time at which the verdict was recorded.
    pub recorded: Timestamp,
}

/// Which piece of evidence of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvidenceQuery {
    /// Only of this lane.
    pub lane: Option<Lane>,
    /// Only of this platform.
    pub platform: Option<Platform>,
}

impl EvidenceQuery {
    /// Whether a piece is meant.
    pub fn matches(&self, piece: &EvidenceView) -> bool {
        self.lane.is_none_or(|lane| lane == piece.lane)
            && self.platform.as_ref().is_none_or(|platform| *platform == piece.platform)
    }
}
