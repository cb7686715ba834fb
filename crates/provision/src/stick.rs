//! An installer for USB sticks: it starts the image from the stick, asks nothing, and installs the image onto
//! the machine's disk, with the image's own kernel and programs.
//!
//! ```text
//! 0        GPT
//! 32 KiB   ISO 9660 without files, and a boot catalogue
//! 1 MiB    EFI system partition: systemd-boot, kernel, the image's own initramfs, one entry
//! …        edgewright-root: the image's files, as an erofs; changes are kept in memory
//! …        edgewright-medium: the image as an OCI layout, and the settings of the device
//! ```

mod iso9660;

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_process::Command;
use edgewright_vm::{CachedImage, Context};

use crate::{ProvisionError, unattended};

const MIB: u64 = 1 << 20;
/// Where the first partition begins.
const START: u64 = MIB;
/// What is free on the EFI system partition; FAT32 has a least size.
const ESP_FREE: u64 = 40 * MIB;
/// How long one tool may take.
const TOOL_TIMEOUT: Duration = Duration::from_mins(15);
/// The type of partitions with Linux file systems.
const LINUX: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
/// Writes the stick into a file.
pub(crate) async fn make(
    image: &CachedImage,
    medium: &Path,
    target: &Path,
    context: &Context,
) -> Result<(), ProvisionError> {
    let folder = tempfile::Builder::new()
        .prefix("stick-")
        .tempdir_in(&context.scratch)
        .map_err(ProvisionError::io("create a folder in", &context.scratch))?;
    let root = image.root();
    let files = BootFiles::collect(image, folder.path(), context).await?;
    let parts = Parts {
        esp: (files.bytes + ESP_FREE).next_multiple_of(MIB),
        root: size(&root).await?.next_multiple_of(MIB),
        medium: size(medium).await?.next_multiple_of(MIB),
    };
    let (path, length) = (target.to_owned(), parts.length());
    blocking(target, move || File::options().write(true).open(path)?.set_len(length)).await?;
    let id = partition_id(image);
    let sfdisk = context.tools.command("sfdisk").args(["--quiet", "--no-reread", "--no-tell-kernel"]);
    run(sfdisk.arg(target).stdin_bytes(parts.table(&id)), "partition the stick", context).await?;
    files.write(target, parts.esp, &id, context).await?;
    let (path, medium) = (target.to_owned(), medium.to_owned());
    blocking(target, move || {
        let mut stick = File::options().write(true).open(path)?;
        stick.seek(SeekFrom::Start(iso9660::FIRST * iso9660::SECTOR))?;
        stick.write_all(&iso9660::sectors(parts.length(), START))?;
        copy(&root, &mut stick, parts.root_start())?;
        copy(&medium, &mut stick, parts.medium_start())
    })
    .await
}

/// Sizes of the partitions.
#[derive(Debug, Clone, Copy)]
struct Parts {
    esp: u64,
    root: u64,
    medium: u64,
}

impl Parts {
    const fn root_start(self) -> u64 {
        START + self.esp
    }

    const fn medium_start(self) -> u64 {
        self.root_start() + self.root
    }

    /// The second partition table is at the end.
    const fn length(self) -> u64 {
        self.medium_start() + self.medium + MIB
    }

    fn table(self, id: &str) -> String {
        let part = |start: u64, bytes: u64| format!("start={}, size={}", start / 512, bytes / 512);
        format!(
            "label: gpt\n{}, type=U, name=edgewright-esp\n{}, type={LINUX}, name=edgewright-root, uuid={id}\n\
             {}, type={LINUX}, name=edgewright-medium\n",
            part(START, self.esp),
            part(self.root_start(), self.root),
            part(self.medium_start(), self.medium),
        )
    }
}

/// The identity of the partition with the root: of the image, so that the same image gives the same stick.
fn partition_id(image: &CachedImage) -> String {
    let digest = Digest::of(format!("edgewright installer {}", image.digest()));
    let hex = digest.hex();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}

/// What the EFI system partition holds.
#[derive(Debug)]
struct BootFiles {
    folder: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
    loader: PathBuf,
    arguments: Vec<String>,
    bytes: u64,
}

impl BootFiles {
    async fn collect(image: &CachedImage, folder: &Path, context: &Context) -> Result<Self, ProvisionError> {
        let kernel = image.vmlinuz();
        let initramfs = unattended::initramfs(image)?;
        let loader = image.boot_loader(folder, context).await?;
        let bytes = size(&kernel).await? + size(&initramfs).await? + size(&loader).await?;
        let arguments = image.facts.kernel.arguments.clone();
        Ok(Self { folder: folder.to_owned(), kernel, initramfs, loader, arguments, bytes })
    }

    /// The entry of systemd-boot.
    fn entry(&self, id: &str) -> String {
        let arguments = unattended::arguments(&self.arguments, &format!("PARTUUID={id}"));
        format!(
            "title Install\nlinux /edgewright/vmlinuz\ninitrd /edgewright/initramfs.img\noptions {arguments}\n"
        )
    }

    /// Writes the partition, without a mount.
    async fn write(
        &self,
        stick: &Path,
        bytes: u64,
        id: &str,
        context: &Context,
    ) -> Result<(), ProvisionError> {
        const ACTION: &str = "write the EFI system partition";
        let place = format!("{}@@{START}", stick.display());
        let format = context.tools.command("mformat").args(["-i", &place, "-F", "-v", "EFI", "-T"]);
        run(format.arg((bytes / 512).to_string()).arg("::"), ACTION, context).await?;
        let folders = ["::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries", "::/edgewright"];
        run(context.tools.command("mmd").args(["-i", &place]).args(folders), ACTION, context).await?;
        let (settings, entry) = (self.folder.join("loader.conf"), self.folder.join("install.conf"));
        for (path, text) in [(&settings, "timeout 0\neditor no\n".to_owned()), (&entry, self.entry(id))] {
            tokio::fs::write(path, text).await.map_err(ProvisionError::io("write", path))?;
        }
        for (from, to) in [
            (&self.kernel, "edgewright/vmlinuz"),
            (&self.initramfs, "edgewright/initramfs.img"),
            (&self.loader, "EFI/BOOT/BOOTX64.EFI"),
            (&settings, "loader/loader.conf"),
            (&entry, "loader/entries/install.conf"),
        ] {
            let copy = context.tools.command("mcopy").args(["-i", &place, "-o"]);
            run(copy.arg(from).arg(format!("::/{to}")), ACTION, context).await?;
        }
        Ok(())
    }
}

async fn size(path: &Path) -> Result<u64, ProvisionError> {
    let found = tokio::fs::metadata(path).await;
    found.map(|found| found.len()).map_err(ProvisionError::io("read", path))
}

fn copy(from: &Path, to: &mut File, at: u64) -> io::Result<()> {
    to.seek(SeekFrom::Start(at))?;
    io::copy(&mut File::open(from)?, to).map(drop)
}

async fn run(command: Command, action: &'static str, context: &Context) -> Result<(), ProvisionError> {
    let command = command.context(&context.processes).deadline(TOOL_TIMEOUT);
    command.run().await.map(drop).map_err(|source| ProvisionError::Command { action, source })
}

async fn blocking(
    stick: &Path,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), ProvisionError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| ProvisionError::Cancelled)?;
    done.map_err(ProvisionError::io("write", stick))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other() {
        let parts = Parts { esp: 64 * MIB, root: 300 * MIB, medium: 200 * MIB };
        assert_eq!(parts.length(), 566 * MIB);
        let table = parts.table("1-2");
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with("start=2048, size=131072, type=U"), "{table}");
        assert!(
            lines[2].starts_with("start=133120, size=614400,") && lines[2].ends_with("uuid=1-2"),
            "{table}"
        );
        assert!(lines[3].starts_with("start=747520, size=409600,"), "{table}");
    }
}
