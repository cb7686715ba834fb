//! What virtual machines of a job work with.

use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_vm::{Cache, Programs, Tools};

/// What virtual machines of a job work with.
#[derive(Debug, Clone)]
pub struct VmHost {
    folder: PathBuf,
    pub(crate) tools: Tools,
    pub(crate) programs: Programs,
}

impl VmHost {
    /// In a work folder, with QEMU of `tools` and the static programs that are brought into guests.
    pub fn new(work: &Path, tools: Tools, programs: Programs) -> Self {
        Self { folder: folder(work), tools, programs }
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
