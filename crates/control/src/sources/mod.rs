//! Sources: each is polled; a followed branch that stands elsewhere becomes a run.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_model::names::{CommitId, ImageName, SourceName};
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_model::tree::Tree;
use edgewright_plan::Graph;
use edgewright_source::{Commit, CommitInfo, Mirror, Reader, SourceError};
use edgewright_store::sources::{NewRun, SourceId};
use edgewright_store::{Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::settings::SourceSettings;
use crate::{Control, ControlError};

/// The shortest pause between polls of a source.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The longest wait after failed polls.
const LONGEST_BACKOFF: Duration = Duration::from_mins(10);

/// How long to wait for the next poll after so many failed ones in a row.
pub fn pause_after(poll: Duration, failures: u32) -> Duration {
    poll.saturating_mul(2_u32.saturating_pow(failures.min(10))).min(LONGEST_BACKOFF.max(poll))
}

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

fn tell(source: &SourceName, runs: &[RunNumber]) {
    for run in runs {
        tracing::info!(source.name = %source, run.number = run.0, "a commit became a run");
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

    /// Polls a source until shutdown: every `poll`, later after failures, at once when woken.
    pub async fn poll_source(&self, source: SourceId) {
        let Some(watched) = self.watched(source) else { return };
        let name = watched.settings.name.clone();
        let mut failures: u32 = 0;
        let mut told = false;
        loop {
            let began = tokio::time::Instant::now();
            if told {
                // What goes wrong here goes wrong in the poll that follows, which says so.
                tell(&name, &self.take_told(&watched).await.unwrap_or_default());
            }
            match self.poll_once(&watched).await {
                Ok(runs) => {
                    failures = 0;
                    tell(&name, &runs);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let error = Chain(&error).to_string();
                    tracing::warn!(source.name = %name, failures, error, "a poll failed");
                }
            }
            let ended = tokio::time::Instant::now();
            let pause = pause_after(watched.settings.poll, failures);
            told = tokio::select! {
                () = tokio::time::sleep(pause) => false,
                () = async {
                    watched.wake.notified().await;
                    // Webhooks of a busy repository do not poll the remote without end: it rests as long as it worked.
                    tokio::time::sleep_until(ended + (ended - began).max(SHORTEST_PAUSE)).await;
                } => true,
                () = watched.stop.cancelled() => return,
            };
        }
    }

    /// Looks at the remote once and queues a run for every followed branch that moved. How it went is noted.
    ///
    /// # Errors
    /// The remote does not answer, or the database cannot be written.
    pub async fn poll_once(&self, watched: &Watched) -> Result<Vec<RunNumber>, ControlError> {
        let inner = &*self.0;
        let polled = self.look(watched).await;
        let (default, error) = match &polled {
            Ok(seen) => (seen.default.clone(), seen.missing.as_ref().map(|error| Chain(error).to_string())),
            Err(error) => (None, Some(Chain(error).to_string())),
        };
        inner.store.note_poll(watched.id, default.as_deref(), error.as_deref(), inner.clock.now()).await?;
        let seen = polled?;
        match self.take(watched, seen.moved, seen.reader.as_ref(), &seen.branches).await {
            // Told and backed off as a failure; what else is followed was looked at all the same.
            Ok(runs) => seen.missing.map_or(Ok(runs), |error| Err(error.into())),
            Err(error) => {
                let why = Chain(&error).to_string();
                inner.store.note_poll(watched.id, default.as_deref(), Some(&why), inner.clock.now()).await?;
                Err(error)
            }
        }
    }

    /// Queues a run for every branch and pull request that moved.
    async fn take(
        &self,
        watched: &Watched,
        moved: Vec<(String, CommitId)>,
        reader: Option<&Reader>,
        branches: &BTreeMap<String, CommitId>,
    ) -> Result<Vec<RunNumber>, ControlError> {
        let mut runs = Vec::new();
        for (branch, commit) in moved {
            runs.push(self.queue_with(watched, branch, &commit, reader).await?);
        }
        if let Some(wanted) = &watched.settings.pull_requests {
            runs.extend(self.look_at_pull_requests(watched, wanted, branches).await?);
        }
        Ok(runs)
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
