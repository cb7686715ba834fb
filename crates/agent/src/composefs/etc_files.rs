//! `/etc` on the disk: reads an upper of an overlay, and makes the one that a merge came to.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use composefs::fsverity::{FsVerityHashValue as _, FsVerityHasher, Sha256HashValue};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::etc_merge::{Change, Kind, Meta, Node, Upper};

/// Entries of one upper; more are an error.
pub const MAX_ETC_ENTRIES: usize = 200_000;
/// Folders inside of each other in one upper.
pub const MAX_ETC_DEPTH: usize = 64;
/// Bytes of one file's extended attributes that are kept.
pub const MAX_XATTR_BYTES: usize = 65_536;

const OPAQUE: &str = "trusted.overlay.opaque";

/// Reads an upper. A folder that does not exist has no changes.
///
/// # Errors
/// Those of the file system; an upper with too many entries.
pub fn read_upper(root: &Path) -> io::Result<Upper> {
    let mut upper = Upper::new();
    if root.try_exists()? {
        read_folder(root, Path::new(""), 0, &mut upper)?;
    }
    Ok(upper)
}

fn read_folder(root: &Path, below: &Path, depth: usize, upper: &mut Upper) -> io::Result<()> {
    if depth > MAX_ETC_DEPTH {
        return Err(io::Error::other(format!("more than {MAX_ETC_DEPTH} folders inside of each other")));
    }
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let (path, full) = (below.join(entry.file_name()), entry.path());
        if upper.len() >= MAX_ETC_ENTRIES {
            return Err(io::Error::other(format!("more than {MAX_ETC_ENTRIES} changed files")));
        }
        let found = fs::symlink_metadata(&full)?;
        let is_directory = found.is_dir();
        upper.insert(path.clone(), read_change(&full, &found)?);
        if is_directory {
            read_folder(root, &path, depth + 1, upper)?;
        }
    }
    Ok(())
}

fn read_change(path: &Path, found: &fs::Metadata) -> io::Result<Change> {
    let kind = found.file_type();
    if kind.is_char_device() && found.rdev() == 0 {
        return Ok(Change::Whiteout);
    }
    let meta =
        Meta { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid(), xattrs: xattrs(path)? };
    if kind.is_dir() {
        let is_opaque = xattr(path, OPAQUE)?.is_some_and(|value| value == b"y");
        return Ok(Change::Directory { meta, is_opaque });
    }
    let kind = if kind.is_file() {
        Kind::File(digest_of(path)?)
    } else if kind.is_symlink() {
        Kind::Link(fs::read_link(path)?.into_os_string().into_vec())
    } else {
        Kind::Special(found.mode() & 0o170_000, found.rdev())
    };
    Ok(Change::Node(Node { kind, meta }))
}

/// The fs-verity digest of a file's content: the same that the image has for it.
fn digest_of(path: &Path) -> io::Result<String> {
    let mut hasher = FsVerityHasher::<Sha256HashValue>::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.digest().to_hex())
}

/// Whether an extended attribute is content. Overlays keep their own in `trusted.overlay.`, and security
/// labels come from the policy of the image.
pub fn is_content(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && name != b"security.selinux"
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; MAX_XATTR_BYTES];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(e) => return Err(e.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty() && is_content(name)) {
        if let Some(value) = xattr(path, OsStr::from_bytes(name))? {
            found.insert(name.to_vec(), value);
        }
    }
    Ok(found)
}

fn xattr(path: &Path, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_XATTR_BYTES];
    match rustix::fs::lgetxattr(path, name.as_ref(), &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Makes an upper in a folder that does not exist yet. Content comes from the old upper.
///
/// # Errors
/// Those of the file system.
pub fn write_upper(upper: &Upper, from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for (path, change) in upper {
        let target = to.join(path);
        match change {
            Change::Whiteout => {
                rustix::fs::mknodat(CWD, &target, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            Change::Directory { meta, .. } => {
                fs::create_dir(&target)?;
                set_meta(&target, meta, false)?;
            }
            Change::Node(node) => write_node(node, &from.join(path), &target)?,
        }
    }
    Ok(())
}

fn write_node(node: &Node, from: &Path, to: &Path) -> io::Result<()> {
    match &node.kind {
        Kind::Directory => {}
        Kind::File(_) => {
            fs::copy(from, to)?;
        }
        Kind::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), to)?,
        Kind::Special(kind, device) => {
            rustix::fs::mknodat(CWD, to, FileType::from_raw_mode(*kind), Mode::empty(), *device)?;
        }
    }
    set_meta(to, &node.meta, matches!(node.kind, Kind::Link(_)))?;
    let found = fs::symlink_metadata(from)?;
    let time = Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The owner first: changing it clears the bits of set-user-ID.
pub(crate) fn set_meta(path: &Path, meta: &Meta, is_link: bool) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(meta.uid), Some(meta.gid))?;
    if !is_link {
        fs::set_permissions(path, fs::Permissions::from_mode(meta.mode))?;
    }
    for (name, value) in &meta.xattrs {
        rustix::fs::lsetxattr(path, OsStr::from_bytes(name), value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Paths for a message, at most ten.
pub fn list(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 10;
    let mut shown: Vec<String> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    if paths.len() > SHOWN {
        shown.push(format!("and {} more", paths.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_is_written_as_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("d/empty")).unwrap();
        fs::write(from.join("d/file"), vec![7; 10_000]).unwrap();
        fs::set_permissions(from.join("d/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        std::os::unix::fs::symlink("file", from.join("d/link")).unwrap();
        let upper = read_upper(&from).unwrap();
        assert_eq!(upper.len(), 4);
        write_upper(&upper, &from, &to).unwrap();
        assert_eq!(read_upper(&to).unwrap(), upper);
        assert_eq!(fs::read(to.join("d/file")).unwrap(), vec![7; 10_000]);
    }

    #[test]
    fn a_missing_upper_has_no_changes() {
        assert!(read_upper(Path::new("/nonexistent/upper")).unwrap().is_empty());
    }

    #[test]
    fn the_digest_is_that_of_fs_verity() {
        let folder = tempfile::tempdir().unwrap();
        for content in [vec![], b"small".to_vec(), vec![1; 4096], vec![2; 4097], vec![3; 600_000]] {
            let path = folder.path().join("file");
            fs::write(&path, &content).unwrap();
            let expected: Sha256HashValue = composefs::fsverity::compute_verity(&content);
            assert_eq!(digest_of(&path).unwrap(), expected.to_hex(), "{} bytes", content.len());
        }
    }
}
