//! The log of a disk's writes, in the order in which they were done, as QEMU's driver `blklogwrites` keeps
//! it. The format is that of the kernel's target dm-log-writes:
//!
//! ```text
//! superblock  magic, version, number of entries, bytes of a sector; filled up to a sector
//! entry       sector on the disk, number of sectors, flags, unused; filled up to a sector
//!             then the data, if it is a write
//! entry       …
//! ```

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const IS_FLUSH: u64 = 1;
const IS_FUA: u64 = 1 << 1;
const IS_DISCARD: u64 = 1 << 2;
/// Entries that are read: an update writes some ten thousand.
const MAX_ENTRIES: u64 = 10_000_000;
/// Bytes of a sector that QEMU accepts.
const MAX_SECTOR_BYTES: u64 = 1 << 23;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Everything before it is on the disk for good.
    pub(super) is_flush: bool,
    /// It is on the disk for good by itself.
    pub(super) is_durable: bool,
    /// Where on the disk, in bytes.
    pub(super) offset: u64,
    /// How many bytes; 0 if it only flushes.
    pub(super) bytes: u64,
    /// Where its data is in the log. Without, it writes zeroes.
    pub(super) data: Option<u64>,
}

/// A log that is not written to any more.
#[derive(Debug)]
pub(super) struct WriteLog {
    file: File,
    sector_bytes: u64,
    entries: Vec<Entry>,
}

struct Superblock {
    entries: u64,
    sector_bytes: u64,
}

/// The number of entries, also while QEMU writes the log: up to the last flush, at least.
pub(super) fn count(path: &Path) -> anyhow::Result<usize> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let superblock = read_superblock(&mut file).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(usize::try_from(superblock.entries)?)
}

impl WriteLog {
    /// Reads what was written where, but not the data.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        Self::read(path).with_context(|| format!("cannot read the log of writes {}", path.display()))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path)?;
        let Superblock { entries: number, sector_bytes } = read_superblock(&mut file)?;
        let length = file.metadata()?.len();
        let mut entries = Vec::new();
        let mut at = sector_bytes;
        for position in 0..number {
            let (entry, end) = read_entry(&file, at, sector_bytes)
                .with_context(|| format!("entry {position} of {number} is malformed"))?;
            ensure!(end <= length, "entry {position} of {number} ends after the end of the log");
            entries.push(entry);
            at = end;
        }
        Ok(Self { file, sector_bytes, entries })
    }

    /// The entries, in their order.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is written at once, or not at all.
    pub(super) const fn sector_bytes(&self) -> u64 {
        self.sector_bytes
    }

    /// Reads a part of the data of an entry; `from` counts from its begin.
    pub(super) fn data(&self, entry: &Entry, from: u64, buffer: &mut [u8]) -> anyhow::Result<()> {
        match entry.data {
            Some(data) => self.file.read_exact_at(buffer, data + from)?,
            None => buffer.fill(0),
        }
        Ok(())
    }
}

fn read_superblock(file: &mut File) -> anyhow::Result<Superblock> {
    let mut bytes = [0; 28];
    file.read_exact(&mut bytes)?;
    ensure!(number(&bytes, 0) == MAGIC, "it is no log of writes");
    let version = number(&bytes, 8);
    ensure!(version == VERSION, "unsupported version {version} of a log of writes");
    let (entries, sector_bytes) = (number(&bytes, 16), number(&bytes, 24));
    ensure!(entries <= MAX_ENTRIES, "it has {entries} entries, and at most {MAX_ENTRIES} are read");
    let is_valid = sector_bytes.is_power_of_two() && (512..=MAX_SECTOR_BYTES).contains(&sector_bytes);
    ensure!(is_valid, "invalid size of a sector: {sector_bytes} bytes");
    Ok(Superblock { entries, sector_bytes })
}

/// An entry, and where the next one begins.
fn read_entry(file: &File, at: u64, sector_bytes: u64) -> anyhow::Result<(Entry, u64)> {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, at)?;
    let (sector, sectors, flags) = (number(&bytes, 0), number(&bytes, 8), number(&bytes, 16));
    let in_bytes = |sectors: u64| sectors.checked_mul(sector_bytes).context("a number is too large");
    let (offset, bytes) = (in_bytes(sector)?, in_bytes(sectors)?);
    let data = at + sector_bytes;
    let has_data = flags & IS_DISCARD == 0;
    let entry = Entry {
        is_flush: flags & IS_FLUSH != 0,
        is_durable: flags & IS_FUA != 0,
        offset,
        bytes,
        data: has_data.then_some(data),
    };
    offset.checked_add(bytes).context("a number is too large")?;
    let end = data.checked_add(if has_data { bytes } else { 0 }).context("a number is too large")?;
    Ok((entry, end))
}

/// The little-endian number at a place: 8 bytes, or what is left of them.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What an entry of a test is.
    pub(in crate::e2e::cuts) enum Made {
        /// First sector, number of sectors, every byte.
        Write(u64, u64, u8),
        Discard(u64, u64),
        Flush,
    }

    /// Writes a log with sectors of 512 bytes.
    pub(in crate::e2e::cuts) fn write(path: &Path, entries: &[Made]) {
        let sector = |numbers: &[u64]| {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            bytes.resize(512, 0);
            bytes
        };
        let mut bytes = sector(&[MAGIC, VERSION, entries.len() as u64, 512]);
        for entry in entries {
            match *entry {
                Made::Write(first, sectors, byte) => {
                    bytes.extend(sector(&[first, sectors, 0, 0]));
                    bytes.resize(bytes.len() + usize::try_from(sectors * 512).unwrap(), byte);
                }
                Made::Discard(first, sectors) => bytes.extend(sector(&[first, sectors, IS_DISCARD, 0])),
                Made::Flush => bytes.extend(sector(&[0, 0, IS_FLUSH, 0])),
            }
        }
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn entries_are_read_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        write(&path, &[Made::Write(3, 2, 7), Made::Flush, Made::Discard(1, 1), Made::Write(0, 1, 9)]);
        let log = WriteLog::open(&path).unwrap();
        let found: Vec<_> = log.entries().iter().map(|it| (it.offset, it.bytes, it.is_flush)).collect();
        assert_eq!(found, [(1536, 1024, false), (0, 0, true), (512, 512, false), (0, 512, false)]);
        let mut byte = [1];
        for (position, expected) in [(0, 7), (2, 0), (3, 9)] {
            log.data(&log.entries()[position], 500, &mut byte).unwrap();
            assert_eq!(byte, [expected], "entry {position}");
        }
        assert_eq!(count(&path).unwrap(), 4);
    }

    #[test]
    fn a_log_that_ends_early_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        write(&path, &[Made::Write(3, 2, 7)]);
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 20, 512, 520, 1024, 2047] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(WriteLog::open(&path).is_err(), "{length} bytes");
        }
        let mut huge = whole.clone();
        huge[520..528].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(&path, &huge).unwrap();
        assert!(format!("{:#}", WriteLog::open(&path).unwrap_err()).contains("entry 0 of 1"));
    }
}
