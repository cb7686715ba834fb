//! Where images are hosted: the registry as control uses it. Images, contexts and referrers go over the
//! distribution protocol, so that any registry serves; pins are a gift of our own registry and simply absent
//! with another.

use std::path::Path;

use edgewright_model::Digest;
use edgewright_model::order::{BlobRef, ManifestRef, RegistryAccess};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_oci::client::{Client, ClientError, QUIET};
use edgewright_oci::media;
use edgewright_registry::{Collected, Pin, Registry, RegistryError};
use jiff::Timestamp;
use serde::Deserialize;

/// Why the registry did not do what control asked.
#[derive(Debug, thiserror::Error)]
pub enum HostingError {
    /// The distribution protocol.
    #[error("the registry did not {operation}")]
    Client {
        /// What was asked.
        operation: &'static str,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A repository that cannot be named.
    #[error("no repository can have this name")]
    Name {
        /// Why.
        #[source]
        source: edgewright_model::names::InvalidName,
    },
    /// A pin.
    #[error("the registry did not keep a pin")]
    Pin {
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// What nothing holds.
    #[error("the registry did not collect what nothing holds")]
    Collect {
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// What was left open.
    #[error("the registry did not settle what was left open")]
    Maintenance {
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// A manifest that was pushed by a job does not read.
    #[error("manifest {digest} does not read as one")]
    Manifest {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl HostingError {
    /// Maintenance failed.
    pub const fn maintenance(source: RegistryError) -> Self {
        Self::Maintenance { source }
    }
}

/// The registry. Clones share it.
#[derive(Debug, Clone)]
pub struct Hosting {
    client: Client,
    pins: Option<Registry>,
}

/// The blobs and children that a manifest names.
#[derive(Deserialize)]
struct Contents {
    config: Option<media::Descriptor>,
    #[serde(default)]
    layers: Vec<media::Descriptor>,
}

impl Hosting {
    /// Over the distribution protocol, with pins where the registry is ours and in this process.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(access: &RegistryAccess, pins: Option<Registry>) -> Result<Self, HostingError> {
        let client =
            Client::new(access).map_err(|source| HostingError::Client { operation: "open", source })?;
        Ok(Self { client, pins })
    }

    /// The registry as a client sees it.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Pushes small bytes.
    pub(crate) async fn push_bytes(
        &self,
        repository: &RepoName,
        bytes: Vec<u8>,
    ) -> Result<BlobRef, HostingError> {
        let pushed = self.client.push_blob_bytes(repository, bytes).await;
        pushed.map_err(|source| HostingError::Client { operation: "take a blob", source })
    }

    /// Pushes a file of known digest and size.
    pub(crate) async fn push_file(&self, blob: &BlobRef, file: &Path) -> Result<(), HostingError> {
        let pushed = self.client.push_blob_file(&blob.repository, file, &blob.digest, blob.size, QUIET).await;
        pushed.map(drop).map_err(|source| HostingError::Client { operation: "take a context", source })
    }

    /// Pushes a manifest by its digest.
    pub(crate) async fn push_manifest(
        &self,
        repository: &RepoName,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Digest, HostingError> {
        let reference = Reference::Digest(Digest::of(&bytes));
        let pushed = self.client.push_manifest(repository, &reference, media_type, bytes).await;
        pushed.map_err(|source| HostingError::Client { operation: "take a manifest", source })
    }

    /// The length of a manifest in bytes.
    pub(crate) async fn manifest_size(&self, manifest: &ManifestRef) -> Result<u64, HostingError> {
        Ok(self.manifest(manifest).await?.bytes.len() as u64)
    }

    /// The configuration and the layers that a manifest names; none for an index.
    pub(crate) async fn blobs_of(
        &self,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<Option<(Digest, Vec<Digest>)>, HostingError> {
        let manifest = ManifestRef { repository: repository.clone(), digest: digest.clone() };
        let pulled = self.manifest(&manifest).await?;
        let contents: Contents = serde_json::from_slice(&pulled.bytes)
            .map_err(|source| HostingError::Manifest { digest: digest.clone(), source })?;
        let layers = contents.layers.into_iter().map(|layer| layer.digest).collect();
        Ok(contents.config.map(|config| (config.digest, layers)))
    }

    async fn manifest(
        &self,
        manifest: &ManifestRef,
    ) -> Result<edgewright_oci::client::ManifestBytes, HostingError> {
        let reference = Reference::Digest(manifest.digest.clone());
        let pulled = self.client.pull_manifest(&manifest.repository, &reference).await;
        pulled.map_err(|source| HostingError::Client { operation: "give a manifest", source })
    }

    /// Makes a manifest that the registry has stand in another repository, too: its blobs are mounted,
    /// nothing is copied.
    pub(crate) async fn stand_in(
        &self,
        manifest: &ManifestRef,
        repository: &RepoName,
    ) -> Result<ManifestRef, HostingError> {
        let there = ManifestRef { repository: repository.clone(), digest: manifest.digest.clone() };
        if manifest.repository == *repository {
            return Ok(there);
        }
        let pulled = self.manifest(manifest).await?;
        let contents: Contents = serde_json::from_slice(&pulled.bytes)
            .map_err(|source| HostingError::Manifest { digest: manifest.digest.clone(), source })?;
        for blob in contents.layers.iter().chain(&contents.config) {
            let mounted = self.client.mount_blob(repository, &blob.digest, &manifest.repository).await;
            mounted.map_err(|source| HostingError::Client { operation: "mount a blob", source })?;
        }
        self.push_manifest(repository, &pulled.media_type, pulled.bytes.to_vec()).await?;
        Ok(there)
    }

    /// Adds to a pin, where there are pins.
    pub(crate) async fn pin(&self, name: &str, held: &[(RepoName, Digest)]) -> Result<(), HostingError> {
        match &self.pins {
            Some(registry) => registry.pin(name, held).await.map_err(|source| HostingError::Pin { source }),
            None => Ok(()),
        }
    }

    /// All pins, where there are any.
    pub(crate) async fn pins(&self) -> Result<Vec<Pin>, HostingError> {
        match &self.pins {
            Some(registry) => registry.pins().await.map_err(|source| HostingError::Pin { source }),
            None => Ok(Vec::new()),
        }
    }

    /// Takes some of what a pin holds out of it.
    pub(crate) async fn release(&self, name: &str, held: &[(RepoName, Digest)]) -> Result<(), HostingError> {
        match &self.pins {
            Some(registry) => {
                registry.release(name, held).await.map_err(|source| HostingError::Pin { source })
            }
            None => Ok(()),
        }
    }

    /// Removes a manifest, where the registry is ours; it is no error when it is not there.
    pub(crate) async fn remove(&self, repository: &RepoName, digest: &Digest) -> Result<(), HostingError> {
        let Some(registry) = &self.pins else { return Ok(()) };
        match registry.delete_manifest(repository, digest).await {
            Err(RegistryError::ManifestUnknown { .. }) | Ok(()) => Ok(()),
            Err(source) => Err(HostingError::Collect { source }),
        }
    }

    /// Has the registry remove what nothing holds, where it is ours.
    pub(crate) async fn collect(&self, now: Timestamp) -> Result<Collected, HostingError> {
        match &self.pins {
            Some(registry) => registry.collect(now).await.map_err(|source| HostingError::Collect { source }),
            None => Ok(Collected::default()),
        }
    }

    /// Drops a pin, where there are pins.
    pub(crate) async fn unpin(&self, name: &str) -> Result<(), HostingError> {
        match &self.pins {
            Some(registry) => registry.unpin(name).await.map_err(|source| HostingError::Pin { source }),
            None => Ok(()),
        }
    }
}
