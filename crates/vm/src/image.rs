//! An image's files on disk: made once per digest, shared by all machines of a work folder, bounded.
//!
//! ```text
//! FOLDER/HEX/root.erofs        the root file system, read-only
//! FOLDER/HEX/vmlinuz           its kernel
//! FOLDER/HEX/initramfs.img     its own initramfs, if it has one
//! FOLDER/HEX/modules.cpio      the modules that our initramfs loads
//! FOLDER/HEX/facts.json        what is known; written last
//! FOLDER/HEX/uefi-HEX.raw      the disk of the UEFI profile, once it was needed
//! FOLDER/HEX.lock              held while the files are made (exclusive) or used (shared)
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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

use crate::kernel::{self, Kernel};
use crate::{Context, VmError};

/// Version of `facts.json`, and of how the files are made: others are made again.
const VERSION: u32 = 1;
/// The boot loader of images, and of the tools.
const LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// The number of images whose files are kept.
const MAX_IMAGES: usize = 12;
/// The size of all files that are kept, in bytes.
const MAX_CACHE_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// The time limit to make a root file system.
const MAKING_TIMEOUT: Duration = Duration::from_mins(20);
/// The pause between two attempts to lock.
const TURN_PAUSE: Duration = Duration::from_millis(100);
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
    folder: PathBuf,
    /// What is known about it.
    pub facts: Facts,
    /// Where it came from, for files that are made later.
    pub(crate) source: Source,
    _used: File,
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
        let folder = self.folder.clone();
        blocking(move || fs::create_dir_all(&folder).map_err(VmError::io("create", &folder))).await?;
        if let Some(found) = self.find(source).await? {
            return Ok(found);
        }
        let turn = self.turn(source, &context.processes.cancel().clone()).await?;
        if let Some(found) = self.known(source)? {
            turn.unlock().map_err(VmError::io("unlock", self.lock_path(source)))?;
            drop(found);
        } else {
            self.make(source, context).await?;
            drop(turn);
        }
        let found = self.find(source).await?;
        let this = self.clone();
        blocking(move || {
            this.prune();
            Ok(())
        })
        .await?;
        found.ok_or_else(|| {
            VmError::Host("the files of the image were removed while they were made".to_owned())
        })
    }

    fn path(&self, source: &Source) -> PathBuf {
        self.folder.join(source.manifest.digest.hex())
    }

    fn lock_path(&self, source: &Source) -> PathBuf {
        self.folder.join(format!("{}.lock", source.manifest.digest.hex()))
    }

    fn known(&self, source: &Source) -> Result<Option<Facts>, VmError> {
        let path = self.path(source).join("facts.json");
        match fs::read(&path) {
            Ok(text) => {
                Ok(serde_json::from_slice::<Facts>(&text).ok().filter(|facts| facts.version == VERSION))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(VmError::io("read", path)(error)),
        }
    }

    /// The files, if they are there and no other process makes or removes them.
    async fn find(&self, source: &Source) -> Result<Option<CachedImage>, VmError> {
        let (this, source) = (self.clone(), source.clone());
        blocking(move || {
            let path = this.lock_path(&source);
            let lock = File::options().create(true).append(true).open(&path);
            let lock = lock.map_err(VmError::io("create", &path))?;
            if lock.try_lock_shared().is_err() {
                return Ok(None);
            }
            // When it was last used, for pruning.
            let _ = lock.set_modified(SystemTime::now());
            let facts = this.known(&source)?;
            Ok(facts.map(|facts| CachedImage { folder: this.path(&source), facts, source, _used: lock }))
        })
        .await
    }

    /// Waits until no other process uses or makes the files.
    async fn turn(&self, source: &Source, cancel: &CancellationToken) -> Result<File, VmError> {
        let path = self.lock_path(source);
        let lock = tokio::fs::OpenOptions::new().create(true).append(true).open(&path).await;
        let lock = lock.map_err(VmError::io("create", &path))?.into_std().await;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(VmError::io("lock", path)(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            // Another process may have made them, and uses them by now.
            if self.known(source)?.is_some() {
                return Ok(lock);
            }
            tokio::select! {
                () = tokio::time::sleep(TURN_PAUSE) => {}
                () = cancel.cancelled() => return Err(VmError::Cancelled),
            }
        }
    }

    async fn make(&self, source: &Source, context: &Context) -> Result<(), VmError> {
        let new = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&self.folder)
            .map_err(VmError::io("create a folder in", &self.folder))?;
        check_processor(source).await?;
        let root = new.path().join("root.erofs");
        make_erofs(source, &root, new.path(), context).await?;
        let kernel = kernel::extract(&root, new.path(), context).await?;
        let facts = Facts { version: VERSION, kernel };
        let target = self.path(source);
        blocking(move || {
            let path = new.path().join("facts.json");
            let text = serde_json::to_vec_pretty(&facts).unwrap_or_default();
            fs::write(&path, text).map_err(VmError::io("write", &path))?;
            // Files of an earlier version.
            let _ = fs::remove_dir_all(&target);
            fs::rename(new.path(), &target).map_err(VmError::io("write", &target))?;
            let _ = new.keep();
            Ok(())
        })
        .await
    }

    /// Removes the files that were not used for the longest time, beyond the limits, and what killed
    /// processes left.
    fn prune(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut images: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let old = entry.metadata().and_then(|found| found.modified()).ok();
            let age = old.and_then(|time| time.elapsed().ok()).unwrap_or_default();
            if name.starts_with(".new-") {
                if age > MAKING_TIMEOUT {
                    let _ = fs::remove_dir_all(&path);
                }
            } else if !name.contains('.') && path.is_dir() {
                let used = fs::metadata(path.with_extension("lock")).and_then(|lock| lock.modified());
                images.push((used.unwrap_or(SystemTime::UNIX_EPOCH), path.clone(), size_of(&path)));
            }
        }
        images.sort();
        let mut bytes: u64 = images.iter().map(|(_, _, size)| size).sum();
        let mut count = images.len();
        for (_, path, size) in images {
            if count <= MAX_IMAGES && bytes <= MAX_CACHE_BYTES {
                break;
            }
            let lock = File::options().create(true).append(true).open(path.with_extension("lock"));
            // One in use stays.
            if lock.is_ok_and(|lock| lock.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok()) {
                let _ = fs::remove_file(path.with_extension("lock"));
                bytes = bytes.saturating_sub(size);
                count -= 1;
            }
        }
    }
}

impl CachedImage {
    /// The read-only root file system.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.erofs")
    }

    /// The folder with all files.
    pub fn folder(&self) -> &Path {
        &self.folder
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
        self.folder.join("vmlinuz")
    }

    /// The image's own initramfs; none if it has none.
    pub fn initramfs(&self) -> Option<PathBuf> {
        self.facts.kernel.has_initramfs.then(|| self.folder.join("initramfs.img"))
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join("modules.cpio")
    }
}

/// The bytes that the files of an image take on disk.
fn size_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.blocks() * 512)).sum()
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

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VmError> + Send + 'static,
) -> Result<T, VmError> {
    let lost = |error: tokio::task::JoinError| Err(VmError::Host(format!("a task failed: {error}")));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}
