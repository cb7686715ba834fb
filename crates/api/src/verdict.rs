//! Verdicts of other systems, which post them for the lane `external`.

use edgewright_model::digest::Digest;
use edgewright_model::run::RunNumber;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The verdict of another system on a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictPost {
    /// Digest of the platform manifest that was tested: `digest` of the node that waits.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Digest of the check set: `check_set` in the note of the node that waits. By default the one that a run
    /// waits for.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub check_set: Option<Digest>,
    /// Whether the image passed.
    pub passed: bool,
    /// Result as text, on one line.
    #[serde(default)]
    pub message: Option<String>,
    /// URL of a page with details.
    #[serde(default)]
    pub url: Option<String>,
}

/// The response to a posted verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictResponse {
    /// Digest of the platform manifest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Digest of the check set that the verdict counts for.
    #[schema(value_type = String)]
    pub check_set: Digest,
    /// Number of the run that the verdict belongs to.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// Names of the nodes that waited for the verdict; empty if it is recorded for later runs.
    pub awaited_by: Vec<String>,
}
