//! The points at which the power is cut: spread over the phases of an update.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::log::{Entry, WriteLog};
use crate::e2e::random::Random;

/// Where the phases of an update begin, in entries of the log.
#[derive(Debug, Clone, Copy)]
pub(in crate::e2e) struct Marks {
    /// The device gets the update.
    pub(in crate::e2e) offered: usize,
    /// The device reboots into it.
    pub(in crate::e2e) rebooting: usize,
    /// It is good.
    pub(in crate::e2e) blessed: usize,
}

/// A phase of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Layers arrive, and are imported.
    Download,
    /// From the first write to the partition of the boot loader.
    Staging,
    /// The system goes down, and the new one starts and is confirmed.
    Boot,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Download, Self::Staging, Self::Boot];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Download => "download",
            Self::Staging => "staging",
            Self::Boot => "boot",
        })
    }
}

/// A power cut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    /// Entries of the log that came before it.
    pub(super) entries: usize,
    pub(super) phase: Phase,
    /// Chooses the writes that are lost.
    pub(super) seed: u64,
}

/// Chooses points, in the order of the log.
pub(super) fn choose(
    log: &WriteLog,
    marks: Marks,
    esp: &Range<u64>,
    count: usize,
    seed: u64,
) -> anyhow::Result<Vec<Point>> {
    let phases = phases(log.entries(), marks, esp)?;
    let mut random = Random::new(seed);
    let mut points: Vec<Point> = Phase::ALL
        .iter()
        .zip(phases)
        .cycle()
        .take(count)
        .map(|(phase, range)| {
            // Few writes go to the partition of the boot loader, which has no journal: every second cut is there.
            let critical: Vec<usize> =
                range.clone().filter(|position| is_in(&log.entries()[*position], esp)).collect();
            let entries = if critical.is_empty() || random.below(2) == 0 {
                range.start + below(&mut random, range.len()) + 1
            } else {
                critical[below(&mut random, critical.len())] + below(&mut random, 2)
            };
            Point { entries, phase: *phase, seed: random.below(u64::MAX) }
        })
        .collect();
    points.sort();
    Ok(points)
}

fn below(random: &mut Random, limit: usize) -> usize {
    usize::try_from(random.below(limit as u64)).unwrap_or_default()
}

fn is_in(entry: &Entry, place: &Range<u64>) -> bool {
    entry.bytes > 0 && entry.offset < place.end && place.start < entry.offset + entry.bytes
}

/// The entries of each phase.
fn phases(entries: &[Entry], marks: Marks, esp: &Range<u64>) -> anyhow::Result<[Range<usize>; 3]> {
    let Marks { offered, rebooting, blessed } = marks;
    let staging = entries.get(offered..rebooting).context("the log is shorter than what was seen of it")?;
    let first = staging.iter().position(|entry| is_in(entry, esp));
    let staged = offered + first.context("the update has written nothing for the boot loader")?;
    let phases = [offered..staged, staged..rebooting, rebooting..blessed];
    for (phase, range) in Phase::ALL.iter().zip(&phases) {
        ensure!(!range.is_empty() && range.end <= entries.len(), "no writes were recorded during {phase}");
    }
    Ok(phases)
}

/// Where the EFI system partition is on a disk, in bytes.
pub(super) fn esp(disk: &Path) -> anyhow::Result<Range<u64>> {
    /// C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as it is stored.
    const ESP: [u8; 16] =
        [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
    const SECTOR_BYTES: u64 = 512;
    const ENTRY_BYTES: usize = 128;
    const ENTRIES: usize = 128;
    let mut table = vec![0; ENTRY_BYTES * ENTRIES];
    let read = File::open(disk).and_then(|file| file.read_exact_at(&mut table, 2 * SECTOR_BYTES));
    read.with_context(|| format!("cannot read the partitions of {}", disk.display()))?;
    let found = table.chunks_exact(ENTRY_BYTES).find(|entry| entry[..16] == ESP);
    let found = found.with_context(|| format!("{} has no EFI system partition", disk.display()))?;
    let number =
        |at: usize| found[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Ok(number(32) * SECTOR_BYTES..(number(40) + 1) * SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::{Made, write};
    use super::*;

    const ESP: Range<u64> = 0..512;

    fn log(folder: &Path) -> WriteLog {
        let path = folder.join("log");
        let mut made = Vec::new();
        // Everything else, then the boot loader's.
        made.extend((0..20).map(|_| Made::Write(5, 1, 1)));
        made.extend([Made::Write(0, 1, 1), Made::Flush, Made::Write(0, 1, 2)]);
        made.extend((0..20).map(|_| Made::Write(5, 1, 1)));
        write(&path, &made);
        WriteLog::open(&path).unwrap()
    }

    #[test]
    fn points_are_in_every_phase_and_the_same_for_a_seed() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let marks = Marks { offered: 5, rebooting: 30, blessed: 40 };
        let points = choose(&log, marks, &ESP, 300, 7).unwrap();
        assert_eq!(points, choose(&log, marks, &ESP, 300, 7).unwrap());
        assert_ne!(points, choose(&log, marks, &ESP, 300, 8).unwrap());
        for (phase, range) in [(Phase::Download, 6..=20), (Phase::Staging, 20..=30), (Phase::Boot, 31..=40)] {
            let of_it: Vec<usize> =
                points.iter().filter(|point| point.phase == phase).map(|point| point.entries).collect();
            assert_eq!(of_it.len(), 100, "{phase}");
            assert!(of_it.iter().all(|entries| range.contains(entries)), "{phase}: {of_it:?}");
            for entries in range.clone().skip(1) {
                assert!(of_it.contains(&entries), "{phase}: never after {entries} entries");
            }
        }
    }

    #[test]
    fn a_phase_without_writes_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        for marks in [
            Marks { offered: 5, rebooting: 20, blessed: 40 },
            Marks { offered: 20, rebooting: 30, blessed: 40 },
            Marks { offered: 5, rebooting: 30, blessed: 30 },
            Marks { offered: 5, rebooting: 30, blessed: 99 },
            Marks { offered: 5, rebooting: 99, blessed: 99 },
        ] {
            assert!(choose(&log, marks, &ESP, 3, 1).is_err(), "{marks:?}");
        }
    }

    #[test]
    fn a_disk_without_partitions_has_no_esp() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        for bytes in [0, 1 << 20] {
            std::fs::write(&disk, vec![0; bytes]).unwrap();
            assert!(esp(&disk).is_err());
        }
    }
}
