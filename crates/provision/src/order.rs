//! What is made.

use std::path::PathBuf;
use std::str::FromStr;

use edgewright_vm::Source;

use crate::ProvisionError;

/// The smallest disk: file systems, one image, and room for the next.
pub const MIN_DISK_BYTES: u64 = 1 << 30;
/// The largest disk. Files are sparse: what the image needs is what they take.
pub const MAX_DISK_BYTES: u64 = 16 << 40;

/// A disk to make.
#[derive(Debug, Clone)]
pub struct DiskOrder {
    /// The image.
    pub source: Source,
    /// The reference that the device follows.
    pub reference: String,
    /// The size of the disk in bytes.
    pub size: u64,
    /// The format of the output.
    pub format: Format,
    /// The disk that an installer installs onto; none: the machine's only one.
    pub target_disk: Option<PathBuf>,
    /// The output.
    pub output: PathBuf,
    /// The settings of the device, as `edgewright-agent install --device` reads them.
    pub device: Vec<u8>,
}

impl DiskOrder {
    pub(crate) fn check(&self) -> Result<(), ProvisionError> {
        if !(MIN_DISK_BYTES..=MAX_DISK_BYTES).contains(&self.size) {
            return Err(ProvisionError::Size(self.size));
        }
        Ok(())
    }
}

/// The format of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Bytes, sparse: for `dd`, and for every virtual machine.
    Raw,
    /// QEMU.
    Qcow2,
    /// VMware, as one growing file.
    Vmdk,
    /// An installer for USB sticks: it installs the image onto the machine's disk, unattended.
    Iso,
    /// The same for machines that start over the network: a folder with kernel, initramfs and an iPXE script.
    Netboot,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Iso, Self::Netboot];

    /// Whether it installs the image elsewhere, and is no disk of a device.
    pub const fn is_installer(self) -> bool {
        matches!(self, Self::Iso | Self::Netboot)
    }

    /// Its name; those of disks are QEMU's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Iso => "iso",
            Self::Netboot => "netboot",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| format!("unknown format `{text}`: use one of {known}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_as_it_is_written() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("iso9660".parse::<Format>().unwrap_err().contains("raw, qcow2, vmdk, iso, netboot"));
    }
}
