//! The registry's interface for the program that hosts it.

use std::sync::Arc;

use bytes::Bytes;
use edgewright_blobs::{BlobStore, DiskUsage, FileStore};
use edgewright_model::Digest;
use edgewright_model::principal::Principal;
use edgewright_model::reference::{Reference, RepoName, Tag};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::downloads::Downloads;
use crate::drain::Spawn;
use crate::error::RegistryError;
use crate::external::{ExternalTraffic, Outside};
use crate::metadata::{Change, Metadata, Page};
use crate::ports::{Authorizer, TagResolver};
use crate::settings::RegistrySettings;
use crate::types::{Maintained, Manifest, Pin, Referrer, RepositoryUsage};
use crate::uploads::{Uploads, WHOLE_LIMIT};

/// The principal of the hosting program when it uses the registry without HTTP.
pub(crate) const OWNER: Principal = Principal::System { component: "registry-owner" };

/// The registry. Clones are cheap and share it.
#[derive(Debug, Clone)]
pub struct Registry(pub(crate) Arc<Inner>);

/// What clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: RegistrySettings,
    pub(crate) metadata: Metadata,
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) uploads: Uploads,
    pub(crate) downloads: Downloads,
    pub(crate) outside: Outside,
    pub(crate) resolver: Arc<dyn TagResolver>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
}

impl Registry {
    /// Opens the folder, migrates the schema and completes what a crash interrupted. The caller must hold a
    /// lock that keeps other processes out of the folder.
    pub async fn open(
        settings: RegistrySettings,
        resolver: Arc<dyn TagResolver>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<Self, RegistryError> {
        let folder = settings.folder.clone();
        let store = spawn_blocking(move || FileStore::open(&folder)).await??;
        Self::open_with(settings, Arc::new(store), resolver, authorizer).await
    }

    /// Opens a registry whose blobs are in another store; `registry.db` is in the settings' folder, which
    /// must exist.
    pub async fn open_with(
        settings: RegistrySettings,
        store: Arc<dyn BlobStore>,
        resolver: Arc<dyn TagResolver>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<Self, RegistryError> {
        let limits = (settings.max_downloads, settings.max_known_downloads);
        let inner = Inner {
            metadata: Metadata::open(&settings.folder, settings.manifest_cache_bytes).await?,
            downloads: Downloads::new(limits, settings.max_downloads_per_peer),
            outside: Outside::new(&settings),
            settings,
            store,
            uploads: Uploads::new(),
            resolver,
            authorizer,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        inner.settle_intents().await?;
        Ok(Self(Arc::new(inner)))
    }

    /// The distribution API under `/v2/`. It has no listener of its own.
    pub fn router(&self) -> axum::Router {
        crate::http::router(Arc::clone(&self.0))
    }

    /// Ends responses in flight, commits accepted changes and closes the database. Later calls give
    /// [`RegistryError::Closed`].
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.metadata.close().await;
    }

    /// Completes interrupted publications and deletes abandoned uploads. Call it hourly.
    pub async fn maintenance(&self, now: jiff::Timestamp) -> Result<Maintained, RegistryError> {
        self.0.settle_intents().await?;
        let since = now.as_millisecond() - self.0.upload_expiry();
        Ok(Maintained { expired_uploads: self.0.expire_uploads(since).await? })
    }

    /// Adds manifests or blobs to the pin `name`, which is created if needed; all must exist. Idempotent.
    pub async fn pin(&self, name: &str, held: &[(RepoName, Digest)]) -> Result<(), RegistryError> {
        self.0.metadata.change(Change::Pin { name: name.to_owned(), held: held.to_vec() }).await
    }

    /// Deletes a pin; no error if there is none.
    pub async fn unpin(&self, name: &str) -> Result<(), RegistryError> {
        self.0.metadata.change(Change::Unpin(name.to_owned())).await
    }

    /// All pins by name.
    pub async fn pins(&self) -> Result<Vec<Pin>, RegistryError> {
        self.0.metadata.pins().await
    }

    /// Whether a repository has a manifest.
    pub async fn has_manifest(&self, repository: &RepoName, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.0.metadata.manifest(repository, digest).await?.is_some())
    }

    /// Whether a repository has a row for a blob; its file is not checked.
    pub async fn has_blob(&self, repository: &RepoName, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.0.metadata.blob(repository, digest).await?.is_some())
    }

    /// A manifest as clients see it: reserved names are resolved, with the hosting program as principal.
    pub async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Manifest, RegistryError> {
        let (digest, row) = self.0.manifest(&OWNER, repository, reference).await?;
        Ok(Manifest { digest, media_type: row.media_type.to_string(), bytes: row.bytes })
    }

    /// Stores a manifest, under an ordinary tag if given; its references must be in the repository.
    pub async fn put_manifest(
        &self,
        repository: &RepoName,
        tag: Option<&Tag>,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(&bytes);
        let manifest = crate::manifest::parse(Some(media_type), digest.clone(), bytes)?;
        self.0.store_manifest(&OWNER, repository, manifest, tag.cloned().into_iter().collect()).await?;
        Ok(digest)
    }

    /// Stores a blob; no error if it exists.
    pub async fn put_blob(&self, repository: &RepoName, bytes: Bytes) -> Result<Digest, RegistryError> {
        let digest = Digest::of(&bytes);
        if bytes.len() as u64 <= WHOLE_LIMIT {
            self.0.store_whole(repository, bytes, &digest).await?;
            return Ok(digest);
        }
        let (id, held) = self.0.begin_upload(&OWNER, repository).await?;
        let held = self.0.receive(&id, held, bytes.into()).await?;
        self.0.publish_upload(&id, held, repository, &digest).await?;
        Ok(digest)
    }

    /// Reads a blob of at most `limit` bytes into memory.
    pub async fn blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        self.0.read_blob(repository, digest, limit).await
    }

    /// Deletes a manifest with its ordinary tags.
    pub async fn delete_manifest(&self, repository: &RepoName, digest: &Digest) -> Result<(), RegistryError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.0.metadata.change(Change::DeleteManifest { repository, digest }).await
    }

    /// Deletes an ordinary tag.
    pub async fn delete_tag(&self, repository: &RepoName, tag: &Tag) -> Result<(), RegistryError> {
        self.0.reject_reserved(&OWNER, repository, &Reference::Tag(tag.clone())).await?;
        let (repository, tag) = (repository.clone(), tag.clone());
        self.0.metadata.change(Change::DeleteTag { repository, tag }).await
    }

    /// Removes a blob from a repository.
    pub async fn delete_blob(&self, repository: &RepoName, digest: &Digest) -> Result<(), RegistryError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.0.metadata.change(Change::UnlinkBlob { repository, digest }).await
    }

    /// All repositories, including empty ones, by name.
    pub async fn repositories(&self) -> Result<Vec<RepoName>, RegistryError> {
        self.0.metadata.repositories(&Page::all()).await
    }

    /// A repository's tags, reserved ones included, by name.
    pub async fn tags(&self, repository: &RepoName) -> Result<Vec<Tag>, RegistryError> {
        self.0.tags(&OWNER, repository, &Page::all()).await
    }

    /// Manifests whose subject is `subject`, of one artifact type if given.
    pub async fn referrers(
        &self,
        repository: &RepoName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Referrer>, RegistryError> {
        self.0.metadata.referrers(repository, subject, artifact_type, &Page::all()).await
    }

    /// The usage of a repository.
    pub async fn usage(&self, repository: &RepoName) -> Result<RepositoryUsage, RegistryError> {
        self.0.metadata.usage(repository).await
    }

    /// The bytes of all blobs, each counted once.
    pub async fn stored_bytes(&self) -> Result<u64, RegistryError> {
        self.0.metadata.stored_bytes().await
    }

    /// What clients got of external registries since the start.
    pub fn external_traffic(&self) -> ExternalTraffic {
        self.0.outside.traffic()
    }

    /// Space of the disk that the blobs are on.
    pub async fn disk_usage(&self) -> Result<DiskUsage, RegistryError> {
        let store = Arc::clone(&self.0.store);
        Ok(spawn_blocking(move || store.disk_usage()).await??)
    }
}

impl Inner {
    /// Reads the rest of bodies, until the registry is closed.
    pub(crate) fn drains(&self) -> Spawn {
        let (tasks, closing) = (self.tasks.clone(), self.closing.clone());
        Arc::new(move |drain| {
            let closing = closing.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = drain => {}
                    () = closing.cancelled() => {}
                }
            });
        })
    }

    fn upload_expiry(&self) -> i64 {
        i64::try_from(self.settings.upload_expiry.as_millis()).unwrap_or(i64::MAX)
    }
}
