//! Blocking work on a thread where it may block.

/// The runtime stopped, or the work panicked.
#[derive(Debug, thiserror::Error)]
#[error("the work was stopped")]
pub struct Stopped;

/// Runs blocking work, such as reading and writing files.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Stopped)
}
