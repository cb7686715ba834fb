//! The disk as a power cut leaves it: what was flushed is on it, and of later writes whatever the disk had
//! moved out of its cache by then.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::log::{Entry, WriteLog};
use crate::e2e::random::Random;

/// Bytes that are copied at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// A disk that is moved forward in its history, from cut to cut.
#[derive(Debug)]
pub(super) struct Image<'a> {
    log: &'a WriteLog,
    file: File,
    /// Entries that are on it for good.
    durable: usize,
    /// What the writes of this cut have replaced, in their order: place and content.
    replaced: Vec<(u64, Vec<u8>)>,
}

/// What became of the writes after the last flush.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// They are on the disk.
    pub(super) kept: u32,
    /// Their first sectors are.
    pub(super) torn: u32,
    /// Nothing of them is.
    pub(super) lost: u32,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} writes are kept, {} torn, {} lost", self.kept, self.torn, self.lost)
    }
}

impl<'a> Image<'a> {
    /// The disk as it was when the log began.
    pub(super) fn open(path: &Path, log: &'a WriteLog) -> anyhow::Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { log, file, durable: 0, replaced: Vec::new() })
    }

    /// Makes it what a power cut leaves after so many entries; at least as many as for the cut before.
    pub(super) fn cut(&mut self, entries: usize, random: &mut Random) -> anyhow::Result<Fate> {
        self.restore()?;
        let all = &self.log.entries()[..entries];
        let flushed = all.iter().rposition(|entry| entry.is_flush).map_or(0, |flush| flush + 1);
        for entry in all.get(self.durable..flushed).unwrap_or_default() {
            self.write(entry, entry.bytes)?;
        }
        self.durable = self.durable.max(flushed);
        // From a disk that had almost everything to one that had almost nothing.
        let (kept, torn) = (random.below(101), random.below(20));
        let mut fate = Fate::default();
        for entry in &all[flushed..] {
            if entry.is_durable || random.below(100) < kept {
                fate.kept += 1;
                self.replace(entry, entry.bytes)?;
            } else if random.below(100) < torn {
                fate.torn += 1;
                let sector = self.log.sector_bytes();
                self.replace(entry, random.below(entry.bytes / sector + 1) * sector)?;
            } else {
                fate.lost += 1;
            }
        }
        Ok(fate)
    }

    /// Takes back what was not for good.
    fn restore(&mut self) -> anyhow::Result<()> {
        while let Some((offset, content)) = self.replaced.pop() {
            self.file.write_all_at(&content, offset)?;
        }
        Ok(())
    }

    fn replace(&mut self, entry: &Entry, bytes: u64) -> anyhow::Result<()> {
        let mut content = vec![0; usize::try_from(bytes)?];
        self.file.read_exact_at(&mut content, entry.offset)?;
        self.replaced.push((entry.offset, content));
        self.write(entry, bytes)
    }

    /// Writes the first bytes of an entry.
    fn write(&self, entry: &Entry, bytes: u64) -> anyhow::Result<()> {
        let mut done = 0;
        while done < bytes {
            let mut chunk = vec![0; usize::try_from((bytes - done).min(CHUNK_BYTES))?];
            self.log.data(entry, done, &mut chunk)?;
            self.file.write_all_at(&chunk, entry.offset + done)?;
            done += chunk.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::{Made, write};
    use super::*;

    const SECTORS: usize = 8;

    /// The first byte of each sector.
    fn sectors(path: &Path) -> Vec<u8> {
        std::fs::read(path).unwrap().chunks(512).map(|sector| sector[0]).collect()
    }

    fn disk(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("disk");
        std::fs::write(&path, [9; SECTORS * 512]).unwrap();
        path
    }

    #[test]
    fn what_was_flushed_is_there_and_the_rest_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = (disk(folder.path()), folder.path().join("log"));
        let made = [
            Made::Write(0, 1, 1),
            Made::Flush,
            Made::Write(0, 3, 2),
            Made::Discard(4, 1),
            Made::Flush,
            Made::Write(7, 1, 3),
        ];
        write(&log, &made);
        let log = WriteLog::open(&log).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..2000 {
            let mut random = Random::new(seed);
            let mut image = Image::open(&path, &log).unwrap();
            image.cut(4, &mut random).unwrap();
            let found = sectors(&path);
            assert_eq!([found[3], found[7]], [9, 9]);
            assert!([1, 2].contains(&found[0]) && [0, 9].contains(&found[4]));
            seen.insert(found);
            image.cut(2, &mut random).unwrap();
            assert_eq!(sectors(&path), [1, 9, 9, 9, 9, 9, 9, 9]);
        }
        // Two writes, each kept or lost, the larger one also torn at two places.
        assert_eq!(seen.len(), 8, "{seen:?}");
        let mut image = Image::open(&path, &log).unwrap();
        let fate = image.cut(5, &mut Random::new(1)).unwrap();
        assert_eq!((fate, sectors(&path)), (Fate::default(), vec![2, 2, 2, 9, 0, 9, 9, 9]));
    }
}
