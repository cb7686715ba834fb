//! Job logs: one file per run and node under `logs/runs/`, bounded in size.

use std::path::{Path, PathBuf};

use edgewright_model::names::Platform;
use edgewright_model::run::RunNumber;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

/// A log ends here; a tool that prints more is noted and cut.
const LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// The log of what a run begins with: tools are made or asked for their versions. It is no node of the plan,
/// and there may be a node of this name.
pub const TOOLS_LOG: &str = "tools";

/// Where logs are.
#[derive(Debug, Clone)]
pub struct Logs {
    folder: PathBuf,
}

impl Logs {
    /// Logs below a data folder.
    pub fn new(data: &Path) -> Self {
        Self { folder: data.join("logs/runs") }
    }

    /// The log of a node (`hmi/plant-a`, `hmi~1a2b3c4d5e6f`, `lock base`); all tries are in one file.
    pub fn path(&self, run: RunNumber, node: &str, platform: Option<&Platform>) -> PathBuf {
        let flat = |text: &str| text.replace(['/', ' '], "+");
        let name = match platform {
            Some(platform) => format!("{}@{}.log", flat(node), flat(&platform.to_string())),
            None => format!("{}.log", flat(node)),
        };
        self.folder.join(run.to_string()).join(name)
    }

    /// Opens a node's log for appending.
    pub(crate) async fn open(
        &self,
        run: RunNumber,
        node: &str,
        platform: Option<&Platform>,
    ) -> std::io::Result<LogFile> {
        let path = self.path(run, node, platform);
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).await?;
        let written = file.metadata().await?.len();
        Ok(LogFile { file, written })
    }
}

/// An open log.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    written: u64,
}

impl LogFile {
    /// Appends a line. A log that cannot be written (disk full) never fails a job.
    pub(crate) async fn line(&mut self, line: &str) {
        if self.written >= LIMIT_BYTES {
            return;
        }
        let mut text = format!("{line}\n");
        self.written += text.len() as u64;
        if self.written >= LIMIT_BYTES {
            text.push_str("… the log ends here: it reached its limit of 16 MiB\n");
        }
        if let Err(error) = self.file.write_all(text.as_bytes()).await {
            tracing::warn!(%error, "cannot write a job's log");
            self.written = LIMIT_BYTES;
        }
    }
}
