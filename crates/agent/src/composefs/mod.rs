//! The composefs updater: images as trees of files that are shared by their digest, and systemd-boot with
//! boot counting.
//!
//! ```text
//!            repository            ESP                         /sysroot/edgewright/deploy/N
//! stage      layers, image         kernel and initramfs        origin.json
//! arm                              entry edgewright-N+3.conf   etc/upper (merged)
//! (boot)                           edgewright-N+2-1.conf
//! bless                            edgewright-N.conf
//! collect    what no one needs     what no one needs           what no one needs
//! ```
//!
//! Every line is written in the order of its columns, flushed before the next, and each can be repeated: what
//! a power cut leaves is either complete or unknown to everything that comes later. Formats and folders are
//! in [`layout`]; the rules of boot counting in [`entry`]; the merge of `/etc` in [`etc_merge`].

pub mod entry;
pub mod esp;
pub mod etc_files;
pub mod etc_merge;
mod layer;
pub mod layout;
mod operations;
pub mod store;
pub mod tree;

use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_oci::media::Descriptor;

use self::entry::DeploymentNumber;
use self::esp::EspSource;
use self::layout::{DEPLOYMENT_ARGUMENT, Folders, argument};
use self::store::Store;
use crate::updater::{BoxFuture, Deployments, Image, Progress, UpdateError, Updater};

/// The updater's name.
pub const NAME: &str = "composefs";
/// Exists once the booted deployment is good: units that wait for that look at it.
pub const BLESSED: &str = "/run/edgewright/blessed";

/// The updater of a device.
#[derive(Debug, Clone)]
pub struct Composefs {
    folders: Folders,
    esp: EspSource,
    booted: Option<DeploymentNumber>,
    blessed: Option<PathBuf>,
}

impl Composefs {
    /// The updater of the booted system. Reads small files.
    ///
    /// # Errors
    /// The system was not booted from a composefs deployment of ours.
    pub fn detect() -> Result<Self, UpdateError> {
        let path = "/proc/cmdline";
        let line = std::fs::read_to_string(path).map_err(UpdateError::io(format!("read {path}")))?;
        let number = argument(&line, DEPLOYMENT_ARGUMENT).and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| UpdateError::Unsupported {
            updater: NAME,
            why: format!("the kernel's command line has no `{DEPLOYMENT_ARGUMENT}=`"),
        })?;
        let folders = Folders::at(Path::new("/sysroot"));
        let record = folders.record()?;
        let esp = EspSource::Partition(Path::new("/dev/disk/by-partuuid").join(record.esp));
        let blessed = Some(PathBuf::from(BLESSED));
        Ok(Self { folders, esp, booted: Some(DeploymentNumber(number)), blessed })
    }

    /// The updater of a device whose file system is mounted somewhere: that of the installer, and of tests.
    pub fn at(sysroot: &Path, esp: EspSource, booted: Option<DeploymentNumber>) -> Self {
        Self { folders: Folders::at(sysroot), esp, booted, blessed: None }
    }

    /// The folders of the device.
    pub const fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Runs a blocking operation on a copy of this value.
    async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Self) -> Result<T, UpdateError> + Send + 'static,
    ) -> Result<T, UpdateError> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || operation(&this)).await;
        done.unwrap_or_else(|e| {
            Err(UpdateError::Backend { what: "run an operation".to_owned(), problem: e.to_string() })
        })
    }

    async fn stage_image(&self, image: &Image, progress: &Progress) -> Result<(), UpdateError> {
        let _lock = self.run(|this| this.folders.lock()).await?;
        let digest = image.digest().clone();
        if self.run(move |this| this.is_staged(&digest)).await? {
            return Ok(());
        }
        let store = self.run(|this| Store::open(&this.folders.repository())).await?;
        store.import(image, progress).await?;
        progress.check()?;
        progress.step("making the root file system", 0, None);
        let copy = image.clone();
        self.run(move |this| this.deploy(&store, &copy)).await
    }
}

impl Updater for Composefs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn status(&self) -> BoxFuture<'_, Result<Deployments, UpdateError>> {
        Box::pin(self.run(Self::read_status))
    }

    fn missing<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Vec<Descriptor>, UpdateError>> {
        let image = image.clone();
        Box::pin(self.run(move |this| Store::open(&this.folders.repository())?.missing(&image)))
    }

    fn stage<'a>(
        &'a self,
        image: &'a Image,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), UpdateError>> {
        Box::pin(self.stage_image(image, progress))
    }

    fn arm<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), UpdateError>> {
        let digest = digest.clone();
        Box::pin(self.run(move |this| {
            let _lock = this.folders.lock()?;
            this.arm_staged(&digest)
        }))
    }

    fn bless(&self) -> BoxFuture<'_, Result<(), UpdateError>> {
        Box::pin(self.run(|this| {
            let _lock = this.folders.lock()?;
            this.bless_booted()
        }))
    }

    fn roll_back(&self) -> BoxFuture<'_, Result<(), UpdateError>> {
        Box::pin(self.run(|this| {
            let _lock = this.folders.lock()?;
            this.choose_fallback()
        }))
    }

    fn collect(&self) -> BoxFuture<'_, Result<Option<u64>, UpdateError>> {
        Box::pin(self.run(|this| {
            let _lock = this.folders.lock()?;
            this.remove_unused().map(Some)
        }))
    }
}
