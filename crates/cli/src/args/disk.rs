//! `disk`: disk images of devices.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use edgewright_model::names::{SiteName, SlotId};
use edgewright_model::size::ByteSize;
use edgewright_provision::Format as DiskFormat;

use super::Format;
use crate::complete;

/// The arguments of `disk`.
#[derive(Debug, Args)]
pub(crate) struct DiskArgs {
    /// Variant whose newest release is taken, or a reference such as quay.io/example/os:1 or …@sha256:…
    #[arg(value_name = "VARIANT|REFERENCE", required_unless_present = "slot", add = ArgValueCompleter::new(complete::variants))]
    pub(crate) image: Option<String>,
    /// Slot whose device this is, such as plant-a/press-1: it gives image, channel and host name
    #[arg(long, value_name = "SITE/SLOT", conflicts_with = "image", value_parser = super::values::slot)]
    pub(crate) slot: Option<(SiteName, SlotId)>,
    /// File to write (netboot: folder); a file is replaced when the new one is complete
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Format: raw, qcow2, vmdk; unattended installers: iso for USB sticks, netboot (a folder)
    #[arg(long = "format", value_name = "FORMAT", default_value = "raw")]
    pub(crate) disk_format: DiskFormat,
    /// Disk that an installer erases, such as /dev/nvme0n1 [default: the machine's only one]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) target_disk: Option<PathBuf>,
    /// Size of the disk, such as 8GiB
    #[arg(long, value_name = "SIZE", default_value = "8GiB")]
    pub(crate) size: ByteSize,
    /// Reference that the device follows [default: the image's, at the slot's channel or `stable`]
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) follow: Option<String>,
    /// Host name of the device [default: id of the slot]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// File with SSH keys that may log in as root, such as ~/.ssh/id_ed25519.pub
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key: Vec<PathBuf>,
    /// Configuration of the agent, for /etc/edgewright/agent.toml [default: it follows the reference]
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_config: Option<PathBuf>,
    /// Credentials that the device pulls with, for /etc/edgewright/auth.json
    #[arg(long, value_name = "FILE")]
    pub(crate) auth_file: Option<PathBuf>,
    /// Further file of this device alone, such as /etc/plant.conf=FILE
    #[arg(long = "file", value_name = "PATH=FILE", value_parser = super::values::device_file)]
    pub(crate) files: Vec<(String, PathBuf)>,
    /// Kernel argument of this device
    #[arg(long, value_name = "ARGUMENT")]
    pub(crate) karg: Vec<String>,
    /// Boots that a new image may take until it is good [default: 3]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) boot_tries: Option<u32>,
    /// Install without fs-verity
    #[arg(long)]
    pub(crate) no_verity: bool,
    /// Tool image with QEMU
    #[arg(long, value_name = "DIR", env = "EDGEWRIGHT_TOOLS", hide_env_values = true, default_value = edgewright_server::settings::DEFAULT_TOOLS)]
    pub(crate) tools: PathBuf,
    #[command(flatten)]
    pub(crate) format: Format,
}
