//! An image's files on disk: made once per digest, shared by all machines of a work folder, bounded
//! ([`Folders`]).
//!
//! ```text
//! FOLDER/HEX/root.erofs        the root file system, read-only
//! FOLDER/HEX/vmlinuz           its kernel
//! FOLDER/HEX/initramfs.img     its own initramfs, if it has one
//! FOLDER/HEX/modules.cpio      the modules that our initramfs loads
//! FOLDER/HEX/facts.json        what is known; written last
//! FOLDER/HEX/uefi-HEX.raw      the disk of the UEFI profile, once it was needed
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::Reference;
use edgewright_oci::client::QUIET;
use edgewright_oci::flatten::Flattener;
use edgewright_oci::index::{Index, LayerIndex};
use edgewright_oci::layer::{Guard, LayerError, MAX_UNPACKED_BYTES, decompress};
use edgewright_oci::media::Descriptor;
use edgewright_oci::{Client, image};
use edgewright_process::CancellationToken;
use serde::{Deserialize, Serialize};

use crate::folders::{Claim, Folders, Held, Limits, blocking};
use crate::kernel::{self, Kernel};
use crate::{Context, VmError};

/// Version of `facts.json`, and of how the files are made: others are made again.
const VERSION: u32 = 1;
/// The boot loader of images, and of the tools.
const LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// The files that are kept: of so many images, of so many bytes.
const CACHE_LIMITS: Limits = Limits { count: 12, bytes: 16 * 1024 * 1024 * 1024 };
/// What is known about the image; written last.
const FACTS: &str = "facts.json";
/// The time limit to make a root file system.
const MAKING_TIMEOUT: Duration = Duration::from_mins(20);
/// Maximum size of an image's config, in bytes.
const CONFIG_LIMIT: u64 = 4 * 1024 * 1024;

/// Where images come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The registry.
    pub client: Client,
    /// The platform manifest.
    pub manifest: ManifestRef,
}

/// The files of images.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// The files of one image. They stay as long as this lives.
#[derive(Debug)]
pub struct CachedImage {
    held: Held,
    /// What is known about it.
    pub facts: Facts,
    /// Where it came from, for files that are made later.
    pub(crate) source: Source,
}

/// What is known about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    version: u32,
    /// Its kernel.
    pub kernel: Kernel,
}

impl Cache {
    /// The files in a folder, which is made when it is needed.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files of an image, made if they are not there. A process that makes the same is waited for.
    ///
    /// # Errors
    /// The image cannot be pulled, cannot be a virtual machine, or the tools fail.
    pub async fn open(&self, source: &Source, context: &Context) -> Result<CachedImage, VmError> {
        let folders = Folders::new(self.folder.clone(), CACHE_LIMITS, |path| Facts::read(path).is_some());
        let held = match folders.claim(source.manifest.digest.hex(), context.processes.cancel()).await? {
            Claim::Found(held) => held,
            Claim::Make(new) => {
                make(source, new.path(), context).await?;
                new.finish().await?
            }
        };
        let path = held.path().to_owned();
        let facts = blocking(move || Ok(Facts::read(&path))).await?;
        let facts =
            facts.ok_or_else(|| VmError::Host(format!("{} has no {FACTS}", held.path().display())))?;
        Ok(CachedImage { held, facts, source: source.clone() })
    }
}

impl Facts {
    /// Those of a folder that is complete, and made by this version.
    fn read(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join(FACTS)).ok()?;
        serde_json::from_slice::<Self>(&text).ok().filter(|facts| facts.version == VERSION)
    }
}

/// Makes the files of an image.
async fn make(source: &Source, folder: &Path, context: &Context) -> Result<(), VmError> {
    check_processor(source).await?;
    let root = folder.join("root.erofs");
    make_erofs(source, &root, folder, context).await?;
    let kernel = kernel::extract(&root, folder, context).await?;
    let path = folder.join(FACTS);
    let text = serde_json::to_vec_pretty(&Facts { version: VERSION, kernel }).unwrap_or_default();
    tokio::fs::write(&path, text).await.map_err(VmError::io("write", &path))
}

impl CachedImage {
    /// The read-only root file system.
    pub fn root(&self) -> PathBuf {
        self.held.path().join("root.erofs")
    }

    /// The folder with all files.
    pub fn folder(&self) -> &Path {
        self.held.path()
    }

    /// The digest of its manifest.
    pub const fn digest(&self) -> &Digest {
        &self.source.manifest.digest
    }

    /// systemd-boot: the image's own, written into a folder; else that of the tools.
    ///
    /// # Errors
    /// The root file system cannot be read.
    pub async fn boot_loader(&self, folder: &Path, context: &Context) -> Result<PathBuf, VmError> {
        let bytes = kernel::read_file(&self.root(), &format!("/{LOADER}"), context).await?;
        if !bytes.starts_with(b"MZ") {
            return Ok(context.tools.file(LOADER));
        }
        let own = folder.join("loader.efi");
        tokio::fs::write(&own, bytes).await.map_err(VmError::io("write", &own))?;
        Ok(own)
    }

    /// Whether its root file system has a file with content at an absolute path.
    ///
    /// # Errors
    /// The root file system cannot be read.
    pub async fn has_file(&self, path: &str, context: &Context) -> Result<bool, VmError> {
        kernel::read_file(&self.root(), path, context).await.map(|bytes| !bytes.is_empty())
    }

    /// The kernel.
    pub fn vmlinuz(&self) -> PathBuf {
        self.held.path().join("vmlinuz")
    }

    /// The image's own initramfs; none if it has none.
    pub fn initramfs(&self) -> Option<PathBuf> {
        self.facts.kernel.has_initramfs.then(|| self.held.path().join("initramfs.img"))
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.held.path().join("modules.cpio")
    }
}

/// Only images of this processor run at a useful speed.
async fn check_processor(source: &Source) -> Result<(), VmError> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        architecture: String,
    }
    let pulled = |error| VmError::Pull(Box::new(error));
    let (client, repository) = (&source.client, &source.manifest.repository);
    let reference = Reference::Digest(source.manifest.digest.clone());
    let manifest = client.pull_manifest(repository, &reference).await.map_err(pulled)?;
    let malformed = |error: image::ImageError| VmError::Image { message: error.to_string(), hint: None };
    let config = image::config(&manifest.bytes).map_err(malformed)?;
    let config = client.pull_blob_bytes(repository, &config.digest, CONFIG_LIMIT).await.map_err(pulled)?;
    let architecture = serde_json::from_slice::<Config>(&config).map(|config| config.architecture);
    match architecture.as_deref() {
        Ok("amd64" | "x86_64" | "") | Err(_) => Ok(()),
        Ok(other) => {
            Err(VmError::Host(format!("virtual machines of this host cannot run an image for {other}")))
        }
    }
}

/// Makes the read-only root file system.
async fn make_erofs(source: &Source, to: &Path, scratch: &Path, context: &Context) -> Result<(), VmError> {
    let layers = pull_layers(source, scratch).await?;
    let command = context.tools.command("mkfs.erofs").context(&context.processes).deadline(MAKING_TIMEOUT);
    let command = command.args(["--quiet", "--tar=f", "--sort=none"]).arg(to.as_os_str());
    let cancel = context.processes.cancel().clone();
    let folder = scratch.to_owned();
    let made = command
        .run_dialogue(move |tar, _answers| {
            flatten(io::BufWriter::with_capacity(1 << 20, tar), &layers, None, (&folder, &cancel))
        })
        .await;
    match made {
        // mkfs reports a broken pipe, too: what broke it names why.
        Ok((Err(error), _)) => Err(VmError::Layers(error)),
        Ok((Ok(()), _)) => Ok(()),
        Err(error) => Err(VmError::command("make the root file system")(error)),
    }
}

/// Layers on disk, from the top down.
type Layers = Vec<(Descriptor, PathBuf)>;

/// Pulls all layers.
pub(crate) async fn pull_layers(source: &Source, scratch: &Path) -> Result<Layers, VmError> {
    let pulled = |error| VmError::Pull(Box::new(error));
    let (client, repository) = (&source.client, &source.manifest.repository);
    let reference = Reference::Digest(source.manifest.digest.clone());
    let manifest = client.pull_manifest(repository, &reference).await.map_err(pulled)?;
    let descriptors = image::layers(&manifest.bytes)
        .map_err(|error| VmError::Image { message: error.to_string(), hint: None })?;
    let mut layers = Vec::new();
    for (number, descriptor) in descriptors.into_iter().rev().enumerate() {
        let path = scratch.join(format!("layer-{number}"));
        client.pull_blob_file(repository, &descriptor.digest, &path, QUIET).await.map_err(pulled)?;
        layers.push((descriptor, path));
    }
    Ok(layers)
}

/// The directories of the root file system that layers make, from the top down. Blocking.
pub(crate) fn directories(
    layers: &[(Descriptor, PathBuf)],
    cancel: &CancellationToken,
) -> Result<Index, LayerError> {
    let mut indexes = Vec::new();
    let mut left = MAX_UNPACKED_BYTES;
    for (descriptor, path) in layers {
        let file = io::BufReader::with_capacity(1 << 18, File::open(path).map_err(LayerError::Read)?);
        let (index, rest) =
            LayerIndex::scan_blob(file, &descriptor.media_type, left, || cancel.is_cancelled())?;
        indexes.push(index);
        left = rest;
    }
    Ok(Index::merge(indexes.iter().rev()))
}

/// Writes layers as one tar, with these directories first, and removes them. Blocking.
pub(crate) fn flatten(
    out: impl io::Write,
    layers: &[(Descriptor, PathBuf)],
    first: Option<&Index>,
    (folder, cancel): (&Path, &CancellationToken),
) -> Result<(), LayerError> {
    let mut flattener = Flattener::new(out, folder);
    if let Some(index) = first {
        flattener.directories(index)?;
    }
    let mut left = MAX_UNPACKED_BYTES;
    for (descriptor, path) in layers {
        let file = File::open(path).map_err(LayerError::Read)?;
        let tar = decompress(io::BufReader::with_capacity(1 << 18, file), &descriptor.media_type)?;
        let mut tar = Guard::new(tar, left, || cancel.is_cancelled());
        flattener.layer(&mut tar)?;
        left = tar.left();
        // If this fails, the file is removed with its folder.
        let _ = fs::remove_file(path);
    }
    flattener.finish().map(drop)
}
