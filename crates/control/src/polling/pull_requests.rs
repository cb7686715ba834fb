//! Pull requests: built and tested like a branch, under the name of their ref, without a release: no channel
//! follows one.
//!
//! What a pull request changes is pulled by the tag `pr-N` until it ends: its ref disappears, or [`KEPT`]
//! after its last run, because forges keep the refs of closed pull requests, and git does not tell which are
//! open. For the same reason those that are there when watching begins are taken as decided, and run once
//! they move.
//!
//! Git does not record who opened one or for which branch; [`PullRequestPolicy`] explains how both are found
//! out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgewright_model::names::CommitId;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_process::Clock;
use edgewright_store::Store;
use jiff::{SignedDuration, Timestamp};

use super::POLLER;
use crate::ControlError;
use crate::access::Operation;
use crate::cancellations::Cancellations;
use crate::hosting::Hosting;
use crate::pins;
use crate::releases::tags::ChannelTags;
use crate::settings::PullRequestPolicy;
use crate::sources::refs::pull_request_number;
use crate::sources::{Queued, SourceHandle, Sources};

/// How long what a pull request built is held after its run.
pub const KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);
/// The most pull requests that one poll fetches and queues; the others follow with the next polls. So a flood
/// of them never delays the poll of the branches for long.
const AT_ONCE: usize = 10;
/// Noted as a decided branch once a source's pull requests are handle. No ref can have this name.
const WATCHED: &str = "refs/pull/*";

/// Queues runs of pull requests, and ends what is left of those that are gone. Clones share it.
#[derive(Debug, Clone)]
pub struct PullRequests {
    pub(crate) store: Store,
    pub(crate) hosting: Hosting,
    pub(crate) clock: Clock,
    pub(crate) tags: ChannelTags,
    pub(crate) sources: Arc<Sources>,
    pub(crate) cancellations: Cancellations,
}

impl PullRequests {
    /// Queues a run of every pull request that moved since the last poll, and ends those that are gone.
    /// `branches` is what the remote's branches stand on.
    pub(crate) async fn poll(
        &self,
        handle: &SourceHandle,
        branches: &BTreeMap<String, CommitId>,
    ) -> Result<Vec<RunNumber>, ControlError> {
        let Some(wanted) = &handle.settings.pull_requests else { return Ok(Vec::new()) };
        let heads = self.sources.pull_requests(handle).await?;
        let decided = self.store.decided(handle.id).await?;
        let now = self.clock.now();
        if !decided.contains_key(WATCHED) {
            let mut first = heads;
            first.insert(WATCHED.to_owned(), no_commit()?);
            self.store.note_decided(handle.id, &first, now).await?;
            return Ok(Vec::new());
        }
        for name in
            decided.keys().filter(|name| pull_request_number(name).is_some() && !heads.contains_key(*name))
        {
            self.end_pull_request(handle, name).await?;
        }
        let mut runs = Vec::new();
        let mut fetched = 0;
        for (name, commit) in moved(&heads, &decided) {
            if fetched == AT_ONCE {
                break;
            }
            // One that becomes a branch's head later is considered again then.
            if wanted.from_branches && !branches.values().any(|head| *head == commit) {
                continue;
            }
            fetched += 1;
            handle.mirror.ensure(&commit).await?;
            if self.is_wanted(handle, wanted, branches, &commit).await? {
                let images = BTreeSet::new();
                let queued = Queued {
                    branch: name,
                    trigger: Trigger::Commit,
                    images: &images,
                    context: &POLLER,
                    operation: Operation::QueueRun,
                };
                runs.push(self.sources.queue(handle, &commit, queued).await?);
            } else {
                tracing::info!(source.name = %handle.settings.name, name, "a pull request is for another branch");
                self.store.note_decided(handle.id, &BTreeMap::from([(name, commit)]), now).await?;
            }
        }
        let confirmed = self.store.confirmed_time(now).await?;
        let expired = confirmed.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        let mut lapsed = false;
        for run in self.store.pull_request_runs_before(handle.id, expired).await? {
            lapsed |= self.store.forget_pull_request_run(handle.id, run).await?;
            self.hosting.unpin(&pins::results(run)).await?;
        }
        if lapsed {
            self.tags.refresh(&self.store).await?;
        }
        Ok(runs)
    }

    /// A pull request's ref is gone: its runs end, its tags and what they held go.
    async fn end_pull_request(&self, handle: &SourceHandle, name: &str) -> Result<(), ControlError> {
        for run in self.store.open_runs().await? {
            if run.source == handle.id && run.branch == name {
                // One that ended in between is as good.
                drop(self.cancellations.request(&POLLER, run.number).await);
            }
        }
        let runs = self.store.end_pull_request(handle.id, name).await?;
        self.tags.refresh(&self.store).await?;
        for run in runs {
            self.hosting.unpin(&pins::results(run)).await?;
        }
        tracing::info!(source.name = %handle.settings.name, name, "a pull request is gone: its images go");
        Ok(())
    }

    /// Whether a pull request is for one of the wanted branches.
    async fn is_wanted(
        &self,
        handle: &SourceHandle,
        wanted: &PullRequestPolicy,
        branches: &BTreeMap<String, CommitId>,
        head: &CommitId,
    ) -> Result<bool, ControlError> {
        if wanted.into.is_empty() {
            return Ok(true);
        }
        let repository = handle.mirror.repository();
        let mut nearest = None;
        for (branch, tip) in branches {
            handle.mirror.ensure(tip).await?;
            // A branch that has all of it is its own, or it is merged already.
            if let missing @ 1.. = repository.missing(tip, head).await? {
                // Of branches that are as near the wanted one counts.
                let rank = (missing, !wanted.into.contains(branch));
                nearest = nearest.into_iter().chain([rank]).min();
            }
        }
        Ok(matches!(nearest, Some((_, false))))
    }
}

fn moved(
    heads: &BTreeMap<String, CommitId>,
    decided: &BTreeMap<String, CommitId>,
) -> Vec<(String, CommitId)> {
    let is_news = |(name, commit): &(&String, &CommitId)| decided.get(*name) != Some(*commit);
    heads.iter().filter(is_news).map(|(name, commit)| (name.clone(), commit.clone())).collect()
}

/// Git's null id, which no commit has.
fn no_commit() -> Result<CommitId, ControlError> {
    "0".repeat(40).parse().map_err(|_| ControlError::Broken { what: "git's null id is no id" })
}
