//! Looking at a remote: what is followed, and what of it moved.

use std::collections::BTreeMap;

use edgewright_model::names::{CommitId, SourceName};
use edgewright_model::run::RunNumber;
use edgewright_model::spec::Follows;
use edgewright_source::{Followed, Reader, RefChange, RemoteRefs, SourceError, changed};

use super::Watched;
use crate::{Control, ControlError};

/// What a look at a remote found.
pub(super) struct Seen {
    pub(super) default: Option<String>,
    pub(super) moved: Vec<(String, CommitId)>,
    /// What reads the commits that were fetched.
    pub(super) reader: Option<Reader>,
    pub(super) branches: BTreeMap<String, CommitId>,
    /// The branch that should be followed, and is not there.
    pub(super) missing: Option<SourceError>,
}

/// The branches that stand elsewhere now.
fn moved(
    source: &SourceName,
    before: &RemoteRefs,
    now: &RemoteRefs,
    followed: &Followed,
) -> Vec<(String, CommitId)> {
    let mut moved = Vec::new();
    for change in changed(Some(before), now, followed) {
        match change {
            // One that became the default again may stand where it stood: its channels stand elsewhere by now.
            RefChange::Appeared { branch, to } | RefChange::Moved { branch, to, .. } => {
                moved.push((branch, to));
            }
            RefChange::Missing { branch, .. } => {
                tracing::warn!(source.name = %source, branch, "a followed branch is gone: its channels stay");
            }
            // At the first look it has no name yet.
            RefChange::DefaultRenamed { from: None, .. } => {}
            RefChange::DefaultRenamed { from, to } => {
                tracing::info!(source.name = %source, ?from, ?to, "the default branch has another name");
            }
        }
    }
    moved
}

impl Control {
    /// What is followed of a source, and where that stood when it was decided last.
    async fn followed_of(&self, watched: &Watched) -> Result<(Followed, RemoteRefs), ControlError> {
        let store = &self.0.store;
        let mut followed = Followed::default();
        match &watched.settings.branch {
            Some(branch) => drop(followed.branches.insert(branch.clone())),
            None => followed.default_branch = true,
        }
        let channels = store.channels(watched.id).await?;
        followed.branches.extend(channels.into_iter().filter_map(|channel| match channel.spec.follows {
            Follows::Branch(branch) => Some(branch),
            Follows::DefaultBranch | Follows::Channel(_) => None,
        }));
        let before = RemoteRefs {
            default_branch: store.source(watched.id).await?.default_branch,
            branches: store.decided(watched.id).await?,
        };
        Ok((followed, before))
    }

    pub(super) async fn look(&self, watched: &Watched) -> Result<Seen, ControlError> {
        let refs = self.0.git.poll(&watched.settings.remote).await?;
        let (followed, before) = self.followed_of(watched).await?;
        let moved = moved(&watched.settings.name, &before, &refs, &followed);
        let mut reader = None;
        if !moved.is_empty() {
            // It starts while the commits are fetched.
            reader = Some(watched.mirror.repository().reader());
            watched.mirror.fetch().await?;
        }
        // A repository without any commit just waits for its first one.
        let missing = match refs.branch(&watched.settings.remote, watched.settings.branch.as_deref()) {
            Ok(_) => None,
            Err(SourceError::Empty { .. }) if before.branches.is_empty() => None,
            Err(error) => Some(error),
        };
        Ok(Seen { default: refs.default_branch, moved, reader, branches: refs.branches, missing })
    }

    /// What a webhook speaks of is fetched without asking first what is there: queues runs of the branches that moved.
    /// Whatever else there may be to see, another default branch among it, a usual poll sees.
    pub(super) async fn take_told(&self, watched: &Watched) -> Result<Vec<RunNumber>, ControlError> {
        let (followed, before) = self.followed_of(watched).await?;
        let reader = watched.mirror.repository().reader();
        watched.mirror.fetch().await?;
        let mut now = RemoteRefs { default_branch: before.default_branch.clone(), ..RemoteRefs::default() };
        for branch in followed.names(&before) {
            let Some(commit) = reader.branch(&branch).await else { return Ok(Vec::new()) };
            now.branches.insert(branch, commit);
        }
        let mut runs = Vec::new();
        for (branch, commit) in moved(&watched.settings.name, &before, &now, &followed) {
            runs.push(self.queue_with(watched, branch, &commit, Some(&reader)).await?);
        }
        Ok(runs)
    }
}
