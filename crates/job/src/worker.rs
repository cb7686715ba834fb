//! What does a job inside of its own process.

use std::fmt;

use edgewright_model::order::JobOrder;
use edgewright_model::outcome::{JobEvent, JobOutcome};
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::executor::BoxFuture;

/// Does the work that an order describes. It is behind [`crate::serve`] in a job's process and admits nothing: the
/// executor that started the process did that.
pub trait Worker: fmt::Debug + Send + Sync {
    /// Does one job. Events, cancellation and the result are as in [`crate::Executor::run`].
    ///
    /// # Errors
    /// Everything that kept the job from reporting an outcome.
    fn work(
        &self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>>;
}
