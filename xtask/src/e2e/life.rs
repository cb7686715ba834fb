//! The life of a device: the steps that the tests consist of.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::cuts::{Marks, Recording};
use super::device::{Device, Installed};
use super::disk::Disk;
use super::machine::{Machine, Seen};
use super::world::World;
use super::{BOOT_LIMIT, base};
use crate::command::Run;
use crate::demo::story::{Story, say};

/// The first run bootstraps a Debian over the network, and makes an initramfs.
const FIRST_RUN_LIMIT: Duration = Duration::from_mins(20);
/// Later runs only add files.
pub(super) const RUN_LIMIT: Duration = Duration::from_mins(10);

/// A test, once programs are there.
#[derive(Debug)]
pub(super) struct Life<'a> {
    pub(super) story: Story,
    pub(super) device: Device<'a>,
    pub(super) world: &'a World,
}

/// A device that runs version 2.
#[derive(Debug)]
pub(super) struct Updated {
    pub(super) machine: Machine,
    /// What runs virtual machines here.
    pub(super) accelerator: String,
    /// The digests of versions 1 and 2.
    pub(super) digests: [String; 2],
    /// What was written to its disk, if that was logged.
    pub(super) recording: Option<Recording>,
}

impl<'a> Life<'a> {
    /// Debian is built once, and kept for later tests.
    pub(super) fn begin(story: Story, world: &'a World) -> anyhow::Result<Self> {
        let mut life = Self { story, device: Device::new(world), world };
        let kept = base::debian(world)?;
        if kept.restore(&world.place.data)? {
            life.story.step("Debian, as an earlier test has built it");
            return Ok(life);
        }
        life.story.step("Debian; later tests take it from the cache folder");
        let commit = world.debian()?;
        life.device.build(&commit, FIRST_RUN_LIMIT, &life.story)?;
        life.device.stop_server();
        kept.keep(&world.place.data)?;
        Ok(life)
    }

    /// Makes the disk, or the stick, of version 1.
    pub(super) fn install(&mut self, format: &str, output: &Path) -> anyhow::Result<Installed> {
        self.story.step("A release with version 1: Debian, the image parts, a role");
        let digest = self.publish(1, FIRST_RUN_LIMIT)?;
        self.story.step(&format!("`edgewright disk --format {format}`"));
        let installed = self.device.install(format, output, &self.story)?;
        ensure!(installed.digest == digest, "the disk has {}, and the release {digest}", installed.digest);
        Ok(installed)
    }

    /// Installs version 1, and lets it take version 2. What it writes is logged for power cuts, if that is
    /// wanted.
    pub(super) fn update(&mut self, is_logged: bool) -> anyhow::Result<Updated> {
        let disk = self.world.disk();
        let installed = self.install("raw", &disk)?;
        self.story.step("The device boots version 1 by UEFI firmware and systemd-boot");
        let mut recording = if is_logged { Some(Recording::prepare(self.world)?) } else { None };
        let attached = match &recording {
            Some(recording) => Disk::Logged { disk: &disk, log: &recording.log },
            None => Disk::Kept(&disk),
        };
        let mut machine = Machine::start(self.world, &installed.accelerator, &[attached])?;
        let updated = self.take_update(&mut machine, &installed.digest, recording.as_mut());
        let second = shown_on_error(&machine, updated)?;
        let digests = [installed.digest, second];
        Ok(Updated { machine, accelerator: installed.accelerator, digests, recording })
    }

    fn take_update(
        &mut self,
        machine: &mut Machine,
        first: &str,
        recording: Option<&mut Recording>,
    ) -> anyhow::Result<String> {
        let is_first = |seen: &Seen| seen.rests_on(first, None);
        machine.wait("version 1 confirmed", BOOT_LIMIT, &self.story, is_first)?;
        ensure_verity(machine)?;
        let entries = |recording: &Option<&mut Recording>| match recording {
            Some(recording) => recording.entries(),
            None => Ok(0),
        };
        self.story.step("Version 2 is published: the device takes it by itself");
        let second = self.publish(2, RUN_LIMIT)?;
        // Before that, it may still write for version 1, to the partition of the boot loader, too.
        machine.wait("version 2 offered", BOOT_LIMIT, &self.story, |seen| {
            seen.is_downloading() || seen.is_rebooting(2)
        })?;
        let offered = entries(&recording)?;
        machine.wait("version 2 staged", BOOT_LIMIT, &self.story, |seen| seen.is_rebooting(2))?;
        let rebooting = entries(&recording)?;
        self.wait_for_second(machine, &second)?;
        let blessed = entries(&recording)?;
        ensure_verity(machine)?;
        ensure_kept(machine, 2)?;
        self.device.reported("confirmed", &second)?;
        if let Some(recording) = recording {
            recording.marks = Marks { offered, rebooting, blessed };
        }
        Ok(second)
    }

    /// Publishes version 2, and waits until the device has taken it. Gives its digest.
    pub(super) fn take_second(&mut self, machine: &mut Machine) -> anyhow::Result<String> {
        let second = self.publish(2, RUN_LIMIT)?;
        self.wait_for_second(machine, &second)?;
        Ok(second)
    }

    fn wait_for_second(&self, machine: &mut Machine, digest: &str) -> anyhow::Result<()> {
        machine.wait("version 2 blessed", BOOT_LIMIT, &self.story, |seen| {
            seen.rests_on(digest, Some("edgewright-2.conf"))
        })
    }

    /// Publishes versions that are bad: the device is back on version 2 each time.
    pub(super) fn break_it(&mut self, updated: &mut Updated, poisoned: &[(u32, &str)]) -> anyhow::Result<()> {
        for (version, what) in poisoned {
            self.story.step(&format!("Version {version} is published, and is bad: {what}"));
            let outcome = self.take_bad_update(&mut updated.machine, &updated.digests[1], *version);
            shown_on_error(&updated.machine, outcome)?;
        }
        Ok(())
    }

    fn take_bad_update(&mut self, machine: &mut Machine, good: &str, version: u32) -> anyhow::Result<()> {
        let bad = self.publish(version, RUN_LIMIT)?;
        machine.wait("version 2 again", BOOT_LIMIT, &self.story, |seen| {
            seen.has_refused(&bad) && seen.rests_on(good, Some("edgewright-2.conf"))
        })?;
        ensure_kept(machine, 2)?;
        self.device.reported("rolled_back", &bad).map(drop)
    }

    /// Installs what is published on a disk in a format of hypervisors, and starts from it.
    pub(super) fn start_as(&mut self, format: &str, accelerator: &str) -> anyhow::Result<()> {
        self.story.step(&format!("`edgewright disk --format {format}`, and the device starts from it"));
        let path = self.world.place.root.join("disk").with_extension(format);
        let installed = self.device.install(format, &path, &self.story)?;
        let mut machine = Machine::start(self.world, accelerator, &[Disk::Other { path: &path, format }])?;
        let started = machine
            .wait("confirmed", BOOT_LIMIT, &self.story, |seen| seen.rests_on(&installed.digest, None))
            .and_then(|()| ensure_verity(&machine));
        shown_on_error(&machine, started)?;
        drop(machine);
        remove(&[&path])
    }

    /// Shows what to try next, and keeps server and device running for it if this is a terminal.
    pub(super) fn show_next(&mut self, machine: &Machine) -> anyhow::Result<()> {
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

    /// Releases a version. Gives the digest of its image.
    pub(super) fn publish(&mut self, version: u32, limit: Duration) -> anyhow::Result<String> {
        let commit = self.world.version(version)?;
        self.device.release(&commit, limit, &self.story)
    }

    /// Releases version 2 again: a device with an older disk is to take it.
    pub(super) fn publish_good_again(&mut self, good: &str) -> anyhow::Result<()> {
        let digest = self.publish(2, RUN_LIMIT)?;
        ensure!(digest == good, "version 2 was {good}, and is {digest} when it is released again");
        Ok(())
    }
}

/// Removes files of a test; root has made some.
pub(super) fn remove(paths: &[&Path]) -> anyhow::Result<()> {
    Run::as_root("rm")?.arg("--force").args(paths).run()
}

/// An error comes with what the machine printed last.
pub(super) fn shown_on_error<T>(machine: &Machine, result: anyhow::Result<T>) -> anyhow::Result<T> {
    if result.is_err() {
        println!("\n{}", machine.tails());
    }
    result
}

/// The kernel compares every file of the root with its digest.
pub(super) fn ensure_verity(machine: &Machine) -> anyhow::Result<()> {
    let root = machine.seen().value("root").context("the device printed nothing about its root")?;
    ensure!(root.contains("overlay") && root.contains("verity=require"), "the root is not protected: {root}");
    say(&format!("root: {root}"));
    Ok(())
}

/// What the device had and the operator edited, with what the version brought.
pub(super) fn ensure_kept(machine: &Machine, version: u32) -> anyhow::Result<()> {
    let etc = machine.seen().value("etc").context("the device printed nothing about /etc")?;
    let of_version = format!("version={version}");
    for part in [&*of_version, "same=1", "local=edit", "mine", "press-1"] {
        ensure!(etc.split(' ').any(|word| word == part), "/etc has no `{part}`: {etc}");
    }
    let var = machine.seen().value("var").context("the device printed nothing about /var")?;
    ensure!(var == "data", "/var has not kept its data: {var}");
    say(&format!("/etc: {etc}\n/var: {var}"));
    Ok(())
}
