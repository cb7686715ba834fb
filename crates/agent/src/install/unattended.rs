//! An installation that asks nothing: from the stick of `edgewright disk --format iso`, onto the machine's
//! only disk, or onto the one that the stick names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::reference::ImageReference;
use edgewright_process::Command;
use rustix::mount::{MountFlags, UnmountFlags};
use serde::Deserialize;

use super::{DeviceSettings, InstallError, Order};

/// The stick's partition with image and settings.
const MEDIUM: &str = "/dev/disk/by-partlabel/edgewright-medium";
const MOUNT: &str = "/run/edgewright/medium";
/// What the stick has beside the layout.
const SETTINGS: &str = "installer.json";
/// Bytes of the settings.
const MAX_INSTALLER_BYTES: u64 = 32 << 20;
/// How long the stick's partition and the disk may take to appear.
const APPEAR_TIMEOUT: Duration = Duration::from_mins(2);
/// How often they are looked for.
const PAUSE: Duration = Duration::from_secs(1);
/// How long further disks may come after the first one.
const SETTLE_PAUSE: Duration = Duration::from_secs(5);
/// The kernel counts in sectors of this size.
const SECTOR: u64 = 512;
/// A smaller disk is none to install onto: a card reader, or firmware.
const MIN_DISK_BYTES: u64 = 1 << 30;
/// Devices that are no disks of the machine.
const NO_DISKS: [&str; 9] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "mtdblock", "nbd"];

/// The settings on the stick.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    reference: ImageReference,
    #[serde(default)]
    disk: Option<PathBuf>,
    device: DeviceSettings,
}

/// The stick, mounted. It is unmounted when the value is dropped.
#[derive(Debug)]
pub struct Medium(());

impl Drop for Medium {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(MOUNT, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
    }
}

/// What the stick orders.
///
/// # Errors
/// There is no stick, its settings are invalid, or the disk is not clear.
pub async fn order() -> Result<(Order, Medium), InstallError> {
    if let Some(settings) = crate::blocking::blocking(|| mounted().transpose()).await?? {
        // The initramfs of an installer from the network has mounted it.
        return finish(settings, Medium(()), Path::new("/nonexistent")).await;
    }
    let device = appears(find_medium).await?.ok_or_else(|| InstallError::Disk {
        disk: MEDIUM.into(),
        problem: "the partition of the installer does not appear".to_owned(),
    })?;
    let medium = crate::blocking::blocking({
        let device = device.clone();
        move || mount(&device)
    })
    .await??;
    let settings = crate::blocking::blocking(|| read(&Path::new(MOUNT).join(SETTINGS))).await??;
    finish(settings, medium, &device).await
}

/// The order, once the disk is known.
async fn finish(settings: Settings, medium: Medium, device: &Path) -> Result<(Order, Medium), InstallError> {
    let disk = match settings.disk {
        Some(disk) => disk,
        None => only(disks(device).await?)?,
    };
    let order = Order { disk, layout: MOUNT.into(), reference: settings.reference, device: settings.device };
    Ok((order, medium))
}

/// The disks, once there is one and all that appear with it are there, too.
async fn disks(medium: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let find = {
        let medium = medium.to_owned();
        move || Some(candidates(Path::new("/sys/block"), &medium)).filter(|disks| !disks.is_empty())
    };
    appears(find.clone()).await?;
    // Drivers look for disks beside each other.
    super::disk::run("wait for devices", Command::new("udevadm").args(["settle", "--timeout=60"])).await?;
    tokio::time::sleep(SETTLE_PAUSE).await;
    Ok(crate::blocking::blocking(find).await?.unwrap_or_default())
}

/// Waits until something is found; none if it is not in time.
async fn appears<T: Send + 'static>(
    find: impl Fn() -> Option<T> + Send + Sync + Clone + 'static,
) -> Result<Option<T>, InstallError> {
    let deadline = tokio::time::Instant::now() + APPEAR_TIMEOUT;
    loop {
        let found = crate::blocking::blocking(find.clone()).await?;
        if found.is_some() || tokio::time::Instant::now() >= deadline {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The device of the stick's partition.
fn find_medium() -> Option<PathBuf> {
    fs::canonicalize(MEDIUM).ok()
}

/// The settings of a medium that is mounted.
fn mounted() -> Option<Result<Settings, InstallError>> {
    let path = Path::new(MOUNT).join(SETTINGS);
    path.is_file().then(|| read(&path))
}

fn mount(device: &Path) -> Result<Medium, InstallError> {
    let mounted = fs::create_dir_all(MOUNT)
        .and_then(|()| Ok(rustix::mount::mount(device, MOUNT, "erofs", MountFlags::RDONLY, c"")?));
    mounted.map_err(InstallError::io(format!("mount {}", device.display())))?;
    Ok(Medium(()))
}

fn read(path: &Path) -> Result<Settings, InstallError> {
    let fault = InstallError::io(format!("read {}", path.display()));
    let read = || {
        let length = fs::metadata(path)?.len();
        if length > MAX_INSTALLER_BYTES {
            return Err(std::io::Error::other("it is too large"));
        }
        serde_json::from_slice(&fs::read(path)?).map_err(std::io::Error::other)
    };
    read().map_err(fault)
}

/// Fixed disks, without the one that `medium` is a partition of.
fn candidates(blocks: &Path, medium: &Path) -> Vec<PathBuf> {
    let partition = medium.file_name().unwrap_or_default();
    let entries = fs::read_dir(blocks).into_iter().flatten().flatten();
    let mut disks: Vec<PathBuf> = entries
        .filter(|entry| {
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            let number = |file: &str| {
                let text = fs::read_to_string(path.join(file)).ok()?;
                text.trim().parse::<u64>().ok()
            };
            !NO_DISKS.iter().any(|start| name.starts_with(start))
                && number("removable") == Some(0)
                && number("ro") == Some(0)
                && number("size").is_some_and(|sectors| sectors >= MIN_DISK_BYTES / SECTOR)
                && !path.join(partition).exists()
        })
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect();
    disks.sort();
    disks
}

/// Everything on the disk is lost: a choice between several is not ours.
fn only(mut disks: Vec<PathBuf>) -> Result<PathBuf, InstallError> {
    match (disks.pop(), disks.len()) {
        (Some(disk), 0) => Ok(disk),
        (None, _) => Err(InstallError::Disk {
            disk: "/dev".into(),
            problem: "this machine has no fixed disk of 1 GiB or more".to_owned(),
        }),
        (Some(last), _) => {
            disks.push(last);
            let names: Vec<_> = disks.iter().map(|disk| disk.display().to_string()).collect();
            let problem = format!(
                "this machine has several ({}): make the installer with --target-disk",
                names.join(", ")
            );
            Err(InstallError::Disk { disk: "/dev".into(), problem })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(blocks: &Path, name: &str, removable: u8, bytes: u64, partitions: &[&str]) {
        let folder = blocks.join(name);
        for partition in partitions {
            fs::create_dir_all(folder.join(partition)).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("removable"), format!("{removable}\n")).unwrap();
        fs::write(folder.join("ro"), "0\n").unwrap();
        fs::write(folder.join("size"), format!("{}\n", bytes / SECTOR)).unwrap();
    }

    #[test]
    fn the_only_fixed_disk_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = folder.path();
        block(blocks, "sda", 0, 8 << 30, &["sda1", "sda3"]);
        block(blocks, "nvme0n1", 0, 64 << 30, &["nvme0n1p1"]);
        block(blocks, "sdb", 1, 64 << 30, &[]);
        block(blocks, "sdc", 0, 4 << 20, &[]);
        block(blocks, "loop0", 0, 64 << 30, &[]);
        block(blocks, "sr0", 0, 64 << 30, &[]);
        let disks = candidates(blocks, Path::new("/dev/sda3"));
        assert_eq!(disks, [Path::new("/dev/nvme0n1")]);
        assert_eq!(only(disks).unwrap(), Path::new("/dev/nvme0n1"));
    }

    #[test]
    fn without_a_clear_disk_nothing_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        block(folder.path(), "vda", 0, 8 << 30, &[]);
        block(folder.path(), "vdb", 0, 8 << 30, &[]);
        let error = only(candidates(folder.path(), Path::new("/dev/sda3"))).unwrap_err().to_string();
        assert!(error.contains("/dev/vda, /dev/vdb") && error.contains("--target-disk"), "{error}");
        assert!(only(Vec::new()).unwrap_err().to_string().contains("no fixed disk"));
    }
}
