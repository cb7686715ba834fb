//! Rebuilds: an image is built a second time, and the digests are compared.

use edgewright_model::digest::Digest;
use edgewright_model::names::Platform;
use edgewright_model::outcome::JobFailure;
use edgewright_model::run::{RebuildNumber, RebuildState, RunNumber};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::schemas;

/// A request for a rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildPost {
    /// Digest of an index, for all its platforms, or of one platform manifest.
    #[schema(value_type = String)]
    pub digest: Digest,
}

/// A rebuild: its state and its results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildStatus {
    /// Number of the rebuild: counted over all sources of the data folder, from 1.
    #[schema(value_type = u32)]
    pub number: RebuildNumber,
    /// Digest of the index or platform manifest that is rebuilt.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// State: `queued`, `running`, `done` or `failed`.
    #[schema(value_type = String)]
    pub state: RebuildState,
    /// What the rebuild's job does now, as text; null unless it runs.
    pub doing: Option<String>,
    /// Results, one for each node and platform; empty until the rebuild is done.
    #[serde(alias = "builds")]
    pub results: Vec<RebuildView>,
    /// Why the rebuild as a whole failed; null if it did not.
    #[serde(alias = "failure")]
    pub error: Option<String>,
}

/// The rebuild of one node, from the same commit, locks and packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildView {
    /// Number of the run whose node it is.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// Name of the node.
    pub node: String,
    /// Platform, such as `linux/amd64`.
    #[schema(value_type = String)]
    pub platform: Platform,
    /// Result of the comparison.
    pub result: RebuildResult,
    /// Steps that were rebuilt, up to the first whose digest differs.
    pub steps: Vec<RebuildStep>,
    /// Why the node could not be built; null if it could.
    #[schema(value_type = Option<schemas::JobFailure>)]
    pub failure: Option<JobFailure>,
}

/// A rebuilt step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildStep {
    /// Title, such as `bootstrap trixie`.
    pub title: String,
    /// Key of the image up to and including this step.
    #[schema(value_type = String)]
    pub key: Digest,
    /// Recorded digest; null if the step alone was never recorded.
    #[schema(value_type = Option<String>)]
    pub was: Option<Digest>,
    /// Digest of the rebuild.
    #[schema(value_type = String)]
    pub now: Digest,
    /// First files that differ, and how, such as `etc/machine-id: content`; absent if none differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// The result of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildResult {
    /// Every step gave the same bytes.
    Proved,
    /// The last step in the list gave other bytes.
    Refuted,
    /// The node could not be built.
    Failed,
}
