//! What virtual machines of a job work with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_vm::{Cache, Programs, Tools};

/// How long a boot may take until systemd has started everything, before scaling.
const BOOT_TIMEOUT: Duration = Duration::from_secs(45);

/// What virtual machines of a job work with.
#[derive(Debug, Clone)]
pub struct VmHost {
    folder: PathBuf,
    pub(crate) boot_timeout: Duration,
    pub(crate) tools: Tools,
    pub(crate) programs: Programs,
}

impl VmHost {
    /// In a work folder, with QEMU of `tools` and the static programs that are brought into guests.
    pub fn new(work: &Path, tools: Tools, programs: Programs) -> Self {
        Self { folder: folder(work), boot_timeout: BOOT_TIMEOUT, tools, programs }
    }

    /// With another limit on the time until systemd has started everything, before scaling.
    #[must_use]
    pub const fn with_boot_timeout(mut self, limit: Duration) -> Self {
        self.boot_timeout = limit;
        self
    }

    /// The files of images.
    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.folder.join("images"))
    }

    /// The folder of a work folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The digest of the check runner.
    pub(crate) fn runner(&self) -> Digest {
        Digest::of(self.programs.checks)
    }
}

/// Where virtual machines keep their files in a work folder.
pub(crate) fn folder(work: &Path) -> PathBuf {
    work.join("vm")
}
