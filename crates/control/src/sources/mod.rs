//! Sources: which repositories are followed, their mirrors, what of them moved, and the runs that are queued for it.

mod look;
pub mod refs;
mod watched;

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

pub(crate) use self::look::Seen;
pub use self::watched::Watched;
pub(crate) use self::watched::{Fetched, ReadCommit};
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
    /// Told that a run was queued.
    runs: Wake,
    watched: Mutex<BTreeMap<SourceId, Arc<Watched>>>,
}

/// A commit to run.
#[derive(Debug)]
pub(crate) struct Queued<'a> {
    /// Its branch, or the ref of its pull request.
    pub(crate) branch: String,
    /// Why it is run.
    pub(crate) trigger: Trigger,
    /// The images whose locks are resolved anew; none: all of them.
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
        Self { folder, store, git, clock, shutdown, runs, watched: Mutex::default() }
    }

    /// Follows a source. One of the same address or name takes the place of the earlier one, whose polling ends.
    ///
    /// # Errors
    /// The database or the mirror's folder cannot be written.
    pub(crate) async fn add(&self, settings: SourceSettings) -> Result<Arc<Watched>, ControlError> {
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
            // The same repository under another name. Where it cannot be moved it is fetched again, and the old one collected.
            drop(tokio::fs::rename(self.mirror_folder(&old.name), &folder).await);
        }
        let mirror = Mirror::new(self.git.clone(), folder, settings.remote.clone());
        let watched = Arc::new(Watched::new(row.id, settings, mirror, self.shutdown.child_token()));
        if let Some(before) = self.lock().insert(row.id, Arc::clone(&watched)) {
            before.stop.cancel();
        }
        Ok(watched)
    }

    fn mirror_folder(&self, source: &SourceName) -> PathBuf {
        self.folder.join(format!("{source}.git"))
    }

    /// Follows a source no longer. A run that is being worked on goes on, queued ones wait until it is back.
    pub(crate) fn remove(&self, name: &SourceName) -> bool {
        let Some(watched) = self.named(name) else { return false };
        watched.stop.cancel();
        self.lock().remove(&watched.id);
        true
    }

    /// A source that is followed.
    pub fn get(&self, source: SourceId) -> Option<Arc<Watched>> {
        self.lock().get(&source).cloned()
    }

    /// A source that is followed, by its configured name.
    pub fn named(&self, name: &SourceName) -> Option<Arc<Watched>> {
        self.lock().values().find(|watched| watched.settings.name == *name).cloned()
    }

    /// All sources that are followed.
    pub(crate) fn all(&self) -> Vec<Arc<Watched>> {
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
        watched: &Watched,
        commit: &CommitId,
        queued: Queued<'_>,
    ) -> Result<RunNumber, ControlError> {
        watched.mirror.ensure(commit).await?;
        let fetched = watched.fetch_commit(commit).await?;
        self.queue_fetched(watched, fetched, queued).await
    }

    /// Queues a commit that was read already.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(crate) async fn queue_fetched(
        &self,
        watched: &Watched,
        fetched: Fetched,
        queued: Queued<'_>,
    ) -> Result<RunNumber, ControlError> {
        let Fetched { info, read } = fetched;
        if let Some(read) = read {
            // The run wants it next.
            watched.keep(read);
        }
        let new = NewRun {
            branch: queued.branch,
            commit: info.commit,
            subject: info.subject,
            author: format!("{} <{}>", info.author, info.email),
            trigger: queued.trigger,
        };
        let after = serde_json::json!({
            "source": watched.settings.name,
            "branch": new.branch,
            "commit": new.commit,
            "trigger": new.trigger.name(),
        });
        let entry = queued.context.entry(queued.operation, "runs/", None, Some(after));
        let now = (&entry, self.clock.now());
        let number = self.store.queue_run(watched.id, &new, queued.images, now).await?;
        self.runs.wake("a run was queued");
        Ok(number)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SourceId, Arc<Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
