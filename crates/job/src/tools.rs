//! The tool image of sandboxed jobs: made when the first job needs it, and tried before that job starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgewright_model::outcome::{JobEvent, Phase};
use edgewright_process::{CancellationToken, ProcessContext};
use edgewright_sandbox::host::Kernel;
use edgewright_sandbox::{Sandbox, SandboxError, ToolImage};
use tokio::sync::{OnceCell, mpsc};

/// Gives the sandboxes of a folder, with its tool image. Clones share them.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The tool image's folder.
    image: PathBuf,
    /// Where sandboxes keep their configuration.
    sandboxes: PathBuf,
    /// Set once a sandbox worked.
    tried: Arc<OnceCell<()>>,
}

impl Tools {
    /// The tool image in `image`; sandboxes keep their configuration in `sandboxes`.
    pub fn new(image: PathBuf, sandboxes: PathBuf) -> Self {
        Self { image, sandboxes, tried: Arc::default() }
    }

    /// Where sandboxes keep their configuration.
    pub(crate) fn sandboxes(&self) -> &Path {
        &self.sandboxes
    }

    /// Sandboxes with the tool image. The first call makes the image if it is missing, which takes a minute
    /// or two and is reported as events of its job, and starts `program` in a sandbox as a trial. After a
    /// failure, the next call tries again. Each call opens the image as it is now: an update replaces it.
    pub(crate) async fn sandbox(
        &self,
        program: &Path,
        events: &mpsc::Sender<JobEvent>,
        cancel: &CancellationToken,
    ) -> Result<Sandbox, SandboxError> {
        let make = async {
            blocking(|| Kernel::read().require()).await?;
            let processes = ProcessContext::new(cancel.clone());
            let mut is_new = true;
            let progress = |line: &str| {
                if std::mem::take(&mut is_new) {
                    tracing::info!(tools.folder = %self.image.display(), "making the tool image");
                    let title = "the tool image, once for this host".to_owned();
                    let _ = events.try_send(JobEvent::Phase { phase: Phase::Fetch, title });
                }
                // A slow reader misses lines.
                let _ = events.try_send(JobEvent::Log { line: line.to_owned() });
            };
            let tools = ToolImage::open_or_make(&self.image, &processes, progress).await?;
            let sandbox = Sandbox::new(tools, self.sandboxes.clone());
            let took = sandbox.try_out(program, &processes).await?;
            tracing::debug!(?took, "sandboxes work on this host");
            Ok(())
        };
        // It is large, and rarely needed.
        self.tried.get_or_try_init(|| Box::pin(make)).await?;
        let (image, sandboxes) = (self.image.clone(), self.sandboxes.clone());
        blocking(move || Ok(Sandbox::new(ToolImage::open(&image)?, sandboxes))).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    let lost = |error: tokio::task::JoinError| Err(SandboxError::Trial { reason: error.to_string() });
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}
