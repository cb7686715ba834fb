//! OCI image layouts on disk (image-spec, `image-layout.md`): the output format of container tools.

use std::path::{Path, PathBuf};

use edgewright_model::Digest;

use crate::image::{self, ImageError};
use crate::media::{self, Descriptor};

/// Maximum size of a manifest or config, in bytes; a larger one is rejected.
const DOCUMENT_LIMIT: u64 = 8 * 1024 * 1024;

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Reading or writing failed.
    #[error("cannot access {path} of an image layout")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A document is malformed.
    #[error("malformed document in the image layout")]
    Document(#[from] ImageError),
    /// A blob's bytes do not match its digest.
    #[error("corrupt blob {digest} in the image layout: other content, or too large")]
    Corrupt {
        /// The blob.
        digest: Digest,
    },
    /// The layout has no image.
    #[error("the image layout is empty")]
    Empty,
}

/// An image layout in a folder. Blocking.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Creates an empty layout.
    pub fn create(folder: &Path) -> Result<Self, LayoutError> {
        let layout = Self { folder: folder.to_owned() };
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(|source| LayoutError::Io { path: blobs, source })?;
        layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        layout.write("index.json", &image::index_of(&[]))?;
        Ok(layout)
    }

    /// Opens an existing layout.
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The path of a blob.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Writes a blob.
    pub fn add_blob(&self, bytes: &[u8]) -> Result<Digest, LayoutError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        std::fs::write(&path, bytes).map_err(|source| LayoutError::Io { path, source })?;
        Ok(digest)
    }

    /// Lists manifests in `index.json`.
    pub fn set_manifests(&self, manifests: &[Descriptor]) -> Result<(), LayoutError> {
        self.write("index.json", &image::index_of(manifests))
    }

    /// The manifests that `index.json` lists.
    pub fn manifests(&self) -> Result<Vec<Descriptor>, LayoutError> {
        Ok(image::manifests(&read(&self.folder.join("index.json"))?)?)
    }

    /// The only (or first) image: the bytes of its manifest and of its config.
    pub fn image(&self) -> Result<(Vec<u8>, Vec<u8>), LayoutError> {
        let first = self.manifests()?.into_iter().find(|d| !media::is_index(&d.media_type));
        let manifest = self.document(&first.ok_or(LayoutError::Empty)?.digest)?;
        let config = self.document(&image::config(&manifest)?.digest)?;
        Ok((manifest, config))
    }

    /// A small blob, verified.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>, LayoutError> {
        let bytes = read(&self.blob_path(digest))?;
        let same = Digest::of(&bytes) == *digest;
        if same { Ok(bytes) } else { Err(LayoutError::Corrupt { digest: digest.clone() }) }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        let path = self.folder.join(name);
        std::fs::write(&path, bytes).map_err(|source| LayoutError::Io { path, source })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let fault = |source| LayoutError::Io { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(fault)?.len() > DOCUMENT_LIMIT {
        return Err(fault(std::io::Error::other("the document is too large")));
    }
    std::fs::read(path).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_returns_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        assert!(matches!(layout.image(), Err(LayoutError::Empty)));
        let documents =
            image::Image::scratch(&"linux/amd64".parse().unwrap()).documents(jiff::Timestamp::UNIX_EPOCH);
        layout.add_blob(&documents.config).unwrap();
        layout.add_blob(&documents.manifest).unwrap();
        layout.set_manifests(std::slice::from_ref(&documents.manifest_descriptor)).unwrap();
        let (manifest, config) = Layout::open(folder.path()).image().unwrap();
        assert_eq!((manifest, config), (documents.manifest.to_vec(), documents.config.to_vec()));
        std::fs::write(layout.blob_path(&documents.config_descriptor.digest), "x").unwrap();
        assert!(matches!(layout.image(), Err(LayoutError::Corrupt { .. })));
    }
}
