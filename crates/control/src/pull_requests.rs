//! Pull requests: built and tested like a branch, under the name of their ref, without a release: no channel follows one.
//!
//! Forges keep the refs of closed pull requests, and git does not tell which are open: so those that are there when
//! watching begins are taken as decided, and run once they move. What a pull request built is held for
//! [`KEPT`] after its run; then the registry may collect it.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::names::CommitId;
use edgewright_model::run::{RunNumber, Trigger};
use jiff::SignedDuration;

use crate::sources::Watched;
use crate::{Control, ControlError};

/// How long what a pull request built is held after its run.
pub const KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Runs that one look queues at most; the others follow with the next looks.
const AT_ONCE: usize = 10;
/// Noted as a decided branch once a source's pull requests are watched. No ref can have this name.
const WATCHED: &str = "refs/pull/*";

impl Control {
    /// Queues a run of every pull request that moved since the last look.
    pub(crate) async fn look_at_pull_requests(
        &self,
        watched: &Watched,
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
        let mut runs = Vec::new();
        for (name, commit) in moved(&heads, &decided).into_iter().take(AT_ONCE) {
            watched.mirror.ensure(&commit).await?;
            runs.push(self.queue(watched, name, &commit, Trigger::Commit, &BTreeSet::new()).await?);
        }
        let expired = now.checked_sub(KEPT).unwrap_or(now);
        for run in inner.store.pull_request_runs_before(watched.id, expired).await? {
            inner.hosting.unpin(&format!("results/run-{run}")).await?;
        }
        Ok(runs)
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
