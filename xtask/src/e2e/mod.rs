//! `e2e device`: the life of a device, from a commit to a rollback, with nothing replaced by a stand-in: our
//! builds, our registry, our installer, UEFI firmware, systemd-boot, and the agent. Only the machine is
//! virtual.
//!
//! ```text
//!  commit 1 ─▶ release ─▶ `edgewright disk` ─▶ disk ─▶ boots, with fs-verity
//!  commit 2 ─▶ release ─▶ the agent takes it, checks it, blesses it; /var and /etc are kept
//!  commit 3 ─▶ release ─▶ it fails ─▶ the device is back on 2 by itself, and the server knows
//! ```
//!
//! `e2e lanes`: the same by the lanes `upgrade`, `rollback`, `downgrade` and `switch`, which do it in a run.
//!
//! `e2e stick`: a stick by `edgewright disk --format iso` installs a machine, which then starts.

mod base;
mod device;
mod lanes;
mod machine;
mod world;

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::command::Run;
use crate::demo::story::{Story, say};
use crate::test::shown;
use device::{Device, Installed};
pub(crate) use lanes::{lane_times, lanes};
use machine::Machine;
use world::World;

/// The first run bootstraps a Debian over the network, and makes an initramfs.
const FIRST_RUN_LIMIT: Duration = Duration::from_mins(20);
/// Later runs only add files.
const RUN_LIMIT: Duration = Duration::from_mins(10);
/// A download, and two boots by firmware without a processor's help: 3 minutes on two cores with nothing else
/// to do.
const BOOT_LIMIT: Duration = Duration::from_mins(30);

/// The size of a machine's empty disk.
const DISK_BYTES: u64 = 4 << 30;
/// What versions 1 to 3 may take on two cores that emulate the device, after compilation. More is a warning.
const BUDGET: Duration = Duration::from_mins(15);

/// What a successor of version 2 does wrong.
const POISONED: [(u32, &str); 3] = [
    (3, "a service of boot-complete.target fails"),
    (4, "the kernel panics"),
    (5, "the root has no program that could be process 1"),
];

/// Runs the test.
pub(crate) fn device(options: &[&str]) -> anyhow::Result<()> {
    match options {
        [] => run(&POISONED[..1], Purpose::Test),
        ["--all"] => run(&POISONED, Purpose::Test),
        _ => bail!("unknown options of `e2e device`: {}", options.join(" ")),
    }
}

/// A machine that is installed from a stick, and starts.
pub(crate) fn stick() -> anyhow::Result<()> {
    println!("A stick installs a machine. All files are below target/e2e; Ctrl-C ends it at any time.");
    let mut story = Story::new();
    story.step("Programs, the edgewright command, the agent");
    let world = World::prepare()?;
    if is_skipped(&world) {
        return Ok(());
    }
    let mut test = Test { story, device: Device::new(&world), world: &world };
    test.bootstraps()?;
    let made = test.installs("iso", &world.stick())?;
    test.story.step("A machine with an empty disk starts from the stick");
    std::fs::File::create(world.disk())?.set_len(DISK_BYTES)?;
    // The installer needs no order of disks: the stick is the one that starts.
    let mut machine = Machine::start(&world, &made.accelerator, &[world.stick(), world.disk()])?;
    let ended = machine.wait_for_end(BOOT_LIMIT);
    shown_on_error(&machine, ended)?;
    test.story.step("It starts from its disk");
    let mut machine = Machine::start(&world, &made.accelerator, &[world.disk()])?;
    let started = machine
        .wait("version 1 confirmed", BOOT_LIMIT, &test.story, |seen| seen.rests_on(&made.digest, None))
        .and_then(|()| ensure_verity(&machine));
    shown_on_error(&machine, started)?;
    drop(machine);
    for path in [world.disk(), world.stick()] {
        Run::as_root("rm")?.arg(path).run()?;
    }
    test.story.step("Done");
    Ok(())
}

/// `demo --device`: the same, to look around in afterwards.
pub(crate) fn demo() -> anyhow::Result<()> {
    run(&POISONED[..1], Purpose::Demo)
}

/// What the device is for, once everything was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its disk is removed.
    Test,
    /// It stays.
    Demo,
}

fn run(poisoned: &[(u32, &str)], purpose: Purpose) -> anyhow::Result<()> {
    let mut story = Story::new();
    println!("The life of a device. All files are below target/e2e; Ctrl-C ends it at any time.");
    story.step("Programs, the edgewright command, the agent");
    let world = World::prepare()?;
    if is_skipped(&world) {
        return Ok(());
    }
    let began = Instant::now();
    let mut test = Test { story, device: Device::new(&world), world: &world };
    test.bootstraps()?;
    let first = test.installs("raw", &world.disk())?;
    test.story.step("The device boots version 1 by UEFI firmware and systemd-boot");
    let mut machine = Machine::start(&world, &first.accelerator, &[world.disk()])?;
    let result = test.lives(&mut machine, &first.digest, poisoned);
    shown_on_error(&machine, result)?;
    if purpose == Purpose::Demo {
        return test.next(&machine);
    }
    drop(machine);
    std::fs::remove_file(world.disk())?;
    test.story.step("Done");
    let took = began.elapsed();
    println!("e2e: the device test took {} of {}", shown(took), shown(BUDGET));
    if took > BUDGET && poisoned.len() == 1 {
        println!("warning: the device test took longer than its budget");
    }
    Ok(())
}

/// Prints why nothing is tested, if so.
fn is_skipped(world: &World) -> bool {
    let is_skipped = !Machine::is_possible(world);
    if is_skipped {
        println!("SKIPPED: e2e: needs UEFI firmware for virtual machines in {}", world.tools.display());
    }
    is_skipped
}

/// An error comes with what the machine printed last.
fn shown_on_error(machine: &Machine, result: anyhow::Result<()>) -> anyhow::Result<()> {
    if result.is_err() {
        println!("\n{}", machine.tails());
    }
    result
}

/// The test, once programs are there.
struct Test<'a> {
    story: Story,
    device: Device<'a>,
    world: &'a World,
}

impl Test<'_> {
    /// Debian: built once, kept for later runs.
    fn bootstraps(&mut self) -> anyhow::Result<()> {
        if base::restore(self.world)? {
            self.story.step("Debian, as an earlier test has built it");
            return Ok(());
        }
        self.story.step("Debian; later tests take it from the cache folder");
        let commit = self.world.debian()?;
        self.device.build(&commit, FIRST_RUN_LIMIT, &self.story)?;
        self.device.stop_server();
        base::keep(self.world)
    }

    /// Makes the disk, or the stick, of version 1.
    fn installs(&mut self, format: &str, output: &Path) -> anyhow::Result<Installed> {
        self.story.step("A release with version 1: Debian, the image parts, a role");
        let digest = self.publish(1, FIRST_RUN_LIMIT)?;
        self.story.step(&format!("`edgewright disk --format {format}`"));
        let installed = self.device.install(format, output, &self.story)?;
        ensure!(installed.digest == digest, "the disk has {}, and the release {digest}", installed.digest);
        Ok(installed)
    }

    /// Shows what to try next, and keeps server and device running for it if this is a terminal.
    fn next(&mut self, machine: &Machine) -> anyhow::Result<()> {
        let is_watched = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        self.story.step("Done. What to try next");
        if !is_watched {
            say(&format!("{}        # start the server again", self.device.server_command()?));
            say(&format!("{}        # start the device again", machine.command()));
        }
        say(&self.device.suggestions()?);
        say("$EDITOR e2e/device/versions/2/etc/plant/image.conf        # what a version is");
        if is_watched {
            println!("\nServer and device run until you press Ctrl-C.");
            self.device.wait()?;
        }
        Ok(())
    }

    fn publish(&mut self, version: u32, limit: Duration) -> anyhow::Result<String> {
        let commit = self.world.version(version)?;
        self.device.release(&commit, limit, &self.story)
    }

    fn lives(&mut self, machine: &mut Machine, first: &str, poisoned: &[(u32, &str)]) -> anyhow::Result<()> {
        machine.wait("version 1 confirmed", BOOT_LIMIT, &self.story, |seen| seen.rests_on(first, None))?;
        ensure_verity(machine)?;
        self.story.step("Version 2 is published: the device takes it by itself");
        let second = self.publish(2, RUN_LIMIT)?;
        machine.wait("version 2 blessed", BOOT_LIMIT, &self.story, |seen| {
            seen.rests_on(&second, Some("edgewright-2.conf"))
        })?;
        ensure_verity(machine)?;
        ensure_kept(machine)?;
        self.device.reported("confirmed", &second)?;
        for (version, what) in poisoned {
            self.story.step(&format!("Version {version} is published, and is bad: {what}"));
            let bad = self.publish(*version, RUN_LIMIT)?;
            machine.wait("version 2 again", BOOT_LIMIT, &self.story, |seen| {
                seen.has_refused(&bad) && seen.rests_on(&second, Some("edgewright-2.conf"))
            })?;
            ensure_kept(machine)?;
            self.device.reported("rolled_back", &bad)?;
        }
        Ok(())
    }
}

/// The kernel compares every file of the root with its digest.
fn ensure_verity(machine: &Machine) -> anyhow::Result<()> {
    let root = machine.seen().value("root").context("the device printed nothing about its root")?;
    ensure!(root.contains("overlay") && root.contains("verity=require"), "the root is not protected: {root}");
    say(&format!("root: {root}"));
    Ok(())
}

/// What the device had and the operator edited, with what version 2 brought.
fn ensure_kept(machine: &Machine) -> anyhow::Result<()> {
    let etc = machine.seen().value("etc").context("the device printed nothing about /etc")?;
    for part in ["version=2", "same=1", "local=edit", "mine", "press-1"] {
        ensure!(etc.split(' ').any(|word| word == part), "/etc has no `{part}`: {etc}");
    }
    let var = machine.seen().value("var").context("the device printed nothing about /var")?;
    ensure!(var == "data", "/var has not kept its data: {var}");
    say(&format!("/etc: {etc}\n/var: {var}"));
    Ok(())
}
