//! The installer: puts an image onto an empty disk. It runs as root inside of a virtual machine of the image
//! itself, or of an installer medium: the image's own kernel has every file system that it needs.
//!
//! ```text
//! disk      GPT: EFI system partition, root
//! root      ext4 with fs-verity: repository, deployment 1, /var of the image
//! boot      systemd-boot on the fallback path of UEFI, entry edgewright-1.conf
//! device    names, keys, credentials: changes of /etc, which are in no image
//! ```
//!
//! An image that has bootc is installed by bootc.

mod boot_loader;
mod bootc;
mod device;
mod disk;
mod seed;
mod unattended;

use std::path::{Path, PathBuf};

use edgewright_model::reference::ImageReference;
use edgewright_oci::layout::{Layout, LayoutError};
use edgewright_oci::{ManifestBytes, media};
use edgewright_process::CommandError;

use crate::blocking::{Stopped, blocking};
use crate::composefs::Composefs;
use crate::composefs::entry::DeploymentNumber;
use crate::composefs::esp::{Access, Esp, EspSource};
use crate::composefs::layout::DeviceRecord;
use crate::composefs::store::Store;
use crate::durable;
use crate::updater::{Image, Progress, UpdateError, Updater as _};

pub use device::{DeviceFile, DeviceSettings, InvalidDevice};
pub use disk::Partitions;
pub use unattended::order as unattended;

const RECORD_VERSION: u32 = 1;
const ROOT_MOUNT: &str = "/run/edgewright/install";

/// What is installed, and where.
#[derive(Debug, Clone)]
pub struct Order {
    /// The disk; everything on it is lost.
    pub disk: PathBuf,
    /// The OCI layout with the image.
    pub layout: PathBuf,
    /// The reference that the device follows.
    pub reference: ImageReference,
    /// The device's own settings.
    pub device: DeviceSettings,
}

/// Why an installation failed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The layout has no usable image.
    #[error("cannot read the image of {}", .layout.display())]
    Layout {
        /// The layout.
        layout: PathBuf,
        /// Why.
        source: LayoutError,
    },
    /// A program failed.
    #[error("cannot {what}")]
    Command {
        /// The operation.
        what: String,
        /// Why.
        source: CommandError,
    },
    /// A file cannot be read or written.
    #[error("cannot {what}")]
    Io {
        /// The operation.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The disk is not usable.
    #[error("cannot use {} as a disk: {problem}", .disk.display())]
    Disk {
        /// The disk.
        disk: PathBuf,
        /// Why.
        problem: String,
    },
    /// The image has no part that a device needs.
    #[error("the image cannot be installed: {problem}")]
    Image {
        /// What is missing.
        problem: String,
    },
    /// The device's settings are invalid.
    #[error("invalid settings of the device")]
    Device(#[from] InvalidDevice),
    /// Deploying failed.
    #[error("cannot deploy the image")]
    Update(#[from] UpdateError),
    /// The installation was stopped.
    #[error("cannot continue")]
    Stopped(#[from] Stopped),
}

impl InstallError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Installs. The disk can be booted if this succeeds, and never before.
///
/// # Errors
/// See [`InstallError`].
pub async fn install(order: &Order, progress: &Progress) -> Result<(), InstallError> {
    order.device.check()?;
    let (image, loader) = blocking({
        let order = order.clone();
        move || {
            let image = read_image(&order)?;
            let loader = (!bootc::is_present()).then(|| boot_loader::find(Path::new("/"))).transpose()?;
            Ok::<_, InstallError>((image, loader))
        }
    })
    .await??;
    let Some(loader) = loader else { return bootc::install(order, progress).await };
    progress.step("partitioning the disk", 0, None);
    let partitions = disk::partition(&order.disk).await?;
    progress.step("making file systems", 0, None);
    disk::make_file_systems(&partitions, order.device.verity).await?;
    let root = blocking({
        let partition = partitions.root.clone();
        move || disk::Mounted::new(&partition, Path::new(ROOT_MOUNT))
    })
    .await??;
    let updater = prepare(order, &partitions, root.path()).await?;
    updater.stage(&image, progress).await?;
    progress.step("writing the device's settings", 0, None);
    let (copy, settings) = (updater.clone(), order.device.clone());
    blocking(move || finish_root(&copy, &settings)).await??;
    progress.step("installing the boot loader", 0, None);
    let esp = EspSource::Partition(partitions.esp.clone());
    blocking(move || {
        let esp =
            Esp::open(&esp, Access::Write).map_err(InstallError::io("mount the EFI system partition"))?;
        boot_loader::install(&loader, esp.root())
    })
    .await??;
    // The entry is the last: without it, nothing boots.
    updater.arm(image.digest()).await?;
    progress.step("flushing the disk", 0, None);
    blocking(move || root.unmount()).await?
}

fn read_image(order: &Order) -> Result<Image, InstallError> {
    let fault = |source| InstallError::Layout { layout: order.layout.clone(), source };
    let layout = Layout::open(&order.layout);
    let (manifest, config) = layout.image().map_err(fault)?;
    let manifests = layout.manifests().map_err(fault)?;
    let found = manifests.iter().find(|d| !media::is_index(&d.media_type));
    let descriptor = found.ok_or(LayoutError::Empty).map_err(fault)?;
    Ok(Image {
        reference: order.reference.clone(),
        manifest: ManifestBytes {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            bytes: manifest.into(),
        },
        config: config.into(),
        index: None,
        layout: order.layout.clone(),
    })
}

/// Makes folders, repository and record of a device.
async fn prepare(order: &Order, partitions: &Partitions, sysroot: &Path) -> Result<Composefs, InstallError> {
    let updater = Composefs::at(sysroot, EspSource::Partition(partitions.esp.clone()), None);
    let record = DeviceRecord {
        version: RECORD_VERSION,
        esp: partitions.esp_id.clone(),
        root: partitions.root_id.clone(),
        boot_tries: order.device.boot_tries,
        kernel_arguments: order.device.kernel_arguments.clone(),
    };
    let (folders, verity) = (updater.folders().clone(), order.device.verity);
    blocking(move || {
        for folder in [folders.deployments(), folders.var()] {
            std::fs::create_dir_all(&folder)
                .map_err(InstallError::io(format!("make {}", folder.display())))?;
        }
        Store::create(&folders.repository(), verity)?;
        Ok(folders.write_record(&record)?)
    })
    .await?
    .map(|()| updater)
}

/// The shared `/var` from the image, and the device's own files in `/etc`.
fn finish_root(updater: &Composefs, settings: &DeviceSettings) -> Result<(), InstallError> {
    let folders = updater.folders();
    let numbers = folders.numbers()?;
    let number = numbers.last().copied().unwrap_or(DeploymentNumber(1));
    let store = Store::open(&folders.repository())?;
    let tree = store.tree(&folders.origin(number)?.root)?;
    let invalid = |problem| InstallError::Image { problem };
    seed::write(&store, &tree, "var", &folders.var())?;
    settings.write(&tree.etc().map_err(invalid)?, &folders.etc(number).join("upper"))?;
    durable::sync_all(&folders.state()).map_err(InstallError::io("flush the device's files"))
}
