//! Images: what a variant is made of, what was found about it, how to get it.

use edgewright_model::digest::Digest;
use edgewright_model::names::{ChannelName, ImageName, Platform, SourceName, VariantName};
use edgewright_model::order::{JobId, ManifestRef};
use edgewright_model::reference::RepoName;
use edgewright_model::run::{ReleaseNumber, RunNumber};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{CheckResult, Evidence, LaneResult};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A variant in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Its source.
    pub source: SourceName,
    /// The variant.
    pub variant: VariantName,
    /// The repository that holds it; absent where nothing was released.
    pub repository: Option<RepoName>,
    /// The index that the newest release holds; absent where none does.
    pub digest: Option<Digest>,
    /// Where it stands.
    pub state: ImageState,
    /// The channels, and so the tags, that point to this digest.
    pub channels: Vec<ChannelName>,
    /// The newest release that holds this digest.
    pub release: Option<ReleaseNumber>,
    /// Compressed length of its layers, over all platforms.
    pub size_bytes: u64,
    /// The verdicts on the digest.
    pub verdicts: Vec<VerdictSummary>,
    /// In one line: why it is not current, where it is not.
    pub reason: Option<String>,
}

/// Where a variant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// The newest release holds what the newest commit asks for.
    Current,
    /// The newest commit's build is on its way; an older digest stands, if there is one.
    Pending,
    /// The newest commit's build failed or was blocked; an older digest stands.
    Carried,
    /// Nothing was ever released.
    Absent,
    /// No longer declared.
    Retired,
    /// Something newer than this reader.
    #[serde(other)]
    Other,
}

impl ImageState {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Pending => "pending",
            Self::Carried => "carried",
            Self::Absent => "absent",
            Self::Retired => "retired",
            Self::Other => "other",
        }
    }
}

/// A verdict in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictSummary {
    /// The lane.
    pub lane: Lane,
    /// What came out.
    pub result: LaneResult,
    /// From the start of the machine to the last check.
    pub duration_ms: u64,
}

/// A variant with all that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageView {
    /// The variant in one line.
    pub image: ImageSummary,
    /// Why the digest was built, in words.
    pub why: String,
    /// Where it came from; absent where nothing was built.
    pub provenance: Option<Provenance>,
    /// One build per platform.
    pub builds: Vec<BuildView>,
    /// Outside inputs of the source's images, as pinned for the run that built it.
    pub locks: Vec<LockView>,
    /// Every lane's verdict with its checks.
    pub verdicts: Vec<VerdictView>,
    /// How to get it; absent where nothing was built or no server hosts it.
    pub pull: Option<PullCommands>,
}

/// Where a digest came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The source's address, without any password or token.
    pub url: String,
    /// The commit whose run built it.
    pub commit: String,
    /// That commit's first line.
    pub subject: String,
    /// That run.
    pub run: RunNumber,
    /// The job that built it, where one did.
    pub job: Option<JobId>,
    /// When it was built.
    pub built: Timestamp,
}

/// One platform's build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildView {
    /// The platform.
    pub platform: Platform,
    /// The platform manifest.
    pub manifest: ManifestRef,
    /// The input key: all that went in.
    pub key: Digest,
    /// Compressed length of its layers.
    pub size_bytes: u64,
    /// The steps, ancestors' first.
    pub steps: Vec<StepView>,
}

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// The key of the image up to and including this step.
    pub key: Digest,
    /// What it is: `bootstrap trixie`, `files sites/plant-a/files`.
    pub title: String,
    /// What the step added, compressed.
    pub added_bytes: Option<u64>,
    /// How long it took when it was executed.
    pub duration_ms: Option<u64>,
    /// The run that executed it.
    pub run: Option<RunNumber>,
}

/// An image's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// The image that has it.
    pub image: ImageName,
    /// `created` of the image's config; absent where the lock is committed: the commit has it.
    pub epoch: Option<Timestamp>,
    /// The base image's digest, where it starts from a registry.
    pub base: Option<Digest>,
    /// How many packages are pinned, over all platforms; absent where the lock is committed.
    pub packages: Option<u64>,
    /// The number of the server's overlay; absent where the lock is committed beside the image.
    pub overlay: Option<u32>,
}

/// One lane's verdict with its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictView {
    /// The platform that was tested.
    pub platform: Platform,
    /// The lane.
    pub lane: Lane,
    /// What came out.
    pub result: LaneResult,
    /// The check set.
    pub check_set: Digest,
    /// Digest of the check runner.
    pub runner: Digest,
    /// How the machine was made.
    pub profile: String,
    /// `ran`, `inherited` or `external`.
    pub origin: String,
    /// The run that it belongs to.
    pub run: RunNumber,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// From the start of the machine to the last check.
    pub duration_ms: u64,
    /// Every check.
    pub checks: Vec<CheckResult>,
    /// Journal, failed units, output: blobs in the manifest's repository.
    pub evidence: Vec<Evidence>,
}

/// Commands that fetch an image from the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullCommands {
    /// `HOST:PORT/REPOSITORY@DIGEST`.
    pub reference: String,
    /// Into a folder, without any container engine.
    pub skopeo: String,
    /// Into podman's storage.
    pub podman: String,
    /// Onto a device that runs bootc.
    pub bootc: String,
}

impl PullCommands {
    /// The commands for a digest in a repository of the registry at `address` (`HOST:PORT`, plain HTTP).
    pub fn new(address: &str, repository: &RepoName, digest: &Digest) -> Self {
        let reference = format!("{address}/{repository}@{digest}");
        let folder = repository.as_str().rsplit('/').next().unwrap_or("image");
        Self {
            skopeo: format!("skopeo copy --src-tls-verify=false docker://{reference} oci:{folder}"),
            podman: format!("podman pull --tls-verify=false {reference}"),
            bootc: format!("bootc switch {reference}"),
            reference,
        }
    }
}
