//! Types of the registry's interface for the hosting program.

use std::collections::BTreeMap;

use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;

/// A stored manifest, byte for byte as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest, in the algorithm of the request.
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

/// A manifest that has another one as its subject: a descriptor as the referrers API gives it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Media type of the manifest.
    pub media_type: String,
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its artifact type, or its config's media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A named reference: pinned content is never collected or deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    /// Its name, such as `release/plant-os/7`.
    pub name: String,
    /// Its manifests or blobs, each in its repository.
    pub held: Vec<(RepoName, Digest)>,
}

/// The usage of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepositoryUsage {
    /// Manifests.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of both; blobs that repositories share count in each.
    pub bytes: u64,
}

/// The result of [`Registry::maintenance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Deleted uploads that were idle.
    pub expired_uploads: u64,
}

/// The result of [`Registry::collect`].
///
/// [`Registry::collect`]: crate::Registry::collect
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Deleted manifests.
    pub manifests: u64,
    /// Deleted blobs.
    pub blobs: u64,
}
