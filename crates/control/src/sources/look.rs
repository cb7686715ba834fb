//! Looking at a remote: what is followed, and what of it moved.

use std::collections::BTreeMap;

use edgewright_model::names::{CommitId, SourceName};
use edgewright_model::spec::Follows;
use edgewright_source::{Followed, Reader, RefChange, RemoteRefs, SourceError, changed};

use super::{Fetched, Sources, Watched};
use crate::ControlError;

/// What a look at a remote found.
pub(crate) struct Seen {
    /// The branch that counts as the default one.
    pub(crate) default: Option<String>,
    /// Where the followed branches stand that moved.
    pub(crate) moved: Vec<(String, CommitId)>,
    /// Where all branches stand that were asked for.
    pub(crate) branches: BTreeMap<String, CommitId>,
    /// Reads the commits that were fetched.
    reader: Option<Reader>,
    /// The branch that should be followed, and is not there.
    pub(crate) missing: Option<SourceError>,
}

impl Seen {
    /// The commit of the default branch.
    pub(crate) fn head(&self) -> Option<&CommitId> {
        self.branches.get(self.default.as_ref()?)
    }

    /// A commit that was seen.
    pub(crate) async fn read(&self, watched: &Watched, commit: &CommitId) -> Result<Fetched, ControlError> {
        let read = match &self.reader {
            Some(reader) => reader.read(commit).await,
            None => None,
        };
        if let Some(commit) = read {
            return Ok(commit.into());
        }
        watched.mirror.ensure(commit).await?;
        Ok(watched.fetch_commit(commit).await?)
    }
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

impl Sources {
    /// What is followed of a source, and where that stood when it was decided last.
    async fn followed_of(&self, watched: &Watched) -> Result<(Followed, RemoteRefs), ControlError> {
        let mut followed = Followed::default();
        match &watched.settings.branch {
            Some(branch) => drop(followed.branches.insert(branch.clone())),
            None => followed.default_branch = true,
        }
        let channels = self.store.channels(watched.id).await?;
        let declared = channels.into_iter().filter(|channel| channel.removed_at.is_none());
        followed.branches.extend(declared.filter_map(|channel| match channel.spec.follows {
            Follows::Branch(branch) => Some(branch),
            Follows::DefaultBranch | Follows::Channel(_) => None,
        }));
        let before = RemoteRefs {
            default_branch: self.store.source(watched.id).await?.default_branch,
            branches: self.store.decided(watched.id).await?,
        };
        Ok((followed, before))
    }

    /// Asks the remote, and fetches what moved.
    pub(crate) async fn look(&self, watched: &Watched) -> Result<Seen, ControlError> {
        let mut refs = self.git.poll(&watched.settings.remote).await?;
        let (followed, before) = self.followed_of(watched).await?;
        // A repository without any commit just waits for its first one.
        let missing = match refs.branch(&watched.settings.remote, watched.settings.branch.as_deref()) {
            Ok(_) => None,
            Err(SourceError::Empty { .. }) if before.branches.is_empty() => None,
            Err(error) => Some(error),
        };
        if watched.settings.branch.is_some() {
            refs.default_branch.clone_from(&watched.settings.branch);
        }
        let moved = moved(&watched.settings.name, &before, &refs, &followed);
        let mut reader = None;
        if !moved.is_empty() {
            // It starts while the commits are fetched.
            reader = Some(watched.mirror.repository().reader());
            watched.mirror.fetch().await?;
        }
        Ok(Seen { default: refs.default_branch, moved, branches: refs.branches, reader, missing })
    }

    /// What a webhook is about is fetched without asking first what is there. Whatever else there may be to see, another
    /// default branch among it, a usual look sees. None where a followed branch is not there.
    pub(crate) async fn look_at_followed(&self, watched: &Watched) -> Result<Option<Seen>, ControlError> {
        let (followed, before) = self.followed_of(watched).await?;
        let reader = watched.mirror.repository().reader();
        watched.mirror.fetch().await?;
        let mut now = RemoteRefs { default_branch: before.default_branch.clone(), ..RemoteRefs::default() };
        for branch in followed.names(&before) {
            let Some(commit) = reader.branch(&branch).await else { return Ok(None) };
            now.branches.insert(branch, commit);
        }
        let moved = moved(&watched.settings.name, &before, &now, &followed);
        Ok(Some(Seen {
            default: now.default_branch,
            moved,
            branches: now.branches,
            reader: Some(reader),
            missing: None,
        }))
    }

    /// Where the pull requests of a source stand.
    pub(crate) async fn pull_requests(
        &self,
        watched: &Watched,
    ) -> Result<BTreeMap<String, CommitId>, ControlError> {
        Ok(self.git.poll_pull_requests(&watched.settings.remote).await?)
    }
}
