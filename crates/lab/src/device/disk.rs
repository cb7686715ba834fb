//! Installed disks: made once per digest by the image's own installer, shared by all lanes of a work folder,
//! bounded. A lane writes to a disk of its own over it.
//!
//! ```text
//! FOLDER/HEX/disk.raw   the disk; HEX is the digest of all that it is made from
//! FOLDER/HEX.lock       held while it is made (exclusive) or used (shared); its time is that of the last use
//! FOLDER/.new-*         disks that are being made, with a lock that ends with their process
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_model::reference::Reference;
use edgewright_oci::image;
use edgewright_provision::{DiskOrder, Format, ProvisionError, Workshop, make_disk};
use edgewright_vm::{Acceleration, Source};

use super::settings;
use crate::lane::{Events, LabContext};
use crate::machine::LaneFault;
use crate::vm::machine::vm_context;

/// The number of disks that are kept.
const MAX_DISKS: usize = 6;
/// The size of all of them, in bytes.
const MAX_DISK_CACHE_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// In the folder of a disk that is being made: locked while its process lives.
const MAKER: &str = "maker";
/// The age at which such a folder without that file was left by a killed process.
const ABANDONED_AFTER: Duration = Duration::from_mins(10);
/// The pause between two attempts to lock.
const TURN_PAUSE: Duration = Duration::from_millis(200);
/// The smallest disk of a device. Files are sparse.
const LEAST_BYTES: u64 = 6 << 30;
/// What a disk has for each byte of an image's compressed layers: two images, what is downloaded, and room.
const BYTES_PER_LAYER_BYTE: u64 = 10;
const GIB: u64 = 1 << 30;
/// How many lines of a hint a message has.
const HINT_LINES: usize = 3;

/// A disk. It stays as long as this lives.
#[derive(Debug)]
pub(super) struct InstalledDisk {
    pub(super) path: PathBuf,
    _used: File,
}

/// A disk that is asked for.
struct Wanted<'a> {
    image: &'a ManifestRef,
    size: u64,
    key: String,
}

/// The installed disks of a work folder.
#[derive(Debug)]
pub(super) struct Disks {
    folder: PathBuf,
}

impl Disks {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The disk with an image, made if it is not there. A process that makes the same is waited for.
    pub(super) async fn open(
        &self,
        image: &ManifestRef,
        context: &LabContext,
        acceleration: &mut Acceleration,
        events: Events<'_>,
    ) -> Result<InstalledDisk, LaneFault> {
        let size = size(image, context).await?;
        let wanted = Wanted { image, size, key: key(&image.digest, size) };
        let key = wanted.key.clone();
        let folder = self.folder.clone();
        blocking(move || {
            fs::create_dir_all(&folder)?;
            remove_abandoned(&folder);
            Ok(())
        })
        .await?;
        if let Some(found) = self.find(&key).await? {
            return Ok(found);
        }
        let turn = self.turn(&key, context).await?;
        if !self.is_made(&key).await {
            let folder = self.folder.clone();
            blocking(move || {
                prune(&folder);
                Ok(())
            })
            .await?;
            self.make(&wanted, context, acceleration, events).await?;
        }
        drop(turn);
        let gone = || LaneFault::of_host("the installed disk was removed while it was made".to_owned());
        self.find(&key).await?.ok_or_else(gone)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key).join("disk.raw")
    }

    async fn is_made(&self, key: &str) -> bool {
        tokio::fs::try_exists(self.path(key)).await.unwrap_or(false)
    }

    /// The disk, if it is there and no process makes or removes it.
    async fn find(&self, key: &str) -> Result<Option<InstalledDisk>, LaneFault> {
        let (path, lock) = (self.path(key), self.folder.join(format!("{key}.lock")));
        blocking(move || {
            let lock = File::options().create(true).append(true).open(&lock)?;
            if lock.try_lock_shared().is_err() || !path.is_file() {
                return Ok(None);
            }
            // For pruning. Without it the disk only seems older.
            let _ = lock.set_modified(SystemTime::now());
            Ok(Some(InstalledDisk { path, _used: lock }))
        })
        .await
    }

    /// Waits until no other process makes the disk.
    async fn turn(&self, key: &str, context: &LabContext) -> Result<File, LaneFault> {
        let path = self.folder.join(format!("{key}.lock"));
        let failed =
            |error: std::io::Error| LaneFault::of_host(format!("cannot lock {}: {error}", path.display()));
        let lock = tokio::fs::OpenOptions::new().create(true).append(true).open(&path).await;
        let lock = lock.map_err(failed)?.into_std().await;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                // Made and used by now.
                Err(TryLockError::WouldBlock) if self.is_made(key).await => return Ok(lock),
                Err(TryLockError::WouldBlock) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(TURN_PAUSE) => {}
                () = context.processes.cancel().cancelled() => {
                    return Err(LaneFault::of_host("the job was cancelled".to_owned()));
                }
            }
        }
    }

    async fn make(
        &self,
        wanted: &Wanted<'_>,
        context: &LabContext,
        acceleration: &mut Acceleration,
        events: Events<'_>,
    ) -> Result<(), LaneFault> {
        let Wanted { image, size, key } = wanted;
        let folder = self.folder.clone();
        let (new, maker) = blocking(move || {
            let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&folder)?;
            let maker = File::create(new.path().join(MAKER))?;
            maker.lock()?;
            Ok((new, maker))
        })
        .await?;
        let order = DiskOrder {
            source: Source { client: context.client.clone(), manifest: (*image).clone() },
            reference: settings::reference(),
            size: *size,
            format: Format::Raw,
            target_disk: None,
            output: new.path().join("disk.raw"),
            device: settings::settings(),
        };
        let own = vm_context(context);
        let cache = context.vm.cache();
        let workshop = Workshop { context: &own, cache: &cache, programs: context.vm.programs };
        let short = image.digest.short();
        let progress = |step: &str| events(JobEvent::Log { line: format!("disk of {short}: {step}") });
        make_disk(&order, &workshop, acceleration, &progress).await.map_err(|error| fault(&error))?;
        let target = self.folder.join(key);
        blocking(move || {
            fs::remove_file(new.path().join(MAKER))?;
            if let Err(error) = fs::rename(new.path(), &target) {
                // Another process made the same, whose lock was removed meanwhile.
                return if target.join("disk.raw").is_file() { Ok(()) } else { Err(error) };
            }
            drop(maker);
            let _ = new.keep();
            Ok(())
        })
        .await
    }
}

/// The name of a disk: of all that it is made from.
fn key(image: &Digest, size: u64) -> String {
    let version = settings::VERSION;
    let device = Digest::of(settings::settings());
    Digest::of(format!("{version}\n{image}\n{size}\n{device}\n")).hex().to_owned()
}

/// The size of the disk for an image.
async fn size(image: &ManifestRef, context: &LabContext) -> Result<u64, LaneFault> {
    let reference = Reference::Digest(image.digest.clone());
    let manifest = context.client.pull_manifest(&image.repository, &reference).await;
    let manifest = manifest
        .map_err(|error| LaneFault::of_host(format!("cannot pull {}: {}", image.digest, Chain(&error))))?;
    let layers = image::layers(&manifest.bytes).map_err(|error| LaneFault::of_image(error.to_string()))?;
    let compressed = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    Ok(rounded(compressed))
}

/// The size for so many bytes of compressed layers.
fn rounded(compressed: u64) -> u64 {
    let wanted = compressed.saturating_mul(BYTES_PER_LAYER_BYTE).saturating_add(2 * GIB);
    let wanted = wanted.clamp(LEAST_BYTES, edgewright_provision::order::MAX_DISK_BYTES);
    wanted.div_ceil(GIB) * GIB
}

/// Removes what killed processes left. Blocking.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(".new-") {
            continue;
        }
        let path = entry.path();
        let is_abandoned = match File::options().append(true).open(path.join(MAKER)) {
            Ok(maker) => maker.try_lock().is_ok(),
            Err(_) => {
                modified(&path).and_then(|time| time.elapsed().ok()).is_some_and(|age| age > ABANDONED_AFTER)
            }
        };
        if is_abandoned {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

/// Removes the disks that were not used for the longest time, beyond the limits less the one that is about to
/// be made. Blocking.
fn prune(folder: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let mut disks: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().contains('.') {
            let bytes = fs::metadata(path.join("disk.raw")).map_or(0, |disk| disk.blocks() * 512);
            let used = modified(&path.with_extension("lock")).unwrap_or(SystemTime::UNIX_EPOCH);
            disks.push((used, path, bytes));
        }
    }
    disks.sort();
    let (mut count, mut bytes) = (disks.len(), disks.iter().map(|(_, _, bytes)| bytes).sum::<u64>());
    for (_, path, size) in disks {
        if count < MAX_DISKS && bytes <= MAX_DISK_CACHE_BYTES {
            break;
        }
        let lock = File::options().create(true).append(true).open(path.with_extension("lock"));
        // One in use stays.
        if lock.is_ok_and(|lock| lock.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok()) {
            let _ = fs::remove_file(path.with_extension("lock"));
            (count, bytes) = (count - 1, bytes.saturating_sub(size));
        }
    }
}

fn fault(error: &ProvisionError) -> LaneFault {
    let kind = match error.class() {
        edgewright_model::error::ErrorClass::UserFault => FailureKind::Image,
        _ => FailureKind::Infrastructure,
    };
    let hint = error.hint().map(|hint| format!(" ({})", end_of(&hint))).unwrap_or_default();
    LaneFault { kind, message: format!("cannot install the image: {}{hint}", Chain(error)) }
}

/// The last lines of a hint, which may be a whole console, on one line.
fn end_of(hint: &str) -> String {
    let lines: Vec<&str> = hint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(HINT_LINES)..].join(" / ")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, LaneFault> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).flatten();
    done.map_err(|error| LaneFault::of_host(format!("cannot keep an installed disk: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn the_disk_that_was_not_used_for_longest_goes_unless_it_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MAX_DISKS {
            let path = folder.path().join(format!("disk{number}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("disk.raw"), "x").unwrap();
            let lock = File::create(path.with_extension("lock")).unwrap();
            lock.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64)).unwrap();
        }
        let disks = Disks::new(folder.path().to_owned());
        // The oldest is used again, and in use.
        let used = disks.find("disk0").await.unwrap().unwrap();
        prune(folder.path());
        let left = kept(folder.path());
        assert_eq!(left.len(), MAX_DISKS - 1);
        assert!(left.contains(&"disk0".to_owned()) && !left.contains(&"disk1".to_owned()), "{left:?}");
        assert!(used.path.is_file());
        assert!(disks.find("disk1").await.unwrap().is_none());
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_being_made_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in [".new-killed", ".new-made", ".new-fresh"] {
            fs::create_dir(path(name)).unwrap();
        }
        File::create(path(".new-killed").join(MAKER)).unwrap();
        let made = File::create(path(".new-made").join(MAKER)).unwrap();
        made.lock().unwrap();
        remove_abandoned(folder.path());
        assert_eq!(kept(folder.path()), [".new-fresh", ".new-made"]);
        drop(made);
    }

    #[test]
    fn a_disk_has_room_for_two_images_and_a_name_of_all_that_it_is_made_from() {
        assert_eq!(rounded(0), LEAST_BYTES);
        assert_eq!(rounded(GIB), 12 * GIB);
        assert_eq!(rounded(u64::MAX), edgewright_provision::order::MAX_DISK_BYTES);
        let one = key(&Digest::of("one"), GIB);
        assert_ne!(one, key(&Digest::of("two"), GIB));
        assert_ne!(one, key(&Digest::of("one"), 2 * GIB));
    }
}
