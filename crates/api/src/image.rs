//! Images: what a variant is built from, its verdicts, and how to pull it.

use std::collections::BTreeMap;

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

use crate::schemas;

/// A variant as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImageSummary {
    /// Name of the source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Name of the variant: `IMAGE`, `IMAGE/SITE` or `IMAGE/SITE/SLOT`.
    #[schema(value_type = String)]
    pub variant: VariantName,
    /// Repository in the registry; null before the first release of the variant.
    #[schema(value_type = Option<String>)]
    pub repository: Option<RepoName>,
    /// Digest of the index in the newest release; null before the first release of the variant.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// How the newest release compares with the newest commit.
    pub state: ImageState,
    /// Channels, and so tags, that point to this digest.
    #[schema(value_type = Vec<String>)]
    pub channels: Vec<ChannelName>,
    /// Number of the newest release that holds this digest; null before the first.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
    /// Compressed size of the layers of all platforms, in bytes.
    pub size_bytes: u64,
    /// Current verdicts on the digest, one for each platform and lane.
    pub verdicts: Vec<VerdictSummary>,
    /// Why the state is not `current`, on one line; null if it is.
    pub reason: Option<String>,
    /// Notes on the state: exceptions, inherited verdicts.
    #[serde(default)]
    #[schema(value_type = Vec<schemas::Note>)]
    pub notes: Vec<Note>,
}

/// How the newest release of a variant compares with the newest commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// The newest release holds what the newest commit asks for.
    Current,
    /// The newest commit is being built; the release keeps the older digest, if there is one.
    Pending,
    /// The newest commit's build failed or was blocked; the release keeps the older digest.
    Carried,
    /// The variant was never released.
    Absent,
    /// No longer declared.
    Retired,
    /// A state of a newer version.
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

/// A verdict as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictSummary {
    /// Name of the lane, such as `container`.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// Result of the lane.
    #[schema(value_type = schemas::LaneResult)]
    pub result: LaneResult,
    /// Time from the start of the machine to the last check, in milliseconds. Lanes that update a device also
    /// count the preparation of its disk.
    pub duration_ms: u64,
}

/// One variant: the fields of the list, its builds, verdicts and provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// The fields of the list.
    #[serde(flatten)]
    pub image: ImageSummary,
    /// Why the digest was built, as text.
    #[serde(alias = "why")]
    pub build_reason: String,
    /// Where the digest comes from; null if nothing was built.
    pub provenance: Option<Provenance>,
    /// Builds, one for each platform.
    pub builds: Vec<BuildView>,
    /// Locked external inputs of the images in this variant's line, as of the run that built it.
    pub locks: Vec<LockView>,
    /// Verdicts with their checks and evidence, one for each platform and lane; those that no longer count,
    /// too.
    pub lanes: Vec<VerdictView>,
    /// Commands that pull the image; null if nothing was built or no server hosts it.
    pub pull: Option<PullCommands>,
}

/// Where a digest comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Provenance {
    /// URL of the source, without any password or token.
    pub url: String,
    /// Commit id whose run built the digest.
    pub commit: String,
    /// First line of the commit's message.
    pub subject: String,
    /// Number of that run.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// Id of the job that built it; null if none did.
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// Time of the build.
    pub built: Timestamp,
}

/// The build of one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildView {
    /// Platform, such as `linux/amd64`.
    #[schema(value_type = String)]
    pub platform: Platform,
    /// The platform manifest.
    #[schema(value_type = schemas::ManifestRef)]
    pub manifest: ManifestRef,
    /// Input key: a digest over everything that the image is built from.
    #[schema(value_type = String)]
    pub key: Digest,
    /// Compressed size of the layers, in bytes.
    pub size_bytes: u64,
    /// Whether a rebuild gave the same bytes: the proofs of all steps together.
    #[serde(default)]
    pub proof: Proof,
    /// Steps, those of ancestors first.
    pub steps: Vec<StepView>,
}

/// Whether a rebuild gave the same bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It did.
    Proved,
    /// It did not: a step depends on more than its declared inputs.
    Refuted,
    /// Not all of it was rebuilt yet.
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

    /// The proof of several steps together: `refuted` if one is, `proved` if all are.
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
    /// Key of the image up to and including this step.
    #[schema(value_type = String)]
    pub key: Digest,
    /// Title, such as `bootstrap trixie` or `files sites/plant-a/files`.
    pub title: String,
    /// Compressed size that the step added, in bytes; null if unknown.
    pub added_bytes: Option<u64>,
    /// Duration of its execution in milliseconds; null if unknown.
    pub duration_ms: Option<u64>,
    /// Versions of the programs that decided about its bytes, such as `buildah`; empty for files, which
    /// Edgewright writes itself.
    #[serde(default)]
    pub tools: BTreeMap<String, String>,
    /// Whether a rebuild gave the same bytes.
    #[serde(default)]
    pub proof: Proof,
    /// Number of the run that executed it; null if unknown.
    #[schema(value_type = Option<u32>)]
    pub run: Option<RunNumber>,
}

/// The locked external inputs of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockView {
    /// Name of the image.
    #[schema(value_type = String)]
    pub image: ImageName,
    /// `created` of the image's config; null if the lock is committed.
    pub epoch: Option<Timestamp>,
    /// Digest of the base image; null if the image does not start from a registry.
    #[schema(value_type = Option<String>)]
    pub base: Option<Digest>,
    /// Number of locked packages over all platforms; null if the lock is committed.
    pub packages: Option<u64>,
    /// Number of the server's overlay; null if the lock is committed beside the image.
    pub overlay: Option<u32>,
}

/// The verdict of one lane, with its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    /// Platform that was tested, such as `linux/amd64`.
    #[schema(value_type = String)]
    pub platform: Platform,
    /// Name of the lane, such as `container`.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// Result of the lane.
    #[schema(value_type = schemas::LaneResult)]
    pub result: LaneResult,
    /// Digest of the check set.
    #[schema(value_type = String)]
    pub check_set: Digest,
    /// Whether the verdict counts. If not, the way in which the lane is run has changed, and the lane will
    /// run again.
    #[serde(default = "is_current_by_default")]
    pub is_current: bool,
    /// Kind of machine that ran the lane: `podman`, `vm-direct`, `vm-uefi`, `none`, `external`.
    pub profile: String,
    /// Version of the rules by which the checks were evaluated, from 1; 0 if unknown.
    #[serde(default)]
    pub semantics: u32,
    /// Digest of the check runner; null if the lane needs none.
    #[schema(value_type = Option<String>)]
    pub runner: Option<Digest>,
    /// Name of the host; null if unknown.
    #[serde(default)]
    pub host: Option<String>,
    /// What ran a virtual machine: `kvm`, the processor, or `tcg`, an emulation of it; null if none was
    /// started.
    #[serde(default)]
    pub accelerator: Option<String>,
    /// Digest that the device ran before or after, in lanes that update one; null in others, and if nothing
    /// was released.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub from: Option<Digest>,
    /// How the verdict came about: `ran`, `inherited` or `external`.
    pub origin: String,
    /// Number of the run that it belongs to.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// Time at which it was recorded.
    pub recorded: Timestamp,
    /// Time from the start of the machine to the last check, in milliseconds. Lanes that update a device also
    /// count the preparation of its disk.
    pub duration_ms: u64,
    /// Results of the checks, in the order of the check set.
    #[schema(value_type = Vec<schemas::CheckResult>)]
    pub checks: Vec<CheckResult>,
    /// Journal, failed units, output: blobs in the manifest's repository.
    #[schema(value_type = Vec<schemas::Evidence>)]
    pub evidence: Vec<Evidence>,
}

/// Older servers list current verdicts only.
const fn is_current_by_default() -> bool {
    true
}

/// The address at which clients reach a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryAddress {
    /// `HOST[:PORT]`.
    pub host: String,
    /// Whether the registry is reached by TLS.
    pub tls: bool,
}

impl RegistryAddress {
    /// `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.host)
    }
}

/// Commands that pull an image from the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullCommands {
    /// Image reference: `HOST:PORT/REPOSITORY@DIGEST`.
    pub reference: String,
    /// Command that pulls into an OCI layout folder, without a container engine.
    pub skopeo: String,
    /// Command that pulls into podman's storage.
    pub podman: String,
    /// Command that switches a device with bootc to the image.
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
