//! Runs: one reconciler that looks for open runs, and a driver that takes one from its commit to its end.
//!
//! ```text
//!  queued ─▶ preparing ─▶ running ─▶ releasing ─▶ passed | failed
//!            prepare.rs   execute.rs releases/publish.rs
//!            locks/       admit.rs, job.rs, order.rs, lanes.rs
//! ```
//!
//! Everything that a restart needs is in the store: a driver that finds a run half-way reads the same commit with the
//! same locks, plans again against what is recorded by now, and goes on. A job whose result is recorded never runs again.

pub(crate) mod admit;
mod differential;
mod execute;
pub(crate) mod job;
pub(crate) mod lanes;
pub(crate) mod order;
mod pack;
mod planned;
pub(crate) mod prepare;
pub mod selection;
mod waiting;

pub(crate) use self::planned::PlannedGraphs;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgewright_job::Executor;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::run::{NodeState, RunNumber, RunState, Trigger};
use edgewright_process::Clock;
use edgewright_store::Store;
use edgewright_store::nodes::NodeChange;
use edgewright_store::runs::RunRow;
use edgewright_store::sources::SourceId;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::events::{Events, RunEventKind};
use crate::hosting::Hosting;
use crate::inventory::Inventory;
use crate::locks::commit::Proposed;
use crate::logs::Logs;
use crate::reconcile::{Outcome, Reconciler};
use crate::releases::Releases;
use crate::releases::newest::Released;
use crate::releases::publish::{Results, contexts_pin, results_pin};
use crate::settings::ControlSettings;
use crate::sources::Watched;
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
    pub(crate) releases: &'a Releases,
    pub(crate) inventory: &'a Inventory,
    pub(crate) planned: &'a PlannedGraphs,
    pub(crate) watched: Arc<Watched>,
    /// Every configured source.
    pub(crate) followed: BTreeSet<SourceId>,
    pub(crate) run: RunRow,
    pub(crate) cancel: CancellationToken,
    pub(crate) selection: Option<selection::Selection>,
    /// Folder for contexts while they are packed.
    pub(crate) scratch: PathBuf,
    pub(crate) differential: differential::Differential,
    pub(crate) proposed: std::sync::Mutex<Proposed>,
}

impl Driver<'_> {
    pub(crate) fn contexts_pin(&self) -> String {
        contexts_pin(&self.run)
    }

    pub(crate) fn results_pin(&self) -> String {
        results_pin(&self.run)
    }

    /// The newest release of a branch of the run's source.
    pub(crate) async fn released(&self, branch: &str) -> Result<Arc<Released>, ControlError> {
        self.releases.newest(self.run.source, branch).await
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
        let nodes = self.nodes(&prepared).await?;
        let results = Results {
            run: &self.run,
            watched: &self.watched,
            graph: &prepared.graph,
            nodes: &nodes,
            is_selected: self.selection.is_some(),
        };
        self.releases.publish(&results).await
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
        let cancel = inner.cancellations.token(number);
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
            tracing::error!(run.number = number.0, attempt, error = %Chain(&error), "run failed, will retry");
            if error.class() != ErrorClass::Unavailable || attempt >= DRIVES {
                driver.failed(&error).await?;
                break;
            }
            inner.store.reset_interrupted(number).await?;
            tokio::time::sleep(inner.settings.retry_after * attempt).await;
        }
        inner.cancellations.forget(number);
        self.selections().remove(&number);
        let run = inner.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
        Ok(run.state)
    }

    /// A driver of a run.
    pub(crate) fn driver(&self, run: RunRow, cancel: CancellationToken) -> Result<Driver<'_>, ControlError> {
        let inner = &*self.0;
        let watched = inner.sources.get(run.source).ok_or(ControlError::NoSource { run: run.number })?;
        Ok(Driver {
            settings: &inner.settings,
            store: &inner.store,
            hosting: &inner.hosting,
            executor: &*inner.executor,
            clock: &inner.clock,
            events: &inner.events,
            logs: &inner.logs,
            releases: &inner.releases,
            inventory: &inner.inventory,
            planned: &inner.planned,
            watched,
            followed: inner.sources.ids(),
            selection: self.selections().get(&run.number).cloned(),
            run,
            cancel,
            scratch: inner.settings.data.join("work/packs"),
            differential: differential::Differential::default(),
            proposed: std::sync::Mutex::default(),
        })
    }
}

/// Finds open runs that nothing drives, and drives the oldest of each source.
pub(crate) struct RunReconciler(pub(crate) Control);

impl Reconciler for RunReconciler {
    fn name(&self) -> String {
        "runs".to_owned()
    }

    fn period(&self) -> Duration {
        self.0.0.settings.retry_after
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let inner = &*self.0.0;
            let mut started = Vec::new();
            for run in inner.store.open_runs().await? {
                if self.0.begin_driving(run.source) {
                    started.push(run.number.to_string());
                    inner.tasks.spawn(format!("run {}", run.number), drive(self.0.clone(), run));
                }
            }
            Ok(if started.is_empty() {
                Outcome::idle()
            } else {
                Outcome::done(format!("started run {}", started.join(", ")))
            })
        }
        .boxed()
    }
}

async fn drive(control: Control, run: RunRow) {
    if let Err(error) = control.drive(run.number).await
        && !matches!(error, ControlError::Stopped)
    {
        tracing::error!(run.number = run.number.0, error = %Chain(&error), "run is stuck, will retry");
        tokio::time::sleep(control.0.settings.retry_after).await;
    }
    control.end_driving(run.source);
}
