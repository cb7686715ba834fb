//! The local executor: starts `edgewright job run` as a child process and evaluates its output. Jobs that
//! start no program may run in this process instead.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_lab::{EngineSettings, lane_profile, reap_job};
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::{
    JOB_ENVIRONMENT, JobId, JobOrder, JobRequest, ManifestRef, RegistryAccess, StepAction, Task,
};
use edgewright_model::outcome::{JobEvent, JobOutcome};
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::LaneProfile;
use edgewright_process::{CancellationToken, Command, Ended, ProcessContext, Stream, Tasks};
use edgewright_sandbox::SandboxError;
use tokio::sync::{OnceCell, mpsc};

use crate::courtesy::with_io_priority;
use crate::credentials::{JobCredential, JobRegistry};
use crate::disk::{DiskBound, Excess};
use crate::error::ExecutorError;
use crate::executor::{Admission, BoxFuture, Capacity, Demand, Executor, Permit};
use crate::gate::{AdmissionSettings, Gate};
use crate::heard::{Heard, cut};
use crate::isolation::Isolation;
use crate::sandboxed::{JobPlace, JobSandbox};
use crate::work::JobWorker;
use crate::{native, tools};

/// The time that a child has after its order's limit, to notice it and clean up.
const OVERTIME: Duration = Duration::from_secs(30);
/// The time between the end of its input and SIGKILL.
const GRACE: Duration = Duration::from_secs(20);
/// The longest line of a child, in bytes: an outcome with its verdicts.
const LINE_LIMIT: usize = 64 * 1024 * 1024;

/// Receives a job's log, line by line: the standard error of the job process.
pub type LogSink = Arc<dyn Fn(JobId, &str) + Send + Sync>;

/// Settings of the local executor. Clones share the secrets.
#[derive(Clone)]
pub struct LocalSettings {
    /// The `edgewright` binary.
    pub program: PathBuf,
    /// `job run --work DIR`.
    pub arguments: Vec<OsString>,
    /// The work folder, which identifies leftovers of its jobs.
    pub work: PathBuf,
    /// Further environment: proxies, `CONTAINERS_CONF`.
    pub environment: Vec<(OsString, OsString)>,
    /// The `nice` value of jobs, from 0 (normal priority) to 19.
    pub nice: u8,
    /// Receives the jobs' logs.
    pub log: LogSink,
    /// Files with build secrets.
    pub secrets: BuildSecrets,
    /// Runs jobs that start no program in this process; none: all jobs are child processes.
    pub native: Option<JobWorker>,
    /// Work that no job waits for.
    pub tasks: Tasks,
    /// The resources of this machine for jobs.
    pub admission: AdmissionSettings,
    /// Where jobs that start programs run.
    pub isolation: Isolation,
    /// The most that one job may write, in bytes; never more than half of the space that is free when it
    /// starts.
    pub disk_bytes: u64,
    /// The profile of lanes.
    pub lanes: fn(Lane) -> Option<LaneProfile>,
}

impl LocalSettings {
    /// Runs `program job run --work WORK`; logs go nowhere until [`LocalSettings::log`] is set.
    pub fn new(program: PathBuf, work: PathBuf, admission: AdmissionSettings) -> Self {
        let arguments = ["job".into(), "run".into(), "--work".into(), work.clone().into_os_string()];
        Self {
            program,
            arguments: arguments.into(),
            work,
            environment: Vec::new(),
            nice: 0,
            log: Arc::new(|_, _| {}),
            secrets: BuildSecrets::default(),
            native: None,
            tasks: Tasks::new(),
            admission,
            isolation: Isolation::HostTools,
            disk_bytes: u64::MAX,
            lanes: lane_profile,
        }
    }
}

impl fmt::Debug for LocalSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSettings")
            .field("program", &self.program)
            .field("work", &self.work)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}

/// Files with build secrets by id, as they are now. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct BuildSecrets(Arc<Mutex<BTreeMap<String, PathBuf>>>);

impl BuildSecrets {
    /// Replaces the files, for jobs that start from now on.
    pub fn set(&self, secrets: BTreeMap<String, PathBuf>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// The files that the steps of a task name, as they are now: no job can read another secret.
    pub fn files(&self, task: &Task) -> BTreeMap<String, PathBuf> {
        let steps = if let Task::Image(task) = task { task.steps.as_slice() } else { &[] };
        let named = steps.iter().flat_map(|step| match &step.action {
            StepAction::Containerfile { secrets, .. } => secrets.as_slice(),
            StepAction::Bootstrap { .. } | StepAction::Files { .. } => &[],
        });
        let named: BTreeSet<&str> = named.map(|secret| secret.id.as_str()).collect();
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        files.retain(|id, _| named.contains(id.as_str()));
        files
    }

    /// Only the paths are passed, as `--secret ID=FILE`: the child reads the files, and their content is in
    /// no argument or environment.
    fn arguments(&self, task: &Task) -> Vec<OsString> {
        let argument = |(id, file): (String, PathBuf)| {
            [OsString::from("--secret"), format!("{id}={}", file.display()).into()]
        };
        self.files(task).into_iter().flat_map(argument).collect()
    }
}

/// Runs each job as a child process that dies with this one. Clones share its capacity.
#[derive(Debug, Clone)]
pub struct LocalExecutor {
    settings: LocalSettings,
    registry: JobRegistry,
    gate: Gate,
    host_tools: OnceCell<ToolVersions>,
}

impl LocalExecutor {
    /// An executor whose jobs work with `registry`.
    pub fn new(settings: LocalSettings, registry: JobRegistry) -> Self {
        let gate = Gate::new(settings.admission.clone());
        Self { settings, registry, gate, host_tools: OnceCell::new() }
    }

    async fn run_child(
        &self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> Result<JobOutcome, ExecutorError> {
        let (job, within) = (order.job, order.within);
        let mut line = serde_json::to_vec(&order).map_err(ExecutorError::Order)?;
        line.push(b'\n');
        let settings = &self.settings;
        let (command, place) = self.command(&order, &events, &cancel).await?;
        let stop = cancel.child_token();
        let mut command = command
            .stdin_bytes_kept_open(line)
            .deadline(within.get() + OVERTIME)
            .grace(GRACE)
            .line_limit(LINE_LIMIT)
            .cancel(stop.clone());
        for (name, value) in &settings.environment {
            command = command.env(name, value);
        }
        let mut heard = Heard::default();
        let (ended, stays) = (CancellationToken::new(), heard.stays());
        let keeps = place.is_some() && asks_to_keep(&order);
        let running = async {
            let to_its_end = command.run_lines_status(|stream, line| match stream {
                Stream::Stdout => heard.line(line, &events),
                Stream::Stderr => (settings.log)(job, cut(line)),
            });
            // Of a sandbox that stays, only the runtime is ended, by dropping its command.
            let finished = tokio::select! {
                finished = to_its_end => Some(finished),
                () = stays.cancelled(), if keeps => None,
            };
            ended.cancel();
            finished
        };
        let watching = async {
            let excess = tokio::select! {
                excess = self.disk_bound(&order).exceeded() => Some(excess),
                () = ended.cancelled() => None,
            };
            if excess.is_some() {
                stop.cancel();
            }
            excess
        };
        let (finished, excess) = tokio::join!(running, watching);
        // Nothing of the job runs any more before what it left is removed. Killing and removing blocks.
        let kept = heard.kept().filter(|_| finished.is_none()).map(ToString::to_string);
        let left = tokio::task::spawn_blocking(move || match (place, kept) {
            (Some(place), Some(repository)) => place.keep(&repository),
            _ => Ok(()),
        });
        let left =
            left.await.map_err(io::Error::other).map_err(SandboxError::io("keep", &settings.work)).flatten();
        self.clear(&order).await;
        left.map_err(|error| ExecutorError::Sandbox(Arc::new(error)))?;
        if let Some(Excess { written, bound }) = excess {
            return Err(ExecutorError::Disk { written, bound, phase: heard.phase() });
        }
        let finished = finished.map_or(Ok((Ended::Code(0), Vec::new())), |finished| {
            finished.map(|finished| (finished.ended, finished.output.stderr_tail))
        });
        heard.judge(finished, &cancel, within)
    }

    /// The command that starts a job's process, with what has to exist as long as it runs.
    async fn command(
        &self,
        order: &JobOrder,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> Result<(Command, Option<JobPlace>), ExecutorError> {
        let settings = &self.settings;
        match &settings.isolation {
            Isolation::HostTools => tools::require(order, self.host_tools().await)?,
            Isolation::Unavailable(error) => return Err(ExecutorError::Sandbox(Arc::clone(error))),
            Isolation::Sandbox(sandbox) => {
                return self.sandboxed(sandbox, order, events, cancel).await;
            }
        }
        let (program, before) = with_io_priority(&settings.program, settings.nice);
        let command = Command::new(program)
            .args(before)
            .args(&settings.arguments)
            .args(settings.secrets.arguments(&order.task))
            .env(JOB_ENVIRONMENT, order.job.to_string())
            // The canonical path identifies processes of this work folder.
            .env(
                edgewright_lab::WORK_ENVIRONMENT,
                tokio::fs::canonicalize(&settings.work).await.unwrap_or_else(|_| settings.work.clone()),
            );
        Ok((command, None))
    }

    async fn sandboxed(
        &self,
        sandbox: &JobSandbox,
        order: &JobOrder,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> Result<(Command, Option<JobPlace>), ExecutorError> {
        let settings = &self.settings;
        let fault = |error| ExecutorError::Sandbox(Arc::new(error));
        // If it is cancelled while the tool image is made, the next job makes it.
        let ready = tokio::select! {
            ready = sandbox.tools.sandbox(&settings.program, events, cancel) => ready.map_err(fault)?,
            () = cancel.cancelled() => return Err(ExecutorError::Cancelled),
        };
        tools::require(order, &tools::of_image(ready.tools()))?;
        let _ = events.try_send(JobEvent::Log { line: format!("[tools: {}]", ready.tools().versions()) });
        let launch = sandbox.launch(&settings.program, order, &settings.environment);
        let prepared = sandbox.prepare(&ready, launch, order, settings.secrets.files(&order.task)).await;
        let (command, place) = prepared.map_err(fault)?;
        Ok((command, Some(place)))
    }

    /// Those of the tool image as it is now.
    async fn image_tools(
        &self,
        sandbox: &JobSandbox,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> ToolVersions {
        let opened = tokio::select! {
            opened = sandbox.tools.image(&self.settings.program, events, cancel) => opened,
            () = cancel.cancelled() => return ToolVersions::default(),
        };
        match opened {
            Ok(image) => tools::of_image(&image),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the versions of tools are not known");
                ToolVersions::default()
            }
        }
    }

    /// Those of this host when they were first asked for.
    async fn host_tools(&self) -> &ToolVersions {
        self.host_tools.get_or_init(tools::of_host).await
    }

    /// What a job may write, and where.
    fn disk_bound(&self, order: &JobOrder) -> DiskBound {
        let work = match &self.settings.isolation {
            Isolation::Sandbox(sandbox) => sandbox.domain(order),
            Isolation::HostTools | Isolation::Unavailable(_) => self.settings.work.clone(),
        };
        DiskBound {
            scratch: work.join("jobs").join(order.job.to_string()),
            layers: work.join("containers/storage/overlay"),
            bytes: self.settings.disk_bytes,
        }
    }

    /// A job that ended by itself has removed its folder; one that was killed left more.
    async fn clear(&self, order: &JobOrder) {
        let Isolation::Sandbox(sandbox) = &self.settings.isolation else {
            return self.clear_here(order.job).await;
        };
        // Its processes and mounts ended with the sandbox; files are left.
        let (sandbox, domain, job) = (sandbox.clone(), order.domain.folder(), order.job.to_string());
        drop(tokio::task::spawn_blocking(move || sandbox.remove_killed(&domain, job.as_ref())).await);
    }

    /// Removes what a job that was killed left on the host: processes, containers, mounts, its folder.
    async fn clear_here(&self, job: JobId) {
        let work = &self.settings.work;
        let folder = work.join("jobs").join(job.to_string());
        if !tokio::fs::try_exists(folder).await.unwrap_or(true) {
            return;
        }
        let conf = self.settings.environment.iter().find(|(name, _)| name == "CONTAINERS_CONF");
        let engine = EngineSettings { containers_conf: conf.map(|(_, path)| path.into()) };
        let reaped = reap_job(work, &job, &engine, &ProcessContext::default()).await;
        tracing::info!(job.id = %job, ?reaped, "cleaned up after a killed job");
    }

    /// Reads the index of an image that a job has built, while other jobs run.
    fn learn(
        &self,
        worker: JobWorker,
        (access, credential): (RegistryAccess, JobCredential),
        manifest: ManifestRef,
    ) {
        let stop = self.settings.tasks.token().clone();
        self.settings.tasks.spawn("index of a built image", async move {
            worker.learn(&access, &manifest, &stop).await;
            drop(credential);
        });
    }
}

impl Executor for LocalExecutor {
    fn admit(&self, demand: Demand) -> BoxFuture<'_, Admission> {
        Box::pin(async move { self.gate.admit(&demand).await })
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
            let is_native = native::is_native(&request);
            let job = request.job;
            let (order, credential) = self.registry.order(request);
            match &self.settings.native {
                Some(worker) if is_native => {
                    let outcome = native::run(worker.clone(), order, events, cancel).await;
                    self.clear_here(job).await;
                    outcome
                }
                Some(worker) => {
                    let below = below_files(&order).filter(|_| order.domain.trusted);
                    let access = order.registry.clone();
                    let outcome = self.run_child(order, events, cancel).await?;
                    let mut builds = outcome.builds.iter();
                    if let Some(build) = builds.find(|build| Some(&build.key) == below.as_ref()) {
                        let manifest = build.manifest.clone();
                        self.learn(worker.clone(), (access, credential), manifest);
                    }
                    Ok(outcome)
                }
                None => self.run_child(order, events, cancel).await,
            }
        })
    }

    fn lane_profile(&self, lane: Lane) -> Option<LaneProfile> {
        (self.settings.lanes)(lane)
    }

    fn tools<'a>(
        &'a self,
        events: mpsc::Sender<JobEvent>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, ToolVersions> {
        Box::pin(async move {
            match &self.settings.isolation {
                Isolation::Sandbox(sandbox) => self.image_tools(sandbox, &events, cancel).await,
                Isolation::HostTools => self.host_tools().await.clone(),
                Isolation::Unavailable(_) => ToolVersions::default(),
            }
        })
    }

    fn capacity(&self) -> Capacity {
        self.gate.capacity()
    }
}

/// Whether a machine of a job may stay after it. What else a job prints about that is not believed.
fn asks_to_keep(order: &JobOrder) -> bool {
    matches!(&order.task, Task::Image(task) if task.lanes.iter().any(|lane| lane.keep))
}

/// The key of the image that later `files` steps are added to: that of the last other step.
fn below_files(order: &JobOrder) -> Option<Digest> {
    let Task::Image(task) = &order.task else { return None };
    let below = task.steps.iter().rfind(|step| !matches!(step.action, StepAction::Files { .. }));
    below.map(|step| step.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_those_of_now_that_the_task_names() {
        let Task::Image(mut task) = crate::conformance::image_request(1, "hmi").unwrap().task else {
            panic!("it is an image")
        };
        let secrets = BuildSecrets::default();
        let used = secrets.clone();
        let file = |name: &str| (name.to_owned(), PathBuf::from(format!("/run/{name}")));
        secrets.set(BTreeMap::from([file("npm"), file("other")]));
        assert_eq!(used.arguments(&Task::Image(task.clone())), Vec::<OsString>::new());
        task.steps[0].action = StepAction::Containerfile {
            context: edgewright_model::order::Context::Inline { tar: String::new() },
            containerfile: String::new(),
            args: BTreeMap::new(),
            target: None,
            secrets: vec![edgewright_model::spec::SecretRef {
                id: "npm".to_owned(),
                version: "1".to_owned(),
            }],
            images: Vec::new(),
        };
        let task = Task::Image(task);
        assert_eq!(used.arguments(&task), ["--secret", "npm=/run/npm"]);
        secrets.set(BTreeMap::new());
        assert_eq!(used.arguments(&task), Vec::<OsString>::new());
    }
}
