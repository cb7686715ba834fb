//! Canonical, uncompressed tar of file contents: the same entries give the same bytes.
//!
//! Sorted by path, hard links last (their targets must come first); every time is the epoch, no names of
//! users, no directories but declared ones; GNU headers for long names and links, PAX records for extended
//! attributes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use edgewright_model::tree::{ContentId, is_lfs_pointer};
use jiff::Timestamp;
use tar::{Builder, EntryType, Header};

use crate::error::SourceError;
use crate::repository::{Contents, Repository, is_missing};

/// A header and the padding of the last block, in bytes.
const HEADER: u64 = 1024;

/// One entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// Relative path, `/`-separated, without empty, `.` or `..` components.
    pub path: String,
    /// Permission bits, at most `0o7777`.
    pub mode: u32,
    /// Numeric owner.
    pub user: u32,
    /// Numeric group.
    pub group: u32,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The entry's kind.
    pub kind: PackKind,
}

impl PackEntry {
    /// Its approximate size in the archive, in bytes.
    pub fn size(&self) -> u64 {
        let content = match &self.kind {
            PackKind::Bytes(bytes) => bytes.len() as u64,
            PackKind::Content(_, size) => *size,
            PackKind::Link(_) | PackKind::HardLink(_) | PackKind::Directory => 0,
        };
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        content + (xattrs + self.path.len()) as u64 + HEADER
    }
}

/// The kind of an archive's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackKind {
    /// A file with these bytes.
    Bytes(Arc<[u8]>),
    /// A file with a content of the repository and its length.
    Content(ContentId, u64),
    /// A symbolic link and its target.
    Link(String),
    /// A hard link to a file of the same archive: its path.
    HardLink(String),
    /// A directory.
    Directory,
}

impl PackKind {
    const fn is_hard_link(&self) -> bool {
        matches!(self, Self::HardLink(_))
    }
}

/// Why an archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Two entries have the same path, or a path is not relative and plain.
    #[error("cannot pack `{path}`: it {reason}")]
    Entry {
        /// The path.
        path: String,
        /// What is wrong with the entry.
        reason: &'static str,
    },
    /// A file's content is stored by Git LFS.
    #[error("cannot pack `{path}`: it is a Git LFS pointer, and the file is not part of the commit")]
    Pointer {
        /// The path.
        path: String,
    },
    /// The archive could not be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The contents could not be read.
    #[error("cannot read the files to pack")]
    Source(#[source] SourceError),
}

/// The largest Git LFS pointer according to its specification, in bytes.
const POINTER_LIMIT: u64 = 1023;

/// Passed as an I/O error through the archive's writer.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is a Git LFS pointer")]
struct Pointer(String);

fn write_error(error: io::Error) -> PackError {
    match error.downcast::<Pointer>() {
        Ok(Pointer(path)) => PackError::Pointer { path },
        Err(error) => PackError::Write(error),
    }
}

/// Sorts and checks entries.
fn prepared(mut entries: Vec<PackEntry>) -> Result<Vec<PackEntry>, PackError> {
    entries.sort_by(|a, b| (a.kind.is_hard_link(), &a.path).cmp(&(b.kind.is_hard_link(), &b.path)));
    let fault = |entry: &PackEntry, reason| Err(PackError::Entry { path: entry.path.clone(), reason });
    for entry in &entries {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !entry.path.split('/').all(plain) {
            return fault(entry, "is not a plain relative path");
        }
        if entry.mode > 0o7777 {
            return fault(entry, "has a mode above 7777");
        }
        if matches!(&entry.kind, PackKind::Link(target) if target.is_empty() || target.contains('\0')) {
            return fault(entry, "is a link with an invalid target");
        }
    }
    let mut paths = BTreeMap::new();
    for entry in &entries {
        if matches!(&entry.kind, PackKind::HardLink(target) if paths.get(target.as_str()) != Some(&true)) {
            return fault(entry, "is a hard link, but not to a file");
        }
        let is_file = matches!(entry.kind, PackKind::Bytes(_) | PackKind::Content(..));
        if paths.insert(entry.path.as_str(), is_file).is_some() {
            return fault(entry, "is packed twice");
        }
    }
    Ok(entries)
}

fn header(entry: &PackEntry, epoch: Timestamp) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.user.into());
    header.set_gid(entry.group.into());
    header.set_mtime(u64::try_from(epoch.as_second()).unwrap_or(0));
    header
}

fn write_tar(
    entries: &[PackEntry],
    epoch: Timestamp,
    contents: &mut Contents,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    let mut archive = Builder::new(out);
    for entry in entries {
        let mut header = header(entry, epoch);
        let names: Vec<String> = entry.xattrs.keys().map(|name| format!("SCHILY.xattr.{name}")).collect();
        if !names.is_empty() {
            let values = entry.xattrs.values().map(Vec::as_slice);
            archive.append_pax_extensions(names.iter().map(String::as_str).zip(values))?;
        }
        let mut file = |size: u64, content: &mut dyn Read, archive: &mut Builder<_>| {
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            archive.append_data(&mut header, &entry.path, content)
        };
        match &entry.kind {
            PackKind::Bytes(bytes) => file(bytes.len() as u64, &mut &bytes[..], &mut archive)?,
            PackKind::Content(id, want) => {
                let given = contents.next_with(|_, size, content| {
                    if size != *want {
                        return Err(io::Error::other(format!("{id:?} has {size} bytes, not {want}")));
                    }
                    if size > POINTER_LIMIT {
                        return file(size, content, &mut archive);
                    }
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes)?;
                    if is_lfs_pointer(&bytes) {
                        return Err(io::Error::other(Pointer(entry.path.clone())));
                    }
                    file(size, &mut &bytes[..], &mut archive)
                })?;
                given.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            }
            PackKind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                archive.append_link(&mut header, &entry.path, target)?;
            }
            PackKind::HardLink(target) => {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                archive.append_link(&mut header, &entry.path, target)?;
            }
            PackKind::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_size(0);
                archive.append_data(&mut header, format!("{}/", entry.path), io::empty())?;
            }
        }
    }
    archive.into_inner()?.flush()
}

impl Repository {
    /// Writes entries as a canonical tar. Large contents are streamed. Returns the writer.
    pub async fn pack<W: Write + Send + 'static>(
        &self,
        entries: Vec<PackEntry>,
        epoch: Timestamp,
        mut out: W,
    ) -> Result<W, PackError> {
        let entries = prepared(entries)?;
        let wanted = entries.iter().filter_map(|entry| match &entry.kind {
            PackKind::Content(id, _) => Some(id.clone()),
            _ => None,
        });
        let written = self.stream(wanted.collect(), move |contents| {
            match write_tar(&entries, epoch, contents, &mut out) {
                Err(error) if is_missing(&error) => Err(error),
                // A full disk is not an error of the repository: it is passed as a value.
                written => Ok(written.map(|()| out)),
            }
        });
        written.await.map_err(PackError::Source)?.map_err(write_error)
    }
}
