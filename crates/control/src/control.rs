//! Control itself: its parts, which sources are watched, which runs are driven, and how a run is cancelled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_job::Executor;
use edgewright_model::names::SourceName;
use edgewright_model::run::RunNumber;
use edgewright_process::{Clock, Tasks};
use edgewright_source::Git;
use edgewright_store::Store;
use edgewright_store::sources::SourceId;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::ControlError;
use crate::events::Events;
use crate::hosting::Hosting;
use crate::logs::Logs;
use crate::runs::selection::Selections;
use crate::settings::ControlSettings;
use crate::sources::Watched;
use crate::tags::ChannelTags;

/// Control. Clones share it.
#[derive(Debug, Clone)]
pub struct Control(pub(crate) Arc<Inner>);

/// What control works with.
#[derive(Debug)]
pub struct Parts {
    /// Its database.
    pub store: Store,
    /// The registry.
    pub hosting: Hosting,
    /// What the registry's `TagResolver` answers from.
    pub tags: ChannelTags,
    /// Performs orders.
    pub executor: Arc<dyn Executor>,
    /// Reads sources.
    pub git: Git,
    /// The time.
    pub clock: Clock,
    /// Takes the reconcilers.
    pub tasks: Tasks,
}

pub(crate) struct Inner {
    pub(crate) settings: ControlSettings,
    pub(crate) store: Store,
    pub(crate) hosting: Hosting,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) git: Git,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) shutdown: CancellationToken,
    pub(crate) events: Events,
    pub(crate) logs: Logs,
    pub(crate) tags: ChannelTags,
    pub(crate) slots: Semaphore,
    pub(crate) runs_wake: Notify,
    pub(crate) rebuilds_wake: Notify,
    /// Ends the tasks that tell the sinks of now.
    pub(crate) notifying: Mutex<CancellationToken>,
    /// Ends the tasks that copy to the targets of now.
    pub(crate) delivering: Mutex<CancellationToken>,
    pub(crate) selections: Mutex<Selections>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: BTreeMap<SourceId, Arc<Watched>>,
    driving: BTreeSet<SourceId>,
    tokens: BTreeMap<RunNumber, CancellationToken>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Control {
    /// Puts control together. Runs that a crash interrupted wait again.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn new(settings: ControlSettings, parts: Parts) -> Result<Self, ControlError> {
        let Parts { store, hosting, tags, executor, git, clock, tasks } = parts;
        for run in store.open_runs().await? {
            let reset = store.reset_interrupted(run.number).await?;
            tracing::info!(run.number = run.number.0, nodes = reset, "a run goes on");
        }
        tags.refresh(&store).await?;
        let scratch = settings.data.join("work/packs");
        empty(&scratch)
            .await
            .map_err(|source| ControlError::File { operation: "make the folder for contexts", source })?;
        let inner = Inner {
            store,
            hosting,
            executor,
            git,
            clock,
            shutdown: tasks.token().clone(),
            tasks,
            events: Events::default(),
            logs: Logs::new(&settings.data),
            tags,
            slots: Semaphore::new(settings.parallel.get()),
            runs_wake: Notify::new(),
            rebuilds_wake: Notify::new(),
            notifying: Mutex::default(),
            delivering: Mutex::default(),
            selections: Mutex::default(),
            state: Mutex::default(),
            settings,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Starts the reconcilers: one for runs, one for each source.
    pub fn start(&self) {
        let control = self.clone();
        self.0.tasks.spawn("runs", async move { control.reconcile_runs().await });
        let control = self.clone();
        self.0.tasks.spawn("rebuilds", async move { control.reconcile_rebuilds().await });
        let control = self.clone();
        self.0.tasks.spawn("watch", async move { control.reconcile_watching().await });
        let control = self.clone();
        self.0.tasks.spawn("housekeeping", async move { control.reconcile_housekeeping().await });
        for source in self.sources() {
            self.start_source(source);
        }
    }

    /// Fires at shutdown.
    pub fn stopping(&self) -> CancellationToken {
        self.0.shutdown.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The job logs.
    pub fn logs(&self) -> &Logs {
        &self.0.logs
    }

    /// Cancels an open run: its jobs end, what was recorded stays.
    ///
    /// # Errors
    /// There is no such run, or it is over.
    pub async fn cancel(&self, run: RunNumber) -> Result<(), ControlError> {
        let row = self.0.store.run(run).await?.ok_or(ControlError::NoRun { run })?;
        if row.state.is_terminal() {
            return Err(ControlError::Over { run });
        }
        self.token_of(run).cancel();
        self.0.runs_wake.notify_one();
        Ok(())
    }

    /// The ids of the configured sources.
    pub(crate) fn followed(&self) -> BTreeSet<SourceId> {
        self.state().watched.keys().copied().collect()
    }

    /// A source's settings and mirror.
    pub fn watched(&self, source: SourceId) -> Option<Arc<Watched>> {
        self.state().watched.get(&source).cloned()
    }

    /// The configured sources.
    pub(crate) fn sources(&self) -> Vec<SourceId> {
        self.state().watched.keys().copied().collect()
    }

    /// A configured source by its name.
    pub fn source_named(&self, name: &SourceName) -> Option<Arc<Watched>> {
        self.state().watched.values().find(|watched| watched.settings.name == *name).cloned()
    }

    pub(crate) fn watch(&self, watched: Arc<Watched>) {
        let before = self.state().watched.insert(watched.id, watched);
        if let Some(before) = before {
            before.stop.cancel();
        }
    }

    pub(crate) fn unwatch(&self, source: SourceId) {
        self.state().watched.remove(&source);
    }

    /// The token that cancels a run; fires at shutdown, too.
    pub(crate) fn token_of(&self, run: RunNumber) -> CancellationToken {
        self.state().tokens.entry(run).or_insert_with(|| self.0.shutdown.child_token()).clone()
    }

    pub(crate) fn forget_token(&self, run: RunNumber) {
        self.state().tokens.remove(&run);
        self.selections().remove(&run);
    }

    /// Whether the caller may drive a run of this source: one at a time, and only of configured ones.
    pub(crate) fn begin_driving(&self, source: SourceId) -> bool {
        let mut state = self.state();
        state.watched.contains_key(&source) && state.driving.insert(source)
    }

    pub(crate) fn end_driving(&self, source: SourceId) {
        self.state().driving.remove(&source);
        self.0.runs_wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder, or removes what a killed process left in it.
async fn empty(folder: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tokio::fs::create_dir_all(folder).await
}
