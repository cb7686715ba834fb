//! The data folder, and the lock that gives it one server.
//!
//! ```text
//! DATA/lock            held by the server; its text names the process
//!      control.db      runs, releases, channels
//!      registry/       images
//!      sources/        clones
//!      work/           jobs: scratch, container storage, caches
//!      operator-token  the token of the operator's commands (mode 0600)
//!      report-token    the token of devices for their reports (mode 0600)
//!      logs/runs/N/    one file per node
//!      reserve         disk space that is set aside for a start on a full disk
//! ```

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use edgewright_api::RegistryAddress;
use edgewright_model::error::ErrorClass;
use serde::{Deserialize, Serialize};

use crate::reserve::Reserve;

/// The paths in a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFolder {
    root: PathBuf,
}

/// What a server writes about itself into the lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    /// The address of its plain HTTP listener for this machine, once it listens.
    pub address: Option<String>,
    /// The address of its registry for clients.
    #[serde(default)]
    pub registry: Option<RegistryAddress>,
    /// The file with the operator's token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another server has it.
    #[error("the data folder {} is in use{}", .root.display(), held_by(.holder.as_ref()))]
    Held {
        /// The folder.
        root: PathBuf,
        /// The server, if the lock file can be read.
        holder: Option<Holder>,
    },
    /// It cannot be created or read.
    #[error("cannot use the data folder {}", .root.display())]
    Io {
        /// The folder.
        root: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

fn held_by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" by process {}", holder.pid))
}

impl FolderError {
    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Held { .. } => ErrorClass::Conflict,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorClass::Denied,
                std::io::ErrorKind::NotFound => ErrorClass::NotFound,
                _ => ErrorClass::Unavailable,
            },
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Held { holder, .. } => match holder.as_ref().and_then(|holder| holder.address.as_ref()) {
                Some(address) => format!(
                    "use that server with --server http://{address}, or another folder with --data DIR"
                ),
                None => "wait until it ends, or choose another folder with --data DIR".to_owned(),
            },
            Self::Io { .. } => "choose another folder with --data DIR or EDGEWRIGHT_DATA".to_owned(),
        }
    }
}

impl DataFolder {
    /// The folder at a path. It is not created.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Control's database.
    pub fn database(&self) -> PathBuf {
        self.root.join("control.db")
    }

    /// The registry's folder.
    pub fn registry(&self) -> PathBuf {
        self.root.join("registry")
    }

    /// The clones' folder.
    pub fn sources(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// The jobs' folder.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The token for reports of devices.
    pub fn report_token(&self) -> PathBuf {
        self.root.join("report-token")
    }

    /// The operator's token, unless the settings name another file.
    pub fn operator_token(&self) -> PathBuf {
        self.root.join("operator-token")
    }

    /// The server that holds the lock; none if the lock is free.
    pub fn holder(&self) -> Option<Holder> {
        let file = File::open(self.root.join("lock")).ok()?;
        match file.try_lock_shared() {
            Ok(()) | Err(TryLockError::Error(_)) => None,
            Err(TryLockError::WouldBlock) => read_holder(&file).or_else(|| Some(Holder::default())),
        }
    }

    /// Creates the folder if it is missing, and holds its lock until the guard is dropped.
    pub fn lock(&self) -> Result<FolderLock, FolderError> {
        let io = |source| FolderError::Io { root: self.root.clone(), source };
        std::fs::create_dir_all(&self.root).map_err(io)?;
        // Not truncated on opening: the text belongs to the process that holds the lock.
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.root.join("lock"))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(io(source)),
            Err(TryLockError::WouldBlock) => {
                return Err(FolderError::Held { root: self.root.clone(), holder: read_holder(&file) });
            }
        }
        Reserve::new(&self.root).release();
        let lock = FolderLock { file };
        lock.announce(Holder::default()).map_err(io)?;
        Ok(lock)
    }
}

fn read_holder(mut file: &File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The lock on a data folder. The operating system releases it when the process ends, even if it is killed.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
}

impl FolderLock {
    /// Writes the holder into the lock file, with the id of this process.
    pub fn announce(&self, holder: Holder) -> std::io::Result<()> {
        let holder = Holder { pid: std::process::id(), ..holder };
        let text = serde_json::to_string(&holder)?;
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_fails_and_names_the_first_holder() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(temporary.path().join("data"));
        assert_eq!(folder.holder(), None);
        let lock = folder.lock().unwrap();
        lock.announce(Holder { address: Some("127.0.0.1:5080".to_owned()), ..Holder::default() }).unwrap();
        assert_eq!(folder.holder().unwrap().pid, std::process::id());
        let error = folder.lock().unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict);
        assert!(error.to_string().ends_with(&format!("by process {}", std::process::id())));
        assert!(error.hint().contains("http://127.0.0.1:5080"));
        drop(lock);
        assert_eq!(folder.holder(), None);
        folder.lock().unwrap();
    }
}
