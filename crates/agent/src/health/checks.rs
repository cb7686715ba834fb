//! Check sets: fetched with the image, stored until after the reboot, when there may be no network.

use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName};
use edgewright_model::spec::Check;
use edgewright_oci::{Client, ClientError, image, media};

use crate::store::{self, StoreError};

/// Maximum length of a check set, in bytes.
const MAX_CHECK_SET: u64 = 4 * 1024 * 1024;

/// The check set of a platform manifest, as its registry published it; none if there is none. Of several,
/// which come from runs with other checks, the one that the registry lists last.
pub async fn fetch(
    client: &Client,
    repository: &RepoName,
    manifest: &Digest,
) -> Result<Option<Vec<Check>>, ClientError> {
    let referrers = client.referrers(repository, manifest, Some(media::CHECK_SET)).await?;
    let Some(last) = referrers.last() else { return Ok(None) };
    let artifact = client.pull_manifest(repository, &Reference::Digest(last.digest.clone())).await?;
    let layers = image::layers(&artifact.bytes).unwrap_or_default();
    let Some(document) = layers.iter().find(|layer| layer.media_type == media::CHECK_SET) else {
        return Ok(None);
    };
    let bytes = client.pull_blob_bytes(repository, &document.digest, MAX_CHECK_SET).await?;
    match serde_json::from_slice(&bytes) {
        Ok(checks) => Ok(Some(checks)),
        Err(error) => {
            // A later version may know other assertions: greenboot's scripts and the boot itself still decide.
            tracing::warn!(image.digest = %manifest, %error, "unknown form of check set, it is not used");
            Ok(None)
        }
    }
}

/// The stored check sets, by platform manifest. Blocking.
#[derive(Debug, Clone)]
pub struct CheckSets {
    folder: PathBuf,
}

impl CheckSets {
    /// Opens them in a folder, which is created if it is missing.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Stores one.
    pub fn save(&self, manifest: &Digest, checks: &[Check]) -> Result<(), StoreError> {
        store::write(&self.path(manifest), &serde_json::to_vec(checks).unwrap_or_default())
    }

    /// Whether one is stored, and readable.
    pub fn has(&self, manifest: &Digest) -> bool {
        let bytes = store::read(&self.path(manifest)).ok().flatten();
        bytes.is_some_and(|bytes| serde_json::from_slice::<Vec<Check>>(&bytes).is_ok())
    }

    /// Reads one; empty if there is none, or if it is damaged.
    pub fn load(&self, manifest: &Digest) -> Result<Vec<Check>, StoreError> {
        let Some(bytes) = store::read(&self.path(manifest))? else { return Ok(Vec::new()) };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(image.digest = %manifest, %error, "damaged check set, it is not used");
            Vec::new()
        }))
    }

    /// Removes all but these.
    pub fn keep_only(&self, manifests: &[Digest]) -> Result<(), StoreError> {
        let keep: Vec<PathBuf> = manifests.iter().map(|manifest| self.path(manifest)).collect();
        let entries = std::fs::read_dir(&self.folder).map_err(StoreError::io("list", &self.folder))?;
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !keep.contains(path)) {
            std::fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }

    fn path(&self, manifest: &Digest) -> PathBuf {
        self.folder.join(format!("{}.json", manifest.hex()))
    }
}
