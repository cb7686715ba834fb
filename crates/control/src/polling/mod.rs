//! Polling: every so often, later after failures, at once when a webhook or a person announces a change.
//!
//! ```text
//!  remote ─poll─▶ moved branches ─▶ the default branch's declarations ─▶ inventory ─▶ channels
//!                                 └▶ a run for each branch that moved
//!                 pull requests ──▶ a run for each that moved
//! ```
//!
//! The inventory comes first: which branch a channel follows must be known before a run of that branch can
//! release.

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
use crate::sources::{Fetched, Queued, RemoteState, SourceHandle, Sources};

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
    /// Polls the remote once, applies what its default branch declares, and queues a run for every followed
    /// branch that moved. How it went is noted.
    ///
    /// # Errors
    /// The remote does not answer, or the database cannot be written.
    pub(crate) async fn poll(&self, handle: &SourceHandle) -> Result<Vec<RunNumber>, ControlError> {
        let polled = self.sources.poll(handle).await;
        let (default, error) = match &polled {
            Ok(seen) => (seen.default.clone(), seen.missing.as_ref().map(|error| Chain(error).to_string())),
            Err(error) => (None, Some(Chain(error).to_string())),
        };
        let now = self.clock.now();
        self.store.note_poll(handle.id, default.as_deref(), error.as_deref(), now).await?;
        let seen = polled?;
        match self.take_all(handle, &seen).await {
            // Reported and backed off as a failure; everything else that is followed was polled all the same.
            Ok(runs) => seen.missing.map_or(Ok(runs), |error| Err(error.into())),
            Err(error) => {
                let why = Chain(&error).to_string();
                self.store.note_poll(handle.id, default.as_deref(), Some(&why), self.clock.now()).await?;
                Err(error)
            }
        }
    }

    /// What a webhook is about, without asking the remote first what there is.
    async fn poll_followed(&self, handle: &SourceHandle) -> Result<Vec<RunNumber>, ControlError> {
        match self.sources.fetch_followed(handle).await? {
            Some(seen) => self.take(handle, &seen).await,
            None => Ok(Vec::new()),
        }
    }

    async fn take_all(
        &self,
        handle: &SourceHandle,
        seen: &RemoteState,
    ) -> Result<Vec<RunNumber>, ControlError> {
        let mut runs = self.take(handle, seen).await?;
        if handle.settings.pull_requests.is_some() {
            runs.extend(self.pull_requests.poll(handle, &seen.branches).await?);
        }
        Ok(runs)
    }

    /// Applies the inventory, then queues a run for every branch that moved.
    async fn take(&self, handle: &SourceHandle, seen: &RemoteState) -> Result<Vec<RunNumber>, ControlError> {
        let mut head = self.take_inventory(handle, seen).await?;
        let mut runs = Vec::new();
        for (branch, commit) in &seen.moved {
            let fetched = match head.take_if(|head| head.info.commit == *commit) {
                Some(head) => head,
                None => seen.read(handle, commit).await?,
            };
            let images = BTreeSet::new();
            let queued = Queued {
                branch: branch.clone(),
                trigger: Trigger::Commit,
                images: &images,
                context: &POLLER,
                operation: Operation::QueueRun,
            };
            runs.push(self.sources.queue_fetched(handle, fetched, queued).await?);
        }
        Ok(runs)
    }

    /// Applies what the default branch declares, if it moved. Returns the commit, if it was read for that.
    async fn take_inventory(
        &self,
        handle: &SourceHandle,
        seen: &RemoteState,
    ) -> Result<Option<Fetched>, ControlError> {
        let Some(head) = seen.head() else { return Ok(None) };
        if self.inventory.is_of(handle.id, head).await? {
            return Ok(None);
        }
        let fetched = seen.read(handle, head).await?;
        self.declare(handle, &fetched).await?;
        Ok(Some(fetched))
    }

    /// Applies what a commit of the default branch declares.
    async fn declare(&self, handle: &SourceHandle, fetched: &Fetched) -> Result<(), ControlError> {
        // A commit that cannot be read declares nothing; its run reports why.
        if fetched.read.is_none() && !fetched.is_refused {
            return Ok(());
        }
        // One that exceeds a limit is noted as broken, so that no later poll reads it again.
        let definition = fetched.read.as_ref().and_then(|read| read.parsed.definition.as_ref());
        let (commit, followed) = (&fetched.info.commit, self.sources.ids());
        let taken = self.inventory.take(handle.id, commit, definition, &followed).await?;
        if taken == Taken::Changed {
            let advanced = self.channels.advance(handle.id).await?;
            tracing::info!(
                source.name = %handle.settings.name,
                commit = %commit,
                channels.moved = advanced.moved.len(),
                "inventory changed"
            );
            // Other branches may be followed now, and other channels be due.
            handle.wake.wake("the inventory changed");
            self.channels.wake().wake("the inventory changed");
        }
        Ok(())
    }

    /// A commit to queue. What one of the default branch declares is applied first.
    ///
    /// # Errors
    /// The commit is unknown, or the database cannot be written.
    pub(crate) async fn fetch(
        &self,
        handle: &SourceHandle,
        branch: &str,
        commit: &CommitId,
    ) -> Result<Fetched, ControlError> {
        handle.mirror.ensure(commit).await?;
        let fetched = handle.fetch_commit(commit).await?;
        if handle.default_branch(&self.store).await?.as_deref() == Some(branch) {
            self.declare(handle, &fetched).await?;
        }
        Ok(fetched)
    }
}

/// Polls one source.
pub(crate) struct PollSource {
    pub(crate) polling: Polling,
    pub(crate) handle: Arc<SourceHandle>,
}

impl Reconciler for PollSource {
    fn name(&self) -> String {
        format!("source {}", self.handle.settings.name)
    }

    fn period(&self) -> Duration {
        self.handle.settings.poll
    }

    fn backoff(&self) -> Backoff {
        backoff(self.handle.settings.poll)
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let mut runs = Vec::new();
            if self.handle.take_announced() {
                // What goes wrong here goes wrong in the poll that follows, which reports it.
                runs.extend(self.polling.poll_followed(&self.handle).await.unwrap_or_default());
            }
            runs.extend(self.polling.poll(&self.handle).await?);
            for run in &runs {
                let source = &self.handle.settings.name;
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
