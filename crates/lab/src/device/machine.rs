//! A device as the machine of a lane.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use edgewright_checks::device::Seen;
use edgewright_model::Digest;
use edgewright_model::order::LaneOrder;
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_model::spec::Check;
use edgewright_vm::device;
use edgewright_vm::{Accelerator, Channel};

use super::disk::{Disks, InstalledDisk};
use super::guest;
use super::journey::Journey;
use super::registry::Registry;
use super::settings::Led;
use crate::evidence::{Piece, bound};
use crate::lane::LabContext;
use crate::machine::{BoxFuture, LaneFault, Machine, MachineFacts, MachineState, OnLine, RunnerEnd, Start};
use crate::vm::machine::{VmMachine, fault, vm_context};

/// The time limit of one question to the device, before scaling.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// How many lines of the agent's history are evidence.
const HISTORY_LINES: &str = "300";

/// What a device lives from.
#[derive(Debug)]
pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) disk: PathBuf,
    pub(super) variables: PathBuf,
    pub(super) programs: PathBuf,
    /// The disk below its own.
    _installed: InstalledDisk,
    /// All of the lane's own files; removed when this is dropped.
    pub(super) folder: tempfile::TempDir,
}

/// A device.
#[derive(Debug)]
pub(super) struct Device<'c> {
    pub(super) machine: VmMachine<'c>,
    pub(super) journey: Journey,
    pub(super) order: &'c LaneOrder,
    pub(super) world: Option<World>,
    /// The text of the marks.
    pub(super) mark: String,
    /// The bad successor, once it was made.
    pub(super) successor: Option<Digest>,
    /// Whether it was asked to update: from then on it may restart.
    pub(super) travels: bool,
    pub(super) boots: u32,
    /// The consoles of earlier boots.
    pub(super) console: Vec<u8>,
    pub(super) deadline: Instant,
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

    pub(super) fn context(&self) -> &'c LabContext {
        self.machine.context
    }

    pub(super) fn log(&self, line: String) {
        (self.machine.events)(JobEvent::Log { line });
    }

    pub(super) fn world(&self) -> Result<&World, LaneFault> {
        self.world.as_ref().ok_or_else(|| LaneFault::of_host("the device has no disk".to_owned()))
    }

    pub(super) fn channel(&self) -> Result<&Channel, LaneFault> {
        let gone = || LaneFault::of_host("the device is switched off".to_owned());
        self.machine.channel().ok_or_else(gone)
    }

    pub(super) fn ask_timeout(&self) -> Duration {
        ASK_TIMEOUT.mul_f64(self.machine.acceleration.factor)
    }

    /// The checks that are published with an image.
    pub(super) fn checks_of(&self, image: &Digest, candidate: &Digest) -> &'c [Check] {
        checks_of(self.order, image, candidate)
    }

    /// Installs, boots, and updates, unless the checks come first.
    async fn begin(&mut self, start: Start<'_>) -> Result<(), LaneFault> {
        self.deadline = Instant::now() + start.within;
        let candidate = start.manifest.digest.clone();
        let settled = self.settle_in(&candidate).await;
        settled.map_err(|fault| blame(fault, &self.journey.installed.digest, &candidate))?;
        if self.journey.checks_first { Ok(()) } else { self.travel(&candidate).await }
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
        let disks = Disks::new(context.vm.folder().join("disks"), Led::ByHost);
        let begun = Instant::now();
        let events = self.machine.events;
        let installed = disks.open(&image, context, &mut self.machine.acceleration, events).await?;
        self.log(format!("installed disk after {:.1} s", begun.elapsed().as_secs_f64()));
        let [disk, variables, programs] =
            ["disk.qcow2", "variables.fd", "programs.erofs"].map(|name| folder.path().join(name));
        let made = async {
            device::overlay(&installed.path(), &disk, &own).await?;
            device::new_variables(&variables, &own).await?;
            device::programs_disk(context.vm.programs, &programs, &own).await
        };
        made.await.map_err(|error| fault(&error))?;
        Ok(World { registry, disk, variables, programs, _installed: installed, folder })
    }
}

/// The checks that are published with an image: those of the order are the candidate's.
pub(super) fn checks_of<'o>(order: &'o LaneOrder, image: &Digest, candidate: &Digest) -> &'o [Check] {
    if image == candidate { &order.checks } else { &[] }
}

/// A released image that does not work is not the candidate's fault.
pub(crate) fn blame(fault: LaneFault, installed: &Digest, candidate: &Digest) -> LaneFault {
    if installed == candidate || fault.kind != FailureKind::Image {
        return fault;
    }
    let released = installed.short();
    LaneFault::of_host(format!(
        "the released image {released}: {} (if it cannot start at all, switch the lane off until another is \
         released)",
        fault.message
    ))
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
