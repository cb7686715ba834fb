//! Reads tars in all usual formats: ustar, GNU long names, PAX records with binary values.

use std::collections::BTreeMap;
use std::io::Read;

use super::{Entry, Kind, LayerError, pax};

/// Maximum size of an extension header (long name or PAX records), in bytes.
const EXTENSION_LIMIT: u64 = 1024 * 1024;
/// Maximum size of all extension headers of one tar, in bytes: they are kept as paths and attributes.
const EXTENSIONS_LIMIT: u64 = 256 * 1024 * 1024;
/// Maximum length of a path or link target on Linux, in bytes.
const LONGEST_PATH: usize = 4096;
/// Maximum number of entries of one tar. A reader keeps their names, and an archive that is small when it is
/// compressed may have very many; the largest distributions have half a million.
const MOST_ENTRIES: u64 = 2_000_000;

/// Passes every entry of a tar to `on_entry`, with a reader of its content; unread content is skipped. A tar
/// beyond the limits above is rejected.
pub fn read_entries(
    tar: impl Read,
    on_entry: impl FnMut(Entry, &mut dyn Read) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    read_at_most(MOST_ENTRIES, tar, on_entry)
}

pub(super) fn read_at_most(
    most: u64,
    tar: impl Read,
    mut on_entry: impl FnMut(Entry, &mut dyn Read) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let mut archive = tar::Archive::new(tar);
    let mut extensions = Extensions::default();
    let mut count = 0;
    let mut extended = 0;
    // Extensions are parsed here, because the tar crate splits PAX records at line ends, which binary
    // attributes may contain.
    for entry in archive.entries().map_err(LayerError::Read)?.raw(true) {
        let mut entry = entry.map_err(LayerError::Read)?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        if kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink() {
            if entry.size() > EXTENSION_LIMIT {
                return Err(LayerError::Limit { problem: "an extended header of more than 1 MiB" });
            }
            extended += entry.size();
            if extended > EXTENSIONS_LIMIT {
                return Err(LayerError::Limit { problem: "more than 256 MiB of extended headers" });
            }
            let mut content = Vec::new();
            entry.by_ref().take(EXTENSION_LIMIT).read_to_end(&mut content).map_err(LayerError::Read)?;
            extensions.take(kind, &content)?;
            continue;
        }
        let header = entry.header().clone();
        count += 1;
        if count > most {
            return Err(LayerError::Limit { problem: "more than 2,000,000 entries" });
        }
        let described = std::mem::take(&mut extensions).describe(&header)?;
        on_entry(described, &mut entry)?;
    }
    // The rest of the stream is read, so that a writer at the other end of a pipe does not fail.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(LayerError::Read)?;
    Ok(())
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    user: Option<u64>,
    group: Option<u64>,
    time: Option<u64>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl Extensions {
    fn take(&mut self, kind: tar::EntryType, content: &[u8]) -> Result<(), LayerError> {
        if !kind.is_pax_local_extensions() {
            let text = content.split(|b| *b == 0).next().unwrap_or_default().to_vec();
            let field = if kind.is_gnu_longname() { &mut self.path } else { &mut self.link };
            *field = Some(text);
            return Ok(());
        }
        let damaged = || std::io::Error::other("a damaged extended header");
        for (key, value) in pax::parse(content).ok_or_else(damaged).map_err(LayerError::Read)? {
            let number = || {
                let text = std::str::from_utf8(&value).ok()?;
                text.split('.').next()?.parse().ok()
            };
            match key.as_str() {
                "path" => self.path = Some(value),
                "linkpath" => self.link = Some(value),
                "uid" => self.user = number(),
                "gid" => self.group = number(),
                "mtime" => self.time = number(),
                // The tar crate, reading raw, would take the wrong length.
                "size" => {
                    let path =
                        String::from_utf8_lossy(self.path.as_deref().unwrap_or(b"a file")).into_owned();
                    return Err(LayerError::Entry { path, problem: "a file of 8 GiB or more" });
                }
                _ if key.starts_with("GNU.sparse.") => {
                    return Err(LayerError::Limit {
                        problem: "a sparse file; create the archive without --sparse",
                    });
                }
                _ => {
                    if let Some(name) = pax::xattr_name(&key) {
                        self.xattrs.insert(name.to_owned(), value);
                    }
                }
            }
        }
        Ok(())
    }

    fn describe(self, header: &tar::Header) -> Result<Entry, LayerError> {
        let path = self.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let fault = |problem| LayerError::Entry { path: shown(&path), problem };
        let kind = match header.entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File,
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Link,
            tar::EntryType::Link => Kind::HardLink,
            tar::EntryType::Char => Kind::Character,
            tar::EntryType::Block => Kind::Block,
            tar::EntryType::Fifo => Kind::Fifo,
            tar::EntryType::GNUSparse => {
                return Err(fault("a sparse file; create the archive without --sparse"));
            }
            _ => return Err(fault("an entry of a type that images do not have")),
        };
        let old = header.as_old();
        // Some writers leave unused fields blank: readers treat them as 0.
        let number = |field: &[u8], value: std::io::Result<u64>| {
            let is_blank = field.iter().all(|byte| matches!(byte, 0 | b' '));
            if is_blank { Ok(0) } else { value.map_err(LayerError::Read) }
        };
        let link = self.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let mut link = link.unwrap_or_default();
        if path.len() > LONGEST_PATH || link.len() > LONGEST_PATH {
            return Err(fault("a path or a link target of more than 4096 bytes"));
        }
        if kind == Kind::HardLink {
            link = clean(&link).ok_or_else(|| fault("a hard link out of the image"))?;
        }
        let device = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
        Ok(Entry {
            kind,
            mode: u32::try_from(number(&old.mode, header.mode().map(u64::from))? & 0o7777).unwrap_or(0),
            user: self.user.map_or_else(|| number(&old.uid, header.uid()), Ok)?,
            group: self.group.map_or_else(|| number(&old.gid, header.gid()), Ok)?,
            time: self.time.map_or_else(|| number(&old.mtime, header.mtime()), Ok)?,
            size: if kind == Kind::File { header.entry_size().map_err(LayerError::Read)? } else { 0 },
            link: if matches!(kind, Kind::Link | Kind::HardLink) { link } else { Vec::new() },
            device: (device(header.device_major()), device(header.device_minor())),
            xattrs: self.xattrs,
            path: clean(&path).ok_or_else(|| fault("a path out of the image"))?,
        })
    }
}

/// A path for messages, shortened to fit into a line.
fn shown(path: &[u8]) -> String {
    /// The longest path in a message, in bytes.
    const LONGEST: usize = 200;
    let start = String::from_utf8_lossy(&path[..path.len().min(LONGEST)]).into_owned();
    if path.len() > LONGEST { start + "…" } else { start }
}

/// A path without leading `/` and `./`, empty and `.` components and trailing `/`; `None` if it has `..`.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    if parts.contains(&b"..".as_slice()) { None } else { Some(parts.join(&b'/')) }
}
