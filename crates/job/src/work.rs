//! What a job does: build → push → lanes, inside a folder of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_build::BuildContext;
use edgewright_lab::{
    Engine, EngineSettings, LabContext, LabError, Reaped, Runner, StorageBounds, WORK_ENVIRONMENT,
    recorded_on, run_lane, verdict_inputs,
};
use edgewright_model::error::Chain;
use edgewright_model::order::{
    ImageTask, JOB_ENVIRONMENT, JobOrder, LaneOrder, ManifestRef, ORDER_VERSION, RegistryAccess, StepAction,
    Task,
};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_model::reference::Reference;
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneResult, Verdict, VerdictOrigin};
use edgewright_oci::index::Cache;
use edgewright_oci::{Client, ClientError, image};
use edgewright_process::{CancellationToken, ProcessContext};
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::executor::BoxFuture;
use crate::process::with_failure;
use crate::report::Reporter;
use crate::worker::Worker;

/// What jobs work with besides their orders.
#[derive(Clone)]
pub struct WorkSettings {
    /// The work folder: scratch, container storage, caches. Made where missing.
    pub work: PathBuf,
    /// The static check runner.
    pub runner: &'static [u8],
    /// What the user says about podman.
    pub engine: EngineSettings,
    /// How many bytes of container storage stay; what was not used for longest goes first.
    pub storage_bytes: u64,
    /// Further environment of all commands: proxies.
    pub environment: Vec<(OsString, OsString)>,
    /// Text of a `containers-auth.json(5)` for external registries.
    pub auth: Option<String>,
    /// Build secrets by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for WorkSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkSettings").field("work", &self.work).finish_non_exhaustive()
    }
}

/// Does jobs in this process: what stands behind `edgewright job run`. Clones share connections and indexes.
#[derive(Debug, Clone)]
pub struct JobWorker {
    settings: WorkSettings,
    indexes: Cache,
    /// Of the registry that the last job named, by its address.
    client: Arc<Mutex<Option<(String, Client)>>>,
}

impl JobWorker {
    /// A worker in a work folder.
    pub fn new(settings: WorkSettings) -> Self {
        let indexes = Cache::new(settings.work.join("cache/indexes"));
        Self { settings, indexes, client: Arc::default() }
    }

    /// Has at hand what files that are laid over an image need, so that the next job that does so need not wait for it.
    pub(crate) async fn learn(&self, access: &RegistryAccess, manifest: &ManifestRef) {
        let client = tokio::task::spawn_blocking({
            let (worker, access) = (self.clone(), access.clone());
            move || worker.client(&access)
        });
        let Ok(Ok(client)) = client.await else { return };
        let reference = Reference::Digest(manifest.digest.clone());
        let Ok(pulled) = client.pull_manifest(&manifest.repository, &reference).await else { return };
        let Ok(layers) = image::layers(&pulled.bytes) else { return };
        let (indexes, layers) =
            (self.indexes.clone(), layers.into_iter().map(|layer| layer.digest).collect());
        // What is not known yet is found out by the job that needs it.
        drop(tokio::task::spawn_blocking(move || indexes.merge(&layers)).await);
    }

    /// A client of a registry. A new one reads the system's certificates and has no connection yet; each job has its own
    /// token.
    fn client(&self, access: &RegistryAccess) -> Result<Client, ClientError> {
        let mut last = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((url, client)) = &*last
            && *url == access.url
        {
            return Ok(client.with_token(access.token.as_deref()));
        }
        let client = Client::new(access)?;
        *last = Some((access.url.clone(), client.clone()));
        Ok(client)
    }
}

impl Worker for JobWorker {
    fn work(
        &self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>> {
        Box::pin(async move {
            let reporter = Reporter::new(events);
            let outcome = work(&order, self, &reporter, &cancel).await;
            reporter.finish();
            if cancel.is_cancelled() && outcome.failure.is_some() && outcome.builds.is_empty() {
                return Err(ExecutorError::Cancelled);
            }
            Ok(outcome)
        })
    }
}

/// Removes what killed jobs left in a work folder: processes, containers, mounts, folders. Call it with the data
/// folder's lock held and before the first job.
pub async fn reap(work: &Path, engine: &EngineSettings) -> Reaped {
    edgewright_lab::reap(work, engine, &ProcessContext::default()).await
}

/// Kept of a job's time for what is not its steps.
const STEP_MARGIN: Duration = Duration::from_secs(12);

/// Images that lanes used last: the next ones mostly share layers with them.
const KEPT_IMAGES: usize = 16;

/// A job's folders.
struct Place {
    work: PathBuf,
    scratch: PathBuf,
}

impl Place {
    fn make(work: &Path, order: &JobOrder) -> io::Result<Self> {
        fs::create_dir_all(work)?;
        // The canonical path is what marks processes, and what podman's database remembers.
        let work = work.canonicalize()?;
        let scratch = work.join("jobs").join(order.job.to_string());
        fs::create_dir_all(scratch.join("tmp"))?;
        Ok(Self { work, scratch })
    }

    async fn remove(self) {
        let scratch = self.scratch.clone();
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(scratch)).await;
        if let Err(error) = removed.map_err(io::Error::other).and_then(|removed| removed) {
            // It is reaped at the next start.
            tracing::warn!(job.folder = %self.scratch.display(), %error, "cannot remove the job's folder");
        }
    }
}

async fn work(
    order: &JobOrder,
    worker: &JobWorker,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> JobOutcome {
    let settings = &worker.settings;
    // Making folders, and reading the system's certificates for a new client, are blocking.
    let prepared = tokio::task::spawn_blocking({
        let (worker, order) = (worker.clone(), order.clone());
        move || (Place::make(&worker.settings.work, &order), worker.client(&order.registry))
    });
    let (place, client) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => return with_failure(infrastructure(Chain(&error).to_string(), None)),
    };
    let place = match place {
        Ok(place) => place,
        Err(error) => {
            let message = format!("cannot make the job's folder in {}: {error}", settings.work.display());
            return with_failure(infrastructure(message, Some("check permissions and room on the disk")));
        }
    };
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            place.remove().await;
            return with_failure(infrastructure(Chain(&error).to_string(), error.hint().as_deref()));
        }
    };
    let indexes = worker.indexes.clone();
    let outcome = Job { order, settings, place: &place, client, indexes, reporter, cancel }.run().await;
    place.remove().await;
    outcome
}

fn infrastructure(message: String, hint: Option<&str>) -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Fetch,
        message,
        hint: hint.map(str::to_owned),
        output: Vec::new(),
    }
}

/// All that one job has at hand.
struct Job<'a> {
    order: &'a JobOrder,
    settings: &'a WorkSettings,
    place: &'a Place,
    client: Client,
    indexes: Cache,
    reporter: &'a Reporter,
    cancel: &'a CancellationToken,
}

impl Job<'_> {
    async fn run(&self) -> JobOutcome {
        let empty = JobOutcome {
            version: ORDER_VERSION,
            builds: Vec::new(),
            verdicts: Vec::new(),
            lock: None,
            failure: None,
        };
        match &self.order.task {
            Task::Lock(task) => {
                let report = |event| self.reporter.report(event);
                match edgewright_build::resolve_lock(task, &self.build_context(None), &report).await {
                    Ok(lock) => JobOutcome { lock: Some(lock), ..empty },
                    Err(failure) => JobOutcome { failure: Some(failure), ..empty },
                }
            }
            Task::Image(task) => self.image(task, empty).await,
        }
    }

    async fn image(&self, task: &ImageTask, mut outcome: JobOutcome) -> JobOutcome {
        let report = |event| self.reporter.report(event);
        let runs_commands =
            task.steps.iter().any(|step| matches!(step.action, StepAction::Containerfile { .. }));
        let mut engine = None;
        if runs_commands {
            engine = Some(self.engine().await);
        }
        // A build gets by without podman: its own failure says more.
        let found = engine.as_ref().and_then(|engine| engine.as_ref().ok()).map(|(engine, _)| engine);
        let context = self.build_context(found);
        let built = edgewright_build::execute(task, &context, &report).await;
        outcome.builds = built.builds;
        let manifest = match built.result {
            Ok(manifest) => manifest,
            Err(failure) => return JobOutcome { failure: Some(failure), ..outcome },
        };
        if task.lanes.is_empty() {
            return outcome;
        }
        let engine = match engine {
            Some(engine) => engine,
            None => self.engine().await,
        };
        for lane in &task.lanes {
            if self.cancel.is_cancelled() {
                let failure = JobFailure { phase: Phase::Test, ..ExecutorError::Cancelled.failure() };
                return JobOutcome { failure: Some(failure), ..outcome };
            }
            outcome.verdicts.push(match &engine {
                Ok((engine, runner)) => {
                    run_lane(lane, &manifest, &self.lab_context(engine, runner), &report).await
                }
                Err(error) => no_engine(lane, &manifest, error, self.settings.runner),
            });
        }
        let bounds = StorageBounds { images: KEPT_IMAGES, bytes: self.settings.storage_bytes };
        if let Ok((engine, _)) = &engine
            && let Err(error) = engine.prune(bounds, &self.processes(Some(engine))).await
        {
            tracing::warn!(error = %Chain(&error), "images that lanes used before were not removed");
        }
        outcome
    }

    /// Finds podman's settings; one job at a time, because the first one tries them out.
    async fn engine(&self) -> Result<(Engine, Runner), LabError> {
        let (work, binary) = (self.place.work.clone(), self.settings.runner);
        let io = |path: &Path| {
            let path = path.join("engine.lock");
            move |source| LabError::Io { action: "lock", path, source }
        };
        let prepared = tokio::task::spawn_blocking({
            let work = work.clone();
            let failed = io(&work);
            move || {
                let locked =
                    fs::File::create(work.join("engine.lock")).and_then(|file| file.lock().map(|()| file));
                Ok((locked.map_err(failed)?, Runner::install(&work, binary)?))
            }
        });
        let (_locked, runner) = prepared.await.map_err(|error| io(&work)(io::Error::other(error)))??;
        let engine = Engine::detect(&work, &runner, &self.settings.engine, &self.processes(None)).await?;
        Ok((engine, runner))
    }

    /// The marks by which every process of the job is known, and the token that ends them.
    fn processes(&self, engine: Option<&Engine>) -> ProcessContext {
        let mut context = ProcessContext::new(self.cancel.clone())
            .with_env(JOB_ENVIRONMENT, self.order.job.to_string())
            .with_env(WORK_ENVIRONMENT, &self.place.work)
            .with_env("TMPDIR", self.place.scratch.join("tmp"));
        for (name, value) in &self.settings.environment {
            context = context.with_env(name, value);
        }
        match engine.and_then(Engine::process_environment) {
            Some((name, value)) => context.with_env(name, value),
            None => context,
        }
    }

    fn build_context(&self, engine: Option<&Engine>) -> BuildContext {
        let containers = self.place.work.join("containers");
        BuildContext {
            client: self.client.clone(),
            scratch: self.place.scratch.clone(),
            cache: self.place.work.join("cache"),
            indexes: self.indexes.clone(),
            storage: containers.join("storage"),
            runroot: edgewright_lab::runroot(&containers),
            process: self.processes(engine),
            auth: self.settings.auth.clone(),
            secrets: self.settings.secrets.clone(),
            step_limit: self.step_limit(),
        }
    }

    /// A step that hangs shall be told as such, by itself, before the job's own limit ends all.
    fn step_limit(&self) -> Duration {
        let within = self.order.within.get();
        // What comes before the step, and the end of a tool that has to be killed, need their time, too.
        within.mul_f64(0.95).min(within.saturating_sub(STEP_MARGIN)).max(within / 2)
    }

    fn lab_context(&self, engine: &Engine, runner: &Runner) -> LabContext {
        LabContext {
            engine: engine.clone(),
            runner: runner.clone(),
            client: self.client.clone(),
            job: self.order.job,
            scratch: self.place.scratch.clone(),
            processes: self.processes(Some(engine)),
        }
    }
}

/// The verdict of a lane that could not even begin.
fn no_engine(order: &LaneOrder, manifest: &ManifestRef, error: &LabError, runner: &[u8]) -> Verdict {
    let mut message = Chain(error).to_string();
    if let Some(hint) = error.hint() {
        message = format!("{message} ({hint})");
    }
    let skipped = |check: &edgewright_model::spec::Check| CheckResult {
        id: check.id.clone(),
        outcome: CheckOutcome::Skipped { reason: "the machine did not start".to_owned() },
        duration_ms: 0,
        tries: 0,
        notes: Vec::new(),
    };
    Verdict {
        lane: order.lane,
        manifest: manifest.clone(),
        check_set: order.check_set.clone(),
        inputs: verdict_inputs(order.lane),
        recorded_on: recorded_on(order.lane, edgewright_model::Digest::of(runner)),
        result: LaneResult::Failed { kind: FailureKind::Infrastructure, message },
        checks: order.checks.iter().map(skipped).collect(),
        evidence: Vec::new(),
        duration_ms: 0,
        origin: VerdictOrigin::Ran,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{image_order, work as done};

    fn worker(work: PathBuf) -> JobWorker {
        JobWorker::new(WorkSettings {
            work,
            runner: b"#!/bin/true",
            engine: EngineSettings::default(),
            storage_bytes: u64::MAX,
            environment: Vec::new(),
            auth: None,
            secrets: BTreeMap::new(),
        })
    }

    #[tokio::test]
    async fn faults_of_the_host_are_infrastructure_and_leave_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        // A work folder that cannot be one; a registry that nobody serves.
        for (work, phrase) in
            [(file, "cannot make the job's folder"), (folder.path().join("work"), "127.0.0.1")]
        {
            let order = image_order(1, "hmi").unwrap();
            let (outcome, _) = done(&worker(work.clone()), order, CancellationToken::new()).await;
            let failure = outcome.unwrap().failure.unwrap();
            assert_eq!(failure.kind, FailureKind::Infrastructure);
            assert!(failure.message.contains(phrase), "{failure:?}");
            assert!(fs::read_dir(work.join("jobs")).map_or(0, Iterator::count) == 0);
        }
    }
}
