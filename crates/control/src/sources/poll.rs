//! Polling: every so often, later after failures, at once when somebody says that there is something to see.

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_model::names::{CommitId, SourceName};
use edgewright_model::run::RunNumber;
use edgewright_source::Reader;
use edgewright_store::sources::SourceId;
use tokio::time::Instant;

use super::Watched;
use crate::{Control, ControlError};

/// The longest wait after failed polls.
const LONGEST_BACKOFF: Duration = Duration::from_mins(10);
/// How long a source may be polled in a row, however often it is woken.
const BURST: Duration = Duration::from_secs(1);

/// How long to wait for the next poll after so many failed ones in a row.
pub fn pause_after(poll: Duration, failures: u32) -> Duration {
    poll.saturating_mul(2_u32.saturating_pow(failures.min(10))).min(LONGEST_BACKOFF.max(poll))
}

/// Webhooks of a busy repository do not poll the remote without end: beyond a burst, a source rests as long as it works.
#[derive(Debug)]
struct Effort {
    /// Work that no rest made up for yet.
    spent: Duration,
    at: Instant,
}

impl Effort {
    /// Adds work from `began` to `ended`, after a rest.
    fn add(&mut self, began: Instant, ended: Instant) {
        self.spent = self.spent.saturating_sub(began - self.at) + (ended - began);
        self.at = ended;
    }

    /// When work may go on.
    fn rested(&self) -> Instant {
        self.at + self.spent.saturating_sub(BURST)
    }
}

fn tell(source: &SourceName, runs: &[RunNumber]) {
    for run in runs {
        tracing::info!(source.name = %source, run.number = run.0, "a commit became a run");
    }
}

impl Control {
    /// Polls a source until shutdown: every `poll`, later after failures, at once when woken.
    pub async fn poll_source(&self, source: SourceId) {
        let Some(watched) = self.watched(source) else { return };
        let name = watched.settings.name.clone();
        let mut failures: u32 = 0;
        let mut told = false;
        let mut effort = Effort { spent: Duration::ZERO, at: Instant::now() };
        loop {
            let began = Instant::now();
            if told {
                // What goes wrong here goes wrong in the poll that follows, which says so.
                tell(&name, &self.take_told(&watched).await.unwrap_or_default());
            }
            match self.poll_once(&watched).await {
                Ok(runs) => {
                    failures = 0;
                    tell(&name, &runs);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let error = Chain(&error).to_string();
                    tracing::warn!(source.name = %name, failures, error, "a poll failed");
                }
            }
            effort.add(began, Instant::now());
            let pause = pause_after(watched.settings.poll, failures);
            told = tokio::select! {
                () = tokio::time::sleep(pause) => false,
                () = async {
                    watched.wake.notified().await;
                    tokio::time::sleep_until(effort.rested()).await;
                } => true,
                () = watched.stop.cancelled() => return,
            };
        }
    }

    /// Looks at the remote once and queues a run for every followed branch that moved. How it went is noted.
    ///
    /// # Errors
    /// The remote does not answer, or the database cannot be written.
    pub async fn poll_once(&self, watched: &Watched) -> Result<Vec<RunNumber>, ControlError> {
        let inner = &*self.0;
        let polled = self.look(watched).await;
        let (default, error) = match &polled {
            Ok(seen) => (seen.default.clone(), seen.missing.as_ref().map(|error| Chain(error).to_string())),
            Err(error) => (None, Some(Chain(error).to_string())),
        };
        inner.store.note_poll(watched.id, default.as_deref(), error.as_deref(), inner.clock.now()).await?;
        let seen = polled?;
        match self.take(watched, seen.moved, seen.reader.as_ref(), &seen.branches).await {
            // Told and backed off as a failure; what else is followed was looked at all the same.
            Ok(runs) => seen.missing.map_or(Ok(runs), |error| Err(error.into())),
            Err(error) => {
                let why = Chain(&error).to_string();
                inner.store.note_poll(watched.id, default.as_deref(), Some(&why), inner.clock.now()).await?;
                Err(error)
            }
        }
    }

    /// Queues a run for every branch and pull request that moved.
    async fn take(
        &self,
        watched: &Watched,
        moved: Vec<(String, CommitId)>,
        reader: Option<&Reader>,
        branches: &BTreeMap<String, CommitId>,
    ) -> Result<Vec<RunNumber>, ControlError> {
        let mut runs = Vec::new();
        for (branch, commit) in moved {
            runs.push(self.queue_with(watched, branch, &commit, reader).await?);
        }
        if let Some(wanted) = &watched.settings.pull_requests {
            runs.extend(self.look_at_pull_requests(watched, wanted, branches).await?);
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_woken_all_the_time_rests_as_long_as_it_works() {
        let start = Instant::now();
        let mut effort = Effort { spent: Duration::ZERO, at: start };
        let work = Duration::from_millis(100);
        let mut now = start;
        let mut polls = Vec::new();
        for _ in 0..40 {
            polls.push(now - start);
            effort.add(now, now + work);
            now = effort.rested();
        }
        // The first ones follow each other at once.
        assert_eq!(polls[9], work * 9);
        // Then it works half of the time.
        assert_eq!(polls[39], polls[19] + work * 40);
        // And an hour later it may poll in a row again.
        now += Duration::from_hours(1);
        effort.add(now, now + work);
        assert_eq!(effort.rested(), now + work);
    }
}
