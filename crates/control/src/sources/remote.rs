//! The state of a remote: what is followed, and which branches moved.

use std::collections::BTreeMap;

use edgewright_model::names::{CommitId, SourceName};
use edgewright_model::spec::Follows;
use edgewright_source::{Followed, Reader, RefChange, RemoteRefs, SourceError, changed};

use super::{Fetched, SourceHandle, Sources};
use crate::ControlError;

/// What a poll of a remote found.
pub(crate) struct RemoteState {
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

impl RemoteState {
    /// The commit of the default branch.
    pub(crate) fn head(&self) -> Option<&CommitId> {
        self.branches.get(self.default.as_ref()?)
    }

    /// A commit that was seen.
    pub(crate) async fn read(
        &self,
        handle: &SourceHandle,
        commit: &CommitId,
    ) -> Result<Fetched, ControlError> {
        let read = match &self.reader {
            Some(reader) => reader.read(commit).await,
            None => None,
        };
        if let Some(commit) = read {
            return Ok(commit.into());
        }
        handle.mirror.ensure(commit).await?;
        Ok(handle.fetch_commit(commit).await?)
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
            // One that became the default again may not have moved itself, but its channels hold another
            // branch's release by now.
            RefChange::Appeared { branch, to } | RefChange::Moved { branch, to, .. } => {
                moved.push((branch, to));
            }
            RefChange::Missing { branch, .. } => {
                tracing::warn!(source.name = %source, branch, "a followed branch is gone: its channels stay");
            }
            // At the first poll it has no name yet.
            RefChange::DefaultRenamed { from: None, .. } => {}
            RefChange::DefaultRenamed { from, to } => {
                tracing::info!(source.name = %source, ?from, ?to, "the default branch has another name");
            }
        }
    }
    moved
}

impl Sources {
    /// What is followed of a source, and the commits for which runs were decided last.
    pub(super) async fn followed_of(
        &self,
        handle: &SourceHandle,
    ) -> Result<(Followed, RemoteRefs), ControlError> {
        let mut followed = Followed::default();
        match &handle.settings.branch {
            Some(branch) => drop(followed.branches.insert(branch.clone())),
            None => followed.default_branch = true,
        }
        let channels = self.store.channels(handle.id).await?;
        let declared = channels.into_iter().filter(|channel| channel.removed_at.is_none());
        followed.branches.extend(declared.filter_map(|channel| match channel.spec.follows {
            Follows::Branch(branch) => Some(branch),
            Follows::DefaultBranch | Follows::Channel(_) => None,
        }));
        let before = RemoteRefs {
            default_branch: self.store.source(handle.id).await?.default_branch,
            branches: self.store.decided(handle.id).await?,
        };
        Ok((followed, before))
    }

    /// Asks the remote, and fetches what moved.
    pub(crate) async fn poll(&self, handle: &SourceHandle) -> Result<RemoteState, ControlError> {
        let mut refs = self.git.poll(&handle.settings.remote).await?;
        let (followed, before) = self.followed_of(handle).await?;
        // A repository without any commit just waits for its first one.
        let missing = match refs.branch(&handle.settings.remote, handle.settings.branch.as_deref()) {
            Ok(_) => None,
            Err(SourceError::Empty { .. }) if before.branches.is_empty() => None,
            Err(error) => Some(error),
        };
        if handle.settings.branch.is_some() {
            refs.default_branch.clone_from(&handle.settings.branch);
        }
        let moved = moved(&handle.settings.name, &before, &refs, &followed);
        let mut reader = None;
        if !moved.is_empty() {
            // It starts while the commits are fetched.
            reader = Some(handle.mirror.repository().reader());
            handle.mirror.fetch().await?;
        }
        Ok(RemoteState { default: refs.default_branch, moved, branches: refs.branches, reader, missing })
    }

    /// What a webhook is about is fetched without asking first what is there. Whatever else there may be to
    /// see, another default branch among it, the next poll finds. None if a followed branch is not there.
    pub(crate) async fn fetch_followed(
        &self,
        handle: &SourceHandle,
    ) -> Result<Option<RemoteState>, ControlError> {
        let (followed, before) = self.followed_of(handle).await?;
        let reader = handle.mirror.repository().reader();
        handle.mirror.fetch().await?;
        let mut now = RemoteRefs { default_branch: before.default_branch.clone(), ..RemoteRefs::default() };
        for branch in followed.names(&before) {
            let Some(commit) = reader.branch(&branch).await else { return Ok(None) };
            now.branches.insert(branch, commit);
        }
        let moved = moved(&handle.settings.name, &before, &now, &followed);
        Ok(Some(RemoteState {
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
        handle: &SourceHandle,
    ) -> Result<BTreeMap<String, CommitId>, ControlError> {
        Ok(self.git.poll_pull_requests(&handle.settings.remote).await?)
    }
}
