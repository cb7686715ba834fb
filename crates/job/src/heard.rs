//! What a job's process printed, and what follows from it.

use edgewright_model::order::ORDER_VERSION;
use edgewright_model::outcome::{JobEvent, JobOutcome, Phase};
use edgewright_model::reference::RepoName;
use edgewright_process::{CancellationToken, CommandError};
use tokio::sync::mpsc;

use crate::error::ExecutorError;

/// The length at which log lines and unexpected output are cut, in bytes.
const SHOWN: usize = 4096;

/// The output of a job's process so far.
#[derive(Debug, Default)]
pub struct Heard {
    phase: Option<Phase>,
    outcome: Option<JobOutcome>,
    garbage: Option<String>,
    kept: Option<RepoName>,
    stays: CancellationToken,
}

impl Heard {
    /// Is cancelled when the outcome arrived of a job that stays with its machine.
    pub(crate) fn stays(&self) -> CancellationToken {
        self.stays.clone()
    }

    /// The repository of the machine that is kept.
    pub(crate) const fn kept(&self) -> Option<&RepoName> {
        self.kept.as_ref()
    }

    /// Takes a line of standard output.
    pub fn line(&mut self, line: &str, events: &mpsc::Sender<JobEvent>) {
        if self.outcome.is_some() {
            return;
        }
        match serde_json::from_str(line) {
            Ok(JobEvent::Outcome(outcome)) => {
                self.outcome = Some(outcome);
                if self.kept.is_some() {
                    self.stays.cancel();
                }
            }
            Ok(JobEvent::Kept { repository }) => self.kept = Some(repository),
            Ok(event) => {
                if let JobEvent::Phase { phase, .. } = &event {
                    self.phase = Some(*phase);
                }
                // A slow reader misses events, never the outcome.
                let _ = events.try_send(event);
            }
            Err(_) => {
                self.garbage.get_or_insert_with(|| cut(line).to_owned());
            }
        }
    }

    /// Whether the outcome arrived, after which nothing follows.
    pub const fn is_done(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether the outcome arrived, and is a failure.
    pub const fn has_failed(&self) -> bool {
        matches!(&self.outcome, Some(outcome) if outcome.failure.is_some())
    }

    /// The last phase that was reported.
    pub const fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// The job's outcome, once its process has ended.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn judge(
        self,
        finished: Result<(edgewright_process::Ended, Vec<String>), CommandError>,
        cancel: &CancellationToken,
        within: edgewright_model::duration::Span,
    ) -> Result<JobOutcome, ExecutorError> {
        let Self { phase, outcome, garbage, .. } = self;
        match (outcome, finished) {
            (Some(outcome), _) if outcome.version != ORDER_VERSION => {
                Err(ExecutorError::Version { found: outcome.version })
            }
            // It ended before it received the cancellation.
            (Some(outcome), _) if outcome.failure.is_none() || !cancel.is_cancelled() => Ok(outcome),
            (_, _) if cancel.is_cancelled() => Err(ExecutorError::Cancelled),
            (_, Err(CommandError::Cancelled { .. })) => Err(ExecutorError::Cancelled),
            (_, Err(CommandError::Deadline { .. })) => Err(ExecutorError::TimeLimit { within, phase }),
            (_, Err(error)) => Err(ExecutorError::Start(error)),
            (_, Ok((ended, log))) => Err(ExecutorError::NoOutcome { ended, phase, garbage, log }),
        }
    }
}

/// A line, cut where it is too long to be shown.
pub(crate) fn cut(line: &str) -> &str {
    &line[..line.floor_char_boundary(SHOWN)]
}
