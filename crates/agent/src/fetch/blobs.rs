//! The folder of downloaded blobs: an OCI layout for the updater, with partial files beside it. Blocking.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_oci::ManifestBytes;
use edgewright_oci::layout::Layout;

use super::FetchError;
use crate::store;

/// Free space that a download leaves to the rest of the device, in bytes.
pub(super) const MIN_FREE: u64 = 32 * 1024 * 1024;

/// The folder.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// Opens it, and creates it if it is missing.
    pub fn open(folder: &Path) -> Result<Self, FetchError> {
        let blobs = Self { folder: folder.to_owned() };
        std::fs::create_dir_all(blobs.partial_folder()).map_err(FetchError::local(folder))?;
        if !folder.join("oci-layout").exists() || !folder.join("index.json").exists() {
            Layout::create(folder).map_err(|error| {
                FetchError::local(folder)(std::io::Error::other(
                    edgewright_model::error::Chain(&error).to_string(),
                ))
            })?;
        }
        for algorithm in ["sha256", "sha512"] {
            std::fs::create_dir_all(folder.join("blobs").join(algorithm))
                .map_err(FetchError::local(folder))?;
        }
        Ok(blobs)
    }

    /// The layout's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a whole blob.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        Layout::open(&self.folder).blob_path(digest)
    }

    /// The path of a blob that is not complete yet.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partial_folder().join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// Whether a blob is there, with this length. Its content was verified before it got its name.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        std::fs::metadata(self.path(digest)).is_ok_and(|metadata| metadata.len() == size)
    }

    /// A small blob, verified; none if it is missing or damaged.
    pub fn document(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = store::read(&self.path(digest)).ok()??;
        let mut hasher = edgewright_model::digest::Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        (hasher.finish() == *digest).then_some(bytes)
    }

    /// Writes a small, verified blob.
    pub fn add(&self, digest: &Digest, bytes: &[u8]) -> Result<(), FetchError> {
        let path = self.path(digest);
        store::write(&path, bytes).map_err(|error| match error {
            store::StoreError::Io { source, .. } => FetchError::local(&path)(source),
            other => FetchError::local(&path)(std::io::Error::other(other.to_string())),
        })
    }

    /// Gives a partial file its name: its content is verified.
    pub(super) fn finish(&self, digest: &Digest) -> Result<(), FetchError> {
        let path = self.path(digest);
        let done = std::fs::File::open(self.partial(digest))
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(self.partial(digest), &path))
            .and_then(|()| store::sync_parent(&path));
        done.map_err(FetchError::local(&path))
    }

    /// Lists the manifest in `index.json`, for tools that open the layout.
    pub fn set_manifest(&self, manifest: &ManifestBytes) -> Result<(), FetchError> {
        let index = edgewright_oci::image::index_of(&[manifest.descriptor()]);
        let path = self.folder.join("index.json");
        store::write(&path, &index)
            .map_err(|error| FetchError::local(&path)(std::io::Error::other(error.to_string())))
    }

    /// Removes all blobs and partial files but these.
    pub fn keep_only(&self, keep: &[Digest]) -> Result<(), FetchError> {
        let names: BTreeSet<PathBuf> =
            keep.iter().flat_map(|digest| [self.path(digest), self.partial(digest)]).collect();
        let folders =
            [self.folder.join("blobs/sha256"), self.folder.join("blobs/sha512"), self.partial_folder()];
        for folder in folders {
            let entries = std::fs::read_dir(&folder).map_err(FetchError::local(&folder))?;
            for path in entries.flatten().map(|entry| entry.path()).filter(|path| !names.contains(path)) {
                std::fs::remove_file(&path).map_err(FetchError::local(&path))?;
            }
        }
        Ok(())
    }

    /// Bytes that are free on the file system of the folder.
    pub fn free(&self) -> Result<u64, FetchError> {
        let found = rustix::fs::statvfs(&self.folder)
            .map_err(|error| FetchError::local(&self.folder)(error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// An error unless so many bytes fit, and leave room for the rest of the device.
    pub(super) fn need(&self, bytes: u64) -> Result<(), FetchError> {
        let (needed, free) = (bytes.saturating_add(MIN_FREE), self.free()?);
        if needed <= free {
            Ok(())
        } else {
            Err(FetchError::Space { path: self.folder.clone(), needed, free })
        }
    }

    fn partial_folder(&self) -> PathBuf {
        self.folder.join("partial")
    }
}
