//! Polling: every so often, later after failures, at once when a webhook or a person announces a change.
//!
//! ```text
//!  remote ─look─▶ moved branches ─▶ the default branch's declarations ─▶ inventory ─▶ channels
//!                                 └▶ a run for each branch that moved
//!                 pull requests ──▶ a run for each that moved
//! ```
//!
//! The inventory comes first: which branch a channel follows must be known before a run of that branch can release.

mod pull_requests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_model::names::CommitId;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_process::{Backoff, Clock};
use edgewright_store::Store;
use futures::FutureExt as _;
use futures::future::BoxFuture;

pub use self::pull_requests::{KEPT, PullRequests};
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;
use crate::inventory::{Inventory, Taken};
use crate::reconcile::{Outcome, Reconciler};
use crate::releases::channels::Channels;
use crate::sources::{Fetched, Queued, Seen, Sources, Watched};

/// The longest wait after failed polls.
const LONGEST_BACKOFF: Duration = Duration::from_mins(10);

/// How long to wait for the next poll after so many failed ones in a row.
pub fn pause_after(poll: Duration, failures: u32) -> Duration {
    if failures == 0 { poll } else { backoff(poll).pause(failures) }
}

fn backoff(poll: Duration) -> Backoff {
    Backoff::new(poll.saturating_mul(2), LONGEST_BACKOFF.max(poll))
}

/// Who queues the runs of branches and pull requests that moved.
static POLLER: OperationContext = OperationContext::system("polling");

/// Polls sources. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Polling {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) sources: Arc<Sources>,
    pub(crate) inventory: Inventory,
    pub(crate) channels: Channels,
    pub(crate) pull_requests: PullRequests,
}

impl Polling {
    /// Looks at the remote once, takes over what its default branch declares, and queues a run for every followed branch
    /// that moved. How it went is noted.
    ///
    /// # Errors
    /// The remote does not answer, or the database cannot be written.
    pub(crate) async fn poll(&self, watched: &Watched) -> Result<Vec<RunNumber>, ControlError> {
        let looked = self.sources.look(watched).await;
        let (default, error) = match &looked {
            Ok(seen) => (seen.default.clone(), seen.missing.as_ref().map(|error| Chain(error).to_string())),
            Err(error) => (None, Some(Chain(error).to_string())),
        };
        let now = self.clock.now();
        self.store.note_poll(watched.id, default.as_deref(), error.as_deref(), now).await?;
        let seen = looked?;
        match self.take_all(watched, &seen).await {
            // Reported and backed off as a failure; what else is followed was looked at all the same.
            Ok(runs) => seen.missing.map_or(Ok(runs), |error| Err(error.into())),
            Err(error) => {
                let why = Chain(&error).to_string();
                self.store.note_poll(watched.id, default.as_deref(), Some(&why), self.clock.now()).await?;
                Err(error)
            }
        }
    }

    /// What a webhook is about, without asking the remote first what there is.
    async fn poll_followed(&self, watched: &Watched) -> Result<Vec<RunNumber>, ControlError> {
        match self.sources.look_at_followed(watched).await? {
            Some(seen) => self.take(watched, &seen).await,
            None => Ok(Vec::new()),
        }
    }

    async fn take_all(&self, watched: &Watched, seen: &Seen) -> Result<Vec<RunNumber>, ControlError> {
        let mut runs = self.take(watched, seen).await?;
        if watched.settings.pull_requests.is_some() {
            runs.extend(self.pull_requests.look(watched, &seen.branches).await?);
        }
        Ok(runs)
    }

    /// Takes over the inventory, then queues a run for every branch that moved.
    async fn take(&self, watched: &Watched, seen: &Seen) -> Result<Vec<RunNumber>, ControlError> {
        let mut head = self.take_inventory(watched, seen).await?;
        let mut runs = Vec::new();
        for (branch, commit) in &seen.moved {
            let fetched = match head.take_if(|head| head.info.commit == *commit) {
                Some(head) => head,
                None => seen.read(watched, commit).await?,
            };
            let images = BTreeSet::new();
            let queued = Queued {
                branch: branch.clone(),
                trigger: Trigger::Commit,
                images: &images,
                context: &POLLER,
                operation: Operation::QueueRun,
            };
            runs.push(self.sources.queue_fetched(watched, fetched, queued).await?);
        }
        Ok(runs)
    }

    /// Takes over what the default branch declares, if it stands elsewhere now. Gives the commit, if it was read for that.
    async fn take_inventory(&self, watched: &Watched, seen: &Seen) -> Result<Option<Fetched>, ControlError> {
        let Some(head) = seen.head() else { return Ok(None) };
        if self.inventory.is_of(watched.id, head).await? {
            return Ok(None);
        }
        let fetched = seen.read(watched, head).await?;
        self.declare(watched, &fetched).await?;
        Ok(Some(fetched))
    }

    /// Takes over what a commit of the default branch declares.
    async fn declare(&self, watched: &Watched, fetched: &Fetched) -> Result<(), ControlError> {
        // A commit that cannot be read declares nothing; its run says why.
        let Some(read) = &fetched.read else { return Ok(()) };
        let definition = read.parsed.definition.as_ref();
        let followed = self.sources.ids();
        let taken = self.inventory.take(watched.id, &read.commit, definition, &followed).await?;
        if taken == Taken::Changed {
            let advanced = self.channels.advance(watched.id).await?;
            tracing::info!(
                source.name = %watched.settings.name,
                commit = %read.commit,
                channels.moved = advanced.moved.len(),
                "inventory changed"
            );
            // Other branches may be followed now, and other channels be due.
            watched.wake.wake("the inventory changed");
            self.channels.wake().wake("the inventory changed");
        }
        Ok(())
    }

    /// A commit to queue. What one of the default branch declares is taken over first.
    ///
    /// # Errors
    /// The commit is unknown, or the database cannot be written.
    pub(crate) async fn fetch(
        &self,
        watched: &Watched,
        branch: &str,
        commit: &CommitId,
    ) -> Result<Fetched, ControlError> {
        watched.mirror.ensure(commit).await?;
        let fetched = watched.fetch_commit(commit).await?;
        if watched.default_branch(&self.store).await?.as_deref() == Some(branch) {
            self.declare(watched, &fetched).await?;
        }
        Ok(fetched)
    }
}

/// Polls one source.
pub(crate) struct PollSource {
    pub(crate) polling: Polling,
    pub(crate) watched: Arc<Watched>,
}

impl Reconciler for PollSource {
    fn name(&self) -> String {
        format!("source {}", self.watched.settings.name)
    }

    fn period(&self) -> Duration {
        self.watched.settings.poll
    }

    fn backoff(&self) -> Backoff {
        backoff(self.watched.settings.poll)
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let mut runs = Vec::new();
            if self.watched.take_told() {
                // What goes wrong here goes wrong in the poll that follows, which reports it.
                runs.extend(self.polling.poll_followed(&self.watched).await.unwrap_or_default());
            }
            runs.extend(self.polling.poll(&self.watched).await?);
            for run in &runs {
                let source = &self.watched.settings.name;
                tracing::info!(source.name = %source, run.number = run.0, "commit queued");
            }
            let numbers: Vec<String> = runs.iter().map(ToString::to_string).collect();
            Ok(match numbers.as_slice() {
                [] => Outcome::idle(),
                [one] => Outcome::done(format!("queued run {one}")),
                _ => Outcome::done(format!("queued runs {}", numbers.join(", "))),
            })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_polls_wait_longer_and_never_less_than_a_poll() {
        let minutes = Duration::from_mins;
        let cases = [
            (minutes(1), 0, minutes(1)),
            (minutes(1), 1, minutes(2)),
            (minutes(1), 3, minutes(8)),
            (minutes(1), 9, minutes(10)),
            (minutes(60), 1, minutes(120)),
            (minutes(60), 9, minutes(120)),
        ];
        for (poll, failures, expected) in cases {
            assert_eq!(pause_after(poll, failures), expected, "{poll:?} after {failures}");
        }
    }
}
