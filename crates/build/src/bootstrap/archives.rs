//! The cache of downloaded packages: files by their SHA-256. Jobs write to it, so nothing in it is believed:
//! an archive is hashed while it is copied out of the cache and into it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use edgewright_model::lock::LockedPackage;

/// The size limit of cached packages, in bytes; the oldest are removed first.
const ARCHIVES_LIMIT: u64 = 3 * 1024 * 1024 * 1024;
/// Bytes that are copied and hashed at once.
const CHUNK: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Archives {
    /// Where versions without hashes kept archives, by name.
    before: PathBuf,
    by_hash: PathBuf,
}

impl Archives {
    pub(super) fn new(folder: &Path) -> Self {
        Self { before: folder.to_owned(), by_hash: folder.join("sha256") }
    }

    /// Copies a package's archive to `to`, if the cache has it and its hash is right. A wrong one is removed.
    pub(super) fn take(&self, package: &LockedPackage, to: &Path) -> io::Result<()> {
        let Some(hash) = &package.sha256 else { return Ok(()) };
        let cached = self.by_hash.join(hash.hex());
        let file = match open(&cached) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, path = %cached.display(), "cannot read a cached package");
                return Ok(());
            }
        };
        if copy_verified(file, to, hash, package.size)? {
            return Ok(());
        }
        tracing::warn!(package = %package.name, path = %cached.display(), "removed a cached package: its hash is wrong");
        std::fs::remove_file(&cached)
    }

    /// Keeps a package's archive; whether it is the locked one. A package whose hash is not known is not
    /// kept.
    pub(super) fn save(&self, package: &LockedPackage, from: &Path) -> io::Result<bool> {
        let Some(hash) = &package.sha256 else { return Ok(true) };
        let file = match open(from) {
            Ok(file) => file,
            // Packages may have been installed without an archive in the end.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        std::fs::create_dir_all(&self.by_hash)?;
        let partial = self.by_hash.join(format!(".{}.{}", hash.hex(), std::process::id()));
        if !copy_verified(file, &partial, hash, package.size)? {
            return Ok(false);
        }
        std::fs::rename(&partial, self.by_hash.join(hash.hex()))?;
        Ok(true)
    }

    /// Removes the oldest archives beyond the limit, and those that were cached by name.
    pub(super) fn bound(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.before).into_iter().flatten().flatten() {
            if entry.file_type()?.is_file() {
                std::fs::remove_file(entry.path())?;
            }
        }
        if self.by_hash.is_dir() { bound(&self.by_hash, ARCHIVES_LIMIT) } else { Ok(()) }
    }
}

/// Opens a regular file; a link in its place is not followed.
fn open(path: &Path) -> io::Result<File> {
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}

/// Copies a file and hashes the bytes that are written. If the hash or size is another one, the copy is
/// removed, and the answer is no.
fn copy_verified(mut from: File, to: &Path, hash: &Digest, size: Option<u64>) -> io::Result<bool> {
    let _ = std::fs::remove_file(to);
    let mut copy = File::create_new(to)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut chunk = vec![0; CHUNK];
    let mut length: u64 = 0;
    let is_too_long = |length: u64| size.is_some_and(|size| length > size);
    loop {
        let count = from.read(&mut chunk)?;
        length += count as u64;
        if count == 0 || is_too_long(length) {
            break;
        }
        hasher.update(&chunk[..count]);
        copy.write_all(&chunk[..count])?;
    }
    let is_right = size.is_none_or(|size| size == length) && hasher.finish() == *hash;
    if !is_right {
        std::fs::remove_file(to)?;
    }
    Ok(is_right)
}

fn bound(folder: &Path, limit: u64) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), entry.path()));
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in files {
        if total <= limit {
            break;
        }
        std::fs::remove_file(path)?;
        total -= size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn package(content: &str) -> LockedPackage {
        let mut package = LockedPackage::new("curl", "8.0", "amd64");
        package.sha256 = Some(Digest::of(content));
        package.size = Some(content.len() as u64);
        package
    }

    #[test]
    fn archives_are_verified_on_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::new(&folder.path().join("archives"));
        let (job, next) = (folder.path().join("job.deb"), folder.path().join("next.deb"));
        let right = package("right");
        std::fs::write(&job, "wrong").unwrap();
        assert!(!archives.save(&right, &job).unwrap(), "a job's file with another hash");
        archives.take(&right, &next).unwrap();
        assert!(!next.exists());

        std::fs::write(&job, "right").unwrap();
        assert!(archives.save(&right, &job).unwrap());
        archives.take(&right, &next).unwrap();
        assert_eq!(std::fs::read_to_string(&next).unwrap(), "right");
        // The job's files are no links to the cache's.
        let cached = archives.by_hash.join(right.sha256.as_ref().unwrap().hex());
        for path in [&job, &next, &cached] {
            assert_eq!(std::fs::metadata(path).unwrap().nlink(), 1, "{}", path.display());
        }
        std::fs::write(&next, "written by a maintainer script").unwrap();
        assert_eq!(std::fs::read_to_string(&cached).unwrap(), "right");

        // What a job put into the cache is neither used nor kept; nor is a link.
        std::fs::remove_file(&next).unwrap();
        for poison in ["wrong", "right and more"] {
            std::fs::write(&cached, poison).unwrap();
            archives.take(&right, &next).unwrap();
            assert!(!next.exists() && !cached.exists(), "{poison}");
        }
        std::os::unix::fs::symlink(&job, &cached).unwrap();
        archives.take(&right, &next).unwrap();
        assert!(!next.exists());
    }

    #[test]
    fn packages_without_a_hash_are_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::new(&folder.path().join("archives"));
        std::fs::create_dir_all(&archives.before).unwrap();
        let old = archives.before.join("curl_8.0_amd64.deb");
        std::fs::write(&old, "of an earlier version").unwrap();
        let (job, next) = (folder.path().join("job.deb"), folder.path().join("next.deb"));
        std::fs::write(&job, "x").unwrap();
        let package = LockedPackage::new("curl", "8.0", "amd64");
        assert!(archives.save(&package, &job).unwrap());
        archives.take(&package, &next).unwrap();
        archives.bound().unwrap();
        assert!(!next.exists() && !old.exists());
    }

    #[test]
    fn the_cache_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(folder.path().join(name), [0; 10]).unwrap();
        }
        bound(folder.path(), 20).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
