//! Every way in which `registry.db` changes, as data.

use bytes::Bytes;
use edgewright_blobs::UploadId;
use edgewright_model::Digest;
use edgewright_model::reference::{RepoName, Tag};

use super::Intent;

/// One atomic change.
#[derive(Debug)]
pub(crate) enum Change {
    /// An upload begins, unless `max` are open.
    BeginUpload { upload: UploadId, repository: RepoName, max: usize },
    /// An upload begins that came whole, and is about to become a blob, unless `max` are open.
    BeginIntended { intent: Intent, max: usize },
    /// Somebody still works on the upload.
    TouchUpload(UploadId),
    /// The upload and its intent are gone.
    DropUpload(UploadId),
    /// The upload is about to become a blob.
    Intend(Intent),
    /// It did not, and goes on as an upload.
    DropIntent(UploadId),
    /// The file is in place: the blob becomes visible in the repository, the upload and its intent end.
    StoreBlob(Intent),
    /// A blob of one repository becomes visible in another one.
    Mount { from: RepoName, to: RepoName, digest: Digest },
    /// The blob's file was found torn, rotten or missing: nobody sees it until a re-push.
    Damage(Digest),
    /// The blob leaves the repository, unless something there needs it.
    UnlinkBlob { repository: RepoName, digest: Digest },
    /// A manifest with all that it says, and the tags that shall point to it.
    StoreManifest { repository: RepoName, manifest: NewManifest, tags: Vec<Tag> },
    /// The manifest goes with its tags, unless a pin holds it.
    DeleteManifest { repository: RepoName, digest: Digest },
    /// The tag goes.
    DeleteTag { repository: RepoName, tag: Tag },
    /// The pin holds these, too; all must be there.
    Pin { name: String, held: Vec<(RepoName, Digest)> },
    /// The pin goes.
    Unpin(String),
    /// The pin does not hold these any more; the rest stays.
    Release { name: String, held: Vec<(RepoName, Digest)> },
    /// Whoever asked for the blob may be about to refer to it: it counts as new.
    RenewBlob { repository: RepoName, digest: Digest },
    /// Everything goes that nothing holds, by now and since before a time; blobs that nothing held at an earlier collection
    /// are condemned. `held` are what reserved tags answer.
    Collect { now: i64, before: i64, held: Vec<(RepoName, Digest)> },
    /// The condemned blob's file is gone.
    DropBlob(Digest),
}

/// Something that a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A manifest to be stored.
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
