//! The folder of one job.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use edgewright_model::order::JobOrder;

/// A job's folders.
pub(super) struct Place {
    pub(super) work: PathBuf,
    pub(super) scratch: PathBuf,
}

impl Place {
    pub(super) fn make(work: &Path, order: &JobOrder) -> io::Result<Self> {
        fs::create_dir_all(work)?;
        // The canonical path identifies processes, and is stored in podman's database.
        let work = work.canonicalize()?;
        let scratch = work.join("jobs").join(order.job.to_string());
        fs::create_dir_all(scratch.join("tmp"))?;
        Ok(Self { work, scratch })
    }

    pub(super) async fn remove(self) {
        let scratch = self.scratch.clone();
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(scratch)).await;
        if let Err(error) = removed.map_err(io::Error::other).and_then(|removed| removed) {
            // It is removed at the next start.
            tracing::warn!(job.folder = %self.scratch.display(), %error, "cannot remove the job's folder");
        }
    }
}
