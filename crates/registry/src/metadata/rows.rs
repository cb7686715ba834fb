//! Rows as types.

use std::sync::Arc;

use bytes::Bytes;
use edgewright_blobs::UploadId;
use edgewright_blobs::checksum::Checksums;
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;

/// A blob that is visible in a repository.
#[derive(Debug, Clone)]
pub(crate) struct BlobRow {
    pub(crate) size: u64,
    pub(crate) checksums: Arc<Checksums>,
    /// The start of its age in the repository for garbage collection, in Unix milliseconds.
    pub(crate) linked_at: i64,
}

/// A manifest that is visible in a repository.
#[derive(Debug, Clone)]
pub(crate) struct ManifestRow {
    pub(crate) media_type: Arc<str>,
    pub(crate) artifact_type: Option<Arc<str>>,
    pub(crate) bytes: Bytes,
}

/// An open upload.
#[derive(Debug, Clone)]
pub(crate) struct UploadRow {
    pub(crate) repository: RepoName,
    pub(crate) touched_at: i64,
}

/// An upload among all open ones.
#[derive(Debug, Clone)]
pub(crate) struct OpenUpload {
    pub(crate) id: UploadId,
    pub(crate) owner: String,
    /// Unix milliseconds; up to an hour old.
    pub(crate) touched_at: i64,
}

/// A blob that was about to be published.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) upload: UploadId,
    pub(crate) repository: RepoName,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) checksums: Checksums,
}
