//! Job logs: read to their end, or followed until the node is over. All tries of a node are in one file.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::time::Duration;

use edgewright_control::logs::Logs;
use edgewright_control::rebuilds::REBUILD_PREFIX;
use edgewright_model::run::{RunNumber, RunState};
use edgewright_store::nodes::NodeRow;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{ViewError, Views};

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often a log that is followed is looked at again. Files give no notice of their own.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// How the jobs that resolve locks are called: `lock IMAGE`. They are no nodes of the plan.
const LOCK_PREFIX: &str = "lock ";

/// A node's log as it is written.
#[derive(Debug)]
pub struct LogReader {
    views: Views,
    run: RunNumber,
    node: String,
    follow: bool,
    path: PathBuf,
    file: Option<File>,
    /// Where to begin, in bytes.
    start: u64,
}

impl Views {
    /// The log of a node, of `lock IMAGE`, or of `rebuild NODE`.
    pub async fn log(&self, run: RunNumber, node: &str, follow: bool) -> Result<LogReader, ViewError> {
        self.run_row(run).await?;
        let logs = Logs::new(self.folder.root());
        let (path, why_none) = if node.starts_with(LOCK_PREFIX) {
            (logs.path(run, node, None), "no lock of that image was resolved".to_owned())
        } else if let Some(name) = node.strip_prefix(REBUILD_PREFIX) {
            let row = self.log_node(run, name).await?;
            (logs.path(run, node, Some(&row.platform)), "it was not built again".to_owned())
        } else {
            let row = self.log_node(run, node).await?;
            let path = logs.path(run, node, Some(&row.platform));
            (path, format!("it is {} ({})", row.state, row.reason))
        };
        let mut reader =
            LogReader { views: self.clone(), run, node: node.to_owned(), follow, path, file: None, start: 0 };
        if reader.open().await? || (follow && !reader.is_over().await?) {
            return Ok(reader);
        }
        Err(ViewError::NotFound {
            what: format!("`{node}` of run {run} has no log: {why_none}"),
            hint: format!("`edgewright run show {run}` says what happened to each node"),
        })
    }

    async fn log_node(&self, run: RunNumber, node: &str) -> Result<NodeRow, ViewError> {
        let mut rows = self.store.nodes(run).await?;
        rows.retain(|row| row.node == node);
        // Of several platforms, the one that something happened to.
        rows.sort_by_key(|row| row.job.is_none());
        rows.into_iter().next().ok_or_else(|| ViewError::NotFound {
            what: format!("run {run} has no node `{node}`"),
            hint: format!("`edgewright run show {run}` lists them"),
        })
    }
}

impl LogReader {
    /// Leaves out the first bytes, which the reader has from before.
    #[must_use]
    pub fn from(mut self, start: u64) -> Self {
        self.start = start;
        self.file = None;
        self
    }

    /// The next bytes, not cut at lines; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        loop {
            // Asked before reading: what is written before the end is then surely read.
            let over = !self.follow || self.is_over().await?;
            if (self.file.is_some() || self.open().await?)
                && let Some(chunk) = self.read().await?
            {
                return Ok(Some(chunk));
            }
            if over {
                return Ok(None);
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    async fn is_over(&self) -> Result<bool, ViewError> {
        let run = self.views.run_row(self.run).await?;
        // What is built again belongs to a run that is over, or soon will be.
        if run.state.is_terminal() || self.node.starts_with(REBUILD_PREFIX) {
            return Ok(true);
        }
        if self.node.starts_with(LOCK_PREFIX) {
            return Ok(!matches!(run.state, RunState::Queued | RunState::Preparing));
        }
        Ok(self.views.log_node(self.run, &self.node).await?.state.is_terminal())
    }

    async fn read(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).await;
        let length = read.map_err(|source| ViewError::Log { path: self.path.clone(), source })?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }

    /// Opens the file; false where it does not exist (yet).
    async fn open(&mut self) -> Result<bool, ViewError> {
        match File::open(&self.path).await {
            Ok(mut file) => {
                let sought = file.seek(SeekFrom::Start(self.start)).await;
                sought.map_err(|source| ViewError::Log { path: self.path.clone(), source })?;
                self.file = Some(file);
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ViewError::Log { path: self.path.clone(), source }),
        }
    }
}
