//! A device as the machine of a lane. Each of its boots is a machine of its own: QEMU ends when the device
//! restarts, and starts again with the same disk and the same variables of the firmware.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::LaneOrder;
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_model::spec::Check;
use edgewright_vm::device::{self, Device as Setup};
use edgewright_vm::forward::forward;
use edgewright_vm::machine::{NoAnswer, Stopped};
use edgewright_vm::{Accelerator, Channel, ChannelError, Machine as Vm, Network};

use super::disk::{Disks, InstalledDisk};
use super::guest;
use super::journey::{Journey, Offer};
use super::registry::Registry;
use super::settings::ADDRESS;
use super::status::Status;
use super::successor;
use crate::evidence::{Piece, bound, keep_end};
use crate::lane::LabContext;
use crate::machine::{BoxFuture, LaneFault, Machine, MachineFacts, MachineState, OnLine, RunnerEnd, Start};
use crate::vm::machine::{UEFI_ANSWER_TIMEOUT, VmMachine, fault, vm_context};

/// The most boots of a device: installed, updated, tried again, and back.
const MAX_BOOTS: u32 = 12;
/// The time limit of one question to the device, before scaling.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause between two looks at the agent's state: each is a program on an emulated processor.
const PAUSE: Duration = Duration::from_secs(3);
/// How many lines of the agent's history are evidence.
const HISTORY_LINES: &str = "300";

/// What a device lives from.
#[derive(Debug)]
struct World {
    registry: Registry,
    disk: PathBuf,
    variables: PathBuf,
    programs: PathBuf,
    /// The disk below its own.
    _installed: InstalledDisk,
    /// All of the lane's own files; removed when this is dropped.
    folder: tempfile::TempDir,
}

/// A device.
#[derive(Debug)]
pub(super) struct Device<'c> {
    machine: VmMachine<'c>,
    journey: Journey,
    order: &'c LaneOrder,
    world: Option<World>,
    /// What the marks say.
    mark: String,
    /// The bad successor, once it was made.
    successor: Option<Digest>,
    /// Whether it was told to update: from then on it may restart.
    travels: bool,
    boots: u32,
    /// The consoles of earlier boots.
    console: Vec<u8>,
    deadline: Instant,
}

/// What a status means to someone who waits for one.
enum Seen {
    Reached,
    NotYet,
    Failed(String),
}

impl<'c> Device<'c> {
    /// A device that is switched off. The machine has no disk yet.
    pub(super) fn new(machine: VmMachine<'c>, journey: Journey, order: &'c LaneOrder) -> Self {
        Self {
            mark: format!("lane {} of job {}", order.lane, machine.context.job),
            machine,
            journey,
            order,
            world: None,
            successor: None,
            travels: false,
            boots: 0,
            console: Vec::new(),
            deadline: Instant::now(),
        }
    }

    fn context(&self) -> &'c LabContext {
        self.machine.context
    }

    fn log(&self, line: String) {
        (self.machine.events)(JobEvent::Log { line });
    }

    fn world(&self) -> Result<&World, LaneFault> {
        self.world.as_ref().ok_or_else(|| LaneFault::of_host("the device has no disk".to_owned()))
    }

    fn channel(&self) -> Result<&Channel, LaneFault> {
        let gone = || LaneFault::of_host("the device is switched off".to_owned());
        self.machine.channel().ok_or_else(gone)
    }

    fn ask_timeout(&self) -> Duration {
        ASK_TIMEOUT.mul_f64(self.machine.acceleration.factor)
    }

    /// The checks that are published with an image: those of the order are the candidate's.
    fn checks_of(&self, image: &Digest, candidate: &Digest) -> &'c [Check] {
        if image == candidate { &self.order.checks } else { &[] }
    }

    /// Installs, boots, and updates, unless the checks come first.
    async fn begin(&mut self, start: Start<'_>) -> Result<(), LaneFault> {
        self.deadline = Instant::now() + start.within;
        let candidate = start.manifest.digest.clone();
        let settled = self.settle_in(&candidate).await;
        settled.map_err(|fault| self.blame(fault, &candidate))?;
        if self.journey.checks_first { Ok(()) } else { self.travel(&candidate).await }
    }

    /// A released image that does not work is not the candidate's fault.
    fn blame(&self, fault: LaneFault, candidate: &Digest) -> LaneFault {
        if self.journey.installed.digest == *candidate || fault.kind != FailureKind::Image {
            return fault;
        }
        let released = self.journey.installed.digest.short();
        LaneFault::of_host(format!("the released image {released}: {}", fault.message))
    }

    /// Installs the first image, boots it, and leaves what must be kept.
    async fn settle_in(&mut self, candidate: &Digest) -> Result<(), LaneFault> {
        let cancel = self.context().processes.cancel().clone();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let late = || LaneFault::of_host("installing the image took longer than the lane may".to_owned());
        let world = tokio::select! {
            world = tokio::time::timeout(left, self.install(candidate)) => world.map_err(|_| late())??,
            () = cancel.cancelled() => return Err(LaneFault::of_host("the job was cancelled".to_owned())),
        };
        self.world = Some(world);
        if let Err(found) = self.boot().await {
            if self.machine.acceleration.accelerator != Accelerator::Kvm || found.kind != FailureKind::Image {
                return Err(found);
            }
            // A kernel that does not start on KVM may start without.
            self.log(format!("not with KVM: {}", found.message));
            self.machine.acceleration.give_up(found.message).await;
            self.retire().await;
            self.boot().await?;
        }
        let installed = self.journey.installed.digest.clone();
        self.until("run the image that was installed", |status| {
            if status.rests_on(&installed) { Seen::Reached } else { Seen::NotYet }
        })
        .await?;
        let answer = guest::leave_marks(self.channel()?, &self.mark, self.ask_timeout()).await;
        match answer {
            Some(answer) if answer.code == 0 => Ok(()),
            Some(answer) => {
                let reason = answer.last_error();
                Err(LaneFault::of_image(format!("cannot write to /var and /etc of the device: {reason}")))
            }
            None => Err(LaneFault::of_image("the device does not answer".to_owned())),
        }
    }

    async fn install(&mut self, candidate: &Digest) -> Result<World, LaneFault> {
        let context = self.context();
        let own = vm_context(context);
        let folder = tempfile::Builder::new().prefix("lane-").tempdir_in(&context.scratch);
        let io = |error: std::io::Error| LaneFault::of_host(format!("cannot prepare the device: {error}"));
        let folder = folder.map_err(io)?;
        let registry = Registry::serve(context.client.clone(), folder.path());
        let image = self.journey.installed.clone();
        registry.offer(&image, self.checks_of(&image.digest, candidate)).await?;
        let disks = Disks::new(context.vm.folder().join("disks"));
        let begun = Instant::now();
        let events = self.machine.events;
        let installed = disks.open(&image, context, &mut self.machine.acceleration, events).await?;
        self.log(format!("installed disk after {:.1} s", begun.elapsed().as_secs_f64()));
        let [disk, variables, programs] =
            ["disk.qcow2", "variables.fd", "programs.erofs"].map(|name| folder.path().join(name));
        let made = async {
            device::overlay(&installed.path, &disk, &own).await?;
            device::new_variables(&variables, &own).await?;
            device::programs_disk(context.vm.programs, &programs, &own).await
        };
        made.await.map_err(|error| fault(&error))?;
        Ok(World { registry, disk, variables, programs, _installed: installed, folder })
    }

    /// Switches the device on until it answers. While it updates it may restart before that.
    async fn boot(&mut self) -> Result<(), LaneFault> {
        let cancel = self.context().processes.cancel().clone();
        loop {
            self.boots += 1;
            if self.boots > MAX_BOOTS {
                return Err(LaneFault::of_image(format!("the device restarted {MAX_BOOTS} times")));
            }
            self.switch_on().await?;
            let limit = UEFI_ANSWER_TIMEOUT.mul_f64(self.machine.acceleration.factor);
            let limit = limit.min(self.deadline.saturating_duration_since(Instant::now()));
            let Some(vm) = self.machine.vm_mut() else { return Err(off()) };
            let answered = tokio::select! {
                answered = vm.answer(limit) => answered,
                () = cancel.cancelled() => return Err(LaneFault::of_host("the job was cancelled".to_owned())),
            };
            match answered {
                Ok(took) => {
                    let (boots, took) = (self.boots, took.as_secs_f64());
                    self.log(format!("the device answers after {took:.1} s (boot {boots})"));
                    return Ok(());
                }
                Err(NoAnswer::Stopped(stopped)) if self.travels && restarts(&stopped) => {
                    self.log(format!("boot {}: {stopped}", self.boots));
                    self.retire().await;
                }
                Err(NoAnswer::Stopped(stopped)) => {
                    return Err(self.machine.stopped(&stopped, "before its system started").await);
                }
                Err(NoAnswer::TimedOut) => {
                    let tail = self.machine.tail().await;
                    let seconds = limit.as_secs();
                    let message = format!("the device did not start its system within {seconds}s{tail}");
                    return Err(LaneFault::of_image(message));
                }
                Err(NoAnswer::Channel(error)) => return Err(LaneFault::of_host(Chain(&error).to_string())),
            }
        }
    }

    async fn switch_on(&mut self) -> Result<(), LaneFault> {
        let context = self.context();
        let world = self.world()?;
        let mut hardware = self.machine.hardware.clone();
        // Services that wait for a network find one, which leads nowhere.
        hardware.network = Network::Restricted;
        hardware.disks = vec![device::programs_of(world.programs.clone())];
        let setup = Setup {
            disk: &world.disk,
            variables: &world.variables,
            hardware,
            accelerator: self.machine.acceleration.accelerator,
        };
        let vm = Vm::launch_device(setup, &vm_context(context)).await.map_err(|error| fault(&error))?;
        self.machine.adopt(vm, self.deadline);
        Ok(())
    }

    /// Notes the console of a boot that is over.
    async fn retire(&mut self) {
        if let Some(vm) = self.machine.vm_mut() {
            let console = vm.console().await;
            self.console.extend_from_slice(format!("── boot {} ──\n", self.boots).as_bytes());
            self.console.extend_from_slice(console.text());
            keep_end(&mut self.console);
        }
        self.machine.stop().await;
    }

    /// Waits until the agent's status says so, through restarts.
    async fn until(&mut self, what: &str, seen: impl Fn(&Status) -> Seen) -> Result<(), LaneFault> {
        let begun = Instant::now();
        let mut last = "its agent does not answer".to_owned();
        loop {
            let look = self.ask_timeout();
            let cancel = self.context().processes.cancel();
            let Some(vm) = self.machine.vm() else { return Err(off()) };
            let looked = async {
                match vm.channel() {
                    Some(channel) => guest::status(channel, look).await,
                    None => None,
                }
            };
            let stopped = tokio::select! {
                biased;
                stopped = vm.stopped() => Some(stopped),
                status = looked => match status.as_ref().map(|status| (seen(status), status)) {
                    Some((Seen::Reached, _)) => return Ok(()),
                    Some((Seen::Failed(reason), _)) => return Err(LaneFault::of_image(reason)),
                    Some((Seen::NotYet, status)) => {
                        last = status.describe();
                        None
                    }
                    None => None,
                },
                () = cancel.cancelled() => return Err(LaneFault::of_host("the job was cancelled".to_owned())),
            };
            if Instant::now() >= self.deadline {
                let seconds = begun.elapsed().as_secs();
                return Err(LaneFault::of_image(format!(
                    "the device did not {what} within {seconds}s: {last}"
                )));
            }
            match stopped {
                Some(stopped) if self.travels && restarts(&stopped) => {
                    self.log(format!("boot {}: {stopped}", self.boots));
                    self.retire().await;
                    self.boot().await?;
                }
                Some(stopped) => return Err(self.machine.stopped(&stopped, "while it was in use").await),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Offers the other image, and follows the device until it is where it must be.
    async fn travel(&mut self, candidate: &Digest) -> Result<(), LaneFault> {
        let world = self.world()?;
        let before = world.registry.sent();
        let target = match &self.journey.offer {
            Offer::Nothing => {
                self.log("the device runs what it would be offered: no update".to_owned());
                return Ok(());
            }
            Offer::Image(image) => {
                world.registry.offer(image, self.checks_of(&image.digest, candidate)).await?;
                image.digest.clone()
            }
            Offer::Bad => {
                let made =
                    successor::make(&self.context().client, &self.journey.installed, world.folder.path());
                let made = made.await?;
                world.registry.offer_successor(&made, &[]);
                self.successor = Some(made.manifest.digest.clone());
                made.manifest.digest
            }
        };
        self.travels = true;
        self.update().await?;
        let (ends_on, successor) = (self.journey.ends_on().clone(), self.successor.clone());
        let what =
            if successor.is_some() { "come back by itself" } else { "run the image that it was offered" };
        self.until(what, |status| arrived(status, &ends_on, &target, successor.is_some())).await?;
        let received = self.world()?.registry.sent() - before;
        self.log(format!(
            "the device is on {} after {} boots; it received {received} bytes",
            ends_on.short(),
            self.boots
        ));
        if let Some(successor) = &successor {
            self.log(format!("{} was rolled back by the device", successor.short()));
        }
        let lost = guest::lost_marks(self.channel()?, &self.mark, self.ask_timeout()).await;
        match lost {
            Some(lost) if lost.is_empty() => Ok(()),
            Some(lost) => Err(LaneFault::of_image(format!("the update did not keep {}", lost.join(", ")))),
            None => Err(LaneFault::of_image("the device does not answer after the update".to_owned())),
        }
    }

    /// Tells the agent to update. It ends when the update is staged, or with the restart.
    async fn update(&self) -> Result<(), LaneFault> {
        let within = self.deadline.saturating_duration_since(Instant::now());
        let cancel = self.context().processes.cancel();
        let words = ["edgewright-agent", "--json", "update"];
        let (channel, registry) = (self.channel()?, &self.world()?.registry);
        let answer = tokio::select! {
            answer = guest::ask(channel, &words, within) => answer,
            error = forward(channel, ADDRESS, || registry.connect()) => match error {
                ChannelError::Lost => None,
                error => return Err(LaneFault::of_host(Chain(&error).to_string())),
            },
            () = cancel.cancelled() => return Err(LaneFault::of_host("the job was cancelled".to_owned())),
        };
        let Some(answer) = answer.filter(|answer| answer.code != 0) else { return Ok(()) };
        let status = Status::parse(&answer.output);
        let reason = status.as_ref().and_then(Status::problem).unwrap_or_else(|| answer.last_error());
        Err(LaneFault::of_image(format!("the agent does not take the update: {reason}")))
    }
}

fn off() -> LaneFault {
    LaneFault::of_host("the device is switched off".to_owned())
}

/// Whether a device starts again after this end.
const fn restarts(stopped: &Stopped) -> bool {
    matches!(stopped, Stopped::Restarted | Stopped::Panicked(_) | Stopped::NotStarted(_))
}

/// Whether a device is where its update must end.
fn arrived(status: &Status, ends_on: &Digest, target: &Digest, is_bad: bool) -> Seen {
    match (status.failed(target), is_bad) {
        (Some(_), true) if status.rests_on(ends_on) => Seen::Reached,
        (Some(reason), false) => Seen::Failed(format!("the device went back to the image before: {reason}")),
        (None, true) if status.rests_on(target) => {
            Seen::Failed("the device kept a successor whose boot fails: nothing brought it back".to_owned())
        }
        (None, false) if status.rests_on(ends_on) => Seen::Reached,
        _ => Seen::NotYet,
    }
}

impl Machine for Device<'_> {
    fn facts(&self) -> MachineFacts {
        self.machine.facts()
    }

    fn start<'a>(&'a mut self, start: Start<'a>) -> BoxFuture<'a, Result<(), LaneFault>> {
        Box::pin(self.begin(start))
    }

    fn run_checks<'a>(
        &'a self,
        order: Vec<u8>,
        within: Duration,
        on_line: OnLine<'a>,
    ) -> BoxFuture<'a, RunnerEnd> {
        self.machine.run_checks(order, within, on_line)
    }

    fn after_checks<'a>(&'a mut self, candidate: &'a Digest) -> BoxFuture<'a, Result<(), LaneFault>> {
        Box::pin(async move { if self.journey.checks_first { self.travel(candidate).await } else { Ok(()) } })
    }

    fn state(&self) -> BoxFuture<'_, Result<MachineState, LaneFault>> {
        self.machine.state()
    }

    fn evidence<'a>(&'a self, state: &'a MachineState) -> BoxFuture<'a, Vec<Piece>> {
        Box::pin(async move {
            let runs =
                self.machine.vm().is_some_and(|vm| vm.has_stopped().is_none() && vm.channel().is_some());
            let state = if runs { &MachineState::Runs } else { state };
            let mut pieces = self.machine.evidence(state).await;
            if let Some(channel) = self.machine.channel().filter(|_| runs) {
                let words = ["edgewright-agent", "logs", "-n", HISTORY_LINES];
                if let Some(answer) = guest::ask(channel, &words, self.ask_timeout()).await {
                    pieces.push(Piece::text("agent", answer.output.into_bytes()));
                }
            }
            let mut console = self.console.clone();
            let last = pieces.iter().position(|piece| piece.name == "console").map(|at| pieces.remove(at));
            if let Some(last) = last {
                console.extend_from_slice(format!("── boot {} ──\n", self.boots).as_bytes());
                console.extend_from_slice(&last.bytes);
            }
            bound(&mut console);
            pieces.push(Piece::text("console", console));
            pieces.retain(|piece| !piece.bytes.is_empty());
            pieces
        })
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.machine.stop().await;
            // Its files are large: they do not wait for the end of the job.
            self.world = None;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(booted: &Digest, failed: Option<&Digest>) -> Status {
        let failed =
            failed.map(|digest| format!(r#"{{"digest":"{digest}","reason":{{"kind":"fell_back"}}}}"#));
        let text = format!(
            r#"{{"state":{{"state":"confirmed"}},"is_running":true,"deployments":{{"booted":{{"digest":"{booted}"}}}},
                 "failed":[{}]}}"#,
            failed.unwrap_or_default()
        );
        Status::parse(&text).unwrap()
    }

    #[test]
    fn a_device_arrives_where_its_lane_says() {
        let (good, next) = (Digest::of("good"), Digest::of("next"));
        let arrived = |status: &Status, ends_on, is_bad| arrived(status, ends_on, &next, is_bad);
        assert!(matches!(arrived(&status(&good, None), &next, false), Seen::NotYet));
        assert!(matches!(arrived(&status(&next, None), &next, false), Seen::Reached));
        assert!(matches!(arrived(&status(&good, Some(&next)), &next, false), Seen::Failed(_)));
        assert!(matches!(arrived(&status(&good, None), &good, true), Seen::NotYet));
        assert!(matches!(arrived(&status(&next, None), &good, true), Seen::Failed(_)));
        assert!(matches!(arrived(&status(&good, Some(&next)), &good, true), Seen::Reached));
    }

    #[test]
    fn a_panic_is_a_restart_and_a_power_off_is_not() {
        assert!(restarts(&Stopped::Restarted) && restarts(&Stopped::Panicked("x".to_owned())));
        assert!(!restarts(&Stopped::PoweredOff) && !restarts(&Stopped::Qemu("x".to_owned())));
    }
}
