//! Canonical tar headers: ustar, with PAX records (POSIX.1-2001) only for what ustar cannot hold.

use super::{Entry, Kind};

const BLOCK: usize = 512;
/// The largest number of 7 and of 11 octal digits.
const MAX_ID: u64 = 0o777_7777;
/// The largest file size that fits into a tar header without a PAX record, in bytes.
const MAX_SIZE: u64 = 0o777_7777_7777;
const NAME: usize = 100;
const XATTR: &str = "SCHILY.xattr.";

/// The header blocks of an entry: a PAX header with its records where needed, and the ustar header.
pub(crate) fn header(entry: &Entry) -> Vec<u8> {
    let path = written_path(entry);
    let records = records(entry, &path);
    let mut blocks = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let mut extended = Entry::new("././@PaxHeader", Kind::File, 0o644);
        extended.size = records.len() as u64;
        blocks.extend_from_slice(&ustar(&extended, b"././@PaxHeader", tar::EntryType::XHeader));
        blocks.extend_from_slice(&records);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    }
    let kind = match entry.kind {
        Kind::File => tar::EntryType::Regular,
        Kind::Directory => tar::EntryType::Directory,
        Kind::Link => tar::EntryType::Symlink,
        Kind::HardLink => tar::EntryType::Link,
        Kind::Character => tar::EntryType::Char,
        Kind::Block => tar::EntryType::Block,
        Kind::Fifo => tar::EntryType::Fifo,
    };
    blocks.extend_from_slice(&ustar(entry, &path, kind));
    blocks
}

fn written_path(entry: &Entry) -> Vec<u8> {
    let mut path = entry.path.clone();
    if path.is_empty() {
        path.push(b'.');
    }
    if entry.kind == Kind::Directory {
        path.push(b'/');
    }
    path
}

fn records(entry: &Entry, path: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > NAME {
        record(&mut records, "path", path);
    }
    if entry.link.len() > NAME {
        record(&mut records, "linkpath", &entry.link);
    }
    for (name, value, limit) in
        [("uid", entry.user, MAX_ID), ("gid", entry.group, MAX_ID), ("size", entry.size, MAX_SIZE)]
    {
        if value > limit {
            record(&mut records, name, value.to_string().as_bytes());
        }
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &format!("{XATTR}{name}"), value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn ustar(entry: &Entry, path: &[u8], kind: tar::EntryType) -> [u8; BLOCK] {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(entry.mode & 0o7777);
    // A number in a PAX record is zero in the ustar header.
    header.set_uid(if entry.user > MAX_ID { 0 } else { entry.user });
    header.set_gid(if entry.group > MAX_ID { 0 } else { entry.group });
    header.set_size(if entry.size > MAX_SIZE { 0 } else { entry.size });
    header.set_mtime(entry.time);
    if let Some(fields) = header.as_ustar_mut() {
        copy_cut(&mut fields.name, path);
        copy_cut(&mut fields.linkname, &entry.link);
        if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
            fields.set_device_major(entry.device.0);
            fields.set_device_minor(entry.device.1);
        }
    }
    header.set_cksum();
    *header.as_bytes()
}

fn copy_cut(field: &mut [u8; NAME], text: &[u8]) {
    let length = text.len().min(NAME);
    field[..length].copy_from_slice(&text[..length]);
}

/// The records of a PAX header's content; `None` if it is malformed.
pub(super) fn parse(mut content: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut records = Vec::new();
    while !content.is_empty() {
        let space = content.iter().position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(&content[..space]).ok()?.parse().ok()?;
        let record = content.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|b| *b == b'=')?;
        let key = String::from_utf8(record[..equals].to_vec()).ok()?;
        records.push((key, record[equals + 1..].to_vec()));
        content = &content[length..];
    }
    Some(records)
}

/// The name of the extended attribute in a record's key.
pub(super) fn xattr_name(key: &str) -> Option<&str> {
    key.strip_prefix(XATTR)
}
