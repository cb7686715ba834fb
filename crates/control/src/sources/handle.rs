//! One source that is followed, with its mirror and what was read of it last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use edgewright_model::format::{self, Parsed};
use edgewright_model::names::CommitId;
use edgewright_model::tree::Tree;
use edgewright_source::{Commit, CommitInfo, Mirror, SourceError};
use edgewright_store::sources::SourceId;
use edgewright_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::reconcile::Wake;
use crate::settings::SourceSettings;

/// A source with its mirror.
#[derive(Debug)]
pub struct SourceHandle {
    pub(crate) id: SourceId,
    pub(crate) settings: SourceSettings,
    pub(crate) mirror: Mirror,
    pub(crate) wake: Wake,
    /// Ends its polling: the source was removed, or has other settings now.
    pub(crate) stop: CancellationToken,
    /// Whether a change was announced.
    announced: AtomicBool,
    /// The commit that was queued last, until its run takes it.
    kept: Mutex<Option<ReadCommit>>,
}

/// A commit's files, and what they declare.
#[derive(Debug)]
pub(crate) struct ReadCommit {
    /// The commit.
    pub(crate) commit: CommitId,
    /// Its files.
    pub(crate) tree: Tree,
    /// What they declare, with what is wrong in them.
    pub(crate) parsed: Parsed,
}

impl ReadCommit {
    pub(crate) fn new(commit: CommitId, tree: Tree) -> Self {
        let parsed = format::parse(&tree);
        Self { commit, tree, parsed }
    }
}

/// A commit's metadata, and its files if they can be read: if not, its run reports why.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) info: CommitInfo,
    pub(crate) read: Option<ReadCommit>,
    /// Whether its files can never be read: it exceeds a limit.
    pub(crate) is_refused: bool,
}

impl From<Commit> for Fetched {
    fn from(Commit { info, tree }: Commit) -> Self {
        let read = Some(ReadCommit::new(info.commit.clone(), tree));
        Self { info, read, is_refused: false }
    }
}

impl SourceHandle {
    pub(crate) fn new(
        id: SourceId,
        settings: SourceSettings,
        mirror: Mirror,
        stop: CancellationToken,
    ) -> Self {
        Self {
            id,
            settings,
            mirror,
            wake: Wake::default(),
            stop,
            announced: AtomicBool::new(false),
            kept: Mutex::default(),
        }
    }

    /// How it is followed.
    pub const fn settings(&self) -> &SourceSettings {
        &self.settings
    }

    /// Its mirror.
    pub const fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Polls it now: a change was announced. `cause` is shown in the status.
    pub(crate) fn tell(&self, cause: &'static str) {
        self.announced.store(true, Ordering::Release);
        self.wake.wake(cause);
    }

    /// Whether a change was announced since the last time that this was asked.
    pub(crate) fn take_announced(&self) -> bool {
        self.announced.swap(false, Ordering::AcqRel)
    }

    /// Keeps a commit for the run that takes it next.
    pub(crate) fn keep(&self, read: ReadCommit) {
        *self.kept() = Some(read);
    }

    /// A commit's files, from memory where they were read to queue it.
    pub(crate) async fn read_commit(&self, commit: &CommitId) -> Result<ReadCommit, SourceError> {
        let kept = self.kept().take();
        match kept {
            Some(kept) if kept.commit == *commit => Ok(kept),
            _ => Ok(ReadCommit::new(commit.clone(), self.mirror.read_tree(commit).await?)),
        }
    }

    /// A commit of the mirror, to queue it.
    pub(crate) async fn fetch_commit(&self, commit: &CommitId) -> Result<Fetched, SourceError> {
        let tree = self.mirror.read_tree(commit).await;
        let is_refused = tree.as_ref().is_err_and(SourceError::is_of_commit);
        let info = self.mirror.repository().commit_info(commit).await?;
        let read = tree.ok().map(|tree| ReadCommit::new(commit.clone(), tree));
        Ok(Fetched { info, read, is_refused })
    }

    /// The branch that counts as the default one: the configured one, else the remote's.
    pub(crate) async fn default_branch(&self, store: &Store) -> Result<Option<String>, StoreError> {
        match &self.settings.branch {
            Some(branch) => Ok(Some(branch.clone())),
            None => Ok(store.source(self.id).await?.default_branch),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<ReadCommit>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
