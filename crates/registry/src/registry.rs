//! The registry as its owner in the process uses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use edgewright_blobs::DiskUsage;
use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName, Tag};

use crate::error::RegistryError;
use crate::ports::{Authorizer, TagResolver};
use crate::settings::RegistrySettings;

/// A stored manifest, byte for byte as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest, of the algorithm that it was asked for by.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A manifest that has another one as its subject: a descriptor as the referrers API gives it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Media type of the manifest.
    pub media_type: String,
    /// Its digest.
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

/// A named reference from above: what it holds is never collected or deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    /// Its name, such as `release/plant-os/7`.
    pub name: String,
    /// What it holds: manifests or blobs, each in its repository.
    pub held: Vec<(RepoName, Digest)>,
}

/// What a repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepositoryUsage {
    /// Manifests.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of both; blobs that repositories share count in each.
    pub bytes: u64,
}

/// What [`Registry::maintenance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Uploads that were dropped because nobody touched them.
    pub expired_uploads: u64,
}

/// The registry. Clones are cheap and share it.
#[derive(Debug, Clone)]
pub struct Registry {}

#[expect(unused_variables, clippy::unused_async, reason = "signatures first: others integrate against them")]
impl Registry {
    /// Opens the folder, brings the schema up to date and settles what a crash left open. The caller's lock must keep
    /// other processes out of the folder.
    pub async fn open(
        settings: RegistrySettings,
        resolver: Arc<dyn TagResolver>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<Self, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// The distribution API under `/v2/`. It has no listener of its own.
    pub fn router(&self) -> axum::Router {
        axum::Router::new()
    }

    /// Ends answers in flight, commits what was accepted and closes the database. Later calls give
    /// [`RegistryError::Closed`].
    pub async fn close(&self) {}

    /// Drops abandoned uploads. Call it hourly.
    pub async fn maintenance(&self, now: jiff::Timestamp) -> Result<Maintained, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Adds to the pin `name` (made where it is not there) manifests or blobs; all must be there. Idempotent.
    pub async fn pin(&self, name: &str, held: &[(RepoName, Digest)]) -> Result<(), RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Drops a pin; it is no error when there is none.
    pub async fn unpin(&self, name: &str) -> Result<(), RegistryError> {
        Err(RegistryError::Closed)
    }

    /// All pins by name.
    pub async fn pins(&self) -> Result<Vec<Pin>, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Whether a repository has a manifest.
    pub async fn has_manifest(&self, repository: &RepoName, digest: &Digest) -> Result<bool, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Whether a repository has a blob.
    pub async fn has_blob(&self, repository: &RepoName, digest: &Digest) -> Result<bool, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// A manifest as clients see it: reserved tags are resolved.
    pub async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Manifest, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Stores a manifest, under a tag where given; what it refers to must be in the repository.
    pub async fn put_manifest(
        &self,
        repository: &RepoName,
        tag: Option<&Tag>,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Stores a blob; it is no error when it is there.
    pub async fn put_blob(&self, repository: &RepoName, bytes: Bytes) -> Result<Digest, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Reads a blob of at most `limit` bytes into memory.
    pub async fn blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Deletes a manifest with its tags.
    pub async fn delete_manifest(&self, repository: &RepoName, digest: &Digest) -> Result<(), RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Deletes an ordinary tag.
    pub async fn delete_tag(&self, repository: &RepoName, tag: &Tag) -> Result<(), RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Takes a blob out of a repository.
    pub async fn delete_blob(&self, repository: &RepoName, digest: &Digest) -> Result<(), RegistryError> {
        Err(RegistryError::Closed)
    }

    /// All repositories that have something, by name.
    pub async fn repositories(&self) -> Result<Vec<RepoName>, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// A repository's tags, reserved ones included, by name.
    pub async fn tags(&self, repository: &RepoName) -> Result<Vec<Tag>, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Manifests whose subject is `subject`, of one artifact type where given.
    pub async fn referrers(
        &self,
        repository: &RepoName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Referrer>, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// What a repository has.
    pub async fn usage(&self, repository: &RepoName) -> Result<RepositoryUsage, RegistryError> {
        Err(RegistryError::Closed)
    }

    /// Space of the disk that the blobs are on.
    pub async fn disk_usage(&self) -> Result<DiskUsage, RegistryError> {
        Err(RegistryError::Closed)
    }
}
