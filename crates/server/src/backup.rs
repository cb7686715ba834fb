//! Backup of both databases into one tar file, and back.
//!
//! ```text
//! edgewright-backup.json   version, when, by what, digests
//! control.db               copied first: so every image that it names is in the registry's copy
//! registry.db
//! ```
//!
//! Blobs are files that never change: they are copied by whatever copies files, after the backup.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use edgewright_model::error::ErrorClass;
use edgewright_registry::{RegistryError, copy_metadata};
use edgewright_store::{Store, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::folder::{DataFolder, FolderError};

/// The version of the layout.
const VERSION: u32 = 1;
const MANIFEST: &str = "edgewright-backup.json";
const CONTROL: &str = "control.db";
const REGISTRY: &str = "registry.db";
/// The manifest is small.
const MANIFEST_LIMIT: u64 = 64 * 1024;

/// What a backup says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout.
    pub version: u32,
    /// The Edgewright that made it.
    pub edgewright: String,
    /// When.
    pub created: Timestamp,
    /// Digest of `control.db`.
    pub control: Digest,
    /// Digest of `registry.db`.
    pub registry: Digest,
}

/// Why a backup was not made or taken back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Control's database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry's database.
    #[error("the registry's database cannot be copied")]
    Registry(#[from] RegistryError),
    /// A file.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to back up.
    #[error("{} holds no databases", .root.display())]
    Nothing {
        /// The folder.
        root: PathBuf,
    },
    /// The folder to restore into has something in it.
    #[error("{} is not empty", .root.display())]
    NotEmpty {
        /// The folder.
        root: PathBuf,
    },
    /// The file is no backup, or a damaged one.
    #[error("{} is no backup that can be restored: {why}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl BackupError {
    /// What kind of fault it is.
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
            Self::Unfit { .. } => ErrorClass::UserFault,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Folder(error) => Some(error.hint()),
            Self::Nothing { .. } => Some("choose the server's data folder with --data DIR".to_owned()),
            Self::NotEmpty { .. } => Some("restore into a new folder with --data DIR".to_owned()),
            _ => None,
        }
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { what, path, source }
}

/// Copies both databases of a data folder into a file that does not exist, also while a server runs on the folder.
pub async fn backup(folder: &DataFolder, file: &Path, now: Timestamp) -> Result<Manifest, BackupError> {
    if !(is_there(&folder.database()).await && is_there(&folder.registry().join(REGISTRY)).await) {
        return Err(BackupError::Nothing { root: folder.root().to_owned() });
    }
    let near = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new()
        .prefix(".edgewright-backup-")
        .tempdir_in(near)
        .map_err(io("make a folder beside", file))?;
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
        // Complete or not at all, and never over another backup.
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

/// Whether a folder holds anything. One that cannot be read is found out by whoever writes to it.
async fn holds_anything(folder: &Path) -> bool {
    match tokio::fs::read_dir(folder).await {
        Ok(mut entries) => entries.next_entry().await.is_ok_and(|entry| entry.is_some()),
        Err(_) => false,
    }
}

/// Fills an empty folder from a backup. Channels answer nothing until the first release afterwards.
pub async fn restore(file: &Path, folder: &DataFolder) -> Result<Manifest, BackupError> {
    let root = folder.root();
    if holds_anything(root).await {
        return Err(BackupError::NotEmpty { root: root.to_owned() });
    }
    let _lock = folder.lock()?;
    let registry = folder.registry();
    tokio::fs::create_dir_all(&registry).await.map_err(io("make", &registry))?;
    let (file, to, registry) =
        (file.to_owned(), folder.root().join("control.db.part"), registry.join(REGISTRY));
    let control = to.clone();
    let manifest = blocking(move || unpack(&file, &control, &registry)).await?;
    let store = Store::open(&to).await?;
    store.forget_positions().await?;
    store.close().await;
    // Last: a folder whose restore was cut off holds no control.db, and so is no data folder.
    tokio::fs::rename(&to, folder.database()).await.map_err(io("name", &to))?;
    Ok(manifest)
}

fn pack(manifest: &Manifest, file: &Path, parts: &[(&str, &Path)]) -> Result<(), BackupError> {
    let failed = |source| BackupError::Io { what: "write", path: file.to_owned(), source };
    let mut tar = tar::Builder::new(File::create_new(file).map_err(failed)?);
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| failed(error.into()))?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, MANIFEST, text.as_slice()).map_err(failed)?;
    for (name, path) in parts {
        let mut part = File::open(path).map_err(failed)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(part.metadata().map_err(failed)?.len());
        tar.append_data(&mut header, name, &mut part).map_err(failed)?;
    }
    let mut file = tar.into_inner().map_err(failed)?;
    file.flush().and_then(|()| file.sync_all()).map_err(failed)
}

fn unpack(file: &Path, control: &Path, registry: &Path) -> Result<Manifest, BackupError> {
    let unfit = |why: String| BackupError::Unfit { path: file.to_owned(), why };
    let broken = |error: std::io::Error| unfit(error.to_string());
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
                let read: Manifest = serde_json::from_str(&text).map_err(|error| unfit(error.to_string()))?;
                if read.version != VERSION {
                    return Err(unfit(format!("its layout is version {}", read.version)));
                }
                manifest = Some(read);
                continue;
            }
            CONTROL => control,
            REGISTRY => registry,
            _ => return Err(unfit(format!("it holds `{}`", name.escape_debug()))),
        };
        let mut part = File::create(to).map_err(io("make", to))?;
        std::io::copy(&mut entry, &mut part).and_then(|_| part.sync_all()).map_err(io("write", to))?;
    }
    let manifest = manifest.ok_or_else(|| unfit(format!("{MANIFEST} is missing")))?;
    for (path, expected) in [(control, &manifest.control), (registry, &manifest.registry)] {
        if !path.exists() || digest(path)? != *expected {
            return Err(unfit("it is damaged".to_owned()));
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
        what: "work on",
        path: PathBuf::from("the backup"),
        source: std::io::Error::other(failure),
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}
