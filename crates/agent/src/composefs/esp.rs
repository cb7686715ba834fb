//! The EFI system partition: kernels shared by their hash, and boot loader entries.
//!
//! FAT has no journal, so it is mounted only while something is written, and the order counts: the kernel is
//! on the disk before an entry names it, and an entry is gone before its kernel is. A name is on the disk
//! before its content is found under it, also after a rename: an entry is therefore written beside the one
//! that it replaces, and a boot loader and [`Esp::entries`] skip one that is not complete.
//!
//! ```text
//! EFI/BOOT/BOOTX64.EFI            systemd-boot
//! loader/loader.conf
//! loader/entries/edgewright-7.conf
//! edgewright/HASH.linux           kernels and initramfs images, by their SHA-256
//! edgewright/HASH.initrd
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgewright_model::digest::{Algorithm, Hasher};
use rustix::mount::{MountFlags, UnmountFlags};

use super::entry::{self, EntryName, EntryText};
use crate::durable;

/// Entries of the boot loader that are read; a device has two or three.
pub const MAX_BOOT_ENTRIES: usize = 1000;
/// Bytes of an entry that are read; ours have some hundred.
const MAX_ENTRY_BYTES: u64 = 1 << 16;
/// Attempts to mount the ESP while another process has it mounted in another way.
pub const MOUNT_ATTEMPTS_LIMIT: u32 = 100;
/// How often mounting the EFI system partition is tried again.
const MOUNT_PAUSE: Duration = Duration::from_millis(100);
const MOUNT_POINTS: &str = "/run/edgewright/esp";
static MOUNTS: AtomicU64 = AtomicU64::new(0);
const KERNELS: &str = "edgewright";
const ENTRIES: &str = "loader/entries";

/// What the ESP is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading: nothing is written, not even the mark of a mounted file system.
    Read,
    /// Writing.
    Write,
}

/// Where the ESP is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EspSource {
    /// A partition that is mounted for each use.
    Partition(PathBuf),
    /// A folder: an ESP that is mounted already, or that of a test.
    Folder(PathBuf),
}

/// An ESP that can be used now. It is unmounted when the value is dropped.
#[derive(Debug)]
pub struct Esp {
    root: PathBuf,
    is_mounted: bool,
}

/// The two files that a kernel needs on the ESP, by their names below the folder of kernels.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BootFiles {
    /// The kernel: `HASH.linux`.
    pub linux: String,
    /// The initramfs: `HASH.initrd`.
    pub initrd: String,
}

impl BootFiles {
    /// A file's path from the root of the ESP, for an entry.
    pub fn path(name: &str) -> String {
        format!("/{KERNELS}/{name}")
    }
}

impl Esp {
    /// Mounts the ESP, if it is a partition.
    ///
    /// # Errors
    /// Those of mounting.
    pub fn open(source: &EspSource, access: Access) -> io::Result<Self> {
        let device = match source {
            EspSource::Folder(root) => return Ok(Self { root: root.clone(), is_mounted: false }),
            EspSource::Partition(device) => device,
        };
        remove_stale_mounts(Path::new(MOUNT_POINTS))?;
        let root = Path::new(MOUNT_POINTS).join(format!(
            "{}-{}",
            std::process::id(),
            MOUNTS.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&root)?;
        mount(device, &root, access)?;
        Ok(Self { root, is_mounted: true })
    }

    /// The folder that shows it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Our entries that can be booted. A power cut leaves others, which the boot loader skips.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn entries(&self) -> io::Result<Vec<EntryName>> {
        let (mut complete, _) = self.all_entries()?;
        complete.sort_by(EntryName::boot_order);
        Ok(complete)
    }

    /// Our entries that can be read: those that are complete, and the others.
    fn all_entries(&self) -> io::Result<(Vec<EntryName>, Vec<EntryName>)> {
        let (mut complete, mut others) = (Vec::new(), Vec::new());
        let names = list(&self.root.join(ENTRIES))?;
        for name in names.iter().filter_map(|name| EntryName::parse(name)).take(MAX_BOOT_ENTRIES) {
            match self.read_entry(name) {
                Ok(text) if entry::is_complete(&text) => complete.push(name),
                Ok(_) => others.push(name),
                // It may be readable the next time: no reason to remove it.
                Err(error) => tracing::warn!(entry = %name, %error, "the boot entry cannot be read"),
            }
        }
        Ok((complete, others))
    }

    /// Removes our entries that are not complete.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_incomplete_entries(&self) -> io::Result<()> {
        for name in self.all_entries()?.1 {
            tracing::warn!(entry = %name, "the boot entry was not complete; removed it");
            self.remove_entry(name)?;
        }
        Ok(())
    }

    /// Writes an entry. Its kernel must be there already.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_entry(&self, name: EntryName, text: &EntryText<'_>) -> io::Result<()> {
        fs::create_dir_all(self.root.join(ENTRIES))?;
        durable::sync_all(&self.root)?;
        durable::write(&self.entry(name), text.to_string().as_bytes(), 0o600)?;
        durable::sync_all(&self.root)
    }

    /// Renames an entry: another counter, or none. The old name is removed once the new one is on the disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn rename_entry(&self, from: EntryName, to: EntryName) -> io::Result<()> {
        if from == to {
            return durable::sync_all(&self.root);
        }
        durable::write(&self.entry(to), &self.read_entry(from)?, 0o600)?;
        durable::sync_all(&self.root)?;
        self.remove_entry(from)
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_entry(&self, name: EntryName) -> io::Result<()> {
        durable::remove(&self.entry(name))?;
        durable::sync_all(&self.root)
    }

    /// Free bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn free(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn read_entry(&self, name: EntryName) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(self.entry(name))?.take(MAX_ENTRY_BYTES).read_to_end(&mut text)?;
        Ok(text)
    }

    fn entry(&self, name: EntryName) -> PathBuf {
        self.root.join(ENTRIES).join(name.to_string())
    }

    /// Copies a kernel or initramfs, unless the same bytes are there. Returns its name.
    ///
    /// # Errors
    /// Those of the file system, such as a full ESP.
    pub fn add_file(
        &self,
        source: &mut (impl io::Read + io::Seek + ?Sized),
        extension: &str,
    ) -> io::Result<String> {
        let name = format!("{}.{extension}", hash(source)?);
        let folder = self.root.join(KERNELS);
        fs::create_dir_all(&folder)?;
        let target = folder.join(&name);
        // Compared in full: a power cut may leave a file of the right name and size.
        if let Ok(mut there) = File::open(&target)
            && format!("{}.{extension}", hash(&mut there)?) == name
        {
            return Ok(name);
        }
        source.seek(io::SeekFrom::Start(0))?;
        let temporary = folder.join(format!("{extension}.tmp"));
        let copied = copy(source, &temporary);
        if copied.is_err() {
            durable::remove(&temporary)?;
        }
        copied?;
        durable::rename(&temporary, &target)?;
        durable::sync_all(&self.root)?;
        Ok(name)
    }

    /// Removes kernels that no deployment uses. Returns their bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_files_except(&self, used: &BTreeSet<String>) -> io::Result<u64> {
        let folder = self.root.join(KERNELS);
        let mut freed = 0;
        for name in list(&folder)?.iter().filter(|name| !used.contains(*name)) {
            let path = folder.join(name);
            freed += fs::metadata(&path)?.len();
            durable::remove(&path)?;
        }
        durable::sync_all(&self.root)?;
        Ok(freed)
    }
}

impl Drop for Esp {
    fn drop(&mut self) {
        if self.is_mounted {
            unmount(&self.root);
        }
    }
}

/// A file system cannot be mounted both read-only and writable: a reader then takes the writable one, and a
/// writer waits for readers, which are short.
fn mount(device: &Path, root: &Path, access: Access) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let attempt = |flags| rustix::mount::mount(device, root, "vfat", flags, c"umask=0077,errors=remount-ro");
    let first = attempt(match access {
        Access::Read => flags | MountFlags::RDONLY,
        Access::Write => flags,
    });
    let mut outcome = first;
    for _ in 0..MOUNT_ATTEMPTS_LIMIT {
        if outcome != Err(rustix::io::Errno::BUSY) {
            break;
        }
        std::thread::sleep(MOUNT_PAUSE);
        outcome = attempt(flags);
    }
    Ok(outcome?)
}

/// Unmounts and flushes.
fn unmount(root: &Path) {
    if rustix::mount::unmount(root, UnmountFlags::NOFOLLOW).is_err() {
        let _ = rustix::mount::unmount(root, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
    }
    let _ = fs::remove_dir(root);
}

/// A process that was killed leaves its mount.
fn remove_stale_mounts(folder: &Path) -> io::Result<()> {
    for name in list(folder)? {
        let process = name.split('-').next().unwrap_or_default();
        if !process.is_empty() && !Path::new("/proc").join(process).exists() {
            unmount(&folder.join(name));
        }
    }
    Ok(())
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

fn copy(source: &mut (impl io::Read + ?Sized), to: &Path) -> io::Result<()> {
    let mut file = File::create(to)?;
    io::copy(source, &mut file)?;
    file.flush()?;
    file.sync_all()
}

/// The SHA-256 in hexadecimal digits: half of it is enough for a name.
fn hash(source: &mut (impl io::Read + io::Seek + ?Sized)) -> io::Result<String> {
    source.seek(io::SeekFrom::Start(0))?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut block = vec![0; 1 << 16];
    loop {
        match source.read(&mut block)? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    Ok(hasher.finish().hex()[..32].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composefs::entry::DeploymentNumber;

    fn esp() -> (tempfile::TempDir, Esp) {
        let folder = tempfile::tempdir().unwrap();
        let esp = Esp::open(&EspSource::Folder(folder.path().to_path_buf()), Access::Write).unwrap();
        (folder, esp)
    }

    #[test]
    fn a_kernel_is_stored_once_and_repaired() {
        let (folder, esp) = esp();
        let name = esp.add_file(&mut io::Cursor::new(b"kernel"), "linux").unwrap();
        assert_eq!(esp.add_file(&mut io::Cursor::new(b"kernel"), "linux").unwrap(), name);
        let path = folder.path().join(KERNELS).join(&name);
        fs::write(&path, b"kernfl").unwrap();
        esp.add_file(&mut io::Cursor::new(b"kernel"), "linux").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"kernel");
        let used = BTreeSet::from([name]);
        let other = esp.add_file(&mut io::Cursor::new(b"other kernel"), "linux").unwrap();
        assert_eq!(esp.remove_files_except(&used).unwrap(), 12);
        assert!(path.exists() && !folder.path().join(KERNELS).join(other).exists());
    }

    #[test]
    fn entries_are_those_of_ours_in_the_order_of_the_boot_loader() {
        let (folder, esp) = esp();
        assert_eq!(esp.entries().unwrap(), vec![]);
        let good = EntryName::good(DeploymentNumber(2));
        let tried = EntryName::to_try(DeploymentNumber(3), 1);
        let options = ["quiet".to_owned()];
        for name in [good, tried] {
            let text =
                EntryText { title: "t", number: name.number, linux: "/l", initrd: "/i", options: &options };
            esp.write_entry(name, &text).unwrap();
        }
        fs::write(folder.path().join(ENTRIES).join("other.conf"), b"").unwrap();
        // As FAT shows a new name after a power cut.
        let empty = EntryName::good(tried.number);
        fs::write(esp.entry(empty), b"").unwrap();
        let unreadable = EntryName::good(DeploymentNumber(9));
        fs::create_dir(esp.entry(unreadable)).unwrap();
        assert_eq!(esp.entries().unwrap(), vec![tried, good]);
        esp.remove_incomplete_entries().unwrap();
        assert!(!esp.entry(empty).exists() && esp.entry(unreadable).exists());
        esp.rename_entry(tried, tried.bad()).unwrap();
        assert_eq!(esp.entries().unwrap(), vec![good, tried.bad()]);
        esp.remove_entry(good).unwrap();
        esp.remove_entry(good).unwrap();
        assert_eq!(esp.entries().unwrap(), vec![tried.bad()]);
    }
}
