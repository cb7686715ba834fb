//! Runs: one reconciler that looks for open runs, and a driver that takes one from its commit to its end.
//!
//! ```text
//!  queued ─▶ preparing ─▶ running ─▶ releasing ─▶ passed | failed
//!            prepare.rs   execute.rs publish.rs
//!            locks.rs     job.rs, order.rs, lanes.rs
//! ```
//!
//! Everything that a restart needs is in the store: a driver that finds a run half-way reads the same commit with the
//! same locks, plans again against what is recorded by now, and goes on. A job whose result is recorded never runs again.

mod commit_locks;
mod differential;
mod execute;
mod job;
mod lanes;
mod locks;
mod order;
mod pack;
mod prepare;
mod publish;
mod rebuild;
mod released;
pub mod selection;
mod waiting;

pub use edgewright_store::rebuilds::{Rebuilt, RebuiltStep};
pub(crate) use job::packages_pin;
pub use rebuild::REBUILD_PREFIX;
pub(crate) use released::Released;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use edgewright_job::Executor;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::run::{NodeState, RunNumber, RunState, Trigger};
use edgewright_process::Clock;
use edgewright_store::Store;
use edgewright_store::nodes::NodeChange;
use edgewright_store::runs::RunRow;
use edgewright_store::sources::SourceId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::events::{Events, RunEventKind};
use crate::hosting::Hosting;
use crate::logs::Logs;
use crate::settings::ControlSettings;
use crate::sources::Watched;
use crate::tags::ChannelTags;
use crate::{Control, ControlError};

/// How often a run is tried whose driving fails through the database, the registry or the disk.
const DRIVES: u32 = 3;

/// Takes one run to its end.
pub(crate) struct Driver<'a> {
    pub(crate) settings: &'a ControlSettings,
    pub(crate) store: &'a Store,
    pub(crate) hosting: &'a Hosting,
    pub(crate) executor: &'a dyn Executor,
    pub(crate) clock: &'a Clock,
    pub(crate) events: &'a Events,
    pub(crate) logs: &'a Logs,
    pub(crate) tags: &'a ChannelTags,
    pub(crate) slots: &'a Semaphore,
    pub(crate) watched: Arc<Watched>,
    /// Every configured source.
    pub(crate) followed: BTreeSet<SourceId>,
    pub(crate) run: RunRow,
    pub(crate) cancel: CancellationToken,
    pub(crate) selection: Option<selection::Selection>,
    /// Folder for contexts while they are packed.
    pub(crate) scratch: PathBuf,
    pub(crate) differential: differential::Differential,
    proposed: std::sync::Mutex<commit_locks::Proposed>,
}

impl Driver<'_> {
    pub(crate) fn contexts_pin(&self) -> String {
        format!("contexts/run-{}", self.run.number)
    }

    pub(crate) fn results_pin(&self) -> String {
        format!("results/run-{}", self.run.number)
    }

    pub(crate) fn release_pin(&self, prepared: &prepare::Prepared) -> String {
        format!("release/{}/run-{}", prepared.definition.source.name, self.run.number)
    }

    async fn drive(&mut self) -> Result<(), ControlError> {
        let number = self.run.number;
        if self.run.trigger == Trigger::Selected && self.selection.is_none() {
            return self.cancelled().await;
        }
        if self.run.state == RunState::Queued {
            self.store.move_run(number, RunState::Queued, RunState::Preparing, self.clock.now()).await?;
            self.run.state = RunState::Preparing;
            self.events.send(number, RunEventKind::State(RunState::Preparing));
        }
        if self.run.state == RunState::Preparing && self.commits_locks() {
            return self.look_and_commit().await.map(drop);
        }
        let Some(prepared) = self.prepare().await? else { return Ok(()) };
        let prepared = Arc::new(prepared);
        if matches!(self.run.state, RunState::Preparing | RunState::Running) {
            self.execute(&prepared).await?;
            self.store.move_run(number, RunState::Running, RunState::Releasing, self.clock.now()).await?;
            self.events.send(number, RunEventKind::State(RunState::Releasing));
        }
        self.publish(&prepared).await
    }

    pub(crate) async fn cancelled(&self) -> Result<(), ControlError> {
        self.end(RunState::Cancelled, "cancelled").await
    }

    pub(crate) async fn failed(&self, error: &ControlError) -> Result<(), ControlError> {
        let why = Chain(error).to_string();
        self.end(RunState::Failed, &why).await
    }

    /// Ends a run before its time: what is left of it is cancelled.
    async fn end(&self, state: RunState, why: &str) -> Result<(), ControlError> {
        let number = self.run.number;
        let Some(run) = self.store.run(number).await? else { return Ok(()) };
        if run.state.is_terminal() {
            return Ok(());
        }
        let now = self.clock.now();
        for node in self.store.own_nodes(number).await? {
            if !node.state.is_terminal() {
                let key = (node.node.as_str(), &node.platform);
                let change = NodeChange::default();
                self.store.move_node(number, key, node.state, NodeState::Cancelled, change, now).await?;
            }
        }
        self.store.end_run(number, run.state, state, Some(why), now).await?;
        self.hosting.unpin(&self.contexts_pin()).await?;
        self.events.send(number, RunEventKind::State(state));
        Ok(())
    }
}

impl Control {
    /// Drives a run to its end, or until shutdown.
    ///
    /// # Errors
    /// The run does not exist or its source is not configured; the database cannot even take the failure.
    pub async fn drive(&self, number: RunNumber) -> Result<RunState, ControlError> {
        let inner = &*self.0;
        let cancel = self.token_of(number);
        for attempt in 1.. {
            let run = inner.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
            if run.state.is_terminal() {
                break;
            }
            let mut driver = self.driver(run, cancel.clone())?;
            let result = driver.drive().await;
            if inner.shutdown.is_cancelled() {
                return Err(ControlError::Stopped);
            }
            if cancel.is_cancelled() {
                driver.cancelled().await?;
                break;
            }
            let Err(error) = result else { break };
            tracing::error!(run.number = number.0, attempt, error = %Chain(&error), "a run met an error");
            if error.class() != ErrorClass::Unavailable || attempt >= DRIVES {
                driver.failed(&error).await?;
                break;
            }
            inner.store.reset_interrupted(number).await?;
            tokio::time::sleep(inner.settings.retry_after * attempt).await;
        }
        self.forget_token(number);
        let run = inner.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
        Ok(run.state)
    }

    /// A driver of a run.
    pub(crate) fn driver(&self, run: RunRow, cancel: CancellationToken) -> Result<Driver<'_>, ControlError> {
        let inner = &*self.0;
        let watched = self.watched(run.source).ok_or(ControlError::NoSource { run: run.number })?;
        Ok(Driver {
            settings: &inner.settings,
            store: &inner.store,
            hosting: &inner.hosting,
            executor: &*inner.executor,
            clock: &inner.clock,
            events: &inner.events,
            logs: &inner.logs,
            tags: &inner.tags,
            slots: &inner.slots,
            watched,
            followed: self.followed(),
            selection: self.selections().get(&run.number).cloned(),
            run,
            cancel,
            scratch: inner.settings.data.join("work/packs"),
            differential: differential::Differential::default(),
            proposed: std::sync::Mutex::default(),
        })
    }

    /// Looks for runs that nobody drives and starts a driver for the oldest of each source, until shutdown.
    pub async fn reconcile_runs(&self) {
        let inner = &*self.0;
        loop {
            let woken = inner.runs_wake.notified();
            match inner.store.open_runs().await {
                Ok(open) => {
                    for run in open {
                        if self.begin_driving(run.source) {
                            let control = self.clone();
                            inner.tasks.spawn(format!("run {}", run.number), async move {
                                if let Err(error) = control.drive(run.number).await
                                    && !matches!(error, ControlError::Stopped)
                                {
                                    tracing::error!(run.number = run.number.0, error = %Chain(&error), "a run is stuck");
                                    tokio::time::sleep(control.0.settings.retry_after).await;
                                }
                                control.end_driving(run.source);
                            });
                        }
                    }
                }
                Err(error) => tracing::error!(error = %Chain(&error), "cannot look for open runs"),
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(inner.settings.retry_after) => {}
                () = inner.shutdown.cancelled() => return,
            }
        }
    }
}
