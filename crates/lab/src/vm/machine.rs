//! A virtual machine as the machine of a lane.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgewright_guest::frame::Program;
use edgewright_guest::{CHECKS, FOLDER};
use edgewright_model::error::Chain;
use edgewright_model::outcome::{FailureKind, JobEvent};
use edgewright_process::{Ended, Stream};
use edgewright_vm::machine::{NoAnswer, Setup, Stopped, unmarked};
use edgewright_vm::{
    Acceleration, Accelerator, CachedImage, Channel, ChannelError, Context, Hardware, Machine as Vm, Profile,
    Source, VmError,
};

use super::boot::{Progress, unfinished, wait};
use super::evidence::gather;
use super::kept;
use super::lines::Lines;
use crate::WORK_ENVIRONMENT;
use crate::evidence::Piece;
use crate::lane::{Events, LabContext};
use crate::machine::{BoxFuture, LaneFault, Machine, MachineFacts, MachineState, OnLine, RunnerEnd, Start};

/// How long kernel and initramfs may take until the guest answers, before scaling.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for firmware, boot loader and the image's initramfs, until its system has begun to start.
pub(crate) const UEFI_ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// How long the check runner waits for the end of the boot, before scaling: the processor is the boot's.
const SETTLING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the end of a machine is awaited that seems to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How many lines of the console a message has.
const TAIL_LINES: usize = 3;

/// A virtual machine of a job: not started yet, started, or gone.
pub(crate) struct VmMachine<'c> {
    pub(crate) context: &'c LabContext,
    pub(crate) events: Events<'c>,
    profile: Profile,
    pub(crate) hardware: Hardware,
    pub(crate) acceleration: Acceleration,
    vm: Option<Running>,
}

/// A machine that was launched.
struct Running {
    vm: Vm,
    since: Instant,
    /// When the lane's time is over.
    deadline: Instant,
    /// Whether its boot is known to be at its end.
    is_up: AtomicBool,
    /// Its files stay as long as it runs; a device has its own.
    image: Option<CachedImage>,
}

impl std::fmt::Debug for VmMachine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VmMachine").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl<'c> VmMachine<'c> {
    /// A machine of this profile, once it is known how this host runs it.
    pub(crate) async fn new(
        context: &'c LabContext,
        profile: Profile,
        hardware: Hardware,
        events: Events<'c>,
    ) -> Result<Self, LaneFault> {
        if !context.vm.tools.has_qemu() {
            let message = "QEMU is not installed: the tool image has it (edgewright tools update), without sandboxes \
                           apt-get install qemu-system-x86 ovmf erofs-utils mtools";
            return Err(LaneFault::of_host(message.to_owned()));
        }
        let folder = context.vm.folder();
        let acceleration = Acceleration::detect(Some(folder), &vm_context(context)).await;
        let acceleration = acceleration.map_err(|error| fault(&error))?;
        Ok(Self { context, events, profile, hardware, acceleration, vm: None })
    }

    fn log(&self, line: String) {
        (self.events)(JobEvent::Log { line });
    }

    fn running(&self) -> Result<&Running, LaneFault> {
        self.vm.as_ref().ok_or_else(|| LaneFault::of_host("the machine is not running".to_owned()))
    }

    async fn boot(&mut self, start: Start<'_>) -> Result<(), LaneFault> {
        let deadline = Instant::now() + start.within;
        let context = vm_context(self.context);
        let source = Source { client: self.context.client.clone(), manifest: start.manifest.clone() };
        let cache = self.context.vm.cache();
        let begun = Instant::now();
        let opened = tokio::time::timeout(start.within, cache.open(&source, &context)).await;
        let late =
            || LaneFault::of_host("making the root file system took longer than the lane may".to_owned());
        let mut image = opened.map_err(|_| late())?.map_err(|error| fault(&error))?;
        self.log(format!("root file system after {:.1} s", begun.elapsed().as_secs_f64()));
        loop {
            let keep = if start.keep {
                Some(kept::make(self.context.vm.folder(), &start.manifest.repository).await?)
            } else {
                None
            };
            let setup = Setup {
                image: &image,
                profile: self.profile,
                hardware: self.hardware.clone(),
                programs: self.context.vm.programs,
                accelerator: self.acceleration.accelerator,
                keep: keep.as_deref(),
            };
            let mut own = context.clone();
            if start.keep {
                own.processes =
                    unmarked(&own.processes, &[edgewright_model::order::JOB_ENVIRONMENT, WORK_ENVIRONMENT]);
            }
            let since = Instant::now();
            let vm = Vm::launch(setup, &own).await.map_err(|error| fault(&error))?;
            self.vm =
                Some(Running { vm, since, deadline, is_up: AtomicBool::new(false), image: Some(image) });
            match self.wait_for_answer(deadline).await {
                Ok(()) => return Ok(()),
                Err(found) if self.acceleration.accelerator == Accelerator::Kvm => {
                    // A kernel that does not start on KVM may start without.
                    self.log(format!("not with KVM: {}", found.message));
                    self.acceleration.give_up(found.message).await;
                    let Some(mut failed) = self.vm.take() else { return Err(late()) };
                    failed.vm.stop().await;
                    let Some(again) = failed.image.take() else { return Err(late()) };
                    image = again;
                }
                Err(found) => return Err(found),
            }
        }
    }

    /// Waits until the guest answers, and notes how long that took.
    async fn wait_for_answer(&mut self, deadline: Instant) -> Result<(), LaneFault> {
        let limit = match self.profile {
            Profile::Direct => ANSWER_TIMEOUT,
            Profile::Uefi => UEFI_ANSWER_TIMEOUT,
        };
        let limit = limit.mul_f64(self.acceleration.factor);
        let limit = limit.min(deadline.saturating_duration_since(Instant::now()));
        let cancel = self.context.processes.cancel().clone();
        let Some(running) = &mut self.vm else { return Err(LaneFault::of_host("no machine".to_owned())) };
        let answered = tokio::select! {
            answered = running.vm.answer(limit) => answered,
            () = cancel.cancelled() => return Err(LaneFault::of_host("the job was cancelled".to_owned())),
        };
        match answered {
            Ok(took) => {
                if self.profile == Profile::Direct {
                    self.acceleration.measured(took).await;
                }
                let (name, took) = (self.acceleration.accelerator.name(), took.as_secs_f64());
                self.log(format!("the guest answers after {took:.1} s ({name})"));
                Ok(())
            }
            Err(NoAnswer::Stopped(stopped)) => Err(self.stopped(&stopped, "before its system started").await),
            Err(NoAnswer::TimedOut) => {
                let tail = tail(&running.vm).await;
                let message =
                    format!("the machine did not start its system within {}s{tail}", limit.as_secs());
                Err(LaneFault::of_image(message))
            }
            Err(NoAnswer::Channel(error)) => Err(LaneFault::of_host(Chain(&error).to_string())),
        }
    }

    /// Takes a machine that was launched elsewhere.
    pub(crate) fn adopt(&mut self, vm: Vm, deadline: Instant) {
        let since = Instant::now();
        self.vm = Some(Running { vm, since, deadline, is_up: AtomicBool::new(false), image: None });
    }

    /// The machine, if it was launched.
    pub(crate) fn vm(&self) -> Option<&Vm> {
        Some(&self.vm.as_ref()?.vm)
    }

    /// The same, to change it.
    pub(crate) fn vm_mut(&mut self) -> Option<&mut Vm> {
        Some(&mut self.vm.as_mut()?.vm)
    }

    /// The channel into the guest, once it answered.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        self.vm()?.channel()
    }

    /// The last lines of its console, for a message.
    pub(crate) async fn tail(&self) -> String {
        match self.vm() {
            Some(vm) => tail(vm).await,
            None => String::new(),
        }
    }

    /// The fault of a machine that ended.
    pub(crate) async fn stopped(&self, stopped: &Stopped, when: &str) -> LaneFault {
        let Some(running) = &self.vm else { return LaneFault::of_host(stopped.to_string()) };
        if !stopped.is_of_image() {
            return LaneFault::of_host(stopped.to_string());
        }
        let memory = memory(&running.vm).await;
        let frozen = running.vm.console().await.frozen.filter(|_| matches!(stopped, Stopped::Restarted));
        let frozen = frozen.map(|line| format!(": {line}")).unwrap_or_default();
        LaneFault::of_image(format!("{stopped} {when}{frozen}{memory}"))
    }

    async fn checks(&self, order: Vec<u8>, within: Duration, on_line: OnLine<'_>) -> RunnerEnd {
        let running = match self.running() {
            Ok(running) => running,
            Err(fault) => return RunnerEnd::Failed(fault),
        };
        let Some(channel) = running.vm.channel() else {
            return RunnerEnd::Failed(LaneFault::of_host("the guest does not answer".to_owned()));
        };
        self.settle(running, channel, within / 4).await;
        let mut lines = Lines::default();
        let program = Program::new([format!("{FOLDER}/{CHECKS}")]);
        let mut on_output = |stream: Stream, bytes: &[u8]| lines.push(stream, bytes, on_line);
        let ended = tokio::select! {
            biased;
            ended = channel.run(program, &order, &mut on_output) => ended,
            stopped = running.vm.stopped() => {
                return RunnerEnd::Failed(self.stopped(&stopped, "before the checks were done").await);
            }
            () = self.context.processes.cancel().cancelled() => return RunnerEnd::Cancelled,
            () = tokio::time::sleep(within) => {
                let tail = tail(&running.vm).await;
                let message = format!("the machine did not respond within {}s{tail}", within.as_secs());
                return RunnerEnd::Failed(LaneFault::of_image(message));
            }
        };
        lines.finish(on_line);
        match ended {
            // The guest killed it, as the kernel does where memory runs out.
            Ok(code) if code > 128 => {
                let how = format!("the check runner was killed in the guest by signal {}", code - 128);
                RunnerEnd::Failed(self.lost(running, &how).await)
            }
            Ok(code) => RunnerEnd::Ended(Ended::Code(code)),
            Err(ChannelError::Lost) => {
                RunnerEnd::Failed(self.lost(running, "the guest closed its channel to the host").await)
            }
            Err(error) => RunnerEnd::Failed(LaneFault::of_image(Chain(&error).to_string())),
        }
    }

    /// The fault of a machine that does not answer any more: why it ended, if it does so now.
    async fn lost(&self, running: &Running, how: &str) -> LaneFault {
        // Its socket is closed, or its processes are killed, a moment before its end is known.
        if let Ok(stopped) = tokio::time::timeout(END_TIMEOUT, running.vm.stopped()).await {
            return self.stopped(&stopped, "before the checks were done").await;
        }
        LaneFault::of_image(format!("{how}{}", memory(&running.vm).await))
    }

    /// Waits for the end of the boot before checks look again and again: emulated, they would slow it down.
    async fn settle(&self, running: &Running, channel: &Channel, within: Duration) {
        let scale = self.acceleration.factor;
        let limit = running.since + self.context.vm.boot_timeout.mul_f64(scale);
        let deadline = limit.min(Instant::now() + SETTLING_TIMEOUT.mul_f64(scale).min(within));
        let progress = tokio::select! {
            progress = wait(channel, deadline, scale) => progress,
            _ = running.vm.stopped() => return,
            () = self.context.processes.cancel().cancelled() => return,
        };
        if progress == Progress::Finished {
            running.is_up.store(true, Ordering::Relaxed);
            self.log(format!("its boot is at its end after {:.1} s", running.since.elapsed().as_secs_f64()));
        }
    }

    async fn look(&self) -> Result<MachineState, LaneFault> {
        let running = self.running()?;
        if let Some(stopped) = running.vm.has_stopped() {
            let fault = self.stopped(&stopped, "before the checks were done").await;
            return Ok(MachineState::Gone { fault });
        }
        let Some(channel) = running.vm.channel() else { return Ok(MachineState::Runs) };
        if running.is_up.load(Ordering::Relaxed) {
            return Ok(MachineState::Runs);
        }
        let scale = self.acceleration.factor;
        let deadline = running.since + self.context.vm.boot_timeout.mul_f64(scale);
        let progress = tokio::select! {
            progress = wait(channel, deadline.min(running.deadline), scale) => progress,
            stopped = running.vm.stopped() => {
                let fault = self.stopped(&stopped, "before its boot was done").await;
                return Ok(MachineState::Gone { fault });
            }
        };
        let Some(message) = unfinished(progress, channel, running.since, scale).await else {
            return Ok(MachineState::Runs);
        };
        let message = format!("{message}{}", memory(&running.vm).await);
        Ok(MachineState::Stuck { fault: LaneFault::of_image(message) })
    }
}

impl Machine for VmMachine<'_> {
    fn facts(&self) -> MachineFacts {
        MachineFacts {
            profile: self.profile.name(),
            scale: self.acceleration.factor,
            accelerator: Some(self.acceleration.accelerator.name()),
            runner: self.context.vm.runner(),
        }
    }

    fn start<'a>(&'a mut self, start: Start<'a>) -> BoxFuture<'a, Result<(), LaneFault>> {
        Box::pin(self.boot(start))
    }

    fn run_checks<'a>(
        &'a self,
        order: Vec<u8>,
        within: Duration,
        on_line: OnLine<'a>,
    ) -> BoxFuture<'a, RunnerEnd> {
        Box::pin(self.checks(order, within, on_line))
    }

    fn state(&self) -> BoxFuture<'_, Result<MachineState, LaneFault>> {
        Box::pin(self.look())
    }

    fn evidence<'a>(&'a self, state: &'a MachineState) -> BoxFuture<'a, Vec<Piece>> {
        Box::pin(async move {
            let answers = matches!(state, MachineState::Runs | MachineState::Stuck { .. });
            match &self.vm {
                Some(running) => gather(&running.vm, answers, self.acceleration.factor).await,
                None => Vec::new(),
            }
        })
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(mut running) = self.vm.take() {
                running.vm.stop().await;
            }
        })
    }
}

pub(crate) fn vm_context(context: &LabContext) -> Context {
    Context {
        tools: context.vm.tools.clone(),
        scratch: context.scratch.clone(),
        processes: context.processes.clone(),
    }
}

/// That memory ran out in a machine, for a message.
async fn memory(vm: &Vm) -> String {
    vm.console().await.out_of_memory.map(|line| format!(" ({line})")).unwrap_or_default()
}

/// The last lines of a machine's console, for a message.
async fn tail(vm: &Vm) -> String {
    let console = vm.console().await;
    if let Some(memory) = console.out_of_memory {
        return format!(": it ran out of memory: {memory}");
    }
    let lines: Vec<String> = console.tail(TAIL_LINES).iter().map(|line| line.trim().to_owned()).collect();
    if lines.is_empty() { ": nothing on its console".to_owned() } else { format!(": {}", lines.join(" / ")) }
}

pub(crate) fn fault(error: &VmError) -> LaneFault {
    let kind = if error.is_of_image() { FailureKind::Image } else { FailureKind::Infrastructure };
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    LaneFault { kind, message: format!("{}{hint}", Chain(error)) }
}
