//! The port through which control has orders performed. (Signatures by the lead, so that control compiles: refine freely.)

use std::fmt;

use edgewright_model::order::JobOrder;
use edgewright_model::outcome::{JobEvent, JobOutcome};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Performs orders: by a child process, by a cluster, or simulated.
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// Performs one order. Events arrive while it works, the outcome (which is not sent as an event) at the end. Cancelled
    /// by the token, the job is ended, cleans up, and [`ExecutorError::Cancelled`] is given.
    ///
    /// # Errors
    /// The job could not be started, broke, or was cancelled: an infrastructure failure, never the image's.
    fn run(
        &self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>>;
}

/// Why a job gave no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The token fired.
    #[error("the job was cancelled")]
    Cancelled,
    /// It did not start, crashed, was killed, or spoke nonsense.
    #[error("the job broke: {message}")]
    Broken {
        /// In one line, with the last words of its standard error.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// It did not end in time and was killed.
    #[error("the job did not end within {within}")]
    Deadline {
        /// The order's limit.
        within: edgewright_model::duration::Span,
    },
}

impl ExecutorError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cancelled => None,
            Self::Broken { hint, .. } => hint.clone(),
            Self::Deadline { .. } => Some("raise `jobs.within` in the settings, or look at the job's log for what hangs".to_owned()),
        }
    }
}
