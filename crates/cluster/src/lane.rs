//! Lanes with machines: `container` in a Pod, `vm` and those that update a device in a virtual machine of
//! KubeVirt; the image under test, unmodified, with its own init.
//!
//! ```text
//!             create the Pod ─▶ it has a node ─▶ the lane begins: Secret with its order ─▶ frames in its log
//! TaskRun ─▶ create the machine ─┘                                            on the serial console ─┘
//! ```
//!
//! The time that a Pod waits for a quota or a node is not the lane's; neither is that to make a machine's
//! disk.

mod console;
mod disk;
pub(crate) mod image;
mod kubevirt;
mod machine;
mod on_cluster;
pub(crate) mod pod;
mod vmi;

use std::time::Duration;

use edgewright_job::ExecutorError;
use edgewright_lab::machine::LaneFault;
use edgewright_lab::remote::skips;
use edgewright_lab::{run_lane_on, skip_lane};
use edgewright_model::order::{JobRequest, LaneOrder, ManifestRef, RegistryAccess};
use edgewright_model::outcome::JobEvent;
use edgewright_model::spec::{Lane, VmSpec};
use edgewright_model::verdict::{LaneProfile, Verdict};
use edgewright_oci::Client;
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;

use self::disk::Made;
use self::kubevirt::{KubeVirtMachine, Subject};
use self::machine::PodMachine;
use self::on_cluster::OnCluster;
use self::vmi::Hardware;
use crate::executor::Inner;
use crate::job::{Attempted, repeat, unless_cancelled};
use crate::names::{OrderId, Part};

/// What the names of evidence are in verdicts.
const PIECES: [&str; 3] = ["journal", "failed-units", "agent"];
/// How long a machine may take to end by itself: systemd stops all units before.
const LEAVING: Duration = Duration::from_secs(10);

/// The profile of a lane in a Pod.
pub(crate) fn pod_profile() -> LaneProfile {
    LaneProfile { name: machine::PROFILE.to_owned(), semantics: edgewright_checks::RUNNER_SEMANTICS }
}

/// The profile of a lane in a virtual machine.
pub(crate) fn machine_profile(lane: Lane, vm: VmSpec) -> LaneProfile {
    let name = vm.kubevirt_name(lane).to_owned();
    LaneProfile { name, semantics: edgewright_checks::RUNNER_SEMANTICS }
}

/// Runs a lane on a digest. Do not drop the future: cancel the token, so that the Pod is removed.
pub(crate) async fn run(
    inner: &Inner,
    request: &JobRequest,
    (order, manifest): (&LaneOrder, &ManifestRef),
    events: &mpsc::Sender<JobEvent>,
    cancel: &CancellationToken,
) -> Result<Verdict, ExecutorError> {
    let settings = &inner.settings;
    // The credential lives as long as the lane: evidence is pushed with it.
    let (job, _credential) = inner.registry.order(request.clone());
    let client = client(job.registry).await?;
    let id = OrderId::of_lane(request, (order, manifest), &settings.server, &settings.image);
    if order.keep {
        let line = "[machines on a cluster are not kept: `--keep` has no effect]".to_owned();
        let _ = events.try_send(JobEvent::Log { line });
    }
    let order = LaneOrder { keep: false, ..order.clone() };
    let lane = LaneJob { inner, request, order: &order, manifest, client: &client, events, cancel };
    if !order.lane.has_kernel() {
        return repeat(events, cancel, || Box::pin(lane.in_pod(&id))).await;
    }
    let made = match order.lane.is_update().then(|| skips(&order, manifest)).flatten() {
        Some(reason) => Made::Nothing(reason),
        None => disk::make(inner, request, (&order, manifest), (&client, events), cancel).await?,
    };
    let hardware = match made {
        Made::Hardware(hardware) => Ok(hardware),
        Made::Fault(fault) => Err(fault),
        Made::Nothing(reason) => {
            let profile = machine_profile(order.lane, order.vm.unwrap_or_default());
            let report = |event| drop(events.try_send(event));
            return Ok(skip_lane((&order, manifest), profile, reason, &client, &report).await);
        }
    };
    repeat(events, cancel, || Box::pin(lane.in_machine(&id, &hardware))).await
}

/// A client of the registry.
pub(crate) async fn client(registry: RegistryAccess) -> Result<Client, ExecutorError> {
    let client = tokio::task::spawn_blocking(move || Client::new(&registry)).await;
    client.map_err(ExecutorError::Broke)?.map_err(|error| ExecutorError::Platform {
        message: edgewright_model::error::Chain(&error).to_string(),
        hint: error.hint(),
        output: Vec::new(),
    })
}

/// One lane on one digest.
struct LaneJob<'a> {
    inner: &'a Inner,
    request: &'a JobRequest,
    order: &'a LaneOrder,
    manifest: &'a ManifestRef,
    client: &'a Client,
    events: &'a mpsc::Sender<JobEvent>,
    cancel: &'a CancellationToken,
}

impl LaneJob<'_> {
    async fn in_pod(&self, id: &OrderId) -> Result<Attempted<Verdict>, ExecutorError> {
        let Self { inner, request, manifest, client, cancel, .. } = *self;
        let claim = inner.claim(id, Part::Lane(self.order.lane), cancel).await?;
        Box::pin(self.on(PodMachine::new(inner, request, (client, manifest), cancel, claim))).await
    }

    async fn in_machine(
        &self,
        id: &OrderId,
        hardware: &Result<Hardware, LaneFault>,
    ) -> Result<Attempted<Verdict>, ExecutorError> {
        let Self { inner, request, cancel, .. } = *self;
        let claim = inner.claim(id, Part::Lane(self.order.lane), cancel).await?;
        let subject = Subject { order: self.order, manifest: self.manifest, events: self.events };
        self.on(KubeVirtMachine::new(inner, request, (subject, hardware), cancel, claim)).await
    }

    async fn on(&self, mut machine: impl OnCluster) -> Result<Attempted<Verdict>, ExecutorError> {
        let Self { order, manifest, client, events, cancel, .. } = *self;
        if let Err(error) = unless_cancelled(cancel, machine.prepare(events)).await {
            machine.discard().await;
            return Err(error);
        }
        let report = |event| drop(events.try_send(event));
        let verdict = run_lane_on(&mut machine, order, manifest, (client, cancel), &report).await;
        Ok(match machine.lost() {
            Some(why) if !cancel.is_cancelled() => Attempted::Again(why),
            _ => Attempted::Done(verdict),
        })
    }
}
