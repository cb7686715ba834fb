//! The disk of the UEFI profile: GPT, an EFI system partition with boot loader, kernel and initramfs, and the
//! root on ext4. It is made once per digest without loop devices, and its machines discard what they write.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_guest::{ENTRY, INITRD_FOLDER, ORDER_ENTRY};
use edgewright_model::Digest;

use crate::config::kernel_arguments;
use crate::folders::blocking;
use crate::image::{CachedImage, directories, flatten, pull_layers};
use crate::machine::{Programs, programs_archive};
use crate::publish::ORDER_ARGUMENTS;
use crate::{Context, VmError};

const MIB: u64 = 1024 * 1024;
/// Where the first partition begins.
const START: u64 = MIB;
/// What is free on the EFI system partition, and on the root.
const ESP_FREE: u64 = 64 * MIB;
const ROOT_FREE: u64 = 1024 * MIB;
/// The identity of the root partition, by which the kernel finds it.
const ROOT_ID: &str = "6b1f0c2e-6d5a-4c0b-9a55-ed6e37196471";
/// The time limit of one tool.
const TOOL_TIMEOUT: Duration = Duration::from_mins(15);
/// Version of how disks are made: part of their names.
const VERSION: u32 = 2;

/// How the system of a disk is reached once it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// By the channel of QEMU.
    ByChannel,
    /// By a disk with its order, and by its console: on KubeVirt.
    ByOrder,
}

impl Reached {
    /// What runs before the image's own initramfs, and words for its kernel.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::ByChannel => (ENTRY, ""),
            Self::ByOrder => (ORDER_ENTRY, ORDER_ARGUMENTS),
        }
    }
}

/// The disk of an image, made if it is not there.
pub(crate) async fn disk(
    image: &CachedImage,
    (programs, reached): (Programs, Reached),
    context: &Context,
) -> Result<PathBuf, VmError> {
    let Some(initramfs) = image.initramfs() else {
        let path = format!("/usr/lib/modules/{}/initramfs.img", image.facts.kernel.version);
        return Err(VmError::image(
            format!("the image has no initramfs for a start by UEFI: {path} is missing"),
            "make one there when the image is built, with dracut or mkinitcpio; or use the profile direct",
        ));
    };
    let archive = programs_archive(programs, true);
    let (entry, words) = reached.words();
    let name =
        Digest::of([&VERSION.to_le_bytes()[..], entry.as_bytes(), words.as_bytes(), &archive].concat());
    let target = image.folder().join(format!("uefi-{}.raw", name.short()));
    if tokio::fs::try_exists(&target).await.unwrap_or(false) {
        return Ok(target);
    }
    let new = tempfile::Builder::new()
        .prefix(".uefi-")
        .tempdir_in(image.folder())
        .map_err(VmError::io("create a folder in", image.folder()))?;
    let work = Work { image, reached, folder: new.path(), context };
    let disk = work.make(&archive, &initramfs).await?;
    tokio::fs::rename(&disk, &target).await.map_err(VmError::io("write", &target))?;
    Ok(target)
}

struct Work<'a> {
    image: &'a CachedImage,
    reached: Reached,
    folder: &'a Path,
    context: &'a Context,
}

impl Work<'_> {
    async fn make(&self, archive: &[u8], initramfs: &Path) -> Result<PathBuf, VmError> {
        let size = async |path: &Path| {
            tokio::fs::metadata(path).await.map(|found| found.len()).map_err(VmError::io("read", path))
        };
        let files = size(&self.image.vmlinuz()).await? + size(initramfs).await? + archive.len() as u64;
        let esp = (files + ESP_FREE).next_multiple_of(MIB);
        let root = (size(&self.image.root()).await? / 4 * 5 + ROOT_FREE).next_multiple_of(MIB);
        let disk = self.folder.join("disk");
        self.partitions(&disk, esp, root).await?;
        self.boot_files(&disk, esp, archive, initramfs).await?;
        self.root(&disk, START + esp, root).await?;
        Ok(disk)
    }

    async fn partitions(&self, disk: &Path, esp: u64, root: u64) -> Result<(), VmError> {
        let (path, length) = (disk.to_owned(), START + esp + root + MIB);
        blocking(move || {
            File::create(&path).and_then(|file| file.set_len(length)).map_err(VmError::io("create", path))
        })
        .await?;
        let sectors = |bytes: u64| bytes / 512;
        let table = format!(
            "label: gpt\nstart={}, size={}, type=U, name=esp\nstart={}, size={}, type=L, name=root, uuid={ROOT_ID}\n",
            sectors(START),
            sectors(esp),
            sectors(START + esp),
            sectors(root),
        );
        let command =
            self.context.tools.command("sfdisk").args(["--quiet", "--no-reread", "--no-tell-kernel"]);
        self.run(command.arg(disk.as_os_str()).stdin_bytes(table), "partition a disk").await
    }

    /// The EFI system partition, written without a mount.
    async fn boot_files(
        &self,
        disk: &Path,
        esp: u64,
        archive: &[u8],
        initramfs: &Path,
    ) -> Result<(), VmError> {
        let place = format!("{}@@{START}", disk.display());
        let format = self.context.tools.command("mformat").args(["-i", &place, "-F", "-v", "EFI", "-T"]);
        self.run(format.arg((esp / 512).to_string()).arg("::"), "format the EFI system partition").await?;
        let folders = ["::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries", "::/image"];
        let make = self.context.tools.command("mmd").args(["-i", &place]).args(folders);
        self.run(make, "write the EFI system partition").await?;
        let (entry, words) = self.reached.words();
        let more = format!(
            "rdinit={INITRD_FOLDER}/{entry} root=PARTUUID={ROOT_ID} rootfstype=ext4 rw rootwait rd.shell=0 \
             rd.emergency=reboot {words}"
        );
        let arguments = kernel_arguments(&self.image.facts.kernel.arguments, &more);
        let entry = format!(
            "title image\nlinux /image/vmlinuz\ninitrd /image/initramfs.img\ninitrd /image/edgewright.img\n\
             options {arguments}\n"
        );
        let written = [
            ("edgewright.img", archive, "image/edgewright.img"),
            ("loader.conf", b"timeout 0\n".as_slice(), "loader/loader.conf"),
            ("image.conf", entry.as_bytes(), "loader/entries/image.conf"),
        ];
        let mut copies =
            vec![(self.image.vmlinuz(), "image/vmlinuz"), (initramfs.to_owned(), "image/initramfs.img")];
        for (name, content, to) in written {
            let path = self.folder.join(name);
            tokio::fs::write(&path, content).await.map_err(VmError::io("write", &path))?;
            copies.push((path, to));
        }
        copies.push((self.image.boot_loader(self.folder, self.context).await?, "EFI/BOOT/BOOTX64.EFI"));
        for (from, to) in copies {
            let copy = self.context.tools.command("mcopy").args(["-i", &place, "-o"]);
            let copy = copy.arg(from.as_os_str()).arg(format!("::/{to}"));
            self.run(copy, "write the EFI system partition").await?;
        }
        Ok(())
    }

    /// The root, from the layers: owners, links and attributes as they are there.
    async fn root(&self, disk: &Path, at: u64, size: u64) -> Result<(), VmError> {
        let layers = pull_layers(&self.image.source, self.folder).await?;
        let command = self.context.tools.command("mkfs.ext4").context(&self.context.processes);
        let command = command.args(["-q", "-F", "-L", "root", "-O", "verity", "-d", "-", "-E"]);
        let command = command.arg(format!("offset={at},lazy_itable_init=1,lazy_journal_init=1,nodiscard"));
        let command = command.arg(disk.as_os_str()).arg(format!("{}k", size / 1024)).deadline(TOOL_TIMEOUT);
        let (cancel, folder) = (self.context.processes.cancel().clone(), self.folder.to_owned());
        let made = command
            .run_dialogue(move |tar, _answers| {
                // mkfs does not make a directory for what comes before it.
                let first = directories(&layers, &cancel)?;
                flatten(io::BufWriter::with_capacity(1 << 20, tar), &layers, Some(&first), (&folder, &cancel))
            })
            .await;
        match made {
            Ok((Err(error), _)) => Err(VmError::Layers(error)),
            Ok((Ok(()), _)) => Ok(()),
            Err(error) => Err(VmError::command("make the root partition")(error)),
        }
    }

    async fn run(&self, command: edgewright_process::Command, action: &'static str) -> Result<(), VmError> {
        let command = command.context(&self.context.processes).deadline(TOOL_TIMEOUT);
        command.run().await.map(drop).map_err(VmError::command(action))
    }
}
