//! Building again what was built.

use edgewright_model::digest::Digest;
use edgewright_model::names::Platform;
use edgewright_model::outcome::JobFailure;
use edgewright_model::run::{RebuildNumber, RebuildState, RunNumber};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What shall be built again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildPost {
    /// An index, for all its platforms, or a platform's manifest.
    #[schema(value_type = String)]
    pub digest: Digest,
}

/// A rebuild that was asked for: where it is, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildStatus {
    /// Its number.
    #[schema(value_type = u32)]
    pub number: RebuildNumber,
    /// What is built again.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Where it is: `queued`, `running`, `done`, `failed`.
    #[schema(value_type = String)]
    pub state: RebuildState,
    /// What its job does now, in words.
    pub doing: Option<String>,
    /// What came of it, for each platform; empty before it is done.
    pub builds: Vec<RebuildView>,
    /// Why it failed as a whole.
    pub failure: Option<String>,
}

/// A node that was built again, from the same commit, locks and packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildView {
    /// The run whose node it is.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// The node.
    pub node: String,
    /// Its platform.
    #[schema(value_type = String)]
    pub platform: Platform,
    /// What came of it.
    pub result: RebuildResult,
    /// Its steps that were built again, up to the first that gave other bytes.
    pub steps: Vec<RebuildStep>,
    /// Why it could not be built to its end.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<JobFailure>,
}

/// A step that was built again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildStep {
    /// What it is.
    pub title: String,
    /// The key up to and including it.
    #[schema(value_type = String)]
    pub key: Digest,
    /// The recorded digest; absent where the step alone was never recorded.
    #[schema(value_type = Option<String>)]
    pub was: Option<Digest>,
    /// The digest of now.
    #[schema(value_type = String)]
    pub now: Digest,
    /// The first files that differ and how, where it gave other bytes: `etc/machine-id: content`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// What building again gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildResult {
    /// The same bytes at every step.
    Proved,
    /// Other bytes at the last step that is listed.
    Refuted,
    /// It could not be built.
    Failed,
}
