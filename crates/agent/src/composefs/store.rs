//! The repository of files and images, on top of the composefs crates. No other module uses their
//! repositories, so that another version of them is a change of this file.

use std::fs::File;
use std::io::{self, Cursor};
use std::path::Path;
use std::sync::Arc;

use composefs::fsverity::{FsVerityHashValue as _, Sha256HashValue};
use composefs::generic_tree::OciTransformOptions;
use composefs::repository::{Repository, RepositoryConfig};
use composefs::tree::RegularFile;
use composefs_oci::OciDigest;
use edgewright_model::Digest;
use edgewright_oci::image::LayerRef;
use edgewright_oci::media::Descriptor;

use super::layer;
use super::tree::BootTree;
use crate::updater::{Image, Progress, UpdateError};

/// Bytes of free space that an import leaves on the device.
pub const MIN_FREE_BYTES: u64 = 64 << 20;

/// A repository. Opening takes a shared lock, so it is opened for each operation.
#[derive(Debug)]
pub struct Store {
    repository: Arc<Repository<Sha256HashValue>>,
}

/// A file of an image that can be read at any place.
pub trait ReadSeek: io::Read + io::Seek + Send {}
impl<T: io::Read + io::Seek + Send> ReadSeek for T {}

impl Store {
    /// Makes a repository, or opens the one that is there.
    ///
    /// # Errors
    /// The folder cannot be written, or its file system has no fs-verity although it is required.
    pub fn create(folder: &Path, verity: bool) -> Result<Self, UpdateError> {
        let config = RepositoryConfig::default();
        let config = if verity { config } else { config.set_insecure() };
        let made = Repository::init_path(rustix::fs::CWD, folder, config);
        let (repository, _) = made.map_err(backend("make the repository of images"))?;
        if verity {
            repository.require_verity().map_err(backend("make the repository of images"))?;
        }
        Ok(Self { repository: Arc::new(repository) })
    }

    /// Opens a repository. Files without fs-verity are errors if it was made with fs-verity.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self, UpdateError> {
        let opened = Repository::open_path(rustix::fs::CWD, folder);
        let repository = opened.map_err(|e| backend("open the repository of images")(e.into()))?;
        Ok(Self { repository: Arc::new(repository) })
    }

    /// Whether fs-verity protects every file.
    pub fn is_verity(&self) -> bool {
        !self.repository.is_insecure()
    }

    /// The layers of an image that are not here, in the manifest's order, each once.
    ///
    /// # Errors
    /// The image's documents are malformed, or the repository is damaged.
    pub fn missing(&self, image: &Image) -> Result<Vec<Descriptor>, UpdateError> {
        let mut missing: Vec<Descriptor> = Vec::new();
        for layer in layers(image)? {
            if self.layer(&layer)?.is_none() && missing.iter().all(|d| d.digest != layer.descriptor.digest) {
                missing.push(layer.descriptor);
            }
        }
        Ok(missing)
    }

    fn layer(&self, layer: &LayerRef) -> Result<Option<Sha256HashValue>, UpdateError> {
        let name = composefs_oci::layer_content_id(&oci_digest(&layer.diff_id)?);
        self.repository.has_stream(&name).map_err(backend("look up a layer"))
    }

    /// Imports the layers that are not here, from the image's layout.
    ///
    /// # Errors
    /// A layer is missing in the layout or has other content, or the disk is full.
    pub async fn import(&self, image: &Image, progress: &Progress) -> Result<(), UpdateError> {
        let layers = layers(image)?;
        for (index, layer) in layers.iter().enumerate() {
            if self.layer(layer)?.is_some() {
                continue;
            }
            progress.check()?;
            let what = format!("importing layer {} of {}", index + 1, layers.len());
            let stream = layer::open(image, layer, progress, what, self.free_bytes()?).await?;
            self.import_layer(stream, layer).await?;
        }
        Ok(())
    }

    async fn import_layer(
        &self,
        mut stream: layer::Verified<'_>,
        layer: &LayerRef,
    ) -> Result<(), UpdateError> {
        let split = composefs_oci::tar::split_async(
            &mut stream,
            Arc::clone(&self.repository),
            composefs_oci::LAYER_CONTENT_TYPE,
        );
        let imported = split.await;
        if let Some(error) = stream.take_error() {
            return Err(error);
        }
        let (object, _) = imported.map_err(backend("import a layer"))?;
        // Only now, when the whole stream has the digest of the image's config.
        stream.finish(layer).await?;
        let name = composefs_oci::layer_content_id(&oci_digest(&layer.diff_id)?);
        let registered = self.repository.register_stream(&object, &name, None).await;
        registered.map_err(backend("import a layer"))
    }

    fn free_bytes(&self) -> Result<u64, UpdateError> {
        let found = rustix::fs::fstatvfs(self.repository.repo_fd());
        let found = found.map_err(|e| UpdateError::io("read the free space")(e.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize).saturating_sub(MIN_FREE_BYTES))
    }

    /// Makes the root file system of an image whose layers are here, and keeps it under a name. Returns its
    /// digest: what the kernel's argument demands.
    ///
    /// # Errors
    /// A layer is not here, the image has no valid root file system, or the disk is full.
    pub fn commit(&self, image: &Image, tag: &str) -> Result<String, UpdateError> {
        let (manifest, config) = documents(image)?;
        let mut references = Vec::new();
        for layer in layers(image)? {
            let object = self
                .layer(&layer)?
                .ok_or_else(|| UpdateError::Corrupt { digest: layer.descriptor.digest.clone() })?;
            references.push((oci_digest(&layer.diff_id)?, object));
        }
        let options = OciTransformOptions::default();
        composefs_oci::layer_sync::finalize_oci_image(
            &self.repository,
            &manifest,
            &config,
            &references,
            Some(tag),
            Some(&options),
        )
        .map_err(|e| image_error(image, &e))?;
        let digest = composefs_oci::sha256_content_digest(&manifest);
        let root = composefs_oci::boot_image(&self.repository, &digest);
        let root = root.map_err(backend("make the root file system"))?;
        self.repository.sync().map_err(backend("flush the repository of images"))?;
        root.map(|root| root.to_hex()).ok_or_else(|| UpdateError::Image {
            digest: image.digest().clone(),
            problem: "it is no container image".to_owned(),
        })
    }

    /// The tree of a root file system.
    ///
    /// # Errors
    /// It is not here, or it is damaged.
    pub fn tree(&self, root: &str) -> Result<BootTree, UpdateError> {
        let what = "read the root file system";
        let id = Sha256HashValue::from_hex(root).map_err(|e| backend(what)(e.into()))?;
        let bytes = self.repository.read_object(&id).map_err(backend(what))?;
        let tree = composefs::erofs::reader::erofs_to_filesystem(&bytes).map_err(backend(what))?;
        Ok(BootTree::new(tree))
    }

    /// Opens a file of a tree.
    ///
    /// # Errors
    /// It is not here, or it is damaged.
    pub fn open_file(&self, file: &RegularFile<Sha256HashValue>) -> Result<Box<dyn ReadSeek>, UpdateError> {
        Ok(match file {
            RegularFile::Inline(bytes) => Box::new(Cursor::new(bytes.clone())),
            RegularFile::External(id, _) | RegularFile::ExternalNoVerity(id, _) => {
                let opened = self.repository.open_object(id).map_err(backend("open a file of the image"))?;
                Box::new(File::from(opened))
            }
            RegularFile::Sparse(_) => Box::new(Cursor::new(Vec::new())),
        })
    }

    /// Removes the names that are not kept, and every object that no name needs. Returns the bytes freed.
    ///
    /// # Errors
    /// The repository is damaged.
    pub fn collect(&self, keeps: impl Fn(&str) -> bool) -> Result<u64, UpdateError> {
        let what = "remove old images";
        for (name, _) in composefs_oci::list_refs(&self.repository).map_err(backend(what))? {
            if !keeps(name.trim_end_matches(":latest")) {
                composefs_oci::untag_image(&self.repository, &name).map_err(backend(what))?;
            }
        }
        let collected = self.repository.gc(&[]).map_err(backend(what))?;
        Ok(collected.objects_bytes)
    }
}

/// The layers of an image.
fn layers(image: &Image) -> Result<Vec<LayerRef>, UpdateError> {
    let parsed = edgewright_oci::image::Image::parse(&image.manifest.bytes, &image.config);
    let parsed = parsed.map_err(|e| invalid(image, e.to_string()))?;
    Ok(parsed.layers().to_vec())
}

/// Manifest and config as OCI documents. Docker's have the same layers under other media types, which the
/// composefs crates do not read.
fn documents(image: &Image) -> Result<(Vec<u8>, Vec<u8>), UpdateError> {
    if image.manifest.media_type != edgewright_oci::media::DOCKER_MANIFEST {
        return Ok((image.manifest.bytes.to_vec(), image.config.to_vec()));
    }
    let parsed = edgewright_oci::image::Image::parse(&image.manifest.bytes, &image.config);
    let parsed = parsed.map_err(|e| invalid(image, e.to_string()))?;
    let documents = parsed.documents(jiff::Timestamp::UNIX_EPOCH);
    Ok((documents.manifest.to_vec(), documents.config.to_vec()))
}

fn oci_digest(digest: &Digest) -> Result<OciDigest, UpdateError> {
    digest.to_string().parse().map_err(|_| UpdateError::Backend {
        what: "read a digest".to_owned(),
        problem: format!("unsupported digest {digest}"),
    })
}

fn invalid(image: &Image, problem: String) -> UpdateError {
    UpdateError::Image { digest: image.digest().clone(), problem }
}

/// A full disk is no fault of the image; anything else that is found while its layers are merged is.
fn image_error(image: &Image, error: &anyhow::Error) -> UpdateError {
    let is_of_the_disk = error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some() || cause.downcast_ref::<rustix::io::Errno>().is_some()
    });
    if is_of_the_disk {
        return UpdateError::Backend {
            what: "make the root file system".to_owned(),
            problem: format!("{error:#}"),
        };
    }
    invalid(image, format!("{error:#}"))
}

/// An error of the crates, with its causes.
fn backend(what: &'static str) -> impl Fn(anyhow::Error) -> UpdateError {
    move |error| UpdateError::Backend { what: what.to_owned(), problem: format!("{error:#}") }
}
