//! Disk space that is set aside, so that a server that was stopped starts on a full disk.
//!
//! SQLite needs a few files of its own to open a database, even for reading. A server that was stopped in
//! order has removed them, and something else may have filled the disk since. The reserve is a file that the
//! next start deletes if the disk is full.

use std::fs::File;
use std::io::Result;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The disk space that is set aside in the data folder for a start on a full disk, in bytes.
const MAX_RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// A running server sets it aside only if this many times its size is available.
const PLENTY: u64 = 8;

/// The reserve of a data folder. All functions block.
#[derive(Debug, Clone)]
pub(crate) struct Reserve {
    folder: PathBuf,
}

impl Reserve {
    /// The reserve of the data folder at `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// At a start: frees the reserve if the disk is full.
    pub(crate) fn release(&self) {
        if self.available().is_some_and(|available| available < MAX_RESERVE_BYTES)
            && std::fs::remove_file(self.path()).is_ok()
        {
            tracing::warn!(folder = %self.folder.display(), "the disk is full: freed the reserve for this start");
        }
    }

    /// While a server runs: sets the reserve aside if there is plenty of space.
    pub(crate) fn set_aside(&self) {
        if self.available().is_some_and(|available| available >= PLENTY * MAX_RESERVE_BYTES) {
            self.keep(MAX_RESERVE_BYTES);
        }
    }

    /// After a server was stopped: sets aside what there is, at most the whole reserve. The files of the
    /// databases, which the next start needs, have just made room.
    pub(crate) fn set_aside_rest(&self) {
        let rest = self.available().unwrap_or(0).min(MAX_RESERVE_BYTES);
        if rest > 0 && !self.path().exists() {
            self.keep(rest);
        }
    }

    fn keep(&self, bytes: u64) {
        let is_kept = |file: std::fs::Metadata| file.len() >= bytes;
        if std::fs::metadata(self.path()).is_ok_and(is_kept) {
            return;
        }
        if let Err(error) = self.allocate(bytes) {
            // Part of it may be allocated: that is space, too.
            tracing::debug!(%error, "cannot set disk space aside");
        }
    }

    fn allocate(&self, bytes: u64) -> Result<()> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(self.path())?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        Ok(())
    }

    fn available(&self) -> Option<u64> {
        statvfs(&self.folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn path(&self) -> PathBuf {
        self.folder.join("reserve")
    }
}
