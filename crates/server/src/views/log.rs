//! Job logs: read to the current end, or followed until the node ends. All attempts of a node are in one
//! file. Followers read what was added, from their own position, and as fast as their client takes it.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;

use edgewright_api::{RunJob, RunJobs};
use edgewright_control::logs::{Logs, TOOLS_LOG};
use edgewright_control::rebuilds::REBUILD_PREFIX;
use edgewright_model::names::Platform;
use edgewright_model::run::{NodeState, RunNumber, RunState};
use edgewright_store::nodes::{JobRow, NodeRow};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::follow::{FOLLOW_INTERVAL, Watch};
use super::run::no_run;
use super::{ViewError, Views};

/// How much of a log is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// The name of a job that resolves a lock is `lock IMAGE`. Such jobs are not nodes of the plan.
const LOCK_PREFIX: &str = "lock ";

/// The state of a log that is followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogState {
    /// Nothing will be added beyond `length`.
    is_over: bool,
    /// The length of the file in bytes.
    length: u64,
}

/// The jobs of a run that were started, in this order.
#[derive(Debug, Clone)]
pub(super) struct StartedJobs {
    state: RunState,
    jobs: Arc<[RunJob]>,
}

/// A reader of a node's log.
#[derive(Debug)]
pub struct LogReader {
    views: Views,
    run: RunNumber,
    node: String,
    /// The platform of a node of the plan.
    platform: Option<Platform>,
    follow: bool,
    path: PathBuf,
    watch: Arc<Watch<LogState>>,
    file: Option<File>,
    /// The bytes that the client has.
    at: u64,
}

impl Views {
    /// The log of a node, of `lock IMAGE`, of `rebuild NODE`, or of `tools`, with which a run begins.
    pub async fn log(&self, run: RunNumber, node: &str, follow: bool) -> Result<LogReader, ViewError> {
        if self.store.progress(run, None).await?.is_none() {
            return Err(no_run(run));
        }
        let logs = Logs::new(self.folder.root());
        let (path, platform, why_none) = if node.starts_with(LOCK_PREFIX) {
            (logs.path(run, node, None), None, "no lock of this image was resolved".to_owned())
        } else if let Some(name) = node.strip_prefix(REBUILD_PREFIX) {
            let row = self.log_node(run, name).await?;
            (logs.path(run, node, Some(&row.platform)), None, "it was not rebuilt".to_owned())
        } else {
            match self.log_node(run, node).await {
                Ok(row) => {
                    let path = logs.path(run, node, Some(&row.platform));
                    (path, Some(row.platform), format!("state {} ({})", row.state, row.reason))
                }
                Err(ViewError::NotFound { .. }) if node == TOOLS_LOG => {
                    (logs.path(run, node, None), None, "nothing was to be reported about tools".to_owned())
                }
                Err(error) => return Err(error),
            }
        };
        let watch = self.logs.watch(path.clone());
        let (views, node) = (self.clone(), node.to_owned());
        let mut reader = LogReader { views, run, node, platform, follow, path, watch, file: None, at: 0 };
        if reader.open().await? || (follow && !reader.is_over().await?) {
            return Ok(reader);
        }
        Err(ViewError::NotFound {
            what: format!("no log of `{}` in run {run}: {why_none}", reader.node),
            hint: format!("`edgewright run show {run}` shows the state of each node"),
        })
    }

    async fn log_node(&self, run: RunNumber, node: &str) -> Result<NodeRow, ViewError> {
        let mut rows = self.store.nodes_named(run, node).await?;
        if rows.is_empty() {
            rows = self.store.unchanged_nodes(run).await?;
            rows.retain(|row| row.node == node);
        }
        // Of several platforms, the first one with a job.
        rows.sort_by_key(|row| row.job.is_none());
        rows.into_iter().next().ok_or_else(|| ViewError::NotFound {
            what: format!("node `{node}` not found in run {run}"),
            hint: format!("`edgewright run show {run}` lists them"),
        })
    }

    /// The jobs of a run that were started, without the first `known` ones; or those of one node, started or
    /// not. For followers of a run's logs.
    pub async fn jobs(&self, run: RunNumber, node: Option<&str>, known: u64) -> Result<RunJobs, ViewError> {
        if let Some(node) = node {
            let (state, _) = self.store.progress(run, None).await?.ok_or_else(|| no_run(run))?;
            let rows = self.store.nodes_named(run, node).await?;
            let job = |row: NodeRow| RunJob { node: row.node, platform: row.platform, state: row.state };
            let jobs: Vec<RunJob> = rows.into_iter().map(job).collect();
            return Ok(RunJobs { state, count: jobs.len() as u64, jobs });
        }
        let watch = self.started.watch(run);
        let StartedJobs { state, jobs } = watch.look(self.started_jobs(run)).await?;
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(jobs.len());
        Ok(RunJobs { state, count: jobs.len() as u64, jobs: jobs[known..].to_vec() })
    }

    async fn started_jobs(&self, run: RunNumber) -> Result<StartedJobs, ViewError> {
        // The state first: what started before the end is in the list.
        let (state, _) = self.store.progress(run, None).await?.ok_or_else(|| no_run(run))?;
        let job = |row: JobRow| RunJob { node: row.node, platform: row.platform, state: row.state };
        let jobs = self.store.started_jobs(run).await?.into_iter().map(job).collect();
        Ok(StartedJobs { state, jobs })
    }
}

impl LogReader {
    /// Skips the first bytes, which the client already has.
    #[must_use]
    pub fn from(mut self, start: u64) -> Self {
        self.at = start;
        self.file = None;
        self
    }

    /// The next bytes, not split at lines; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        loop {
            let state = self.state().await?;
            if self.at < state.length
                && (self.file.is_some() || self.open().await?)
                && let Some(chunk) = self.read().await?
            {
                return Ok(Some(chunk));
            }
            if state.is_over {
                return Ok(None);
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    async fn state(&self) -> Result<LogState, ViewError> {
        if !self.follow {
            return Ok(LogState { is_over: true, length: u64::MAX });
        }
        let look = async {
            // Checked before the length, so that everything written before the end is read.
            let is_over = self.is_over().await?;
            let length = tokio::fs::metadata(&self.path).await.map_or(0, |file| file.len());
            Ok(LogState { is_over, length })
        };
        self.watch.look(look).await
    }

    async fn is_over(&self) -> Result<bool, ViewError> {
        let node = self.platform.as_ref().map(|platform| (self.node.as_str(), platform));
        let progress = self.views.store.progress(self.run, node).await?;
        let (run, node) = progress.ok_or_else(|| no_run(self.run))?;
        // A rebuild belongs to a run that has ended, or will soon.
        if run.is_terminal() || self.node.starts_with(REBUILD_PREFIX) {
            return Ok(true);
        }
        let is_of_tools = self.platform.is_none() && self.node == TOOLS_LOG;
        if is_of_tools || self.node.starts_with(LOCK_PREFIX) {
            return Ok(!matches!(run, RunState::Queued | RunState::Preparing));
        }
        // A node without a row of its own is unchanged.
        Ok(node.is_none_or(NodeState::is_terminal))
    }

    async fn read(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).await;
        let length = read.map_err(|source| ViewError::Log { path: self.path.clone(), source })?;
        chunk.truncate(length);
        self.at += length as u64;
        Ok((length > 0).then_some(chunk))
    }

    /// Opens the file; false if it does not exist (yet).
    async fn open(&mut self) -> Result<bool, ViewError> {
        match File::open(&self.path).await {
            Ok(mut file) => {
                let sought = file.seek(SeekFrom::Start(self.at)).await;
                sought.map_err(|source| ViewError::Log { path: self.path.clone(), source })?;
                self.file = Some(file);
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ViewError::Log { path: self.path.clone(), source }),
        }
    }
}
