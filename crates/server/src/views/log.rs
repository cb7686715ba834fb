//! Job logs: read to the current end, or followed until the node ends. All attempts of a node are in one
//! file.

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

/// How much of a log is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often a log that is followed is read again.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// The name of a job that resolves a lock is `lock IMAGE`. Such jobs are not nodes of the plan.
const LOCK_PREFIX: &str = "lock ";

/// A reader of a node's log.
#[derive(Debug)]
pub struct LogReader {
    views: Views,
    run: RunNumber,
    node: String,
    follow: bool,
    path: PathBuf,
    file: Option<File>,
    /// The bytes to skip.
    start: u64,
}

impl Views {
    /// The log of a node, of `lock IMAGE`, or of `rebuild NODE`.
    pub async fn log(&self, run: RunNumber, node: &str, follow: bool) -> Result<LogReader, ViewError> {
        self.run_row(run).await?;
        let logs = Logs::new(self.folder.root());
        let (path, why_none) = if node.starts_with(LOCK_PREFIX) {
            (logs.path(run, node, None), "no lock of this image was resolved".to_owned())
        } else if let Some(name) = node.strip_prefix(REBUILD_PREFIX) {
            let row = self.log_node(run, name).await?;
            (logs.path(run, node, Some(&row.platform)), "it was not rebuilt".to_owned())
        } else {
            let row = self.log_node(run, node).await?;
            let path = logs.path(run, node, Some(&row.platform));
            (path, format!("state {} ({})", row.state, row.reason))
        };
        let mut reader =
            LogReader { views: self.clone(), run, node: node.to_owned(), follow, path, file: None, start: 0 };
        if reader.open().await? || (follow && !reader.is_over().await?) {
            return Ok(reader);
        }
        Err(ViewError::NotFound {
            what: format!("no log of `{node}` in run {run}: {why_none}"),
            hint: format!("`edgewright run show {run}` shows the state of each node"),
        })
    }

    async fn log_node(&self, run: RunNumber, node: &str) -> Result<NodeRow, ViewError> {
        let mut rows = self.store.nodes(run).await?;
        rows.retain(|row| row.node == node);
        // Of several platforms, the first one with a job.
        rows.sort_by_key(|row| row.job.is_none());
        rows.into_iter().next().ok_or_else(|| ViewError::NotFound {
            what: format!("node `{node}` not found in run {run}"),
            hint: format!("`edgewright run show {run}` lists them"),
        })
    }
}

impl LogReader {
    /// Skips the first bytes, which the client already has.
    #[must_use]
    pub fn from(mut self, start: u64) -> Self {
        self.start = start;
        self.file = None;
        self
    }

    /// The next bytes, not split at lines; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        loop {
            // Checked before reading, so that everything written before the end is read.
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
        // A rebuild belongs to a run that has ended, or will soon.
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

    /// Opens the file; false if it does not exist (yet).
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
