//! Job logs: read to their end, or followed until the node is over.

use std::path::PathBuf;
use std::time::Duration;

use edgewright_model::order::JobId;
use edgewright_model::run::RunNumber;
use edgewright_store::nodes::NodeRow;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::{ViewError, Views};

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often a log that is followed is looked at again. Files give no notice of their own.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// A node's log as it is written. With `follow`, a retry's log comes after the one of the attempt before.
#[derive(Debug)]
pub struct LogReader {
    views: Views,
    run: RunNumber,
    node: String,
    follow: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    job: JobId,
    path: PathBuf,
    file: File,
}

impl Views {
    /// A node's newest log.
    pub async fn log(&self, run: RunNumber, node: &str, follow: bool) -> Result<LogReader, ViewError> {
        self.run_row(run).await?;
        let row = self.log_node(run, node).await?;
        if row.job.is_none() && (row.state.is_terminal() || !follow) {
            return Err(ViewError::NotFound {
                what: format!(
                    "`{node}` of run {run} has no log: it is {}, no job ran ({})",
                    row.state, row.reason
                ),
                hint: format!("`edgewright run show {run}` says what happened to each node"),
            });
        }
        let mut reader = LogReader { views: self.clone(), run, node: node.to_owned(), follow, open: None };
        let there = match row.job {
            Some(job) => reader.open(job).await?,
            None => true,
        };
        if there || (follow && !row.state.is_terminal()) {
            return Ok(reader);
        }
        Err(ViewError::NotFound {
            what: format!("the log of `{node}` in run {run} is gone"),
            hint: "logs are kept for a while only".to_owned(),
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
    /// The next bytes, not cut at lines; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        loop {
            // Asked before reading: what is written before the end is then surely read.
            let row = self.views.log_node(self.run, &self.node).await?;
            if let Some(chunk) = self.read().await? {
                return Ok(Some(chunk));
            }
            let newer = row.job.filter(|job| self.open.as_ref().is_none_or(|open| open.job != *job));
            if let Some(job) = newer
                && self.open(job).await?
            {
                continue;
            }
            if !self.follow || row.state.is_terminal() {
                return Ok(None);
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    async fn read(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let length = open
            .file
            .read(&mut chunk)
            .await
            .map_err(|source| ViewError::Log { path: open.path.clone(), source })?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }

    /// Opens a job's log; false where it does not exist (yet).
    async fn open(&mut self, job: JobId) -> Result<bool, ViewError> {
        let path = self.views.folder.log(self.run, job);
        match File::open(&path).await {
            Ok(file) => {
                self.open = Some(Open { job, path, file });
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ViewError::Log { path, source }),
        }
    }
}
