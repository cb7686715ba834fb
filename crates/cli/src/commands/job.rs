//! Jobs: the executor that starts them as children of this command, and the child's own side.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use edgewright_job::{
    AdmissionSettings, Executor, JobRegistry, JobWorker, LocalExecutor, LocalSettings, WorkSettings,
};
use edgewright_lab::EngineSettings;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_server::{DataFolder, FolderLock, Settings};

use super::serve::start_logging;
use crate::args::Global;
use crate::exit::{End, Failure};
use crate::settings::Environment;

/// The static check runner, made by `build.rs`.
const RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgewright-checks"));

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
    let admission =
        AdmissionSettings { slots: settings.parallel, folder: settings.data.clone(), floor: settings.floor };
    let mut jobs = LocalSettings::new(program, work, admission);
    jobs.secrets.set(settings.build_secrets.clone());
    jobs.environment = environment.for_jobs();
    jobs.nice = settings.job_nice;
    jobs.arguments.extend(["--nice".into(), settings.job_nice.to_string().into()]);
    jobs.arguments.extend(["--storage-mib".into(), settings.storage_mib.to_string().into()]);
    jobs.log = Arc::new(|job, line| tracing::debug!(job.id = %job, "{line}"));
    // Jobs that start no program need no secrets.
    jobs.native = Some(worker(&jobs.work, BTreeMap::new(), settings.storage_mib, &environment));
    Ok(jobs)
}

/// Builds the executor once it is known how jobs reach the registry.
pub(crate) fn executor(jobs: LocalSettings) -> impl FnOnce(JobRegistry) -> Arc<dyn Executor> {
    |registry| Arc::new(LocalExecutor::new(jobs, registry))
}

/// The child process: executes one order from standard input.
pub(crate) async fn run(
    work: &Path,
    secrets: &[String],
    nice: u8,
    storage_mib: u64,
    global: &Global,
) -> Result<End, Failure> {
    start_logging(global, "info")?;
    edgewright_job::lower_priority(nice);
    let secrets = read_secrets(secrets)?;
    let environment = Environment::read();
    let worker = worker(work, secrets, storage_mib, &environment);
    edgewright_job::serve(std::io::stdin(), std::io::stdout(), &worker)
        .await
        .map_err(|error| Failure::new(error.class(), Chain(&error).to_string()))?;
    Ok(End::Good)
}

fn worker(
    work: &Path,
    secrets: BTreeMap<String, Vec<u8>>,
    storage_mib: u64,
    environment: &Environment,
) -> JobWorker {
    JobWorker::new(WorkSettings {
        work: work.to_owned(),
        runner: RUNNER,
        engine: EngineSettings { containers_conf: environment.containers_conf() },
        storage_bytes: storage_mib.saturating_mul(1024 * 1024),
        environment: environment.for_jobs(),
        auth: None,
        secrets,
    })
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
