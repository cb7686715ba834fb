//! Jobs: the executor that starts them as children of this command, and the child's own side.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use edgewright_job::{
    AdmissionSettings, Executor, Isolation, JobRegistry, JobSandbox, JobWorker, LocalExecutor, LocalSettings,
    Tools, WorkSettings,
};
use edgewright_lab::EngineSettings;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_process::{OwnedTask, Tasks};
use edgewright_sandbox::namespace::Entrance;
use edgewright_sandbox::{Bounds, Sandbox};
use edgewright_server::{DataFolder, FolderLock, Settings};

use super::serve::start_logging;
use crate::args::{Global, JobPodArgs, JobRunArgs};
use crate::exit::{End, Failure};
use crate::settings::Environment;

/// The most processes and threads of a sandboxed job.
const JOB_PROCESSES: u64 = 4096;
/// The share of the processor of a sandboxed job for each core, so that a job can use all of them beside
/// others; other services have 100.
const JOB_CPU_WEIGHT: u32 = 100;
/// The largest share of the processor of a sandboxed job.
const MAX_JOB_CPU_WEIGHT: u32 = 1000;

/// The static check runner, made by `build.rs`.
pub(super) const RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgewright-checks"));

/// The static program that is brought into virtual machines, made by `build.rs`.
const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgewright-guest"));

/// The settings of podman and buildah in our own image.
const IMAGE_CONF: &str = "/etc/containers/containers.conf";

/// What is brought into virtual machines.
pub(super) const fn vm_programs() -> edgewright_vm::machine::Programs {
    edgewright_vm::machine::Programs { guest: GUEST, checks: RUNNER }
}

/// The settings of the executor of `serve` and `run`: each job is a child of this process. Leftovers of an
/// earlier process's jobs are removed first: with the lock held, no other process has jobs here.
pub(crate) async fn local_jobs(settings: &Settings, _lock: &FolderLock) -> Result<LocalSettings, Failure> {
    let environment = Environment::read();
    let work = DataFolder::new(&settings.data).work();
    tokio::fs::create_dir_all(&work).await.map_err(|error| Failure::file("cannot create", &work, &error))?;
    let engine = EngineSettings { containers_conf: environment.containers_conf() };
    let reaped = edgewright_job::reap(&work, &engine).await;
    tracing::debug!(?reaped, "removed leftovers of earlier jobs");
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable("cannot find the file of this program", &error))?;
    let admission = AdmissionSettings {
        slots: settings.parallel,
        untrusted_slots: settings.untrusted_slots,
        folder: settings.data.clone(),
        floor: settings.floor,
    };
    let mut jobs = LocalSettings::new(program, work, admission);
    jobs.secrets.set(settings.build_secrets.clone());
    jobs.environment = environment.for_jobs();
    jobs.nice = settings.job_nice;
    let options = [
        "--nice".to_owned(),
        settings.job_nice.to_string(),
        "--storage-mib".to_owned(),
        settings.storage_mib.to_string(),
    ];
    jobs.arguments.extend(options.map(Into::into));
    jobs.arguments.extend(["--tools".into(), settings.tools.clone().into_os_string()]);
    jobs.isolation = isolation(settings, &jobs.work, &environment).await?;
    jobs.disk_bytes = settings.job_disk;
    jobs.log = Arc::new(|job, line| tracing::debug!(job.id = %job, "{line}"));
    // Jobs that start no program need no secrets.
    let native = work_settings(&jobs.work, BTreeMap::new(), settings.storage_mib, &environment);
    jobs.native = Some(JobWorker::new(native));
    Ok(jobs)
}

/// Where jobs run, by the settings. What is left of sandboxes of an earlier process is ended.
async fn isolation(
    settings: &Settings,
    work: &Path,
    environment: &Environment,
) -> Result<Isolation, Failure> {
    if settings.unsafe_host_tools {
        tracing::warn!(
            "jobs run with the tools and files of this host: everyone who can change a definition or a base \
             image is root here"
        );
        return Ok(Isolation::HostTools);
    }
    if !environment.makes_sandboxes()
        && let Err(error) = Entrance::find()
    {
        return Ok(Isolation::Unavailable(Arc::new(error)));
    }
    let cores =
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let cpu_weight = JOB_CPU_WEIGHT.saturating_mul(cores).min(MAX_JOB_CPU_WEIGHT);
    let bounds = Bounds { memory_bytes: settings.job_memory, processes: JOB_PROCESSES, cpu_weight };
    let folder = work.join("sandboxes");
    let jobs = JobSandbox {
        tools: Tools::new(settings.tools.clone(), folder.clone()),
        work: work.join("sandbox"),
        nice: settings.job_nice,
        storage_mib: settings.storage_mib,
        reach: settings.reach.clone(),
        bounds,
    };
    let cleared = tokio::task::spawn_blocking({
        let jobs = jobs.clone();
        move || {
            jobs.tidy();
            Sandbox::clear(&folder)
        }
    });
    let cleared = cleared.await.map_err(|error| Failure::unavailable("cannot clear sandboxes", &error))?;
    tracing::debug!(cleared, "removed sandboxes of earlier jobs");
    Ok(Isolation::Sandbox(jobs))
}

/// Builds the executor once it is known how jobs reach the registry.
pub(crate) fn executor(jobs: LocalSettings) -> impl FnOnce(JobRegistry, Tasks) -> Arc<dyn Executor> {
    move |registry, tasks| Arc::new(LocalExecutor::new(LocalSettings { tasks, ..jobs }, registry))
}

/// The child process: executes one order from standard input.
pub(crate) async fn run(args: &JobRunArgs, global: &Global) -> Result<End, Failure> {
    start_logging(global, "info")?;
    edgewright_job::lower_priority(args.nice);
    if args.sandboxed {
        edgewright_sandbox::inside::settle()?;
    }
    let _forwards = forward(&args.forward).await?;
    let secrets = read_secrets(&args.secret)?;
    let environment = Environment::read();
    let mut settings = work_settings(&args.work, secrets, args.storage_mib, &environment);
    settings.in_sandbox = args.sandboxed;
    settings.host_etc.clone_from(&args.host_etc);
    settings.killed.clone_from(&args.killed);
    settings.tools.clone_from(&args.tools);
    let worker = JobWorker::new(settings);
    edgewright_job::serve(std::io::stdin(), std::io::stdout(), &worker, args.sandboxed)
        .await
        .map_err(|error| Failure::new(error.class(), Chain(&error).to_string()))?;
    Ok(End::Good)
}

/// The process of a job in a Pod, which is its sandbox.
pub(crate) async fn in_pod(args: &JobPodArgs, global: &Global) -> Result<End, Failure> {
    start_logging(global, "info")?;
    let secrets = read_secrets(&args.secret)?;
    let environment = Environment::read();
    // The folder ends with the Pod: nothing but bases is kept for a later job.
    let mut settings =
        work_settings(&args.work, secrets, edgewright_server::DEFAULT_STORAGE_MIB, &environment);
    settings.in_sandbox = true;
    settings.publishes_machines = args.machine;
    settings.bases.clone_from(&args.bases);
    if settings.engine.containers_conf.is_none() {
        // The image has settings for Pods: nothing is tried out.
        let is_there = tokio::fs::try_exists(IMAGE_CONF).await.unwrap_or_default();
        settings.engine.containers_conf = is_there.then(|| IMAGE_CONF.into());
    }
    let worker = JobWorker::new(settings);
    let results =
        edgewright_cluster::in_pod::Results { report: &args.report, digest: args.digest.as_deref() };
    edgewright_cluster::in_pod::serve(&args.order, results, &worker)
        .await
        .map_err(|error| Failure::new(error.class(), Chain(&error).to_string()))?;
    Ok(End::Good)
}

/// Prints the versions of the programs that a job finds here.
pub(crate) async fn print_tools() -> Result<End, Failure> {
    crate::output::value(&edgewright_job::host_tools().await)?;
    Ok(End::Good)
}

/// Writes the check runner to a file that may be executed.
pub(crate) fn install_runner(path: &Path) -> Result<End, Failure> {
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, RUNNER)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
    };
    write().map_err(|error| Failure::file("cannot write", path, &error))?;
    Ok(End::Good)
}

/// Listens where registries of the host are.
async fn forward(given: &[String]) -> Result<Vec<OwnedTask<()>>, Failure> {
    let mut tasks = Vec::new();
    for text in given {
        let parsed = text.split_once('=').and_then(|(address, socket)| Some((address.parse().ok()?, socket)));
        let Some((address, socket)) = parsed else {
            return Err(Failure::user(format!("invalid --forward `{text}`: expected ADDR=SOCKET")));
        };
        let task = edgewright_job::forward_into(address, socket.into()).await;
        let message = format!("cannot make {address} reachable in the sandbox");
        tasks.push(task.map_err(|error| Failure::unavailable(&message, &error))?);
    }
    Ok(tasks)
}

fn work_settings(
    work: &Path,
    secrets: BTreeMap<String, Vec<u8>>,
    storage_mib: u64,
    environment: &Environment,
) -> WorkSettings {
    WorkSettings {
        work: work.to_owned(),
        runner: RUNNER,
        guest: GUEST,
        tools: None,
        engine: EngineSettings { containers_conf: environment.containers_conf() },
        storage_bytes: storage_mib.saturating_mul(1024 * 1024),
        environment: environment.for_jobs(),
        auth: None,
        in_sandbox: false,
        host_etc: "/etc".into(),
        killed: Vec::new(),
        secrets,
        publishes_machines: false,
        bases: None,
    }
}

/// The bytes of build secrets. One that cannot be read counts as unknown: only a step that needs it fails.
fn read_secrets(given: &[String]) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut secrets = BTreeMap::new();
    for text in given {
        let Some((id, file)) = text.split_once('=') else {
            return Err(Failure::new(
                ErrorClass::UserFault,
                format!("invalid --secret `{text}`: expected ID=FILE"),
            ));
        };
        match std::fs::read(file) {
            Ok(bytes) => drop(secrets.insert(id.to_owned(), bytes)),
            Err(error) => tracing::warn!(secret = id, file, %error, "cannot read a build secret"),
        }
    }
    Ok(secrets)
}
