//! Jobs as objects of Kubernetes, for people who create them by hand.

use edgewright_model::digest::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request for the objects of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportPost {
    /// Digest of an index, for all its platforms, or of one platform manifest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Whether the objects hold a token, which permits what the job needs in the registry.
    #[serde(default)]
    pub token: bool,
}

/// The objects that build and test a digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportView {
    /// Objects of Kubernetes, each after those that it needs.
    #[schema(value_type = Vec<Object>)]
    pub objects: Vec<serde_json::Value>,
    /// What is left out, each on one line.
    pub notes: Vec<String>,
    /// Time at which the tokens, and the files that only these objects need, end.
    pub expires: Timestamp,
}
