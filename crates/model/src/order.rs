//! Job orders: self-contained documents. A job exchanges digests and small documents only, without a shared
//! folder or host socket.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::duration::Span;
use crate::lock::{LockRequest, LockedArchive, LockedImage, LockedPackage};
use crate::names::{ImageName, Platform, VariantName};
use crate::outcome::KeptPackages;
use crate::reference::RepoName;
use crate::spec::{BootstrapStep, Check, Lane, SecretRef, VmSpec};
use crate::tools::ToolVersions;

/// The version of orders and outcomes that this build writes.
pub const ORDER_VERSION: u32 = 3;

/// A job's id: a UUIDv7, also the label of every container, mount, folder and process that it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub uuid::Uuid);

impl std::str::FromStr for JobId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose work a job is, and how far it is trusted. What jobs keep on a machine for later ones (caches,
/// storage) is shared within one domain only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustDomain {
    /// The source's row in the server's database: it stays when the source is renamed.
    pub source: u64,
    /// Whether the job is of the source's default branch, or of a branch that a channel follows according to
    /// the default branch. False for pull requests and every other ref.
    pub trusted: bool,
}

impl TrustDomain {
    /// A name for its folders: `7`, or `7.untrusted`. One path component, unique for each domain.
    pub fn folder(self) -> String {
        let Self { source, trusted } = self;
        if trusted { source.to_string() } else { format!("{source}.untrusted") }
    }
}

impl std::fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.folder())
    }
}

/// The environment variable that carries the job id into every process of a job, so that leftovers can be
/// reaped.
pub const JOB_ENVIRONMENT: &str = "EDGEWRIGHT_JOB";

/// A job's order: one line of JSON on its standard input. Standard input then stays open; end of file ends
/// the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobOrder {
    /// [`ORDER_VERSION`].
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// Whose work it is.
    pub domain: TrustDomain,
    /// What to do.
    pub task: Task,
    /// Where images and contexts are pulled from and pushed to.
    pub registry: RegistryAccess,
    /// The whole job's time limit.
    pub within: Span,
}

impl JobOrder {
    /// The order for `request`, with the registry address that the executor uses.
    pub fn new(request: JobRequest, registry: RegistryAccess) -> Self {
        let JobRequest { job, domain, task, within } = request;
        Self { version: ORDER_VERSION, job, domain, task, registry, within }
    }
}

/// A request of control to an executor. How the job reaches the registry is the executor's configuration: it
/// makes a [`JobOrder`] of the two.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRequest {
    /// The job.
    pub job: JobId,
    /// Whose work it is.
    pub domain: TrustDomain,
    /// What to do.
    pub task: Task,
    /// The whole job's time limit.
    pub within: Span,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Resolve an image's outside inputs into a lock.
    Lock(LockTask),
    /// Build (where there are steps), push untagged, then test (where there are lanes).
    Image(ImageTask),
}

/// Resolve a lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockTask {
    /// The image.
    pub image: ImageName,
    /// Its request.
    pub request: LockRequest,
    /// Key files by their path in the repository (armoured or binary, base64).
    pub keys: BTreeMap<String, String>,
    /// The current time, which becomes the epoch.
    pub now: Timestamp,
}

/// Build and test one node of the graph, for one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageTask {
    /// Display name: a variant, or a prefix such as `hmi~1a2b3c4d5e6f`.
    pub node: String,
    /// The variant, absent for prefixes.
    pub variant: Option<VariantName>,
    /// The platform.
    pub platform: Platform,
    /// The repository that takes the results.
    pub repository: RepoName,
    /// What the first step starts from.
    pub base: Base,
    /// The steps that remain to be executed; empty if the digest to test exists already.
    pub steps: Vec<StepOrder>,
    /// The key under which the base itself is recorded, if it is the whole image (an image without steps) and
    /// is not recorded yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_key: Option<Digest>,
    /// `created` of the config, upper bound of file times.
    pub epoch: Timestamp,
    /// Labels of the config that Edgewright adds.
    pub labels: BTreeMap<String, String>,
    /// Lanes to run on the result, in order.
    pub lanes: Vec<LaneOrder>,
}

impl ImageTask {
    /// Whether there is nothing to build, mirror or record: only lanes on a manifest that is there.
    pub const fn only_tests(&self) -> bool {
        matches!(self.base, Base::Manifest(_)) && self.steps.is_empty() && self.base_key.is_none()
    }
}

/// What the first step starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Base {
    /// Nothing.
    Scratch,
    /// A platform manifest in the order's registry.
    Manifest(ManifestRef),
    /// An image in another registry, by digest (of an index or a manifest); mirrored into `repository` first.
    External {
        /// Registry host and port.
        registry: String,
        /// Repository there.
        repository: RepoName,
        /// Its digest.
        digest: Digest,
    },
}

/// A manifest in the order's registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManifestRef {
    /// Repository.
    pub repository: RepoName,
    /// Digest of the platform manifest.
    pub digest: Digest,
}

/// A blob in the order's registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// Repository.
    pub repository: RepoName,
    /// Digest.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
}

/// The files of a step, as an uncompressed tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Context {
    /// In the order's registry.
    Blob(BlobRef),
    /// In the order itself: a small tar does not justify a push and a pull.
    Inline {
        /// The tar, base64.
        tar: String,
    },
}

/// The attribute of an entry of a `files` step whose mode is declared. Without it, a file or directory has
/// the mode of what it replaces in the image. No definition can declare an attribute of this namespace, and
/// no layer has it.
pub const DECLARED_MODE: &str = "edgewright.mode";
/// The attribute of an entry of a `files` step whose owner is declared, as [`DECLARED_MODE`].
pub const DECLARED_OWNER: &str = "edgewright.owner";

/// One step to execute, with the key of the prefix that it completes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOrder {
    /// The key of the image up to and including this step.
    pub key: Digest,
    /// Display name, also in the image history: `bootstrap trixie`, `containerfile images/hmi/Containerfile`,
    /// `files sites/plant-a/files`.
    pub title: String,
    /// The programs that decide about its bytes, as they were when its key was made: with other versions it
    /// is not executed.
    #[serde(default, skip_serializing_if = "ToolVersions::is_empty")]
    pub tools: ToolVersions,
    /// The work.
    pub action: StepAction,
}

/// The work of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepAction {
    /// Install an operating system of exactly these packages.
    Bootstrap {
        /// As declared.
        step: BootstrapStep,
        /// The locked closure.
        packages: Vec<LockedPackage>,
        /// The locked archive; without it, the one that the job's host is configured for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        archive: Option<LockedArchive>,
        /// Key files by their path in the repository (base64).
        keys: BTreeMap<String, String>,
        /// Build from these instead of the mirror.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<KeptPackages>,
    },
    /// Run a Containerfile on the result of the previous step.
    Containerfile {
        /// The build context with ignore rules applied; the Containerfile need not be in it.
        context: Context,
        /// The Containerfile's text.
        containerfile: String,
        /// Build arguments, `BASE` excluded.
        args: BTreeMap<String, String>,
        /// The stage to build.
        target: Option<String>,
        /// Secrets.
        secrets: Vec<SecretRef>,
        /// The images that the Containerfile uses besides its base.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<LockedImage>,
    },
    /// Lay files over.
    Files {
        /// The entries as they must be in the image (path, mode, owner, link); parents and the image's own
        /// links (`/bin` → `usr/bin`) are resolved by the executor. Deletions are not in it.
        entries: Context,
        /// Paths to delete.
        delete: Vec<String>,
    },
}

/// Where images and contexts are. `Debug` hides the token.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistryAccess {
    /// Base address, such as `http://127.0.0.1:5080`.
    pub url: String,
    /// Bearer token, if one is needed.
    pub token: Option<String>,
}

impl std::fmt::Debug for RegistryAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("RegistryAccess").field("url", &self.url).field("token", &token).finish()
    }
}

/// One lane to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneOrder {
    /// Which.
    pub lane: Lane,
    /// All checks that apply in it.
    pub checks: Vec<Check>,
    /// Their digest: [`check_set_digest`].
    pub check_set: Digest,
    /// The lane's time limit, boot included.
    pub within: Span,
    /// The released manifest, in lanes that need one ([`Lane::needs_release`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ManifestRef>,
    /// Whether the machine keeps running after its checks, for inspection (lanes `container` and `vm`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// The machine of a lane with a kernel; the default one if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmSpec>,
}

impl LaneOrder {
    /// The digest of the released manifest.
    pub fn from_digest(&self) -> Option<Digest> {
        self.from.as_ref().map(|from| from.digest.clone())
    }
}

/// The digest of a check set: of its checks as JSON, in id order.
pub fn check_set_digest(checks: &[Check]) -> Digest {
    let mut sorted: Vec<&Check> = checks.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    // Checks are plain structs of strings and numbers: they always serialise.
    Digest::of(serde_json::to_vec(&sorted).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trust_domain_has_a_folder_of_its_own() {
        let domain = |source, trusted| TrustDomain { source, trusted };
        assert_eq!(domain(7, true).folder(), "7");
        assert_eq!(domain(7, false).folder(), "7.untrusted");
    }
}
