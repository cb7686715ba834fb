//! Sources: each is polled; a followed branch that stands elsewhere becomes a run.

mod look;
mod poll;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use edgewright_model::names::{CommitId, ImageName, SourceName};
use edgewright_model::run::{ReleaseNumber, RunNumber, Trigger};
use edgewright_model::tree::Tree;
use edgewright_plan::Graph;
use edgewright_source::{Commit, CommitInfo, Mirror, Reader, SourceError};
use edgewright_store::sources::{NewRun, SourceId};
use edgewright_store::{Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::runs::Released;
use crate::settings::SourceSettings;
use crate::{Control, ControlError};

pub use poll::pause_after;

/// A source with its mirror.
#[derive(Debug)]
pub struct Watched {
    pub(crate) id: SourceId,
    pub(crate) settings: SourceSettings,
    pub(crate) mirror: Mirror,
    pub(crate) wake: Notify,
    /// Ends its polling: the source was removed, or has other settings now.
    pub(crate) stop: CancellationToken,
    /// The files of the commit that was queued last, until its run takes them.
    pub(crate) read: Mutex<Option<(CommitId, Tree)>>,
    /// The graph of the last run that was planned.
    pub(crate) last: Mutex<Option<(RunNumber, Arc<Graph>)>>,
    /// The release that was read last.
    pub(crate) released: Mutex<Option<Arc<Released>>>,
}

impl Watched {
    /// A commit's files.
    pub(crate) async fn read_tree(&self, commit: &CommitId) -> Result<Tree, SourceError> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner).take();
        match read {
            Some((found, tree)) if found == *commit => Ok(tree),
            _ => self.mirror.read_tree(commit).await,
        }
    }

    /// A commit as people see it, and its files where they can be read: if not, its run says why.
    async fn read_commit(&self, commit: &CommitId) -> Result<(CommitInfo, Option<Tree>), SourceError> {
        let tree = self.mirror.read_tree(commit).await.ok();
        Ok((self.mirror.repository().commit_info(commit).await?, tree))
    }

    /// Keeps a run's graph, for the next one to say what changed.
    pub(crate) fn planned(&self, run: RunNumber, graph: &Arc<Graph>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((run, Arc::clone(graph)));
    }

    /// The graph of a run, if it was the last one that was planned.
    pub(crate) fn graph_of(&self, run: RunNumber) -> Option<Arc<Graph>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(number, _)| *number == run).map(|(_, graph)| Arc::clone(graph))
    }

    /// Keeps a release of this source that was read.
    pub(crate) fn keep_released(&self, released: &Arc<Released>) {
        *self.released.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(released));
    }

    /// A release of this source, if it was the last one that was read.
    pub(crate) fn released(&self, number: ReleaseNumber) -> Option<Arc<Released>> {
        let kept = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| kept.number == Some(number)).map(Arc::clone)
    }

    /// How it is followed.
    pub const fn settings(&self) -> &SourceSettings {
        &self.settings
    }

    /// Its mirror.
    pub const fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The branch that counts as the default one: the configured one, else the remote's.
    pub(crate) async fn default_branch(&self, store: &Store) -> Result<Option<String>, StoreError> {
        match &self.settings.branch {
            Some(branch) => Ok(Some(branch.clone())),
            None => Ok(store.source(self.id).await?.default_branch),
        }
    }
}

impl Control {
    /// Registers a source, so that its runs can be driven.
    ///
    /// # Errors
    /// The database or the mirror's folder cannot be written.
    pub async fn add_source(&self, settings: SourceSettings) -> Result<SourceId, ControlError> {
        let inner = &*self.0;
        inner.git.identify(&settings.remote, settings.ssh.clone());
        let url = settings.remote.to_string();
        let before = inner.store.sources().await?;
        let row = inner.store.upsert_source(&settings.name, &url, inner.clock.now()).await?;
        let folder = self.mirror_folder(&settings.name);
        if let Some(old) = before.iter().find(|old| old.id == row.id && old.name != row.name)
            && !folder.exists()
        {
            // The same repository under another name. Where it cannot be moved it is fetched again, and the old one collected.
            drop(tokio::fs::rename(self.mirror_folder(&old.name), &folder).await);
        }
        let mirror = Mirror::new(inner.git.clone(), folder, settings.remote.clone());
        let stop = inner.shutdown.child_token();
        let watched = Watched {
            id: row.id,
            settings,
            mirror,
            wake: Notify::new(),
            stop,
            read: Mutex::default(),
            last: Mutex::default(),
            released: Mutex::default(),
        };
        self.watch(Arc::new(watched));
        Ok(row.id)
    }

    fn mirror_folder(&self, source: &SourceName) -> PathBuf {
        self.0.settings.data.join("sources").join(format!("{source}.git"))
    }

    /// Polls a source in a task of its own, until it is removed or changed.
    pub fn start_source(&self, source: SourceId) {
        let control = self.clone();
        let polling = async move { control.poll_source(source).await };
        self.0.tasks.spawn(format!("source {}", source.0), polling);
    }

    /// Follows a source no longer. A run that is being worked on goes on, queued ones wait until it is back.
    pub fn remove_source(&self, name: &SourceName) -> bool {
        let Some(watched) = self.source_named(name) else { return false };
        watched.stop.cancel();
        self.unwatch(watched.id);
        true
    }

    pub(crate) async fn queue(
        &self,
        watched: &Watched,
        branch: String,
        commit: &CommitId,
        trigger: Trigger,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let read = watched.read_commit(commit).await?;
        self.queue_read(watched, branch, read, trigger, images).await
    }

    /// Queues a commit that was fetched just now.
    async fn queue_with(
        &self,
        watched: &Watched,
        branch: String,
        commit: &CommitId,
        reader: Option<&Reader>,
    ) -> Result<RunNumber, ControlError> {
        let read = match reader {
            Some(reader) => reader.read(commit).await,
            None => None,
        };
        let read = match read {
            Some(Commit { info, tree }) => (info, Some(tree)),
            None => watched.read_commit(commit).await?,
        };
        self.queue_read(watched, branch, read, Trigger::Commit, &BTreeSet::new()).await
    }

    async fn queue_read(
        &self,
        watched: &Watched,
        branch: String,
        (info, tree): (CommitInfo, Option<Tree>),
        trigger: Trigger,
        images: &BTreeSet<ImageName>,
    ) -> Result<RunNumber, ControlError> {
        let inner = &*self.0;
        if let Some(tree) = tree {
            // The run wants it next.
            *watched.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((info.commit.clone(), tree));
        }
        let new = NewRun {
            branch,
            commit: info.commit,
            subject: info.subject,
            author: format!("{} <{}>", info.author, info.email),
            trigger,
        };
        let number = inner.store.queue_run_for(watched.id, &new, images, inner.clock.now()).await?;
        inner.runs_wake.notify_one();
        Ok(number)
    }

    /// Queues a run of a commit, whatever was decided before. [`Trigger::Manual`] forgets failures and tries again;
    /// [`Trigger::Lock`] resolves every lock anew first.
    ///
    /// # Errors
    /// The source is not configured, the commit is unknown, or the database cannot be written.
    pub async fn queue_run(
        &self,
        source: SourceId,
        branch: &str,
        commit: &CommitId,
        trigger: Trigger,
    ) -> Result<RunNumber, ControlError> {
        let watched = self.watched(source).ok_or(ControlError::UnknownSource)?;
        watched.mirror.ensure(commit).await?;
        self.queue(&watched, branch.to_owned(), commit, trigger, &BTreeSet::new()).await
    }

    /// Queues the commit of an earlier run again: its failures are tried anew.
    ///
    /// # Errors
    /// There is no such run, its branch has moved on, its source is not configured, or the database cannot be written.
    pub async fn retry(&self, run: RunNumber) -> Result<RunNumber, ControlError> {
        let row = self.0.store.run(run).await?.ok_or(ControlError::NoRun { run })?;
        let decided = self.0.store.decided(row.source).await?;
        if decided.get(&row.branch).is_some_and(|commit| *commit != row.commit) {
            return Err(ControlError::Outdated { run, branch: row.branch });
        }
        self.queue_run(row.source, &row.branch, &row.commit, Trigger::Manual).await
    }

    /// As [`Control::wake_source`], by the source's configured name.
    pub fn wake_named(&self, name: &SourceName) -> bool {
        self.source_named(name).map(|watched| watched.wake.notify_one()).is_some()
    }

    /// Polls a source now, without waiting for its turn.
    pub fn wake_source(&self, source: SourceId) -> bool {
        self.watched(source).map(|watched| watched.wake.notify_one()).is_some()
    }
}
