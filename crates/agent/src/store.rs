//! The state on disk. Every write is complete or absent after a power cut: a temporary file, `fsync`,
//! `rename`, and `fsync` of the folder. Blocking.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::machine::{RECORD_VERSION, Record};

/// Maximum length of a file of the state, in bytes.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;
const RECORD: &str = "state.json";
const STREAM: &str = "stream";
const LOCK: &str = "lock";
/// Mode of files and folders: the state names registries and check results.
const PRIVATE: u32 = 0o600;

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// `read`, `write`, `lock`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process uses it.
    #[error("{} is in use by another process", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The record was written by a later version of the agent.
    #[error("{} was written by a later version: version {found}, this agent reads {RECORD_VERSION}", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// The folder of the state.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// Opens it, and creates it if it is missing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut folder = std::fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(path).map_err(StoreError::io("create", path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// The path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks it for the one process that may write, until the file is closed.
    pub fn lock(&self) -> Result<File, StoreError> {
        let path = self.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE).open(&path);
        let file = file.map_err(StoreError::io("open", &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path: self.path.clone() }),
            Err(error) => Err(StoreError::io("lock", &path)(error.into())),
        }
    }

    /// Reads the record; a new one if there is none. A damaged one is kept aside for inspection, and the
    /// updater's findings replace it.
    pub fn load(&self, now: Timestamp) -> Result<Record, StoreError> {
        let path = self.join(RECORD);
        let Some(bytes) = read(&path)? else { return Ok(Record::new(now)) };
        let version = serde_json::from_slice::<Versioned>(&bytes).map(|it| it.version);
        if let Ok(found) = version
            && found > RECORD_VERSION
        {
            return Err(StoreError::Newer { path, found });
        }
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(record),
            Err(error) => {
                tracing::error!(file.path = %path.display(), %error, "the state is damaged, starting without it");
                let aside = self.join("state.json.damaged");
                std::fs::rename(&path, &aside).map_err(StoreError::io("rename", &path))?;
                Ok(Record::new(now))
            }
        }
    }

    /// Writes the record.
    pub fn save(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.join(RECORD);
        // A record of strings, numbers and enums always serialises.
        let bytes = serde_json::to_vec(record).unwrap_or_default();
        write(&path, &bytes)
    }

    /// The name of this device's stream of reports; made when the state is new.
    pub fn stream(&self) -> Result<String, StoreError> {
        let path = self.join(STREAM);
        let known = read(&path)?.and_then(|bytes| String::from_utf8(bytes).ok());
        let is_id = |text: &String| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(known) = known.map(|text| text.trim().to_owned()).filter(is_id) {
            return Ok(known);
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| StoreError::io("make a random name for", &path)(std::io::Error::other(error)))?;
        let stream = edgewright_model::digest::hex(&random);
        write(&path, stream.as_bytes())?;
        Ok(stream)
    }
}

/// Any version of the record.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// Reads a file of the state; none if it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    Ok(Some(bytes))
}

/// Writes a file, all or nothing, durably.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let unfinished = path.with_extension("new");
    let fail = |error| StoreError::io("write", path)(error);
    let open = OpenOptions::new().create(true).truncate(true).write(true).mode(PRIVATE).open(&unfinished);
    let mut file = open.map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    drop(file);
    std::fs::rename(&unfinished, path).map_err(fail)?;
    sync_parent(path).map_err(fail)
}

/// Makes the names in a file's folder durable.
pub(crate) fn sync_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-28T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&folder.path().join("new")).unwrap();
        let mut record = state.load(now()).unwrap();
        assert_eq!(record, Record::new(now()));
        record.boot = "b".to_owned();
        state.save(&record).unwrap();
        assert_eq!(state.load(now()).unwrap(), record);
        let stream = state.stream().unwrap();
        assert_eq!(state.stream().unwrap(), stream);
    }

    #[test]
    fn a_damaged_record_is_kept_aside_and_a_later_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        for damaged in [&b""[..], b"{", b"\0\0\0", br#"{"version":1}"#] {
            std::fs::write(state.join(RECORD), damaged).unwrap();
            assert_eq!(state.load(now()).unwrap(), Record::new(now()));
            assert_eq!(std::fs::read(state.join("state.json.damaged")).unwrap(), damaged);
        }
        std::fs::write(state.join(RECORD), br#"{"version":99,"state":{"state":"dreaming"}}"#).unwrap();
        assert!(matches!(state.load(now()), Err(StoreError::Newer { found: 99, .. })));
    }

    #[test]
    fn one_process_writes() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let held = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(StoreError::InUse { .. })));
        drop(held);
        state.lock().unwrap();
    }
}
