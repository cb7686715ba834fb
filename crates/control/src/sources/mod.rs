//! Sources: which repositories are followed, their mirrors, what of them moved, and the runs that are queued
//! for it.

mod handle;
pub mod refs;
mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_model::names::{CommitId, ImageName, SourceName};
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_process::Clock;
use edgewright_source::{Git, Mirror};
use edgewright_store::Store;
use edgewright_store::sources::{NewRun, SourceId};
use tokio_util::sync::CancellationToken;

pub use self::handle::SourceHandle;
pub(crate) use self::handle::{Fetched, ReadCommit};
pub(crate) use self::remote::RemoteState;
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;
use crate::reconcile::Wake;
use crate::settings::SourceSettings;

/// The sources that are followed.
#[derive(Debug)]
pub struct Sources {
    /// `DATA/sources`: the mirrors.
    folder: PathBuf,
    store: Store,
    git: Git,
    clock: Clock,
    shutdown: CancellationToken,
    /// Woken when a run was queued.
    runs: Wake,
    followed: Mutex<BTreeMap<SourceId, Arc<SourceHandle>>>,
}

/// A commit to run.
#[derive(Debug)]
pub(crate) struct Queued<'a> {
    /// Its branch, or the ref of its pull request.
    pub(crate) branch: String,
    /// Why it is run.
    pub(crate) trigger: Trigger,
    /// The images whose locks are resolved again; empty: all of them.
    pub(crate) images: &'a BTreeSet<ImageName>,
    /// Who asks for it.
    pub(crate) context: &'a OperationContext,
    /// By which operation.
    pub(crate) operation: Operation,
}

impl Sources {
    /// No source yet. `runs` is woken when one has something to run.
    pub(crate) fn new(
        folder: PathBuf,
        parts: (Store, Git, Clock),
        shutdown: CancellationToken,
        runs: Wake,
    ) -> Self {
        let (store, git, clock) = parts;
        Self { folder, store, git, clock, shutdown, runs, followed: Mutex::default() }
    }

    /// Follows a source. One of the same address or name takes the place of the earlier one, whose polling
    /// ends.
    ///
    /// # Errors
    /// The database or the mirror's folder cannot be written.
    pub(crate) async fn add(&self, settings: SourceSettings) -> Result<Arc<SourceHandle>, ControlError> {
        self.git.identify(&settings.remote, settings.ssh.clone());
        let url = settings.remote.to_string();
        let before = self.store.sources().await?;
        let now = self.clock.now();
        let row = self.store.upsert_source(&settings.name, &url, now).await?;
        if settings.branch.is_some() {
            self.store.note_default_branch(row.id, settings.branch.as_deref()).await?;
        }
        let folder = self.mirror_folder(&settings.name);
        if let Some(old) = before.iter().find(|old| old.id == row.id && old.name != row.name)
            && !tokio::fs::try_exists(&folder).await.unwrap_or(false)
        {
            // The same repository under another name. Where it cannot be moved it is fetched again, and the
            // old one collected.
            drop(tokio::fs::rename(self.mirror_folder(&old.name), &folder).await);
        }
        let mirror = Mirror::new(self.git.clone(), folder, settings.remote.clone());
        let handle = Arc::new(SourceHandle::new(row.id, settings, mirror, self.shutdown.child_token()));
        if let Some(before) = self.lock().insert(row.id, Arc::clone(&handle)) {
            before.stop.cancel();
        }
        Ok(handle)
    }

    fn mirror_folder(&self, source: &SourceName) -> PathBuf {
        self.folder.join(format!("{source}.git"))
    }

    /// Stops following a source. A run in progress continues; queued runs wait until the source is configured
    /// again.
    pub(crate) fn remove(&self, name: &SourceName) -> bool {
        let Some(handle) = self.named(name) else { return false };
        handle.stop.cancel();
        self.lock().remove(&handle.id);
        true
    }

    /// A source that is followed.
    pub fn get(&self, source: SourceId) -> Option<Arc<SourceHandle>> {
        self.lock().get(&source).cloned()
    }

    /// A source that is followed, by its configured name.
    pub fn named(&self, name: &SourceName) -> Option<Arc<SourceHandle>> {
        self.lock().values().find(|handle| handle.settings.name == *name).cloned()
    }

    /// All sources that are followed.
    pub(crate) fn all(&self) -> Vec<Arc<SourceHandle>> {
        self.lock().values().cloned().collect()
    }

    /// The ids of the sources that are followed.
    pub(crate) fn ids(&self) -> BTreeSet<SourceId> {
        self.lock().keys().copied().collect()
    }

    /// Queues a commit that the mirror has or can fetch.
    ///
    /// # Errors
    /// The commit is unknown, or the database cannot be written.
    pub(crate) async fn queue(
        &self,
        handle: &SourceHandle,
        commit: &CommitId,
        queued: Queued<'_>,
    ) -> Result<RunNumber, ControlError> {
        handle.mirror.ensure(commit).await?;
        let fetched = handle.fetch_commit(commit).await?;
        self.queue_fetched(handle, fetched, queued).await
    }

    /// Queues a commit that was read already.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(crate) async fn queue_fetched(
        &self,
        handle: &SourceHandle,
        fetched: Fetched,
        queued: Queued<'_>,
    ) -> Result<RunNumber, ControlError> {
        let Fetched { info, read, is_refused: _ } = fetched;
        if let Some(read) = read {
            // The run wants it next.
            handle.keep(read);
        }
        let trusted = self.is_trusted(handle, &queued.branch).await?;
        let new = NewRun {
            trusted,
            branch: queued.branch,
            commit: info.commit,
            subject: info.subject,
            author: format!("{} <{}>", info.author, info.email),
            trigger: queued.trigger,
        };
        let after = serde_json::json!({
            "source": handle.settings.name,
            "branch": new.branch,
            "commit": new.commit,
            "trigger": new.trigger.name(),
        });
        let entry = queued.context.entry(queued.operation, "runs/", None, Some(after));
        let now = (&entry, self.clock.now());
        let number = self.store.queue_run(handle.id, &new, queued.images, now).await?;
        self.runs.wake("a run was queued");
        Ok(number)
    }

    /// Whether runs of a ref are trusted: those of the default branch, and of branches that a channel follows
    /// according to the default branch. A pull request never is, whatever a channel names.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) async fn is_trusted(&self, handle: &SourceHandle, branch: &str) -> Result<bool, ControlError> {
        if refs::is_pull_request(branch) {
            return Ok(false);
        }
        Ok(self.followed_of(handle).await?.0.branches.contains(branch)
            || handle.default_branch(&self.store).await?.as_deref() == Some(branch))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SourceId, Arc<SourceHandle>>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
