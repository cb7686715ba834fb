//! The partitions and file systems of a device.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_process::Command;
use rustix::mount::{MountFlags, UnmountFlags};
use uuid::Uuid;

use super::InstallError;
use crate::durable;

/// The EFI system partition, in MiB: three kernels of 100 MB, with their initramfs.
const ESP_MIB: u64 = 512;
/// The EFI system partition of a disk that is smaller than four GiB.
const SMALL_ESP_MIB: u64 = 200;
/// A smaller disk is an error, in MiB.
const MIN_DISK_MIB: u64 = 1024;
/// How long a partition may take to appear.
const PARTITION_TIMEOUT: Duration = Duration::from_mins(1);
/// How long one program of the installer may take.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(15);
/// How often a new partition is looked for.
const PAUSE: Duration = Duration::from_millis(200);

/// The partitions of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitions {
    /// The device of the EFI system partition.
    pub esp: PathBuf,
    /// Its GPT UUID.
    pub esp_id: String,
    /// The device of the root partition.
    pub root: PathBuf,
    /// Its GPT UUID.
    pub root_id: String,
}

/// Writes a new partition table.
///
/// # Errors
/// It is no disk, it is too small, or it is in use.
pub(super) async fn partition(disk: &Path) -> Result<Partitions, InstallError> {
    let fault = |problem: String| InstallError::Disk { disk: disk.to_owned(), problem };
    let found = tokio::fs::metadata(disk).await.map_err(|e| fault(e.to_string()))?;
    if !found.file_type().is_block_device() {
        return Err(fault("not a block device".to_owned()));
    }
    let size =
        run("read the size of the disk", Command::new("blockdev").arg("--getsize64").arg(disk)).await?;
    let mib = size.trim().parse::<u64>().map_err(|e| fault(e.to_string()))? >> 20;
    if mib < MIN_DISK_MIB {
        return Err(fault(format!("it has {mib} MiB, and {MIN_DISK_MIB} are needed")));
    }
    let [esp_id, root_id] = [Uuid::new_v4(), Uuid::new_v4()].map(|id| id.to_string());
    let script = table(if mib < 4096 { SMALL_ESP_MIB } else { ESP_MIB }, &esp_id, &root_id);
    let sfdisk = Command::new("sfdisk").args(["--wipe", "always", "--wipe-partitions", "always"]).arg(disk);
    run("write the partition table", sfdisk.stdin_bytes(script)).await?;
    let partitions = Partitions { esp: node(disk, 1), esp_id, root: node(disk, 2), root_id };
    wait_for(&partitions.esp).await?;
    wait_for(&partitions.root).await?;
    Ok(partitions)
}

fn table(esp_mib: u64, esp_id: &str, root_id: &str) -> String {
    format!(
        "label: gpt\n\
         size={esp_mib}MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=\"esp\", uuid={esp_id}\n\
         type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=\"root\", uuid={root_id}\n"
    )
}

/// The device node of a partition: `vda1`, but `nvme0n1p1`.
fn node(disk: &Path, number: u32) -> PathBuf {
    let name = disk.as_os_str().to_string_lossy();
    let separator = if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    PathBuf::from(format!("{name}{separator}{number}"))
}

async fn wait_for(path: &Path) -> Result<(), InstallError> {
    let appears = async {
        while !tokio::fs::try_exists(path).await.unwrap_or(false) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PARTITION_TIMEOUT, appears).await.map_err(|_| InstallError::Disk {
        disk: path.to_owned(),
        problem: "the partition does not appear".to_owned(),
    })
}

/// Makes both file systems.
///
/// # Errors
/// A program is missing or fails.
pub(super) async fn make_file_systems(partitions: &Partitions, verity: bool) -> Result<(), InstallError> {
    let fat = Command::new("mkfs.vfat").args(["-F", "32", "-n", "ESP"]).arg(&partitions.esp);
    run("make the file system of the EFI system partition", fat).await?;
    let mut ext4 = Command::new("mkfs.ext4").args(["-q", "-F", "-L", "root"]);
    if verity {
        ext4 = ext4.args(["-O", "verity"]);
    }
    run("make the root file system", ext4.arg(&partitions.root)).await?;
    Ok(())
}

/// Runs a program; its output is text.
pub(super) async fn run(what: &str, command: Command) -> Result<String, InstallError> {
    let output = command.deadline(COMMAND_TIMEOUT).run().await;
    let output = output.map_err(|source| InstallError::Command { what: what.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A mounted root partition. It is unmounted when the value is dropped.
#[derive(Debug)]
pub(super) struct Mounted {
    path: Option<PathBuf>,
}

impl Mounted {
    /// Mounts a partition.
    ///
    /// # Errors
    /// Those of mounting.
    pub(super) fn new(partition: &Path, path: &Path) -> Result<Self, InstallError> {
        let mounted = std::fs::create_dir_all(path)
            .and_then(|()| Ok(rustix::mount::mount(partition, path, "ext4", MountFlags::NOATIME, c"")?));
        mounted.map_err(InstallError::io(format!("mount {}", partition.display())))?;
        Ok(Self { path: Some(path.to_owned()) })
    }

    /// Where it is mounted.
    pub(super) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or_else(|| Path::new("/nonexistent"))
    }

    /// Flushes and unmounts.
    ///
    /// # Errors
    /// Those of the file system: what was written may not be on the disk.
    pub(super) fn unmount(mut self) -> Result<(), InstallError> {
        let Some(path) = self.path.take() else { return Ok(()) };
        durable::sync_all(&path).map_err(InstallError::io("flush the root file system"))?;
        let unmounted = rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW);
        unmounted.map_err(|e| InstallError::io("unmount the root file system")(e.into()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_have_the_kernels_names() {
        assert_eq!(node(Path::new("/dev/vdb"), 1), Path::new("/dev/vdb1"));
        assert_eq!(node(Path::new("/dev/nvme0n1"), 2), Path::new("/dev/nvme0n1p2"));
    }
}
