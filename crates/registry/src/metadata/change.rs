//! The changes of `registry.db`, as data.

use bytes::Bytes;
use edgewright_blobs::UploadId;
use edgewright_model::Digest;
use edgewright_model::reference::{RepoName, Tag};

use super::Intent;

/// One atomic change.
#[derive(Debug)]
pub(crate) enum Change {
    /// Begins an upload, unless too many are open.
    BeginUpload { upload: UploadId, repository: RepoName, quota: UploadQuota },
    /// Begins an upload that was received completely and is about to become a blob, unless too many are open.
    BeginIntended { intent: Intent, quota: UploadQuota },
    /// Updates the time of the last request of an upload.
    TouchUpload(UploadId),
    /// Deletes the upload and its intent.
    DropUpload(UploadId),
    /// Notes that the upload is about to become a blob.
    Intend(Intent),
    /// Takes that back: it stays an upload.
    DropIntent(UploadId),
    /// The file is in place: makes the blob visible in the repository, and deletes the upload and its intent.
    StoreBlob(Intent),
    /// Makes a blob of one repository visible in another one.
    Mount { from: RepoName, to: RepoName, digest: Digest },
    /// Hides a blob whose file is damaged or missing, until a new push.
    Damage(Digest),
    /// Removes the blob from the repository, unless a manifest there needs it.
    UnlinkBlob { repository: RepoName, digest: Digest },
    /// Stores a manifest with its references, and the tags that point to it.
    StoreManifest { repository: RepoName, manifest: NewManifest, tags: Vec<Tag> },
    /// Deletes the manifest with its tags, unless a pin holds it.
    DeleteManifest { repository: RepoName, digest: Digest },
    /// Deletes the tag.
    DeleteTag { repository: RepoName, tag: Tag },
    /// Adds these objects to the pin; all must exist.
    Pin { name: String, held: Vec<(RepoName, Digest)> },
    /// Deletes the pin.
    Unpin(String),
    /// Removes these objects from the pin.
    Release { name: String, held: Vec<(RepoName, Digest)> },
    /// Resets the blob's age: the client that asked for it may refer to it next.
    RenewBlob { repository: RepoName, digest: Digest },
    /// Deletes unreferenced content that is older than a time; blobs that were unreferenced at an earlier
    /// collection are condemned. `held` are the targets of reserved tags.
    Collect { now: i64, before: i64, held: Vec<(RepoName, Digest)> },
    /// Deletes the row of a condemned blob, whose file was removed.
    DropBlob(Digest),
}

/// Who begins an upload, and how many may be open.
#[derive(Debug, Clone)]
pub(crate) struct UploadQuota {
    /// The principal as text.
    pub(crate) owner: String,
    /// The limit for all owners together.
    pub(crate) total: usize,
    /// The limit for this owner.
    pub(crate) share: usize,
}

/// An object that a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A manifest to store.
#[derive(Debug, Clone)]
pub(crate) struct NewManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) artifact_type: Option<String>,
    pub(crate) subject: Option<Digest>,
    pub(crate) config: Option<Digest>,
    /// JSON object.
    pub(crate) annotations: String,
    pub(crate) bytes: Bytes,
    /// Config and layers that must be in the repository.
    pub(crate) blobs: Vec<Descriptor>,
    /// Manifests that must be in the repository.
    pub(crate) manifests: Vec<Descriptor>,
}
