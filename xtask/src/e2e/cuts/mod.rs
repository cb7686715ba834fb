//! Power cuts: a device takes an update, and every write to its disk is logged. The disk is then built as a
//! power cut would have left it at some point of the log, and starts: it must come up with a good image, and
//! end with the update.
//!
//! ```text
//!  log   download ─── flush ── w w w ✂ ── flush ── staging ── reboot, boot ── blessed
//!  disk  ◀───────── all ─────▶ some, or the begin of some
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `log` | the log's format |
//! | `points` | where the power is cut |
//! | `image` | what it leaves |

mod image;
mod log;
mod points;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::BOOT_LIMIT;
use super::disk::Disk;
use super::life::{Life, Updated, ensure_kept, ensure_verity, remove, shown_on_error};
use super::machine::Machine;
use super::random::Random;
use super::world::World;
use crate::command::Run;
use crate::demo::story::Story;
use image::Image;
use log::WriteLog;

pub(super) use points::Marks;

/// Power cuts of `e2e device`: one in each phase.
pub(super) const CUTS: usize = 3;
/// Power cuts that can be asked for: each takes a minute or two.
const MAX_CUTS: usize = 10_000;
/// The seed of `e2e device`: the same points, as far as two recordings are the same.
pub(super) const SEED: u64 = 1;

/// How many power cuts, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) count: usize,
    pub(super) seed: u64,
}

impl Choice {
    /// From the arguments of `e2e cuts`.
    pub(super) fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut choice = Self { count: CUTS, seed: SEED };
        for pair in arguments.chunks(2) {
            let number = pair.get(1).and_then(|value| value.parse::<u64>().ok());
            match (pair[0], number) {
                ("--count", Some(count @ 1..)) if count <= MAX_CUTS as u64 => {
                    choice.count = usize::try_from(count)?;
                }
                ("--seed", Some(seed)) => choice.seed = seed,
                ("--count", _) => bail!("`--count` needs a number from 1 to {MAX_CUTS}"),
                ("--seed", _) => bail!("`--seed` needs a number"),
                (other, _) => bail!("unknown option of `e2e cuts`: {other}"),
            }
        }
        Ok(choice)
    }
}

/// What a device has written to its disk.
#[derive(Debug)]
pub(super) struct Recording {
    /// The disk before it.
    base: PathBuf,
    /// The log.
    pub(super) log: PathBuf,
    /// The phases in it.
    pub(super) marks: Marks,
}

impl Recording {
    /// Copies the disk, and makes an empty log.
    pub(super) fn prepare(world: &World) -> anyhow::Result<Self> {
        let folder = &world.place.root;
        let (base, log) = (folder.join("base.raw"), folder.join("writes.log"));
        std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // As root, who has made the disk; but the copy is ours.
        let copy = ["--sparse=always", "--reflink=auto", "--no-preserve=all"];
        std::fs::File::create(&base).with_context(|| format!("cannot write {}", base.display()))?;
        Run::as_root("cp")?.args(copy).arg(world.disk()).arg(&base).run()?;
        Ok(Self { base, log, marks: Marks { offered: 0, rebooting: 0, blessed: 0 } })
    }

    /// Entries that are in the log by now.
    pub(super) fn entries(&self) -> anyhow::Result<usize> {
        log::count(&self.log)
    }
}

/// Cuts the power of the device at points of its update, again and again.
pub(super) fn replay(life: &mut Life<'_>, updated: Updated, choice: Choice) -> anyhow::Result<()> {
    let Updated { machine, accelerator, digests, recording } = updated;
    drop(machine);
    let Recording { base, log, marks } = recording.context("nothing was recorded")?;
    let entries = WriteLog::open(&log)?;
    let points = points::choose(&entries, marks, &points::esp(&base)?, choice.count, choice.seed)?;
    let Choice { count, seed } = choice;
    life.story
        .step(&format!("The power is cut at {count} points of the update to version 2 (--seed {seed})"));
    let mut image = Image::open(&base, &entries)?;
    for (number, point) in points.iter().enumerate() {
        let all = entries.entries().len();
        let what = format!(
            "power cut {} of {count}: during {}, after write {} of {all}",
            number + 1,
            point.phase,
            point.entries
        );
        let fate = image.cut(point.entries, &mut Random::new(point.seed))?;
        life.story.progress(&format!("{what}; since the last flush, {fate}"));
        let mut machine = Machine::start(life.world, &accelerator, &[Disk::Forgotten(&base)])?;
        let survived = survive(&life.story, &mut machine, &digests);
        shown_on_error(&machine, survived)
            .with_context(|| format!("{what} (--seed {seed}); its disk is {}", base.display()))?;
    }
    remove(&[&base, &log])
}

/// The device starts with a good image, has what it had, and ends with version 2.
fn survive(story: &Story, machine: &mut Machine, digests: &[String; 2]) -> anyhow::Result<()> {
    machine.wait("a good image", BOOT_LIMIT, story, |seen| {
        seen.value("var").is_some() && seen.booted().is_some()
    })?;
    let seen = machine.seen();
    let version = if seen.booted() == Some(&digests[0]) { 1 } else { 2 };
    ensure!(version == 1 || seen.booted() == Some(&digests[1]), "another image runs: {:?}", seen.booted());
    ensure_verity(machine)?;
    ensure_kept(machine, version)?;
    let second = &digests[1];
    machine.wait("version 2 blessed", BOOT_LIMIT, story, |seen| {
        seen.has_refused(second) || seen.rests_on(second, None)
    })?;
    ensure!(!machine.seen().has_refused(second), "the power cut counts as a fault of version 2");
    ensure_verity(machine)?;
    ensure_kept(machine, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_pairs() {
        assert_eq!(Choice::parse(&[]).unwrap(), Choice { count: CUTS, seed: SEED });
        let some = Choice::parse(&["--seed", "0", "--count", "40"]).unwrap();
        assert_eq!(some, Choice { count: 40, seed: 0 });
        for wrong in
            [&["--count"][..], &["--count", "0"], &["--count", "99999"], &["--seed", "x"], &["x", "1"]]
        {
            assert!(Choice::parse(wrong).unwrap_err().to_string().contains(wrong[0]), "{wrong:?}");
        }
    }
}
