//! Verdicts: what one lane found about one digest.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::CheckId;
use crate::order::{BlobRef, ManifestRef};
use crate::outcome::FailureKind;
use crate::spec::Lane;

/// The result of one lane for one manifest, check set and lane inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which lane.
    pub lane: Lane,
    /// The platform manifest that ran, unmodified.
    pub manifest: ManifestRef,
    /// The check set's digest.
    pub check_set: Digest,
    /// What else the result depends on.
    pub inputs: LaneInputs,
    /// What came out.
    pub result: LaneResult,
    /// Every check, in check-set order.
    pub checks: Vec<CheckResult>,
    /// Journal, failed units, console, output: blobs in the manifest's repository.
    pub evidence: Vec<Evidence>,
    /// From the start of the machine to the last check.
    pub duration_ms: u64,
}

/// What a lane's result depends on besides digest and check set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneInputs {
    /// Digest of the check runner's binary.
    pub runner: Digest,
    /// How the machine was made: `podman`, later machine profiles.
    pub profile: String,
    /// The digest that was there before, in lanes that update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
}

impl LaneInputs {
    /// Their digest, part of the verdict's key.
    pub fn digest(&self) -> Digest {
        // A plain struct of strings always serialises.
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// What a lane found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum LaneResult {
    /// Every check passed.
    Passed,
    /// Something failed.
    Failed {
        /// Whose fault.
        kind: FailureKind,
        /// In one line: the first thing that failed.
        message: String,
    },
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Which.
    pub id: CheckId,
    /// What came out.
    pub outcome: CheckOutcome,
    /// From the start of the checks until it passed or its time was over.
    pub duration_ms: u64,
    /// How often it was tried.
    pub tries: u32,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It held.
    Passed,
    /// It did not hold in time.
    Failed {
        /// Whose fault.
        kind: FailureKind,
        /// What was found instead, on one line.
        message: String,
        /// Output of the command, body of the answer: the last lines.
        output: Vec<String>,
    },
    /// It was not run.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// A piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `journal`, `failed-units`, `runner`, `console`.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// The blob.
    pub blob: BlobRef,
}
