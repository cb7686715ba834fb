//! Devices: machines that start what is on their disk, as often as they restart.
//!
//! Nothing of ours is on the disk but units that start the channel: programs are on a second disk, which is
//! read-only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_guest::{CHECKS, GUEST, PROGRAMS_DISK, ROOT_DISK};

use crate::acceleration::Accelerator;
use crate::config::{Access, Boot, Description, Disk, DiskFormat};
use crate::machine::{FIRMWARE, Programs, VARIABLES};
use crate::{Context, Hardware, Machine, VmError};

/// The time limit to make the disk with programs.
const PROGRAMS_TIMEOUT: Duration = Duration::from_mins(5);
/// The time limit to make an empty disk over another one.
const OVERLAY_TIMEOUT: Duration = Duration::from_mins(1);
/// The time limit to convert a disk.
const CONVERT_TIMEOUT: Duration = Duration::from_mins(15);

/// A device to switch on.
#[derive(Debug)]
pub struct Device<'a> {
    /// Its disk, as qcow2.
    pub disk: &'a Path,
    /// The variables of its firmware: [`new_variables`].
    pub variables: &'a Path,
    /// What it may take.
    pub hardware: Hardware,
    /// What runs its instructions.
    pub accelerator: Accelerator,
}

impl Machine {
    /// Switches a device on: firmware starts what is on its disk, and what it writes stays there. It ends
    /// with the next restart.
    ///
    /// # Errors
    /// The machine's files cannot be made.
    pub fn launch_device(device: Device<'_>, context: &Context) -> Result<Self, VmError> {
        let files = tempfile::Builder::new()
            .prefix("device-")
            .tempdir_in(&context.scratch)
            .map_err(VmError::io("create a folder in", &context.scratch))?;
        let folder = files.path().to_owned();
        let disk = Disk {
            path: device.disk.to_owned(),
            format: DiskFormat::Qcow2,
            ..Disk::new(ROOT_DISK, Access::Write)
        };
        let (code, variables) = (context.tools.file(FIRMWARE), device.variables.to_owned());
        let description = Description {
            accelerator: device.accelerator,
            hardware: device.hardware,
            boot: Boot::Firmware { code, variables, disk },
            kept: false,
            firmware: context.tools.firmware(),
        };
        Ok(Self::start(&description, folder, Some(files), context))
    }
}

/// The variables of firmware that has started nothing yet.
///
/// # Errors
/// The tools have no firmware, or the file cannot be written.
pub async fn new_variables(to: &Path, context: &Context) -> Result<(), VmError> {
    let from = context.tools.file(VARIABLES);
    tokio::fs::copy(&from, to).await.map(drop).map_err(VmError::io("copy", &from))
}

/// The disk with the programs that devices start, [`PROGRAMS_DISK`](edgewright_guest::PROGRAMS_DISK).
///
/// # Errors
/// It cannot be written.
pub async fn programs_disk(programs: Programs, to: &Path, context: &Context) -> Result<(), VmError> {
    let folder = tempfile::Builder::new()
        .prefix("programs-")
        .tempdir_in(&context.scratch)
        .map_err(VmError::io("create a folder in", &context.scratch))?;
    programs_disk_of(programs, folder.path(), to, context).await
}

/// The same with the other files of a folder, into which the programs are written.
///
/// # Errors
/// It cannot be written.
pub async fn programs_disk_of(
    programs: Programs,
    folder: &Path,
    to: &Path,
    context: &Context,
) -> Result<(), VmError> {
    for (name, content) in [(GUEST, programs.guest), (CHECKS, programs.checks)] {
        program(&folder.join(name), content).await?;
    }
    let command = context.tools.command("mkfs.erofs").arg("--quiet").arg(to).arg(folder);
    let command = command.context(&context.processes).deadline(PROGRAMS_TIMEOUT);
    command.run().await.map(drop).map_err(VmError::command("make the disk with programs"))
}

async fn program(path: &Path, content: &[u8]) -> Result<(), VmError> {
    use std::os::unix::fs::PermissionsExt as _;
    tokio::fs::write(path, content).await.map_err(VmError::io("write", path))?;
    let mode = std::fs::Permissions::from_mode(0o755);
    tokio::fs::set_permissions(path, mode).await.map_err(VmError::io("write", path))
}

/// The disk with programs, as a device has it.
pub fn programs_of(path: PathBuf) -> Disk {
    Disk { path, ..Disk::new(PROGRAMS_DISK, Access::Read) }
}

/// Makes a disk that begins with what is on a raw one, which stays as it is.
///
/// # Errors
/// It cannot be written.
pub async fn overlay(raw: &Path, to: &Path, context: &Context) -> Result<(), VmError> {
    let command = context.tools.command("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    let command = command.arg(raw).arg(to).context(&context.processes).deadline(OVERLAY_TIMEOUT);
    command.run().await.map(drop).map_err(VmError::command("make a disk over the installed one"))
}

/// Makes a disk of its own of a raw one: what is empty takes no room in it.
///
/// # Errors
/// It cannot be written.
pub async fn qcow2(raw: &Path, to: &Path, context: &Context) -> Result<(), VmError> {
    let command = context.tools.command("qemu-img").args(["convert", "-q", "-f", "raw", "-O", "qcow2"]);
    let command = command.arg(raw).arg(to).context(&context.processes).deadline(CONVERT_TIMEOUT);
    command.run().await.map(drop).map_err(VmError::command("convert a disk"))
}
