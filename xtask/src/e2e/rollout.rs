//! `e2e rollout`: a virtual machine takes rollouts, with three devices that are skopeo.
//!
//! ```text
//!  version 2  the canaries are healthy, one of them is the machine ─▶ soak ─▶ the last device
//!  version 3  it fails on the machine and on another canary ─▶ the gate stops it
//!  version 7  it fails on the other canaries only ─▶ the gate stops it; `rollback` ─▶ 2 again
//! ```

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::cluster::world::until;
use super::device::Device;
use super::disk::Disk;
use super::life::{Life, RUN_LIMIT, ensure_kept, remove, shown_on_error};
use super::machine::Machine;
use super::{BOOT_LIMIT, prepare};
use crate::demo::puller::Puller;
use crate::demo::server::text;
use crate::demo::story::say;
use crate::test::shown;

const SLOTS: [&str; 4] = ["plant/press-1", "plant/press-2", "plant/press-3", "plant/press-4"];
/// How long the server may take for what it does by itself, soaks included.
const LIMIT: Duration = Duration::from_mins(5);

/// The fleet: the machine, two canaries more, and one device that comes last.
struct Fleet<'a, 'b> {
    life: &'b mut Life<'a>,
    /// The machine.
    own: Puller,
    canaries: [Puller; 2],
    last: Puller,
}

/// Runs the test.
pub(crate) fn rollout() -> anyhow::Result<()> {
    println!("A fleet takes rollouts. All files are below target/e2e; Ctrl-C ends it at any time.");
    let Some((story, world)) = prepare()? else { return Ok(()) };
    let began = Instant::now();
    let mut life = Life::begin(story, &world)?;
    life.story.step("A release with version 1; four devices enrol");
    let first = life.publish_to_fleet(1)?;
    let [own, two, three, last] = SLOTS.map(|slot| life.device.enrol(slot));
    let (own, disk) = (own?, world.disk());
    let installed = life.device.install_slot(SLOTS[0], &own.identity, &disk, &life.story)?;
    ensure!(installed.digest == first, "the disk has {}, and the release {first}", installed.digest);
    let mut fleet = Fleet { life: &mut life, own, canaries: [two?, three?], last: last? };
    fleet.be_healthy()?;
    let mut machine = Machine::start(&world, &installed.accelerator, &[Disk::Kept(&disk)])?;
    let outcome = fleet.take_rollouts(&mut machine, &first);
    shown_on_error(&machine, outcome)?;
    drop(machine);
    remove(&[&disk])?;
    life.story.step("Done");
    println!("e2e: the rollouts took {}", shown(began.elapsed()));
    Ok(())
}

impl Fleet<'_, '_> {
    fn take_rollouts(&mut self, machine: &mut Machine, first: &str) -> anyhow::Result<()> {
        machine
            .wait("version 1 confirmed", BOOT_LIMIT, &self.life.story, |seen| seen.rests_on(first, None))?;

        self.life.story.step("Version 2: the machine takes it as a canary; the last device follows");
        let second = self.life.publish_to_fleet(2)?;
        let old = self.last.digest()?;
        self.offered_to_canaries(&old)?;
        machine
            .wait("version 2 confirmed", BOOT_LIMIT, &self.life.story, |seen| seen.rests_on(&second, None))?;
        ensure!(self.last.digest()? == old, "the last device got version 2 before the canaries had it");
        self.be_healthy()?;
        until("the soak is over", LIMIT, || Ok(self.last.digest()? != old))?;
        self.be_healthy()?;
        self.until_state("complete")?;

        self.life.story.step("Version 3 fails on the machine and on another canary: the gate stops it");
        let good = self.last.digest()?;
        let third = self.life.publish_to_fleet(3)?;
        let new = self.offered_to_canaries(&good)?;
        self.canaries[0].report("failed", &new)?;
        machine.wait("version 2 again", BOOT_LIMIT, &self.life.story, |seen| {
            seen.has_refused(&third) && seen.rests_on(&second, None)
        })?;
        self.until_state("stopped")?;
        ensure!(self.last.digest()? == good, "the last device is offered what the gate stopped");

        self.life.story.step("Version 7 is healthy on the machine, and fails on the other canaries");
        let seventh = self.life.publish_to_fleet(7)?;
        let new = self.offered_to_canaries(&good)?;
        machine.wait("version 7 confirmed", BOOT_LIMIT, &self.life.story, |seen| {
            seen.rests_on(&seventh, None)
        })?;
        for canary in &self.canaries {
            canary.report("failed", &new)?;
        }
        self.until_state("stopped")?;
        ensure!(self.last.digest()? == good, "the last device is offered what the gate stopped");

        self.life.story.step("`edgewright rollback`: the machine is back on version 2 by its next offer");
        self.life.device.order(&["rollback", "stable", "--reason", "presses stop"])?;
        machine.wait("version 2 again", BOOT_LIMIT, &self.life.story, |seen| seen.rests_on(&second, None))?;
        ensure_kept(machine, 2)?;
        self.until_state("complete")?;
        say(&self.life.device.order(&["device", "show", &self.own.id])?);
        Ok(())
    }

    /// The canaries that are skopeo ask until both are offered another digest than `old`. Gives it.
    fn offered_to_canaries(&self, old: &str) -> anyhow::Result<String> {
        until("the canaries are offered it", LIMIT, || {
            let answers: Vec<String> =
                self.canaries.iter().map(Puller::digest).collect::<anyhow::Result<_>>()?;
            Ok(answers.iter().all(|digest| digest != old))
        })?;
        self.canaries[0].digest()
    }

    /// The devices that are skopeo run what they are offered.
    fn be_healthy(&self) -> anyhow::Result<()> {
        let mut devices = self.canaries.iter().chain([&self.last]);
        devices.try_for_each(|device| device.report("healthy", &device.digest()?))
    }

    fn until_state(&mut self, wanted: &str) -> anyhow::Result<()> {
        let device = &mut self.life.device;
        until(&format!("the rollout is {wanted}"), LIMIT, || {
            let rollout = device.server()?.json(&["rollout", "show", "stable"])?;
            Ok(text(&rollout["state"]) == wanted)
        })?;
        say(&device.order(&["rollout", "show", "stable"])?);
        Ok(())
    }
}

impl Life<'_> {
    /// Releases a version for the fleet. Gives the digest that the machine runs.
    fn publish_to_fleet(&mut self, version: u32) -> anyhow::Result<String> {
        let commit = self.world.fleet_version(version)?;
        self.device.release(&commit, RUN_LIMIT, &self.story)
    }
}

impl Device<'_> {
    fn enrol(&mut self, slot: &str) -> anyhow::Result<Puller> {
        Puller::enrol(self.server()?, slot)
    }
}
