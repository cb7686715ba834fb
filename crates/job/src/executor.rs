//! The port that control uses to have a job done.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use edgewright_model::order::JobOrder;
use edgewright_model::outcome::{JobEvent, JobOutcome};
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;

use crate::error::ExecutorError;

/// A boxed future, so that executors can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A fit capacity for a job's channel of events.
pub const EVENTS: usize = 1024;

/// Has jobs done. [`crate::conformance`] says what every executor must do.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Does one job. `events` hears of its progress, never of its outcome; events that find the channel full are
    /// dropped, logs first. When `cancel` fires the job is cleared away, then the future ends. Cancel rather than drop
    /// the future: a dropped job is killed without clearing away.
    ///
    /// An outcome is the job's own word, failures included. An error is all that kept it from speaking.
    fn run(
        &self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>>;
}
