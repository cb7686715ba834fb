//! Schemas of those types of `model` that documents contain. `model` derives none itself: it must not depend
//! on a schema crate, and its types are stored and hashed, too. The tests below hold every variant of the
//! originals against these schemas, without unknown fields, so that a change of `model` that is not made here
//! fails.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A place in a file.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Number of characters to underline, at least 1.
    pub length: u32,
}

/// The result of an update check: of comparing an image's lock with the external inputs of today.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UpdateCheck {
    /// Name of the image.
    pub image: String,
    /// Result of the check.
    pub result: UpdateResult,
    /// Number of the lock overlay that the check added; null if it added none.
    pub overlay: Option<u32>,
    /// What changed; empty if nothing did, and for a first lock.
    pub moves: LockMoves,
    /// Why the old lock is kept; null unless `result` is `kept`.
    pub message: Option<String>,
}

/// The result of an update check.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpdateResult {
    /// The image had no lock for what it requests.
    First,
    /// The external inputs changed.
    Moved,
    /// They did not change.
    Unchanged,
    /// The check failed, or found something older: the old lock is kept.
    Kept,
}

/// The differences between two locks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LockMoves {
    /// The base image, if its digest changed; null otherwise.
    pub base: Option<BaseMove>,
    /// Packages with another version, new and dropped ones, sorted by name.
    pub packages: Vec<PackageMove>,
    /// Images that Containerfiles use besides their base, with another digest, and new ones, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageMove>,
    /// Whether `refresh` of a `containerfile` step expired, so that the image is rebuilt.
    pub refreshed: bool,
    /// Whether the lock got the hashes of its packages, which the earlier one did not have.
    #[serde(default)]
    pub hashed: bool,
}

/// A base image with another digest.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BaseMove {
    /// Digest before; null if there was none.
    pub from: Option<String>,
    /// Digest now.
    pub to: String,
}

/// An image of a Containerfile with another digest.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ImageMove {
    /// Name of the image, with its registry's host.
    pub name: String,
    /// Digest before; null if the image is new.
    pub from: Option<String>,
    /// Digest now.
    pub to: String,
}

/// A package with another version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PackageMove {
    /// Name of the package.
    pub name: String,
    /// Version before; null if the package is new.
    pub from: Option<String>,
    /// Version now; null if the package was dropped.
    pub to: Option<String>,
}

/// A phase of a job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Resolving a lock.
    Lock,
    /// Fetching base and contexts.
    Fetch,
    /// Executing a step.
    Build,
    /// Pushing results.
    Push,
    /// Running a lane.
    Test,
}

/// The cause of a failure.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The image or its definition. It is not tried again until an input changes.
    Image,
    /// The check itself.
    Check,
    /// Tools, network, disk, time. It is tried again.
    Infrastructure,
}

/// Why a job failed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobFailure {
    /// Cause of the failure.
    pub kind: FailureKind,
    /// Phase that failed.
    pub phase: Phase,
    /// What failed and why, on one line.
    pub message: String,
    /// What to do about it; null if there is no advice.
    pub hint: Option<String>,
    /// Last lines of the tool's output.
    pub output: Vec<String>,
}

/// The result of a lane.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum LaneResult {
    /// Every check passed.
    Passed,
    /// A check failed, or the lane itself.
    Failed {
        /// Cause of the failure.
        kind: FailureKind,
        /// The first failure, on one line.
        message: String,
    },
}

/// The result of a check.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckResult {
    /// Id of the check.
    pub id: String,
    /// Outcome of the check.
    pub outcome: CheckOutcome,
    /// Time from the start of the checks until this one passed or its time was over, in milliseconds.
    pub duration_ms: u64,
    /// Number of attempts.
    pub tries: u32,
    /// Output of a check that passed; absent if there is none.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The outcome of a check.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CheckOutcome {
    /// The check passed.
    Passed,
    /// The check did not pass in time.
    Failed {
        /// Cause of the failure.
        kind: FailureKind,
        /// What was found instead, on one line.
        message: String,
        /// Last lines of the command's output or of the response's body.
        output: Vec<String>,
    },
    /// The check was not run.
    Skipped {
        /// Why it was not run.
        reason: String,
    },
}

/// A piece of evidence.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// Name: `journal`, `failed-units`, `runner`, `console`.
    pub name: String,
    /// Media type of the blob.
    pub media_type: String,
    /// The blob.
    pub blob: BlobRef,
}

/// A blob in the registry.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BlobRef {
    /// Repository in the registry.
    pub repository: String,
    /// Digest of the blob.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
}

/// A manifest in the registry.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ManifestRef {
    /// Repository in the registry.
    pub repository: String,
    /// Digest of the platform manifest.
    pub digest: String,
}

/// A note on the state of a node: why it passed in spite of a failure, or what it waits for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A check failed, and an exception covers it.
    Excepted {
        /// Name of the lane.
        lane: String,
        /// Id of the check.
        check: String,
        /// What was found instead.
        found: String,
        /// Last day of the exception, in UTC: `YYYY-MM-DD`.
        #[schema(format = Date)]
        until: String,
        /// Owner of the exception.
        owner: String,
        /// Why the exception was made.
        reason: String,
    },
    /// A failure that the last good digest has, too.
    NotNew {
        /// Name of the lane.
        lane: String,
        /// Id of the check; null if the lane failed outside of its checks.
        check: Option<String>,
        /// Digest of the last good platform manifest.
        digest: String,
    },
    /// The verdict of a lane is taken from another variant.
    Inherited {
        /// Name of the lane.
        lane: String,
        /// Variant that the lane ran for.
        variant: String,
        /// Digest of that variant's platform manifest.
        digest: String,
    },
    /// The node waits for the verdict of another system.
    Awaiting {
        /// Name of the lane.
        lane: String,
        /// Digest of the check set that the verdict is requested for.
        check_set: String,
        /// Time at which the node fails without a verdict.
        #[schema(format = DateTime)]
        until: String,
    },
    /// A failure is being compared with the last good digest.
    Comparing {
        /// Name of the lane.
        lane: String,
        /// Digest of the last good platform manifest.
        digest: String,
    },
    /// A note of a newer version.
    Other,
}

/// The layer that sets a variable; later ones override earlier ones.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "layer", rename_all = "snake_case")]
pub enum VarOrigin {
    /// The default of the variable's declaration.
    Default {
        /// Name of the image that declares it.
        image: String,
    },
    /// `vars:` of `edgewright.yaml`.
    Source,
    /// `vars:` of a group that matches the site.
    Group {
        /// Name of the group.
        group: String,
    },
    /// `vars:` of the site.
    Site {
        /// Name of the site.
        site: String,
    },
    /// `images: {IMAGE: {vars: …}}` of the site.
    SiteImage {
        /// Name of the site.
        site: String,
        /// Name of the image.
        image: String,
    },
    /// `vars:` of the slot.
    Slot {
        /// Name of the site.
        site: String,
        /// Id of the slot.
        slot: String,
    },
}
