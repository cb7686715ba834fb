//! A job's output: JSON lines on standard output; events while it runs, the outcome last.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::lock::{Lock, LockedPackage};
use crate::order::ManifestRef;
use crate::reference::RepoName;
use crate::tools::ToolVersions;
use crate::verdict::Verdict;

/// One line of a job's standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "each job has one outcome, and few events wait at a time")]
pub enum JobEvent {
    /// A phase began.
    Phase {
        /// The phase.
        phase: Phase,
        /// What it works on: a step's title or a lane.
        title: String,
    },
    /// The progress of the phase, if it is known.
    Progress {
        /// Done so far, in units of `unit`.
        done: u64,
        /// The total in units of `unit`, if it is known.
        total: Option<u64>,
        /// `bytes`, `packages`, `checks`.
        unit: String,
    },
    /// A line of a tool's output.
    Log {
        /// The line, without its end.
        line: String,
    },
    /// A machine stays after the job, for inspection. In a sandbox, the job's process stays with it.
    Kept {
        /// The repository of its image.
        repository: RepoName,
    },
    /// The outcome, always the last line.
    Outcome(JobOutcome),
}

/// A job's phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

impl Phase {
    /// The name in JSON, tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Fetch => "fetch",
            Self::Build => "build",
            Self::Push => "push",
            Self::Test => "test",
        }
    }
}

/// The outcome of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobOutcome {
    /// [`crate::order::ORDER_VERSION`].
    pub version: u32,
    /// Every prefix that was built and pushed, in step order; the last is the node's own. Given for failures,
    /// too.
    pub builds: Vec<StepBuild>,
    /// The verdict of every lane that ran.
    pub verdicts: Vec<Verdict>,
    /// The lock, for lock tasks.
    pub lock: Option<Lock>,
    /// Why the job failed outside of a lane; a failed verdict alone is not a failure of the job.
    pub failure: Option<JobFailure>,
}

impl JobOutcome {
    /// The outcome of a job that made nothing.
    pub const fn empty() -> Self {
        Self {
            version: crate::order::ORDER_VERSION,
            builds: Vec::new(),
            verdicts: Vec::new(),
            lock: None,
            failure: None,
        }
    }
}

/// A prefix that was built and pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepBuild {
    /// The prefix's key.
    pub key: Digest,
    /// The pushed manifest.
    pub manifest: ManifestRef,
    /// Length of the manifest in bytes.
    pub manifest_size: u64,
    /// Compressed length of all its layers in bytes.
    pub image_size: u64,
    /// How long the step took.
    pub duration_ms: u64,
    /// The programs that decided about its bytes.
    #[serde(default, skip_serializing_if = "ToolVersions::is_empty")]
    pub tools: ToolVersions,
    /// The installed packages, for `bootstrap` steps: kept so that the step can be rebuilt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptPackages>,
}

/// The packages that a `bootstrap` step installed, as blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPackages {
    /// The repository that has them.
    pub repository: RepoName,
    /// The image's `sources.list`, which depends on the building host if the step names no mirror.
    pub sources: String,
    /// Each of them, in the lock's order.
    pub packages: Vec<KeptPackage>,
}

/// One kept package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPackage {
    /// The phase.
    pub package: LockedPackage,
    /// Its archive.
    pub digest: Digest,
    /// Length of the archive in bytes.
    pub size: u64,
}

/// What caused a failure. Only `image` blocks until the input changes; `infrastructure` is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The image, or its definition.
    Image,
    /// The check itself cannot work.
    Check,
    /// Tools, network, disk, time.
    Infrastructure,
}

impl std::fmt::Display for FailureKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Image => "image",
            Self::Check => "check",
            Self::Infrastructure => "infrastructure",
        })
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// What caused it.
    pub kind: FailureKind,
    /// The phase in which it failed.
    pub phase: Phase,
    /// What failed and why, on one line.
    pub message: String,
    /// The next action for the user, imperative.
    pub hint: Option<String>,
    /// The last lines of the tool's output.
    pub output: Vec<String>,
}
