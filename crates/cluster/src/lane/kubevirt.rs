//! A virtual machine of KubeVirt as the machine of a lane.

use std::future::ready;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use edgewright_job::ExecutorError;
use edgewright_lab::Piece;
use edgewright_lab::machine::{
    BoxFuture, LaneFault, Machine, MachineFacts, MachineState, OnLine, RunnerEnd, Start,
};
use edgewright_lab::remote::{BootLimits, blame_installed, device_order, installed, pack};
use edgewright_model::error::Chain;
use edgewright_model::order::{JobRequest, LaneOrder, ManifestRef};
use edgewright_model::outcome::JobEvent;
use edgewright_process::{CancellationToken, Ended};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

use super::console::{MachineLog, Pulse, Seen};
use super::on_cluster::{OnCluster, give_order, leave, not_started, scheduled};
use super::vmi::{Boot, Hardware, vmi};
use crate::claims::Claim;
use crate::executor::Inner;
use crate::follow::{Followed, Target, follow};
use crate::stage::{self, End, Stage};
use crate::vmi::{CONSOLE, Vmi, has_kvm, is_launcher_of};

/// The factor on time limits where processors are emulated: a nested machine is measured nowhere.
const EMULATED_FACTOR: f64 = 10.0;
/// How long launcher, kernel and initramfs may take until our first process runs, before scaling.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same with firmware, boot loader and the image's own initramfs.
const FIRMWARE_ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a machine may be silent: it gives a sign of life each 15 seconds, on hosts that are busy. A
/// device that restarts may be silent for as long as a start takes, if that is more.
const SILENCE: Duration = Duration::from_mins(3);
/// How often it is looked for.
const GLANCE: Duration = Duration::from_secs(5);
/// How long a boot may take until systemd has started everything, before scaling.
const BOOT_TIMEOUT: Duration = Duration::from_secs(45);
/// How long the check runner waits for that before it begins, before scaling.
const SETTLING_TIMEOUT: Duration = Duration::from_secs(20);

/// What is tested.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) order: &'a LaneOrder,
    pub(crate) manifest: &'a ManifestRef,
    /// Receives the job's log.
    pub(crate) events: &'a mpsc::Sender<JobEvent>,
}

/// A machine of a lane.
#[derive(Debug)]
pub(crate) struct KubeVirtMachine<'a> {
    inner: &'a Inner,
    request: &'a JobRequest,
    subject: Subject<'a>,
    /// The machine of the digest; or why the image cannot be one.
    hardware: &'a Result<Hardware, LaneFault>,
    cancel: &'a CancellationToken,
    claim: Option<Claim>,
    vmi: Option<Vmi>,
    /// Whether its processors are emulated.
    emulated: bool,
    /// Why there is no machine.
    fault: Option<LaneFault>,
    seen: Mutex<Seen>,
}

impl<'a> KubeVirtMachine<'a> {
    pub(crate) fn new(
        inner: &'a Inner,
        request: &'a JobRequest,
        (subject, hardware): (Subject<'a>, &'a Result<Hardware, LaneFault>),
        cancel: &'a CancellationToken,
        claim: Claim,
    ) -> Self {
        let (claim, seen) = (Some(claim), Mutex::default());
        Self {
            inner,
            request,
            subject,
            hardware,
            cancel,
            claim,
            vmi: None,
            emulated: false,
            fault: None,
            seen,
        }
    }

    fn name(&self) -> String {
        self.claim.as_ref().map(|claim| claim.attempt().name()).unwrap_or_default()
    }

    fn boot(&self) -> Option<&Boot> {
        Some(&self.hardware.as_ref().ok()?.boot)
    }

    /// How long its first process may take to print.
    fn answer_timeout(&self) -> Duration {
        let limit = match self.boot() {
            Some(Boot::Firmware | Boot::Device { .. }) => FIRMWARE_ANSWER_TIMEOUT,
            _ => ANSWER_TIMEOUT,
        };
        limit.mul_f64(self.facts().scale)
    }

    /// A fault of the image that is not the candidate's: the device has not come as far as the update.
    fn blamed(&self, fault: LaneFault, is_settled: bool) -> LaneFault {
        let Subject { order, manifest, .. } = self.subject;
        match installed(order, manifest) {
            Some(installed) if order.lane.is_update() && !is_settled => {
                blame_installed(fault, &installed, &manifest.digest)
            }
            _ => fault,
        }
    }

    async fn order(&self, order: &[u8], within: Duration) -> Result<(), LaneFault> {
        let scale = self.facts().scale;
        let settling = SETTLING_TIMEOUT.mul_f64(scale).min(within / 4);
        let limits = BootLimits { settling, boot: BOOT_TIMEOUT.mul_f64(scale).min(within) };
        let machines = &self.inner.cluster.machines;
        let packed = match self.boot() {
            Some(Boot::Device { target }) => {
                let Subject { order: lane, manifest, .. } = self.subject;
                let order = device_order((lane, manifest), order, (target.clone(), within));
                pack(&order.map_err(|error| LaneFault::of_host(Chain(&error).to_string()))?, limits)
            }
            _ => pack(order, limits),
        };
        give_order(self.inner, machines, self.vmi.as_ref(), packed).await
    }

    /// Ends when a machine that runs has given no sign of life for too long; gives what it did not do.
    async fn silence(&self, name: &str, pulse: &Pulse) -> String {
        let start = self.answer_timeout();
        let silence = if self.subject.order.lane.is_update() { SILENCE.max(start) } else { SILENCE };
        let mut heard = Instant::now();
        loop {
            tokio::time::sleep(GLANCE).await;
            let cluster = &self.inner.cluster;
            // While the cluster is away, its silence is no sign.
            if cluster.machines.vmis.away().or_else(|| cluster.away()).is_some()
                || !matches!(machine_stage(self.inner, name), Some(Stage::Runs { .. }))
            {
                heard = Instant::now();
                continue;
            }
            match pulse.last() {
                None if heard.elapsed() >= start => {
                    return format!("did not start its system within {}s", start.as_secs());
                }
                Some(last) if last.max(heard).elapsed() >= silence => {
                    return format!("gave no sign of life for {}s", silence.as_secs());
                }
                _ => {}
            }
        }
    }

    /// Reads the console until all results are there, or the machine is over.
    async fn follow(&self, seen: &mut Seen, within: Duration, on_line: OnLine<'_>) -> RunnerEnd {
        let name = self.name();
        let pulse = Pulse::default();
        let is_device = self.subject.order.lane.is_update();
        let note = |line: String| drop(self.subject.events.try_send(JobEvent::Log { line }));
        let mut log = MachineLog::new((on_line, &note), seen, &pulse, is_device);
        let stage = || machine_stage(self.inner, &name);
        let target = Target { container: CONSOLE, stage: &stage, within, to_its_end: false };
        let machines = &self.inner.cluster.machines;
        let followed = tokio::select! {
            () = self.cancel.cancelled() => return RunnerEnd::Cancelled,
            followed = timeout(within, follow(machines, &target, &mut log)) => followed.ok(),
            why = self.silence(&name, &pulse) => {
                let message = format!("the machine {why}{}", log.tail());
                return RunnerEnd::Failed(LaneFault::of_image(message));
            }
        };
        let (wait, is_complete, tail) = (log.wait.take(), log.is_complete(), log.tail());
        if let Some(fault) = log.over().filter(|_| !is_complete) {
            return RunnerEnd::Failed(fault);
        }
        let late = log.late(within.as_secs());
        if let Some(fault) = seen.fault.take().filter(|_| is_complete) {
            return RunnerEnd::Failed(fault);
        }
        match followed {
            _ if is_complete => RunnerEnd::Ended(Ended::Code(0)),
            Some(Followed::Ended(End::Infrastructure(why))) => lost(seen, why),
            Some(Followed::Gone) => lost(seen, "it was removed by another client".to_owned()),
            Some(Followed::NeverStarted(wait)) => lost(seen, not_started(wait)),
            Some(Followed::Ended(End::Refused(why))) => RunnerEnd::Failed(LaneFault::of_host(why)),
            Some(Followed::Ended(_)) => {
                let message = format!("the machine powered itself off before the checks were done{tail}");
                RunnerEnd::Failed(LaneFault::of_image(message))
            }
            Some(Followed::Done | Followed::TooLong) => RunnerEnd::Failed(late),
            None => RunnerEnd::Failed(match wait {
                Some(wait) => LaneFault::of_host(format!("the machine {wait}")),
                None => late,
            }),
        }
    }
}

impl OnCluster for KubeVirtMachine<'_> {
    async fn prepare(&mut self, events: &mpsc::Sender<JobEvent>) -> Result<(), ExecutorError> {
        let hardware = match self.hardware {
            Ok(hardware) => hardware,
            Err(fault) => {
                self.fault = Some(fault.clone());
                return Ok(());
            }
        };
        let Some(claim) = &self.claim else { return Ok(()) };
        let inner = self.inner;
        let wanted = vmi(claim.attempt(), self.request, hardware, &inner.settings);
        let machines = &inner.cluster.machines.vmis;
        let created =
            inner.patiently("create the virtual machine", events, || Box::pin(machines.create(&wanted)));
        self.vmi = Some(created.await?.0);
        let name = self.name();
        scheduled(inner, (&name, "the virtual machine"), events, || match machine_stage(inner, &name) {
            Some(Stage::Ended { .. } | Stage::Runs { .. }) => ControlFlow::Break(()),
            _ if launcher(inner, &name).is_some_and(|pod| has_node(&pod)) => ControlFlow::Break(()),
            Some(Stage::Waits(wait)) => ControlFlow::Continue(wait),
            None => ControlFlow::Continue(None),
        })
        .await?;
        self.emulated = launcher(inner, &name).is_none_or(|pod| !has_kvm(&pod));
        Ok(())
    }

    async fn discard(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.inner.remove(claim).await;
        }
    }

    fn lost(&mut self) -> Option<String> {
        self.seen.get_mut().lost.take()
    }
}

impl Machine for KubeVirtMachine<'_> {
    fn facts(&self) -> MachineFacts {
        let (scale, accelerator) = if self.emulated { (EMULATED_FACTOR, "tcg") } else { (1.0, "kvm") };
        let runner = self.inner.settings.runner.clone();
        let profile = self.subject.order.vm.unwrap_or_default().kubevirt_name(self.subject.order.lane);
        MachineFacts { profile, scale, accelerator: Some(accelerator), runner }
    }

    fn start<'s>(&'s mut self, _start: Start<'s>) -> BoxFuture<'s, Result<(), LaneFault>> {
        Box::pin(ready(self.fault.take().map_or(Ok(()), Err)))
    }

    fn run_checks<'s>(
        &'s self,
        order: Vec<u8>,
        within: Duration,
        on_line: OnLine<'s>,
    ) -> BoxFuture<'s, RunnerEnd> {
        Box::pin(async move {
            if let Err(fault) = self.order(&order, within).await {
                return RunnerEnd::Failed(fault);
            }
            let mut seen = self.seen.lock().await;
            let end = self.follow(&mut seen, within, on_line).await;
            match end {
                RunnerEnd::Failed(fault) => RunnerEnd::Failed(self.blamed(fault, seen.is_settled)),
                end => end,
            }
        })
    }

    fn state(&self) -> BoxFuture<'_, Result<MachineState, LaneFault>> {
        Box::pin(async {
            let fault = self.seen.lock().await.boot.clone();
            Ok(fault.map_or(MachineState::Runs, |fault| MachineState::Stuck { fault }))
        })
    }

    fn evidence<'s>(&'s self, _state: &'s MachineState) -> BoxFuture<'s, Vec<Piece>> {
        Box::pin(async { self.seen.lock().await.evidence() })
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        let (claim, is_lost) = (self.claim.take(), self.seen.get_mut().lost.is_some());
        Box::pin(leave(self.inner, claim, is_lost, |name| machine_stage(self.inner, name)))
    }
}

fn lost(seen: &mut Seen, why: String) -> RunnerEnd {
    seen.lost = Some(why.clone());
    RunnerEnd::Failed(LaneFault::of_host(why))
}

fn has_node(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// The launcher Pod of a machine, as last seen.
pub(crate) fn launcher(inner: &Inner, name: &str) -> Option<Arc<Pod>> {
    let machines = &inner.cluster.machines;
    let vmi = machines.vmis.get(name)?;
    machines.pods.all().into_iter().find(|pod| is_launcher_of(pod, &vmi))
}

/// The stage of a machine, as last seen.
fn machine_stage(inner: &Inner, name: &str) -> Option<Stage> {
    let vmi = inner.cluster.machines.vmis.get(name)?;
    Some(stage::of_machine(&vmi, launcher(inner, name).as_deref()))
}
