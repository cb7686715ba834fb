//! Verdicts of other systems: what they post in the lane `external`, and what they are told.

use edgewright_model::digest::Digest;
use edgewright_model::run::RunNumber;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What another system found about a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictPost {
    /// The platform manifest that it tested, as `notes` and `digest` of the node that waits say.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The check set that it was asked for; the one that a run waits for where absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub check_set: Option<Digest>,
    /// Whether the image passed.
    pub passed: bool,
    /// What was found, in a line.
    #[serde(default)]
    pub message: Option<String>,
    /// Where more is shown.
    #[serde(default)]
    pub url: Option<String>,
}

/// What became of a posted verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictAnswer {
    /// The digest that it is about.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The check set that it counts for.
    #[schema(value_type = String)]
    pub check_set: Digest,
    /// The run that it belongs to.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// The nodes that waited for it; none where it is noted for later runs.
    pub awaited_by: Vec<String>,
}
