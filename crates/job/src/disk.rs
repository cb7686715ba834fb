//! Watches what a running job writes, and notices when it is too much: a job that fills the disk would stop
//! everything else.
//!
//! Asking for the free space is cheap and shows what all jobs together took. Only where that is much, the
//! files of this job are counted.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::admission::Disk;

/// How often the free space is read.
const PERIOD: Duration = Duration::from_secs(1);
/// The pause after the files of a job were counted, as a multiple of the time that it took.
const PAUSES: u32 = 20;
/// The part of the free space that one job may take, whatever its bound.
const SHARE_OF_FREE: u64 = 2;
/// The size of a block in the metadata of files (POSIX `st_blocks`).
const BLOCK: u64 = 512;

/// What a job may write, and where.
#[derive(Debug, Clone)]
pub(crate) struct DiskBound {
    /// Its own folder.
    pub(crate) scratch: PathBuf,
    /// The container storage that it shares with others: folders that are younger than the job count.
    pub(crate) layers: PathBuf,
    /// The most bytes.
    pub(crate) bytes: u64,
}

/// A job that wrote too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Excess {
    /// What it has written, in bytes.
    pub(crate) written: u64,
    /// What it may write, in bytes.
    pub(crate) bound: u64,
}

impl DiskBound {
    /// Resolves once the job has written more than it may.
    pub(crate) async fn exceeded(self) -> Excess {
        let began = SystemTime::now();
        let at_start = free(self.scratch.clone()).await.unwrap_or(u64::MAX);
        let bound = self.bytes.min(at_start / SHARE_OF_FREE);
        loop {
            tokio::time::sleep(PERIOD).await;
            let taken = at_start.saturating_sub(free(self.scratch.clone()).await.unwrap_or(at_start));
            if taken < bound / 2 {
                continue;
            }
            let counting = std::time::Instant::now();
            let this = self.clone();
            let counted = tokio::task::spawn_blocking(move || this.written(began)).await;
            match counted {
                Ok(written) if written > bound => return Excess { written, bound },
                // If counting failed, it is tried again.
                _ => tokio::time::sleep(counting.elapsed() * PAUSES).await,
            }
        }
    }

    fn written(&self, since: SystemTime) -> u64 {
        let layers = std::fs::read_dir(&self.layers).into_iter().flatten().flatten();
        let young = layers.filter(|entry| {
            let made = entry.metadata().and_then(|metadata| metadata.modified());
            made.is_ok_and(|made| made >= since)
        });
        young.map(|entry| used(&entry.path())).sum::<u64>().saturating_add(used(&self.scratch))
    }
}

/// The free space of the disk of a folder that may not exist yet.
async fn free(folder: PathBuf) -> Option<u64> {
    let disk = tokio::task::spawn_blocking(move || folder.ancestors().find_map(Disk::of));
    disk.await.ok()?.map(|disk| disk.free)
}

/// The bytes that a folder takes on the disk. It is walked without recursion: a hostile tree may be deep.
fn used(folder: &Path) -> u64 {
    let mut bytes: u64 = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Of links, the link itself.
            let Ok(metadata) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK));
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_folder_and_young_layers_count_by_what_they_take() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![1; bytes]).unwrap();
        };
        write("layers/old/diff/file", 1 << 20);
        let since = SystemTime::now() + Duration::from_millis(20);
        std::thread::sleep(Duration::from_millis(40));
        write("layers/young/diff/file", 1 << 20);
        write("scratch/a/b/file", 1 << 20);
        std::os::unix::fs::symlink("/", folder.path().join("scratch/link")).unwrap();
        let sparse = std::fs::File::create(folder.path().join("scratch/sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let bound = DiskBound {
            scratch: folder.path().join("scratch"),
            layers: folder.path().join("layers"),
            bytes: 1 << 20,
        };
        let written = bound.written(since);
        assert!((2 << 20..3 << 20).contains(&written), "{written}");
    }

    #[tokio::test]
    async fn a_job_that_writes_more_than_its_bound_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let bound = DiskBound {
            scratch: folder.path().join("scratch"),
            layers: folder.path().join("layers"),
            bytes: 64 << 20,
        };
        std::fs::create_dir(&bound.scratch).unwrap();
        let file = bound.scratch.join("file");
        let (excess, ()) = tokio::join!(bound.exceeded(), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            std::fs::write(file, vec![1; 80 << 20]).unwrap();
        });
        assert_eq!(excess.bound, 64 << 20);
        assert!(excess.written >= 80 << 20, "{excess:?}");
    }
}
