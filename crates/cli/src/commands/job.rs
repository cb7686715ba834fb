//! Jobs: the executor that starts them as children of this command, and the child's own side.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use edgewright_job::{Executor, LocalExecutor, WorkExecutor, WorkSettings};
use edgewright_lab::EngineSettings;
use edgewright_model::error::Chain;
use edgewright_server::{DataFolder, FolderLock, Settings};

use super::serve::start_logging;
use crate::args::Global;
use crate::exit::{End, Failure};
use crate::settings::Surroundings;

/// The static check runner, made by `build.rs`.
const RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgewright-checks"));

/// The executor of `serve` and `run`: each job is a child of this process. What jobs of an earlier process left behind
/// is removed first: the lock says that nobody else's jobs run here.
pub(crate) async fn local_executor(
    settings: &Settings,
    _lock: &FolderLock,
) -> Result<Arc<dyn Executor>, Failure> {
    let surroundings = Surroundings::read();
    let work = DataFolder::new(&settings.data).work();
    tokio::fs::create_dir_all(&work).await.map_err(|error| Failure::file("cannot make", &work, &error))?;
    let engine = EngineSettings { containers_conf: surroundings.containers_conf() };
    let reaped = edgewright_job::reap(&work, &engine).await;
    tracing::debug!(?reaped, "leftovers of earlier jobs are gone");
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable("cannot find this program's own file", &error))?;
    let mut executor = LocalExecutor::new(program, work);
    executor.environment = surroundings.for_jobs();
    executor.log = Arc::new(|job, line| tracing::debug!(job.id = %job, "{line}"));
    Ok(Arc::new(executor))
}

/// The child: one order from standard input.
pub(crate) async fn run(work: &Path, global: &Global) -> Result<End, Failure> {
    start_logging(global, "info")?;
    let surroundings = Surroundings::read();
    let executor = WorkExecutor::new(WorkSettings {
        work: work.to_owned(),
        runner: RUNNER,
        engine: EngineSettings { containers_conf: surroundings.containers_conf() },
        environment: surroundings.for_jobs(),
        auth: None,
        secrets: BTreeMap::new(),
    });
    edgewright_job::serve(std::io::stdin(), std::io::stdout(), &executor)
        .await
        .map_err(|error| Failure::new(error.class(), Chain(&error).to_string()))?;
    Ok(End::Good)
}
