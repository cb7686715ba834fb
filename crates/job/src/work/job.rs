//! One job: build → push → lanes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use edgewright_build::BuildContext;
use edgewright_lab::machine::LaneFault;
use edgewright_lab::{Engine, LabContext, PodmanHost, StorageBounds, VmHost, WORK_ENVIRONMENT, run_lane};
use edgewright_model::error::Chain;
use edgewright_model::order::{Base, ImageTask, JOB_ENVIRONMENT, JobOrder, StepAction, Task};
use edgewright_model::outcome::{JobFailure, JobOutcome, Phase, StepBuild};
use edgewright_model::tools::ToolVersions;
use edgewright_oci::Client;
use edgewright_oci::index::Cache;
use edgewright_process::{CancellationToken, ProcessContext};
use edgewright_sandbox::ToolImage;
use edgewright_vm::Programs;
use edgewright_vm::publish::Published;

use super::WorkSettings;
use super::place::Place;
use crate::error::ExecutorError;
use crate::report::Reporter;
use crate::tools::vm_tools;

/// The part of a job's time that is reserved for other work than its steps.
const STEP_MARGIN: Duration = Duration::from_secs(12);

/// How many of the most recently used images of lanes are kept: the next ones mostly share layers with them.
const KEPT_IMAGES: usize = 16;

/// The context of one job.
pub(super) struct Job<'a> {
    pub(super) order: &'a JobOrder,
    pub(super) settings: &'a WorkSettings,
    pub(super) place: &'a Place,
    pub(super) client: Client,
    pub(super) indexes: Cache,
    pub(super) podman: Arc<PodmanHost>,
    pub(super) reporter: &'a Reporter,
    pub(super) cancel: &'a CancellationToken,
}

impl Job<'_> {
    pub(super) async fn run(&self) -> JobOutcome {
        let empty = JobOutcome::empty();
        match &self.order.task {
            Task::Lock(task) => {
                let report = |event| self.reporter.report(event);
                match edgewright_build::resolve_lock(task, &self.build_context(), &report).await {
                    Ok(lock) => JobOutcome { lock: Some(lock), ..empty },
                    Err(failure) => JobOutcome { failure: Some(failure), ..empty },
                }
            }
            Task::Image(task) if self.settings.publishes_machines => self.machine(task, empty).await,
            Task::Image(task) => self.image(task, empty).await,
        }
    }

    async fn image(&self, task: &ImageTask, mut outcome: JobOutcome) -> JobOutcome {
        let report = |event| self.reporter.report(event);
        let runs_commands =
            task.steps.iter().any(|step| matches!(step.action, StepAction::Containerfile { .. }));
        if runs_commands && let Err(error) = self.podman.engine(&self.processes()).await {
            // A build works without podman's settings, or its own failure is more specific.
            tracing::debug!(error = %Chain(error), "building without podman's settings");
        }
        let context = self.build_context();
        let built = edgewright_build::execute(task, &context, &report).await;
        outcome.builds = built.builds;
        let manifest = match built.result {
            Ok(manifest) => manifest,
            Err(failure) => return JobOutcome { failure: Some(failure), ..outcome },
        };
        let lab = self.lab_context().await;
        for lane in &task.lanes {
            if self.cancel.is_cancelled() {
                let failure = JobFailure { phase: Phase::Test, ..ExecutorError::Cancelled.failure() };
                return JobOutcome { failure: Some(failure), ..outcome };
            }
            outcome.verdicts.push(run_lane(lane, &manifest, &lab, &report).await);
        }
        let bounds = StorageBounds { images: KEPT_IMAGES, bytes: self.settings.storage_bytes };
        if let Some(engine) = self.podman.opened().filter(|_| !task.lanes.is_empty())
            && let Err(error) = engine.prune(bounds, &self.processes()).await
        {
            tracing::warn!(error = %Chain(&error), "cannot remove earlier images of lanes");
        }
        outcome
    }

    /// Makes the machine of the order's base.
    async fn machine(&self, task: &ImageTask, outcome: JobOutcome) -> JobOutcome {
        let failed = |fault: LaneFault| JobFailure {
            kind: fault.kind,
            phase: Phase::Test,
            message: fault.message,
            hint: None,
            output: Vec::new(),
        };
        let (Base::Manifest(base), Some(lane)) = (&task.base, task.lanes.first()) else {
            let fault = LaneFault::of_host("the order has no image to make a machine of".to_owned());
            return JobOutcome { failure: Some(failed(fault)), ..outcome };
        };
        let begun = Instant::now();
        let report = |event| self.reporter.report(event);
        let published = edgewright_lab::publish_machine(lane, base, &self.lab_context().await, &report).await;
        match published {
            Ok(Published { manifest, manifest_size, image_size }) => {
                let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let (key, tools, kept) = (base.digest.clone(), ToolVersions::default(), None);
                let build = StepBuild { key, manifest, manifest_size, image_size, duration_ms, tools, kept };
                JobOutcome { builds: vec![build], ..outcome }
            }
            Err(fault) => JobOutcome { failure: Some(failed(fault)), ..outcome },
        }
    }

    /// The environment that identifies every process of the job, and the token that ends them.
    fn processes(&self) -> ProcessContext {
        let mut context = ProcessContext::new(self.cancel.clone())
            .with_env(JOB_ENVIRONMENT, self.order.job.to_string())
            .with_env(WORK_ENVIRONMENT, &self.place.work)
            .with_env("TMPDIR", self.place.scratch.join("tmp"));
        for (name, value) in &self.settings.environment {
            context = context.with_env(name, value);
        }
        match self.podman.opened().and_then(Engine::process_environment) {
            Some((name, value)) => context.with_env(name, value),
            None => context,
        }
    }

    fn build_context(&self) -> BuildContext {
        let containers = self.place.work.join("containers");
        let bases = self.settings.bases.as_ref().unwrap_or(&containers);
        BuildContext {
            client: self.client.clone(),
            scratch: self.place.scratch.clone(),
            cache: self.place.work.join("cache"),
            indexes: self.indexes.clone(),
            storage: bases.join("storage"),
            runroot: edgewright_lab::runroot(&containers),
            process: self.processes(),
            auth: self.settings.auth.clone(),
            in_sandbox: self.settings.in_sandbox,
            host_etc: self.settings.host_etc.clone(),
            secrets: self.settings.secrets.clone(),
            step_limit: self.step_limit(),
        }
    }

    /// The limit of a step: a step that hangs must be reported as such before the job's own limit ends
    /// everything.
    fn step_limit(&self) -> Duration {
        let within = self.order.within.get();
        // The work before the step, and killing a tool, take time, too.
        within.mul_f64(0.95).min(within.saturating_sub(STEP_MARGIN)).max(within / 2)
    }

    /// In a sandbox, its own QEMU; else that of the tool image; else the host's.
    async fn vm_host(&self) -> VmHost {
        let image = match self.settings.tools.as_deref() {
            Some(folder) if !self.settings.in_sandbox => ToolImage::load(folder).await.ok(),
            _ => None,
        };
        let programs = Programs { guest: self.settings.guest, checks: self.settings.runner };
        VmHost::new(&self.place.work, vm_tools(image.as_ref()), programs)
    }

    async fn lab_context(&self) -> LabContext {
        LabContext {
            podman: Arc::clone(&self.podman),
            vm: self.vm_host().await,
            client: self.client.clone(),
            job: self.order.job,
            scratch: self.place.scratch.clone(),
            processes: self.processes(),
        }
    }
}
