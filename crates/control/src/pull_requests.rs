//! Pull requests: built and tested like a branch, under the name of their ref, without a release: no channel follows one.
//!
//! What a pull request changes is pulled by the tag `pr-N` until it ends: its ref disappears, or [`KEPT`] after its last
//! run, because forges keep the refs of closed pull requests, and git does not tell which are open. For the same reason
//! those that are there when watching begins are taken as decided, and run once they move.
//!
//! Git does not tell either who opened one and for which branch; [`PullRequests`] says how both are found out.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::names::CommitId;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_store::releases::EntryRow;
use jiff::SignedDuration;

use crate::runs::Driver;
use crate::sources::Watched;
use crate::{Control, ControlError};

/// How long what a pull request built is held after its run.
pub const KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Runs that one look queues at most; the others follow with the next looks.
const AT_ONCE: usize = 10;
/// Noted as a decided branch once a source's pull requests are watched. No ref can have this name.
const WATCHED: &str = "refs/pull/*";

/// Which pull requests are run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullRequests {
    /// Only those whose head is also that of a branch of the repository itself: whoever pushed it may push there. Those of
    /// forks never are.
    pub from_branches: bool,
    /// Only those for these branches; empty: all. A pull request is for the branch that lacks the fewest of its commits.
    pub into: Vec<String>,
}

/// The number of a pull request by its ref: 12 of `refs/pull/12/head` or `refs/merge-requests/12/head`.
pub fn number(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("refs/pull/").or_else(|| name.strip_prefix("refs/merge-requests/"))?;
    rest.strip_suffix("/head")?.parse().ok()
}

/// The tag of what a pull request built: `pr-12`.
pub fn tag(name: &str) -> Option<String> {
    number(name).map(|number| format!("pr-{number}"))
}

impl Control {
    /// Queues a run of every pull request that moved since the last look, and ends those that are gone. `branches` is what
    /// the remote's branches stand on.
    pub(crate) async fn look_at_pull_requests(
        &self,
        watched: &Watched,
        wanted: &PullRequests,
        branches: &BTreeMap<String, CommitId>,
    ) -> Result<Vec<RunNumber>, ControlError> {
        let inner = &*self.0;
        let heads = inner.git.poll_pull_requests(&watched.settings.remote).await?;
        let decided = inner.store.decided(watched.id).await?;
        let now = inner.clock.now();
        if !decided.contains_key(WATCHED) {
            let mut first = heads;
            first.insert(WATCHED.to_owned(), no_commit()?);
            inner.store.note_decided(watched.id, &first, now).await?;
            return Ok(Vec::new());
        }
        for name in decided.keys().filter(|name| number(name).is_some() && !heads.contains_key(*name)) {
            self.end_pull_request(watched, name).await?;
        }
        let mut runs = Vec::new();
        for (name, commit) in moved(&heads, &decided) {
            if runs.len() == AT_ONCE {
                break;
            }
            // One that becomes a branch's head later is looked at again then.
            if wanted.from_branches && !branches.values().any(|head| *head == commit) {
                continue;
            }
            watched.mirror.ensure(&commit).await?;
            if self.is_wanted(watched, wanted, branches, &commit).await? {
                runs.push(self.queue(watched, name, &commit, Trigger::Commit, &BTreeSet::new()).await?);
            } else {
                tracing::info!(source.name = %watched.settings.name, name, "a pull request is for another branch");
                inner.store.note_decided(watched.id, &BTreeMap::from([(name, commit)]), now).await?;
            }
        }
        let expired = now.checked_sub(KEPT).unwrap_or(now);
        let mut lapsed = false;
        for run in inner.store.pull_request_runs_before(watched.id, expired).await? {
            lapsed |= inner.store.forget_pull_request_run(watched.id, run).await?;
            inner.hosting.unpin(&format!("results/run-{run}")).await?;
        }
        if lapsed {
            inner.tags.refresh(&inner.store).await?;
        }
        Ok(runs)
    }

    /// A pull request's ref is gone: its runs end, its tags and what they held go.
    async fn end_pull_request(&self, watched: &Watched, name: &str) -> Result<(), ControlError> {
        let inner = &*self.0;
        for run in inner.store.open_runs().await? {
            if run.source == watched.id && run.branch == name {
                // One that ended in between is as good.
                let _ = self.cancel(run.number).await;
            }
        }
        let runs = inner.store.end_pull_request(watched.id, name).await?;
        inner.tags.refresh(&inner.store).await?;
        for run in runs {
            inner.hosting.unpin(&format!("results/run-{run}")).await?;
        }
        tracing::info!(source.name = %watched.settings.name, name, "a pull request is gone: its images go");
        Ok(())
    }

    /// Whether a pull request is for one of the wanted branches.
    async fn is_wanted(
        &self,
        watched: &Watched,
        wanted: &PullRequests,
        branches: &BTreeMap<String, CommitId>,
        head: &CommitId,
    ) -> Result<bool, ControlError> {
        if wanted.into.is_empty() {
            return Ok(true);
        }
        let repository = watched.mirror.repository();
        let mut nearest = None;
        for (branch, tip) in branches {
            watched.mirror.ensure(tip).await?;
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

impl Driver<'_> {
    /// Puts the tags of a pull request onto what it changes.
    pub(crate) async fn tag_pull_request(&self, changed: &[EntryRow]) -> Result<(), ControlError> {
        let held: Vec<_> =
            changed.iter().map(|entry| (entry.repository.clone(), entry.digest.clone())).collect();
        self.hosting.pin(&self.results_pin(), &held).await?;
        let run = &self.run;
        self.store.note_pull_request(run.source, &run.branch, run.number, changed).await?;
        Ok(self.tags.refresh(self.store).await?)
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
    "0".repeat(40).parse().map_err(|_| ControlError::UnknownSource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_have_numbers_and_tags() {
        for (name, expected) in [
            ("refs/pull/12/head", Some("pr-12")),
            ("refs/merge-requests/3/head", Some("pr-3")),
            ("refs/pull/12/merge", None),
            (WATCHED, None),
            ("main", None),
        ] {
            assert_eq!(tag(name).as_deref(), expected, "{name}");
        }
    }
}
