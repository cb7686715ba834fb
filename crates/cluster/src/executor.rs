//! The executor: the port's implementation on a cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_job::{
    Admission, BoxFuture, Capacity, Demand, Executor, ExecutorError, Exported, JobRegistry, Permit, Slots,
    is_native, run_native,
};
use edgewright_model::error::Chain;
use edgewright_model::order::{JobRequest, ManifestRef};
use edgewright_model::outcome::{JobEvent, JobOutcome};
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::LaneProfile;
use edgewright_process::{Backoff, CancellationToken};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt as _};
use tokio::sync::{OnceCell, mpsc};
use tokio::time::{Instant, timeout};

use crate::claims::{Claim, Claims};
use crate::cluster::Cluster;
use crate::export::export;
use crate::fault::Fault;
use crate::job::{Attempted, Job};
use crate::names::{OrderId, Part, number_of};
use crate::platform::Platform;
use crate::probe;
use crate::segments;
use crate::settings::{ClusterSettings, JobTools, Place};
use crate::split::Split;
use crate::stage::Wait;
use crate::task_run::WAITING;

/// How long a job that may not start now waits before it asks again.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long a cluster may be away before a running job gives up.
const AWAY: Duration = Duration::from_mins(15);
/// Between two requests to a cluster that is away, or has no quota left.
const ASK_AGAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// How often objects that no job needs are removed.
const TIDY: Duration = Duration::from_secs(5);
/// The time that the process of a cancelled job has to clean up, in seconds of the Pod.
const GRACE: Duration = Duration::from_secs(5);
/// How long the end of a cancelled job's Pod is waited for.
const GONE: Duration = Duration::from_secs(30);

/// Runs jobs on a Kubernetes cluster with Tekton. Clones share slots, watches and claims.
#[derive(Debug, Clone)]
pub struct ClusterExecutor(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: ClusterSettings,
    pub(crate) registry: JobRegistry,
    pub(crate) cluster: Cluster,
    pub(crate) waits: Waits,
    claims: Claims,
    slots: Slots,
    /// The versions that a Pod printed.
    printed: OnceCell<ToolVersions>,
}

/// Why attempts wait, by the name of their object.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<BTreeMap<String, Wait>>);

impl Waits {
    pub(crate) fn note(&self, name: &str, wait: Option<&Wait>) {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match wait {
            Some(wait) => drop(waits.insert(name.to_owned(), wait.clone())),
            None => drop(waits.remove(name)),
        }
    }

    /// Why a further attempt would only wait behind others.
    fn full(&self) -> Option<String> {
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |wait: &&Wait| matches!(wait, Wait::Quota(_) | Wait::Node(_));
        waits.values().find(is_full).map(ToString::to_string)
    }
}

impl ClusterExecutor {
    /// An executor whose jobs work with `registry`. It watches its objects, and removes those that no job
    /// needs, until the tasks of the settings are cancelled.
    pub fn new(client: Client, settings: ClusterSettings, registry: JobRegistry) -> Self {
        let has_machines = Lane::ALL
            .iter()
            .any(|lane| (settings.lanes)(*lane).is_some_and(|(place, _)| place == Place::Machine));
        let cluster = Cluster::start(client, &settings, has_machines);
        let slots = Slots::new(settings.slots, settings.untrusted_slots);
        let (tasks, stop) = (settings.tasks.clone(), settings.tasks.token().clone());
        let (waits, claims) = (Waits::default(), Claims::default());
        let printed = OnceCell::new();
        let inner = Arc::new(Inner { settings, registry, cluster, waits, claims, slots, printed });
        let tidying = Arc::downgrade(&inner);
        tasks.spawn("remove objects of ended jobs", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(TIDY) => {}
                }
                let Some(inner) = tidying.upgrade() else { return };
                inner.tidy().await;
            }
        });
        Self(inner)
    }
}

impl Inner {
    /// Claims an attempt: one of an earlier process if there is one in the cluster.
    pub(crate) async fn claim(
        &self,
        order: &OrderId,
        part: Part,
        cancel: &CancellationToken,
    ) -> Result<Claim, ExecutorError> {
        let ready = async {
            if part.is_machine() {
                self.cluster.machines.pods.ready().await?;
                return self.cluster.machines.vmis.ready().await;
            }
            self.cluster.task_runs.ready().await?;
            if let (Part::Pipeline, Some(platform)) = (part, &self.cluster.platform) {
                platform.ready().await?;
            }
            self.cluster.pods.ready().await
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(ExecutorError::Cancelled),
            ready = ready => ready.map_err(|fault| fault.error("list the jobs in the cluster"))?,
        }
        let numbers = |objects: &[Arc<Pod>]| -> Vec<u32> {
            objects.iter().filter_map(|pod| number_of(&**pod, order, part)).collect()
        };
        let cluster = &self.cluster;
        let there = match part {
            // The Pods of TaskRuns have the same labels, and so have launchers of machines.
            Part::Job | Part::Machine => {
                cluster.task_runs.all().iter().filter_map(|run| number_of(&**run, order, part)).collect()
            }
            Part::Pipeline => {
                cluster.platform.as_ref().map(|platform| platform.numbers(order)).unwrap_or_default()
            }
            part if part.is_machine() => {
                cluster.machines.vmis.all().iter().filter_map(|vmi| number_of(&**vmi, order, part)).collect()
            }
            Part::Lane(_) => numbers(&cluster.pods.all()),
        };
        Ok(self.claims.claim(order, part, &there))
    }

    /// Ends an attempt: one with a result keeps its objects for a while, one that failed or was cancelled
    /// does not. Those of one that the cluster ended are removed already.
    pub(crate) async fn settle<T>(
        &self,
        claim: Claim,
        attempted: Result<Attempted<T>, ExecutorError>,
    ) -> Result<Attempted<T>, ExecutorError> {
        match &attempted {
            Ok(Attempted::Done(_)) => claim.done(),
            Ok(Attempted::Again(_)) => {}
            Err(_) => self.remove(claim).await,
        }
        attempted
    }

    /// Removes the objects of an attempt, and waits for the end of its Pod. If the server stops, they are
    /// left to the next process, which finds them again.
    pub(crate) async fn remove(&self, claim: Claim) {
        if self.settings.tasks.token().is_cancelled() {
            return;
        }
        let name = claim.attempt().name();
        if claim.attempt().part.is_machine() {
            return self.remove_machine(&name).await;
        }
        let pods = [name.clone(), format!("{name}-pod")];
        let removed = async {
            if let (Part::Pipeline, Some(platform)) = (claim.attempt().part, &self.cluster.platform) {
                return platform.delete(&name).await;
            }
            self.cluster.task_runs.delete(&name, None).await?;
            for pod in pods.iter().filter(|pod| self.cluster.pods.get(pod).is_some()) {
                self.cluster.pods.delete(pod, Some(GRACE)).await?;
            }
            Ok::<(), Fault>(())
        };
        if let Err(fault) = removed.await {
            // What is left is removed later.
            tracing::warn!(attempt = name, ?fault, "cannot remove a job's objects, will retry");
            return;
        }
        let mut changes = self.cluster.changes();
        let gone = async {
            while pods.iter().any(|pod| self.cluster.pods.get(pod).is_some()) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout(GONE, gone).await.is_err() {
            tracing::warn!(attempt = name, "the Pod of a cancelled job does not end");
        }
    }

    /// Removes a virtual machine, and waits for its end.
    async fn remove_machine(&self, name: &str) {
        let machines = &self.cluster.machines.vmis;
        if let Err(fault) = machines.delete(name, None).await {
            // What is left is removed later.
            tracing::warn!(attempt = name, ?fault, "cannot remove a virtual machine, will retry");
            return;
        }
        let mut changes = self.cluster.changes();
        let gone = async {
            while machines.get(name).is_some() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout(GONE, gone).await.is_err() {
            tracing::warn!(attempt = name, "a virtual machine that was removed does not end");
        }
    }

    /// Removes the objects that no job needs any more.
    async fn tidy(&self) {
        let runs = self.cluster.task_runs.all();
        let pods = self.cluster.pods.all();
        let vmis = self.cluster.machines.vmis.all();
        let own = pods.iter().filter(|pod| pod.owner_references().is_empty());
        let platform = self.cluster.platform.as_ref();
        let of_platform = platform.map(Platform::names).unwrap_or_default();
        let there: Vec<String> = runs
            .iter()
            .map(|run| run.name_any())
            .chain(own.map(|pod| pod.name_any()))
            .chain(of_platform.iter().cloned())
            .chain(vmis.iter().map(|vmi| vmi.name_any()))
            .collect();
        for name in self.claims.to_remove(&there) {
            let removed = if let Some(platform) = platform.filter(|_| of_platform.contains(&name)) {
                platform.delete(&name).await
            } else if self.cluster.pods.get(&name).is_some() {
                self.cluster.pods.delete(&name, Some(Duration::ZERO)).await
            } else if self.cluster.machines.vmis.get(&name).is_some() {
                self.cluster.machines.vmis.delete(&name, None).await
            } else {
                self.cluster.task_runs.delete(&name, None).await
            };
            match removed {
                Ok(()) => tracing::debug!(attempt = name, "removed the objects of an attempt"),
                Err(fault) => {
                    tracing::debug!(attempt = name, ?fault, "cannot remove objects of an attempt");
                    return;
                }
            }
        }
    }

    /// A request that is repeated while the cluster is away, or has no quota left.
    pub(crate) async fn patiently<'r, T>(
        &self,
        doing: &str,
        events: &mpsc::Sender<JobEvent>,
        mut request: impl FnMut() -> BoxFuture<'r, Result<T, Fault>>,
    ) -> Result<T, ExecutorError> {
        let (begun, mut failures) = (Instant::now(), 0);
        let mut shown = None;
        let result = loop {
            let (fault, patience) = match request().await {
                Ok(done) => break Ok(done),
                Err(fault @ (Fault::Away(_) | Fault::Credentials(_))) => (fault, AWAY),
                Err(fault @ Fault::Quota(_)) => (fault, WAITING),
                Err(fault) => break Err(fault.error(doing)),
            };
            failures += 1;
            if begun.elapsed() >= patience {
                break Err(fault.error(doing));
            }
            let line = match &fault {
                Fault::Quota(why) => format!("[waits for quota: {why}]"),
                _ => format!("[{}]", fault.error(doing)),
            };
            if let Fault::Quota(why) = &fault {
                self.waits.note(doing, Some(&Wait::Quota(why.clone())));
            }
            if shown.replace(line.clone()).as_ref() != Some(&line) {
                let _ = events.try_send(JobEvent::Log { line });
            }
            tokio::time::sleep(ASK_AGAIN.pause(failures)).await;
        };
        self.waits.note(doing, None);
        result
    }

    /// The versions of the programs in our image. After a failure, the next call tries again.
    pub(crate) async fn tools(
        &self,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> Result<ToolVersions, ExecutorError> {
        let versions = match &self.settings.tools {
            JobTools::Known(versions) => versions.clone(),
            JobTools::Printed(command) => {
                let print = || probe::versions(self, command, events, cancel);
                self.printed.get_or_try_init(print).await.cloned()?
            }
        };
        Ok(match &self.settings.build {
            None => versions,
            Some(build) => build.in_place_of_buildah(versions),
        })
    }

    /// Why a job may not start now; none: it may.
    async fn later(&self, demand: &Demand) -> Option<String> {
        if let Err(fault) = self.cluster.task_runs.ready().await {
            return Some(fault.error("list the jobs in the cluster").to_string());
        }
        if let Some(fault) = self.cluster.away() {
            return Some(fault.error("watch the jobs in the cluster").to_string());
        }
        for lane in demand.lanes.iter().filter(|lane| lane.has_kernel()) {
            match self.cluster.has("kubevirt.io/v1").await {
                Ok(true) => {}
                Ok(false) => {
                    return Some(format!("the lane `{lane}` needs KubeVirt, which is not installed"));
                }
                Err(fault) => return Some(fault.error("ask for KubeVirt").to_string()),
            }
        }
        self.waits.full().map(|wait| format!("an earlier job {wait}"))
    }

    async fn run(
        &self,
        request: JobRequest,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> Result<JobOutcome, ExecutorError> {
        if cancel.is_cancelled() {
            return Err(ExecutorError::Cancelled);
        }
        let split = Split::of(&request, |lane| Some((self.settings.lanes)(lane)?.0));
        let begun = Instant::now();
        let outcome = if split.has_job() {
            self.job(split.job.clone(), &events, &cancel).await?
        } else {
            JobOutcome::empty()
        };
        split.lanes(self, outcome, (begun, &events, &cancel)).await
    }

    /// The part of a job that needs no machine. The platform builds `containerfile` steps, if the settings
    /// name a builder.
    async fn job(
        &self,
        request: JobRequest,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> Result<JobOutcome, ExecutorError> {
        match &self.settings.build {
            Some(build) if segments::has_containerfile(&request) => {
                segments::run(self, build, request, (events, cancel)).await
            }
            _ => self.own_job(request, events, cancel).await,
        }
    }

    /// Steps that our own programs execute.
    pub(crate) async fn own_job(
        &self,
        request: JobRequest,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> Result<JobOutcome, ExecutorError> {
        // The credential lives as long as the job.
        let (order, _credential) = self.registry.order(request.clone());
        match self.settings.native.clone().filter(|_| is_native(&request)) {
            Some(worker) => run_native(worker, order, events.clone(), cancel.clone()).await,
            None => Job { inner: self, request, order, events, cancel, part: Part::Job }.run().await,
        }
    }
}

impl Executor for ClusterExecutor {
    fn admit(&self, demand: Demand) -> BoxFuture<'_, Admission> {
        Box::pin(async move {
            let slot = self.0.slots.take(&demand).await;
            match self.0.later(&demand).await {
                Some(reason) => Admission::Later { reason, retry_after: RETRY_AFTER },
                None => Admission::Now(Permit::new(slot)),
            }
        })
    }

    fn run(
        &self,
        request: JobRequest,
        permit: Permit,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>> {
        Box::pin(async move {
            let _permit = permit;
            self.0.run(request, events, cancel).await
        })
    }

    fn lane_profile(&self, lane: Lane) -> Option<LaneProfile> {
        Some((self.0.settings.lanes)(lane)?.1)
    }

    fn tools<'a>(
        &'a self,
        events: mpsc::Sender<JobEvent>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, ToolVersions> {
        Box::pin(async move {
            let versions = self.0.tools(&events, cancel).await;
            versions.unwrap_or_else(|error| {
                tracing::warn!(error = %Chain(&error), "the versions of the tools are not known");
                // A slow reader misses lines.
                let _ = events.try_send(JobEvent::Log { line: format!("[{}]", Chain(&error)) });
                ToolVersions::default()
            })
        })
    }

    fn export<'a>(
        &'a self,
        request: JobRequest,
        built: &'a ManifestRef,
        with_token: bool,
    ) -> BoxFuture<'a, Result<Exported, ExecutorError>> {
        Box::pin(export(&self.0.settings, &self.0.registry, request, (built, with_token)))
    }

    fn capacity(&self) -> Capacity {
        self.0.slots.capacity()
    }
}
