//! `e2e device`: the life of a device, from a commit to a rollback, with nothing replaced by a stand-in: our
//! builds, our registry, our installer, UEFI firmware, systemd-boot, and the agent. Only the machine is
//! virtual.
//!
//! ```text
//!  commit 1 ─▶ release ─▶ `edgewright disk` ─▶ disk ─▶ boots, with fs-verity
//!  commit 2 ─▶ release ─▶ the agent takes it, checks it, blesses it; /var and /etc are kept
//!  commit 3 ─▶ release ─▶ it fails ─▶ the device is back on 2 by itself, and the server knows
//!  the disk of the update to 2, at any point ─▶ a power cut ─▶ boots 1 or 2, and ends with 2
//! ```
//!
//! `e2e cuts`: only the update to 2, and power cuts.
//! `e2e rollout`: a machine among devices that take rollouts.
//! `e2e lanes`: the same by the lanes `upgrade`, `rollback`, `downgrade` and `switch`, which do it in a run.
//!
//! `e2e cluster`: jobs on Kubernetes, in [`cluster`].
//! `e2e stick`: a stick by `edgewright disk --format iso` installs a machine, which then starts.

mod base;
pub(crate) mod cluster;
mod cuts;
mod device;
mod disk;
mod kept;
mod killed;
mod lanes;
mod life;
mod machine;
mod measure;
mod random;
mod rollout;
mod world;

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::demo::story::Story;
use crate::test::shown;
use cuts::Choice;
use disk::Disk;
pub(crate) use lanes::{lane_times, lanes};
use life::{Life, ensure_verity, remove, shown_on_error};
use machine::Machine;
pub(crate) use measure::device_figures;
pub(crate) use rollout::rollout;
use world::{Programs, World};

/// A download, and two boots by firmware without a processor's help: 3 minutes on two cores with nothing else
/// to do.
const BOOT_LIMIT: Duration = Duration::from_mins(30);

/// The size of a machine's empty disk.
const DISK_BYTES: u64 = 4 << 30;
/// What versions 1 to 3 may take on two cores that emulate the device, after compilation. More is a warning.
const BUDGET: Duration = Duration::from_mins(15);

/// What a successor of version 2 does wrong.
const POISONED: [(u32, &str); 4] = [
    (3, "a service of boot-complete.target fails"),
    (4, "the kernel panics"),
    (5, "the root has no program that could be process 1"),
    (6, "the agent is no program"),
];

/// Runs the test.
pub(crate) fn device(options: &[&str]) -> anyhow::Result<()> {
    match options {
        [] => run(&POISONED[..1], Purpose::Test),
        ["--all"] => run(&POISONED, Purpose::Test),
        _ => bail!("unknown options of `e2e device`: {}", options.join(" ")),
    }
}

/// Power cuts in the middle of an update.
pub(crate) fn cuts(options: &[&str]) -> anyhow::Result<()> {
    let choice = Choice::parse(options)?;
    println!("Power cuts during an update. All files are below target/e2e; Ctrl-C ends it at any time.");
    let Some((story, world)) = prepare()? else { return Ok(()) };
    let mut life = Life::begin(story, &world)?;
    let updated = life.update(true)?;
    cuts::replay(&mut life, updated, choice)?;
    remove(&[&world.disk()])?;
    life.story.step("Done");
    Ok(())
}

/// A machine that is installed from a stick, and starts.
pub(crate) fn stick() -> anyhow::Result<()> {
    println!("A stick installs a machine. All files are below target/e2e; Ctrl-C ends it at any time.");
    let Some((story, world)) = prepare()? else { return Ok(()) };
    let mut life = Life::begin(story, &world)?;
    let (stick, disk) = (world.stick(), world.disk());
    let made = life.install("iso", &stick)?;
    life.story.step("A machine with an empty disk starts from the stick");
    std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    // The installer needs no order of disks: the stick is the one that starts.
    let disks = [Disk::Kept(&stick), Disk::Kept(&disk)];
    let mut machine = Machine::start(&world, &made.accelerator, &disks)?;
    let ended = machine.wait_for_end(BOOT_LIMIT);
    shown_on_error(&machine, ended)?;
    life.story.step("It starts from its disk");
    let mut machine = Machine::start(&world, &made.accelerator, &[Disk::Kept(&disk)])?;
    let started = machine
        .wait("version 1 confirmed", BOOT_LIMIT, &life.story, |seen| seen.rests_on(&made.digest, None))
        .and_then(|()| ensure_verity(&machine));
    shown_on_error(&machine, started)?;
    drop(machine);
    remove(&[&disk, &stick])?;
    life.story.step("Done");
    Ok(())
}

/// `demo --device`: the same, to look around in afterwards.
pub(crate) fn demo() -> anyhow::Result<()> {
    run(&POISONED[..1], Purpose::Demo)
}

/// What the device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its power is cut in the end, and its disk is removed.
    Test,
    /// It stays.
    Demo,
}

fn run(poisoned: &[(u32, &str)], purpose: Purpose) -> anyhow::Result<()> {
    println!("The life of a device. All files are below target/e2e; Ctrl-C ends it at any time.");
    let Some((story, world)) = prepare()? else { return Ok(()) };
    let began = Instant::now();
    let mut life = Life::begin(story, &world)?;
    let mut updated = life.update(purpose == Purpose::Test)?;
    life.break_it(&mut updated, poisoned)?;
    if purpose == Purpose::Demo {
        return life.show_next(&updated.machine);
    }
    life.story.step("Version 2 is published again, for devices with an older disk");
    life.publish_good_again(&updated.digests[1])?;
    let accelerator = updated.accelerator.clone();
    cuts::replay(&mut life, updated, Choice { count: cuts::CUTS, seed: cuts::SEED })?;
    if poisoned.len() > 1 {
        for format in ["qcow2", "vmdk"] {
            life.start_as(format, &accelerator)?;
        }
    }
    remove(&[&world.disk()])?;
    life.story.step("Done");
    let took = began.elapsed();
    println!("e2e: the device test took {} of {}", shown(took), shown(BUDGET));
    if took > BUDGET && poisoned.len() == 1 {
        println!("warning: the device test took longer than its budget");
    }
    Ok(())
}

/// What all tests begin with; none, with the reason printed, where nothing can be tested.
fn prepare() -> anyhow::Result<Option<(Story, World)>> {
    prepare_with(Programs::Tested)
}

fn prepare_with(programs: Programs) -> anyhow::Result<Option<(Story, World)>> {
    let mut story = Story::new();
    story.step("Programs, the edgewright command, the agent");
    let world = World::prepare(programs)?;
    if Machine::is_possible(&world) {
        return Ok(Some((story, world)));
    }
    println!("SKIPPED: e2e: needs UEFI firmware for virtual machines in {}", world.tools.display());
    Ok(None)
}
