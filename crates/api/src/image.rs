//! Images: what a variant is made of, what was found about it, how to get it.

use edgewright_model::digest::Digest;
use edgewright_model::names::{ChannelName, ImageName, Platform, SourceName, VariantName};
use edgewright_model::order::{JobId, ManifestRef};
use edgewright_model::reference::RepoName;
use edgewright_model::run::{ReleaseNumber, RunNumber};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{CheckResult, Evidence, LaneResult, Note};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A variant in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImageSummary {
    /// Its source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// The variant.
    #[schema(value_type = String)]
    pub variant: VariantName,
    /// The repository that holds it; absent where nothing was released.
    #[schema(value_type = Option<String>)]
    pub repository: Option<RepoName>,
    /// The index that the newest release holds; absent where none does.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Where it stands.
    pub state: ImageState,
    /// The channels, and so the tags, that point to this digest.
    #[schema(value_type = Vec<String>)]
    pub channels: Vec<ChannelName>,
    /// The newest release that holds this digest.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
    /// Compressed length of its layers, over all platforms.
    pub size_bytes: u64,
    /// The verdicts on the digest.
    pub verdicts: Vec<VerdictSummary>,
    /// In one line: why it is not current, where it is not.
    pub reason: Option<String>,
}

/// Where a variant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictSummary {
    /// The lane.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// What came out.
    #[schema(value_type = Object)]
    pub result: LaneResult,
    /// From the start of the machine to the last check.
    pub duration_ms: u64,
}

/// A variant with all that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// What its state does not say: exceptions, inherited verdicts.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub notes: Vec<Note>,
    /// Every lane's verdict with its checks.
    pub verdicts: Vec<VerdictView>,
    /// How to get it; absent where nothing was built or no server hosts it.
    pub pull: Option<PullCommands>,
}

/// Where a digest came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Provenance {
    /// The source's address, without any password or token.
    pub url: String,
    /// The commit whose run built it.
    pub commit: String,
    /// That commit's first line.
    pub subject: String,
    /// That run.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// The job that built it, where one did.
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// When it was built.
    pub built: Timestamp,
}

/// One platform's build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildView {
    /// The platform.
    #[schema(value_type = String)]
    pub platform: Platform,
    /// The platform manifest.
    #[schema(value_type = Object)]
    pub manifest: ManifestRef,
    /// The input key: all that went in.
    #[schema(value_type = String)]
    pub key: Digest,
    /// Compressed length of its layers.
    pub size_bytes: u64,
    /// Whether building it again gave the same bytes: what its steps say together.
    #[serde(default)]
    pub proof: Proof,
    /// The steps, ancestors' first.
    pub steps: Vec<StepView>,
}

/// Whether building again gave the same bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It did.
    Proved,
    /// It did not: a step depends on more than its inputs.
    Refuted,
    /// Not all of it was built again yet.
    #[default]
    #[serde(other)]
    Unproved,
}

impl Proof {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Refuted => "refuted",
            Self::Unproved => "unproved",
        }
    }

    /// What steps say together: one that is refuted refutes all.
    pub fn of(steps: &[StepView]) -> Self {
        if steps.iter().any(|step| step.proof == Self::Refuted) {
            Self::Refuted
        } else if !steps.is_empty() && steps.iter().all(|step| step.proof == Self::Proved) {
            Self::Proved
        } else {
            Self::Unproved
        }
    }
}

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// The key of the image up to and including this step.
    #[schema(value_type = String)]
    pub key: Digest,
    /// What it is: `bootstrap trixie`, `files sites/plant-a/files`.
    pub title: String,
    /// What the step added, compressed.
    pub added_bytes: Option<u64>,
    /// How long it took when it was executed.
    pub duration_ms: Option<u64>,
    /// Whether building it again gave the same bytes.
    #[serde(default)]
    pub proof: Proof,
    /// The run that executed it.
    #[schema(value_type = Option<u32>)]
    pub run: Option<RunNumber>,
}

/// An image's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockView {
    /// The image that has it.
    #[schema(value_type = String)]
    pub image: ImageName,
    /// `created` of the image's config; absent where the lock is committed: the commit has it.
    pub epoch: Option<Timestamp>,
    /// The base image's digest, where it starts from a registry.
    #[schema(value_type = Option<String>)]
    pub base: Option<Digest>,
    /// How many packages are pinned, over all platforms; absent where the lock is committed.
    pub packages: Option<u64>,
    /// The number of the server's overlay; absent where the lock is committed beside the image.
    pub overlay: Option<u32>,
}

/// One lane's verdict with its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    /// The platform that was tested.
    #[schema(value_type = String)]
    pub platform: Platform,
    /// The lane.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// What came out.
    #[schema(value_type = Object)]
    pub result: LaneResult,
    /// The check set.
    #[schema(value_type = String)]
    pub check_set: Digest,
    /// Whether it counts today. Otherwise the lane is run in another way by now, and will be run again.
    #[serde(default = "is_current_by_default")]
    pub is_current: bool,
    /// How the machine was made.
    pub profile: String,
    /// Semantic version of what judged the checks.
    #[serde(default)]
    pub semantics: u32,
    /// Digest of the check runner, where one took part.
    #[schema(value_type = Option<String>)]
    pub runner: Option<Digest>,
    /// The host's name.
    #[serde(default)]
    pub host: Option<String>,
    /// `ran`, `inherited` or `external`.
    pub origin: String,
    /// The run that it belongs to.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// From the start of the machine to the last check.
    pub duration_ms: u64,
    /// Every check.
    #[schema(value_type = Vec<Object>)]
    pub checks: Vec<CheckResult>,
    /// Journal, failed units, output: blobs in the manifest's repository.
    #[schema(value_type = Vec<Object>)]
    pub evidence: Vec<Evidence>,
}

/// An older server shows nothing else.
const fn is_current_by_default() -> bool {
    true
}

/// Where clients reach a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryAddress {
    /// `HOST[:PORT]`.
    pub host: String,
    /// Whether with TLS.
    pub tls: bool,
}

impl RegistryAddress {
    /// `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.host)
    }
}

/// Commands that fetch an image from the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// The commands for a digest in a repository of a registry.
    pub fn new(registry: &RegistryAddress, repository: &RepoName, digest: &Digest) -> Self {
        let reference = format!("{}/{repository}@{digest}", registry.host);
        let (from_plain, plain) =
            if registry.tls { ("", "") } else { ("--src-tls-verify=false ", "--tls-verify=false ") };
        let folder = repository.as_str().rsplit('/').next().unwrap_or("image");
        Self {
            skopeo: format!("skopeo copy {from_plain}docker://{reference} oci:{folder}"),
            podman: format!("podman pull {plain}{reference}"),
            bootc: format!("bootc switch {reference}"),
            reference,
        }
    }
}
