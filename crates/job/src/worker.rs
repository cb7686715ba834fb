//! The port inside a job's process.

use std::fmt;

use edgewright_model::order::JobOrder;
use edgewright_model::outcome::{JobEvent, JobOutcome};
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::executor::BoxFuture;

/// Runs orders. It is called by [`crate::serve`] in a job's process and admits nothing: the executor that
/// started the process did that.
pub trait Worker: fmt::Debug + Send + Sync {
    /// Runs one job. Events, cancellation and the result are as in [`crate::Executor::run`].
    ///
    /// # Errors
    /// Whatever prevented the job from reporting an outcome.
    fn work(
        &self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>>;
}
