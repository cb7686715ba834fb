//! Backup of both databases into one tar file, and restore.
//!
//! ```text
//! edgewright-backup.json   version, time, program, digests
//! control.db               copied first, so that the registry's copy contains every image that it names
//! registry.db
//! ```
//!
//! Blobs are files that never change: copy them with any tool after the backup. The file has mode 0600,
//! because control.db contains what was built and where from.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use edgewright_model::error::ErrorClass;
use edgewright_registry::{RegistryError, copy_metadata};
use edgewright_store::{Store, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::folder::{DataFolder, FolderError};

/// The version of the file's layout.
const VERSION: u32 = 1;
/// Mode of the backup and its entries.
const PRIVATE: u32 = 0o600;
const MANIFEST: &str = "edgewright-backup.json";
const CONTROL: &str = "control.db";
const REGISTRY: &str = "registry.db";
/// The largest manifest of a backup that is read, in bytes.
const MANIFEST_LIMIT: u64 = 64 * 1024;

/// The manifest of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the file's layout.
    pub version: u32,
    /// Version of Edgewright that made it.
    pub edgewright: String,
    /// When it was made.
    pub created: Timestamp,
    /// Digest of `control.db`.
    pub control: Digest,
    /// Digest of `registry.db`.
    pub registry: Digest,
}

/// Why a backup or restore failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Control's database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry's database.
    #[error("cannot copy the registry's database")]
    Registry(#[from] RegistryError),
    /// A file.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The folder contains nothing to back up.
    #[error("no databases in {}", .root.display())]
    Nothing {
        /// The folder.
        root: PathBuf,
    },
    /// The folder to restore into is not empty.
    #[error("cannot restore into {}: the folder is not empty", .root.display())]
    NotEmpty {
        /// The folder.
        root: PathBuf,
    },
    /// The file is not a backup, or damaged.
    #[error("invalid backup {}: {reason}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
}

impl BackupError {
    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Folder(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorClass::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorClass::Denied,
                std::io::ErrorKind::AlreadyExists => ErrorClass::Conflict,
                _ => ErrorClass::Unavailable,
            },
            Self::Nothing { .. } => ErrorClass::NotFound,
            Self::NotEmpty { .. } => ErrorClass::Conflict,
            Self::Invalid { .. } => ErrorClass::UserFault,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Folder(error) => Some(error.hint()),
            Self::Nothing { .. } => Some("choose the server's data folder with --data DIR".to_owned()),
            Self::NotEmpty { .. } => Some("restore into a new folder with --data DIR".to_owned()),
            Self::Invalid { .. } => Some(
                "choose a file that `edgewright backup` of this version or an older one wrote".to_owned(),
            ),
            _ => None,
        }
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { what, path, source }
}

/// Copies both databases of a data folder into a new file with mode 0600, also while a server runs on the
/// folder.
pub async fn backup(folder: &DataFolder, file: &Path, now: Timestamp) -> Result<Manifest, BackupError> {
    if !(is_there(&folder.database()).await && is_there(&folder.registry().join(REGISTRY)).await) {
        return Err(BackupError::Nothing { root: folder.root().to_owned() });
    }
    let near = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new()
        .prefix(".edgewright-backup-")
        .tempdir_in(near)
        .map_err(io("create a folder beside", file))?;
    let (control, registry) = (scratch.path().join(CONTROL), scratch.path().join(REGISTRY));
    Store::copy(&folder.database(), &control).await?;
    copy_metadata(&folder.registry(), &registry).await?;
    let file = file.to_owned();
    blocking(move || {
        let manifest = Manifest {
            version: VERSION,
            edgewright: env!("CARGO_PKG_VERSION").to_owned(),
            created: now,
            control: digest(&control)?,
            registry: digest(&registry)?,
        };
        let whole = scratch.path().join("whole.tar");
        pack(&manifest, &whole, &[(CONTROL, &control), (REGISTRY, &registry)])?;
        // Atomic, and never overwrites another backup.
        std::fs::hard_link(&whole, &file).map_err(io("write", &file))?;
        if let Ok(folder) = File::open(file.parent().unwrap_or(Path::new("."))) {
            drop(folder.sync_all());
        }
        Ok(manifest)
    })
    .await
}

async fn is_there(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(false)
}

/// Whether a folder contains anything. A folder that cannot be read counts as empty; writing to it fails
/// later. A new ext4 volume of a cluster has `lost+found`.
async fn has_entries(folder: &Path) -> bool {
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return false };
    while let Ok(Some(entry)) = entries.next_entry().await {
        if entry.file_name() != "lost+found" {
            return true;
        }
    }
    false
}

/// Fills an empty folder from a backup. Channels point to nothing until the first release afterwards.
pub async fn restore(file: &Path, folder: &DataFolder) -> Result<Manifest, BackupError> {
    let root = folder.root();
    if has_entries(root).await {
        return Err(BackupError::NotEmpty { root: root.to_owned() });
    }
    let _lock = folder.lock()?;
    let registry = folder.registry();
    tokio::fs::create_dir_all(&registry).await.map_err(io("create", &registry))?;
    let (file, to, registry) =
        (file.to_owned(), folder.root().join("control.db.part"), registry.join(REGISTRY));
    let control = to.clone();
    let manifest = blocking(move || unpack(&file, &control, &registry)).await?;
    let store = Store::open(&to).await?;
    store.forget_positions().await?;
    store.close().await;
    // Last: a folder whose restore was interrupted has no control.db, so it is not a data folder.
    tokio::fs::rename(&to, folder.database()).await.map_err(io("rename", &to))?;
    Ok(manifest)
}

fn pack(manifest: &Manifest, file: &Path, parts: &[(&str, &Path)]) -> Result<(), BackupError> {
    let failed = |source| BackupError::Io { what: "write", path: file.to_owned(), source };
    let created = File::options().write(true).create_new(true).mode(PRIVATE).open(file);
    let mut tar = tar::Builder::new(created.map_err(failed)?);
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| failed(error.into()))?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(PRIVATE);
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, MANIFEST, text.as_slice()).map_err(failed)?;
    for (name, path) in parts {
        let mut part = File::open(path).map_err(failed)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(PRIVATE);
        header.set_size(part.metadata().map_err(failed)?.len());
        tar.append_data(&mut header, name, &mut part).map_err(failed)?;
    }
    let mut file = tar.into_inner().map_err(failed)?;
    file.flush().and_then(|()| file.sync_all()).map_err(failed)
}

fn unpack(file: &Path, control: &Path, registry: &Path) -> Result<Manifest, BackupError> {
    let invalid = |reason: String| BackupError::Invalid { path: file.to_owned(), reason };
    let broken = |error: std::io::Error| invalid(error.to_string());
    let mut tar = tar::Archive::new(File::open(file).map_err(io("open", file))?);
    let mut manifest: Option<Manifest> = None;
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.display().to_string();
        // Names are compared, never used as paths.
        let to = match name.as_str() {
            MANIFEST => {
                let mut text = String::new();
                (&mut entry).take(MANIFEST_LIMIT).read_to_string(&mut text).map_err(broken)?;
                let read: Manifest =
                    serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
                if read.version != VERSION {
                    return Err(invalid(format!("unsupported version {} of its layout", read.version)));
                }
                manifest = Some(read);
                continue;
            }
            CONTROL => control,
            REGISTRY => registry,
            _ => return Err(invalid(format!("unexpected entry `{}`", name.escape_debug()))),
        };
        let mut part = File::create(to).map_err(io("create", to))?;
        std::io::copy(&mut entry, &mut part).and_then(|_| part.sync_all()).map_err(io("write", to))?;
    }
    let manifest = manifest.ok_or_else(|| invalid(format!("missing entry {MANIFEST}")))?;
    for (path, expected) in [(control, &manifest.control), (registry, &manifest.registry)] {
        if !path.exists() || digest(path)? != *expected {
            return Err(invalid("digest mismatch, the file is damaged".to_owned()));
        }
    }
    Ok(manifest)
}

fn digest(path: &Path) -> Result<Digest, BackupError> {
    let mut file = File::open(path).map_err(io("read", path))?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    std::io::copy(&mut file, &mut hasher).map_err(io("read", path))?;
    Ok(hasher.finish())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let failed = |failure| BackupError::Io {
        what: "process",
        path: PathBuf::from("the backup"),
        source: std::io::Error::other(failure),
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}
