//! The folders of a device, and the documents in them.
//!
//! ```text
//! /sysroot                     the file system of the device, as the booted system sees it
//!   composefs/                 the repository: files by their digest, images, layers
//!   edgewright/
//!     device.json              what the installer chose: DeviceRecord
//!     var/                     /var of every deployment
//!     deploy/7/
//!       origin.json            what is deployed here: Origin
//!       etc/upper, etc/work    changes of /etc
//!     lock                     one change at a time
//! ```
//!
//! `edgewright-setup-root` mounts them in the initramfs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use serde::{Deserialize, Serialize};

use super::entry::{BOOT_TRIES, DeploymentNumber};
use super::esp::BootFiles;
use crate::durable;
use crate::updater::UpdateError;

/// Bytes of a document of the device that are read.
pub const MAX_DEVICE_DOCUMENT_BYTES: u64 = 1 << 20;
/// The kernel's argument with the number of the deployment.
pub const DEPLOYMENT_ARGUMENT: &str = "edgewright.deployment";
/// The kernel's argument with the digest of the root file system.
pub const ROOT_ARGUMENT: &str = "composefs.digest";

/// What the installer chose for this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// The version of this document.
    pub version: u32,
    /// The GPT UUID of the ESP.
    pub esp: String,
    /// The GPT UUID of the root partition.
    pub root: String,
    /// Boots that a new image may take until it is good.
    #[serde(default = "default_tries")]
    pub boot_tries: u32,
    /// Kernel arguments of this device, in addition to those of its images.
    #[serde(default)]
    pub kernel_arguments: Vec<String>,
}

const fn default_tries() -> u32 {
    BOOT_TRIES
}

/// What is deployed in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version of this document.
    pub version: u32,
    /// The platform manifest.
    pub digest: Digest,
    /// The reference that it was pulled by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The digest of the root file system.
    pub root: String,
    /// The name of the system, for the menu of the boot loader.
    pub title: String,
    /// Kernel and initramfs on the ESP.
    pub files: BootFiles,
    /// The image's kernel arguments.
    #[serde(default)]
    pub kernel_arguments: Vec<String>,
}

/// The folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    sysroot: PathBuf,
}

impl Folders {
    /// The folders of a device whose file system is mounted there.
    pub fn at(sysroot: &Path) -> Self {
        Self { sysroot: sysroot.to_owned() }
    }

    /// The repository.
    pub fn repository(&self) -> PathBuf {
        self.sysroot.join("composefs")
    }

    /// The folder of everything but the repository.
    pub fn state(&self) -> PathBuf {
        self.sysroot.join("edgewright")
    }

    /// The shared `/var`.
    pub fn var(&self) -> PathBuf {
        self.state().join("var")
    }

    /// The folder of deployments.
    pub fn deployments(&self) -> PathBuf {
        self.state().join("deploy")
    }

    /// The folder of a deployment.
    pub fn deployment(&self, number: DeploymentNumber) -> PathBuf {
        self.deployments().join(number.to_string())
    }

    /// The folder with upper and work of a deployment's `/etc`.
    pub fn etc(&self, number: DeploymentNumber) -> PathBuf {
        self.deployment(number).join("etc")
    }

    /// The installer's record.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn record(&self) -> Result<DeviceRecord, UpdateError> {
        read_document(&self.state().join("device.json"))
    }

    /// Writes the installer's record.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_record(&self, record: &DeviceRecord) -> Result<(), UpdateError> {
        write_document(&self.state().join("device.json"), record)
    }

    /// What is deployed under a number.
    ///
    /// # Errors
    /// Nothing, or its document cannot be read.
    pub fn origin(&self, number: DeploymentNumber) -> Result<Origin, UpdateError> {
        read_document(&self.deployment(number).join("origin.json"))
    }

    /// The numbers of finished deployments, in order. Folders that a power cut left are not among them.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn numbers(&self) -> Result<Vec<DeploymentNumber>, UpdateError> {
        let folder = self.deployments();
        let mut numbers: Vec<DeploymentNumber> =
            names(&folder)?.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes the folder of a deployment in one step.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_deployment(&self, number: DeploymentNumber, origin: &Origin) -> Result<(), UpdateError> {
        let (folder, temporary) =
            (self.deployment(number), self.deployments().join(format!(".{number}.tmp")));
        let fault = |e| UpdateError::io(format!("write {}", folder.display()))(e);
        durable::remove(&temporary).map_err(fault)?;
        for name in ["etc/upper", "etc/work"] {
            fs::create_dir_all(temporary.join(name)).map_err(fault)?;
        }
        write_document(&temporary.join("origin.json"), origin)?;
        durable::sync_all(&temporary).map_err(fault)?;
        durable::rename(&temporary, &folder).map_err(fault)
    }

    /// Removes what is no finished deployment.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_unfinished(&self) -> Result<(), UpdateError> {
        for name in names(&self.deployments())?.iter().filter(|name| number_of(name).is_none()) {
            let path = self.deployments().join(name);
            durable::remove(&path).map_err(UpdateError::io(format!("remove {}", path.display())))?;
        }
        Ok(())
    }

    /// Takes the lock of changes; it is held until the value is dropped. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn lock(&self) -> Result<fs::File, UpdateError> {
        let path = self.state().join("lock");
        let locked =
            fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).and_then(|file| {
                rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
                Ok(file)
            });
        locked.map_err(UpdateError::io(format!("lock {}", path.display())))
    }
}

fn names(folder: &Path) -> Result<Vec<String>, UpdateError> {
    let read = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read,
    };
    read.and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    })
    .map_err(UpdateError::io(format!("read {}", folder.display())))
}

fn number_of(name: &str) -> Option<DeploymentNumber> {
    let number = name.parse::<u64>().ok()?;
    (number.to_string() == name).then_some(DeploymentNumber(number))
}

fn read_document<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, UpdateError> {
    let what = format!("read {}", path.display());
    let read = fs::metadata(path).and_then(|found| {
        if found.len() > MAX_DEVICE_DOCUMENT_BYTES {
            return Err(io::Error::other("the document is too large"));
        }
        fs::read(path)
    });
    let bytes = read.map_err(UpdateError::io(what.clone()))?;
    serde_json::from_slice(&bytes).map_err(|e| UpdateError::io(what)(e.into()))
}

fn write_document(path: &Path, document: &impl Serialize) -> Result<(), UpdateError> {
    let what = format!("write {}", path.display());
    let bytes = serde_json::to_vec_pretty(document).map_err(|e| UpdateError::io(what.clone())(e.into()))?;
    durable::write(path, &bytes, 0o600).map_err(UpdateError::io(what))
}

/// The value of a kernel argument.
pub fn argument<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The kernel arguments of a deployment, in their order.
pub fn kernel_arguments(
    record: &DeviceRecord,
    origin: &Origin,
    number: DeploymentNumber,
    is_verity: bool,
) -> Vec<String> {
    // Without the last four, a machine that fails early waits for a person and never falls back.
    const ALWAYS: [&str; 7] = [
        "rw",
        "panic=5",
        "rd.shell=0",
        "rd.emergency=reboot",
        "systemd.crash_action=reboot",
        "systemd.crash_reboot=yes",
        "rootflags=noatime",
    ];
    let question = if is_verity { "" } else { "?" };
    let mut all = vec![
        format!("root=PARTUUID={}", record.root),
        format!("{ROOT_ARGUMENT}={question}v1-sha256-12:{}", origin.root),
        format!("{DEPLOYMENT_ARGUMENT}={number}"),
    ];
    all.extend(ALWAYS.map(str::to_owned));
    all.extend(origin.kernel_arguments.iter().cloned());
    all.extend(record.kernel_arguments.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_deployment_is_not_one() {
        let device = tempfile::tempdir().unwrap();
        let folders = Folders::at(device.path());
        for name in ["7", ".8.tmp", "07", "x", "+9"] {
            fs::create_dir_all(folders.deployments().join(name)).unwrap();
        }
        assert_eq!(folders.numbers().unwrap(), [DeploymentNumber(7)]);
        folders.remove_unfinished().unwrap();
        assert_eq!(fs::read_dir(folders.deployments()).unwrap().count(), 1);
    }

    #[test]
    fn an_argument_is_found_by_its_whole_name() {
        let line = "quiet xedgewright.deployment=1 edgewright.deployment=22 edgewright.deployment=3";
        assert_eq!(argument(line, DEPLOYMENT_ARGUMENT), Some("22"));
        assert_eq!(argument("edgewright.deploymentx=1", DEPLOYMENT_ARGUMENT), None);
    }
}
