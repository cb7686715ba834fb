//! Installation by `bootc install to-disk`, for images that carry bootc.

use std::path::{Path, PathBuf};

use edgewright_process::Command;

use super::disk::{Mounted, run};
use super::{InstallError, Order};
use crate::blocking::blocking;
use crate::composefs::etc_merge::Tree;
use crate::updater::Progress;

/// Folders that are searched for a deployment's `/etc`.
const MAX_DEPLOYMENT_FOLDERS: usize = 100;
const PROGRAM: &str = "/usr/bin/bootc";

/// Whether the running system has bootc.
pub(super) fn is_present() -> bool {
    Path::new(PROGRAM).is_file()
}

/// Installs, then writes the device's files into the deployment's `/etc`.
pub(super) async fn install(order: &Order, progress: &Progress) -> Result<(), InstallError> {
    progress.step("running bootc install", 0, None);
    run("install by bootc", command(order)).await?;
    let partitions = Command::new("lsblk").args(["-nrpo", "PATH,FSTYPE"]).arg(&order.disk);
    let partitions = run("list the partitions of the disk", partitions).await?;
    let root = root_partition(&partitions).ok_or_else(|| InstallError::Disk {
        disk: order.disk.clone(),
        problem: "it has no root file system after `bootc install`".to_owned(),
    })?;
    progress.step("writing the device's settings", 0, None);
    let (settings, disk) = (order.device.clone(), order.disk.clone());
    blocking(move || {
        let mounted = Mounted::new(&root, Path::new(super::ROOT_MOUNT))?;
        let etc = etc_folder(mounted.path()).ok_or_else(|| InstallError::Disk {
            disk,
            problem: "no deployment is found after `bootc install`".to_owned(),
        })?;
        settings.write(&Tree::new(), &etc)?;
        mounted.unmount()
    })
    .await?
}

fn command(order: &Order) -> Command {
    let mut command = Command::new(PROGRAM)
        .args(["install", "to-disk", "--generic-image", "--wipe", "--filesystem", "ext4"])
        .args(["--skip-fetch-check", "--source-imgref"])
        .arg(format!("oci:{}", order.layout.display()))
        .arg("--target-imgref")
        .arg(order.reference.to_string());
    for argument in &order.device.kernel_arguments {
        command = command.arg("--karg").arg(argument);
    }
    command.arg(&order.disk)
}

/// The last partition with a Linux file system.
fn root_partition(lsblk: &str) -> Option<PathBuf> {
    let mut words = lsblk.lines().filter_map(|line| line.split_once(' '));
    let found = words.rfind(|(_, kind)| matches!(kind.trim(), "ext4" | "xfs" | "btrfs"))?;
    Some(PathBuf::from(found.0))
}

/// `/etc` of the only deployment: of ostree, or an upper of the composefs backend.
fn etc_folder(root: &Path) -> Option<PathBuf> {
    let deployments = [("ostree/deploy/default/deploy", "etc"), ("state/deploy", "etc")];
    deployments.iter().find_map(|(folder, etc)| {
        let entries = std::fs::read_dir(root.join(folder)).ok()?;
        let mut found = entries.take(MAX_DEPLOYMENT_FOLDERS).filter_map(Result::ok);
        let etc = found.find_map(|entry| Some(entry.path().join(etc)).filter(|path| path.is_dir()))?;
        let upper = etc.join("upper");
        Some(if upper.is_dir() { upper } else { etc })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_partition_is_the_last_of_linux() {
        let text = "/dev/vdb \n/dev/vdb1 \n/dev/vdb2 vfat\n/dev/vdb3 ext4\n";
        assert_eq!(root_partition(text), Some("/dev/vdb3".into()));
        assert_eq!(root_partition("/dev/vdb \n"), None);
    }

    #[test]
    fn the_deployment_is_found_in_both_layouts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(etc_folder(root.path()), None);
        let composefs = root.path().join("state/deploy/abc/etc");
        std::fs::create_dir_all(&composefs).unwrap();
        assert_eq!(etc_folder(root.path()), Some(composefs.clone()));
        std::fs::create_dir(composefs.join("upper")).unwrap();
        assert_eq!(etc_folder(root.path()), Some(composefs.join("upper")));
        let ostree = root.path().join("ostree/deploy/default/deploy/abc.0");
        std::fs::create_dir_all(ostree.join("etc")).unwrap();
        std::fs::write(ostree.with_extension("0.origin"), "").unwrap();
        assert_eq!(etc_folder(root.path()), Some(ostree.join("etc")));
    }
}
