//! Building again what was built.

use edgewright_model::digest::Digest;
use edgewright_model::names::Platform;
use edgewright_model::outcome::JobFailure;
use edgewright_model::run::RunNumber;
use serde::{Deserialize, Serialize};

/// A node that was built again, from the same commit, locks and packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildView {
    /// The run whose node it is.
    pub run: RunNumber,
    /// The node.
    pub node: String,
    /// Its platform.
    pub platform: Platform,
    /// What came of it.
    pub result: RebuildResult,
    /// Its steps that were built again, up to the first that gave other bytes.
    pub steps: Vec<RebuildStep>,
    /// Why it could not be built to its end.
    pub failure: Option<JobFailure>,
}

/// A step that was built again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildStep {
    /// What it is.
    pub title: String,
    /// The key up to and including it.
    pub key: Digest,
    /// The recorded digest; absent where the step alone was never recorded.
    pub was: Option<Digest>,
    /// The digest of now.
    pub now: Digest,
}

/// What building again gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildResult {
    /// The same bytes at every step.
    Proved,
    /// Other bytes at the last step that is listed.
    Refuted,
    /// It could not be built.
    Failed,
}
