//! Folders that are made once per key and shared by the processes of a work folder, bounded.
//!
//! ```text
//! FOLDER/KEY/      complete
//! FOLDER/KEY.lock  held while it is made (exclusive) or used (shared); its time is that of the last use
//! FOLDER/.new-*    being made; its file `maker` is locked as long as its process lives
//! ```
//!
//! Locks end with their process, so none waits for a killed one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use edgewright_process::CancellationToken;
use tempfile::TempDir;

use crate::VmError;

/// In a folder that is being made.
const MAKER: &str = "maker";
/// What such a folder's name begins with.
const NEW: &str = ".new-";
/// The age at which such a folder without a lock was left by a killed process.
const ABANDONED_AFTER: Duration = Duration::from_mins(10);
/// The pause between two attempts to get a folder.
const TURN_PAUSE: Duration = Duration::from_millis(100);

/// The folders of a work folder.
#[derive(Debug, Clone)]
pub struct Folders {
    folder: PathBuf,
    limits: Limits,
    is_complete: fn(&Path) -> bool,
}

/// What is kept: beyond it, what was not used for the longest time is removed. What is in use stays.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Number of folders.
    pub count: usize,
    /// What all of them take on disk, in bytes.
    pub bytes: u64,
}

/// A complete folder. It stays as long as this lives.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    _used: File,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claim {
    /// It is there.
    Found(Held),
    /// It is to be made. Others that claim it wait.
    Make(NewFolder),
}

/// A folder that is being made. It is removed unless it is finished.
#[derive(Debug)]
pub struct NewFolder {
    folders: Folders,
    key: String,
    new: TempDir,
    maker: File,
    turn: File,
}

impl Folders {
    /// Those in a folder, which is made when it is needed. `is_complete` is whether a folder of an earlier
    /// process is as this one would make it.
    pub const fn new(folder: PathBuf, limits: Limits, is_complete: fn(&Path) -> bool) -> Self {
        Self { folder, limits, is_complete }
    }

    /// The folder of a key, which is a file name without a dot. A process that makes it is waited for.
    ///
    /// # Errors
    /// Files cannot be created or locked, or `cancel` fired.
    pub async fn claim(&self, key: &str, cancel: &CancellationToken) -> Result<Claim, VmError> {
        loop {
            let (this, key) = (self.clone(), key.to_owned());
            if let Some(claim) = blocking(move || this.attempt(&key)).await? {
                return Ok(claim);
            }
            tokio::select! {
                () = tokio::time::sleep(TURN_PAUSE) => {}
                () = cancel.cancelled() => return Err(VmError::Cancelled),
            }
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key)
    }

    fn lock(&self, key: &str) -> Result<File, VmError> {
        let path = self.folder.join(format!("{key}.lock"));
        File::options().create(true).append(true).open(&path).map_err(VmError::io("create", path))
    }

    fn attempt(&self, key: &str) -> Result<Option<Claim>, VmError> {
        fs::create_dir_all(&self.folder).map_err(VmError::io("create", &self.folder))?;
        if let Some(held) = self.find(key)? {
            return Ok(Some(Claim::Found(held)));
        }
        let turn = self.lock(key)?;
        // Another process may have made it meanwhile.
        if turn.try_lock().is_err() || (self.is_complete)(&self.path(key)) {
            return Ok(None);
        }
        self.remove_abandoned();
        self.prune();
        let failed = || VmError::io("create a folder in", &self.folder);
        let new = tempfile::Builder::new().prefix(NEW).tempdir_in(&self.folder).map_err(failed())?;
        let maker = File::create(new.path().join(MAKER)).map_err(failed())?;
        maker.lock().map_err(failed())?;
        Ok(Some(Claim::Make(NewFolder { folders: self.clone(), key: key.to_owned(), new, maker, turn })))
    }

    /// The folder, if it is there and no process makes or removes it.
    fn find(&self, key: &str) -> Result<Option<Held>, VmError> {
        let path = self.path(key);
        if !(self.is_complete)(&path) {
            return Ok(None);
        }
        let used = self.lock(key)?;
        if used.try_lock_shared().is_err() || !(self.is_complete)(&path) {
            return Ok(None);
        }
        // Without it, the folder only seems older.
        let _ = used.set_modified(SystemTime::now());
        Ok(Some(Held { path, _used: used }))
    }

    /// Removes what killed processes left.
    fn remove_abandoned(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(NEW) {
                continue;
            }
            let path = entry.path();
            let is_abandoned = match File::options().append(true).open(path.join(MAKER)) {
                Ok(maker) => maker.try_lock().is_ok(),
                Err(_) => modified(&path)
                    .and_then(|time| time.elapsed().ok())
                    .is_some_and(|age| age > ABANDONED_AFTER),
            };
            if is_abandoned {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }

    /// Makes room for one more.
    fn prune(&self) {
        let mut kept: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !entry.file_name().to_string_lossy().contains('.') && path.is_dir() {
                let used = modified(&path.with_extension("lock")).unwrap_or(SystemTime::UNIX_EPOCH);
                let bytes = size_of(&path);
                kept.push((used, path, bytes));
            }
        }
        kept.sort();
        let (mut count, mut bytes) = (kept.len(), kept.iter().map(|(_, _, bytes)| bytes).sum::<u64>());
        for (_, path, size) in kept {
            if count < self.limits.count && bytes <= self.limits.bytes {
                break;
            }
            let lock = File::options().create(true).append(true).open(path.with_extension("lock"));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok()) {
                let _ = fs::remove_file(path.with_extension("lock"));
                (count, bytes) = (count - 1, bytes.saturating_sub(size));
            }
        }
    }
}

impl Held {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl NewFolder {
    /// Where its files are made.
    pub fn path(&self) -> &Path {
        self.new.path()
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// It cannot be renamed, or was removed since.
    pub async fn finish(self) -> Result<Held, VmError> {
        blocking(move || {
            let Self { folders, key, new, maker, turn } = self;
            let maker_path = new.path().join(MAKER);
            fs::remove_file(&maker_path).map_err(VmError::io("remove", maker_path))?;
            let target = folders.path(&key);
            // Of an earlier version, or cut off. A complete one is of a process that got a new lock file,
            // because this one's was pruned.
            if !(folders.is_complete)(&target) {
                let _ = fs::remove_dir_all(&target);
                fs::rename(new.path(), &target).map_err(VmError::io("write", &target))?;
                let _ = new.keep();
            }
            drop((maker, turn));
            folders.find(&key)?.ok_or_else(|| VmError::Host(format!("{} was removed", target.display())))
        })
        .await
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

/// The bytes that files take on disk.
fn size_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.blocks() * 512)).sum()
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VmError> + Send + 'static,
) -> Result<T, VmError> {
    let lost = |error: tokio::task::JoinError| Err(VmError::Host(format!("a task failed: {error}")));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { count: 6, bytes: 1 << 30 };

    fn folders(folder: &Path) -> Folders {
        Folders::new(folder.to_owned(), LIMITS, |path| path.join("done").is_file())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    async fn make(folders: &Folders, key: &str) -> Held {
        match folders.claim(key, &CancellationToken::new()).await.unwrap() {
            Claim::Found(held) => held,
            Claim::Make(new) => {
                fs::write(new.path().join("done"), key).unwrap();
                new.finish().await.unwrap()
            }
        }
    }

    #[tokio::test]
    async fn a_folder_is_made_once_and_others_wait_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let folders = folders(folder.path());
        let cancel = CancellationToken::new();
        let Claim::Make(first) = folders.claim("a", &cancel).await.unwrap() else { panic!("it is new") };
        // Neither a cut-off folder of an earlier process nor a wait is an answer.
        fs::create_dir(folder.path().join("a")).unwrap();
        let second = tokio::time::timeout(Duration::from_millis(300), folders.claim("a", &cancel)).await;
        assert!(second.is_err(), "{second:?}");
        fs::write(first.path().join("done"), "x").unwrap();
        let held = first.finish().await.unwrap();
        let Claim::Found(found) = folders.claim("a", &cancel).await.unwrap() else { panic!("it is made") };
        assert_eq!((held.path(), names(folder.path())), (found.path(), vec!["a".to_owned()]));
        assert!(!held.path().join(MAKER).exists());
        // A failure leaves nothing, and the next one's turn comes.
        let Claim::Make(failed) = folders.claim("b", &cancel).await.unwrap() else { panic!("it is new") };
        cancel.cancel();
        assert!(matches!(folders.claim("b", &cancel).await, Err(VmError::Cancelled)));
        drop(failed);
        drop(make(&folders, "b").await);
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[tokio::test]
    async fn what_was_not_used_for_longest_goes_unless_it_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let folders = folders(folder.path());
        let mut first = None;
        for number in 0..LIMITS.count {
            let key = format!("folder{number}");
            let held = make(&folders, &key).await;
            let lock = File::options().append(true).open(folder.path().join(format!("{key}.lock"))).unwrap();
            lock.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64)).unwrap();
            first.get_or_insert(held);
        }
        // The oldest is in use.
        drop(make(&folders, "one-more").await);
        let left = names(folder.path());
        assert_eq!(left.len(), LIMITS.count);
        assert!(left.contains(&"folder0".to_owned()) && !left.contains(&"folder1".to_owned()), "{left:?}");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_being_made_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in [".new-killed", ".new-made", ".new-fresh"] {
            fs::create_dir(path(name)).unwrap();
        }
        File::create(path(".new-killed").join(MAKER)).unwrap();
        let made = File::create(path(".new-made").join(MAKER)).unwrap();
        made.lock().unwrap();
        folders(folder.path()).remove_abandoned();
        assert_eq!(names(folder.path()), [".new-fresh", ".new-made"]);
        drop(made);
    }
}
