//! Runs: each takes a commit over its plan and its jobs to its release.
//!
//! ```text
//!  queued ─▶ preparing ─▶ running ──────────▶ releasing ─▶ passed | failed
//!            prepare.rs   engine.rs ⇄ schedule releases/
//!            locks/       work.rs, settle.rs
//! ```
//!
//! | file | its part |
//! |---|---|
//! | `reconciler.rs`, `drive.rs` | finds open runs, takes one of each source to its end; cancels; retries |
//! | `prepare.rs`, `history.rs`, `rows.rs` | from a commit to its plan |
//! | `schedule/` | which job is next: a state machine without I/O |
//! | `engine.rs`, `actions.rs` | perform what the schedule asks for |
//! | `work.rs`, `compare.rs`, `settle.rs` | a node's job, the comparison with the last good digest, records |
//! | `judge.rs`, `inherit.rs`, `facts.rs` | what verdicts come to: pure, over what is loaded first |
//! | `update_tests.rs` | queues runs that test the updates that channels wait for |
//!
//! Everything that a restart needs is in the store: a run that is found half-way reads the same commit with
//! the same locks, plans again against what is recorded by now, and continues. A job whose result is recorded
//! never runs again.

mod actions;
mod compare;
mod drive;
mod engine;
mod facts;
mod history;
mod inherit;
mod judge;
mod planned;
mod prepare;
mod reconciler;
mod rows;
mod schedule;
mod scope;
pub mod selection;
mod settle;
pub(crate) mod update_tests;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_model::names::CommitId;
use edgewright_model::order::TrustDomain;
use edgewright_model::run::{RunNumber, Trigger};
use edgewright_process::{Backoff, Clock, Tasks};
use edgewright_store::Store;
use edgewright_store::runs::RunRow;

use self::engine::Engine;
pub(crate) use self::planned::PlannedGraphs;
use self::prepare::Planner;
use self::schedule::Limits;
use self::selection::Selection;
use crate::ControlError;
use crate::cancellations::Cancellations;
use crate::events::Events;
use crate::hosting::Hosting;
use crate::inventory::Inventory;
use crate::jobs::Jobs;
use crate::locks::Locks;
use crate::reconcile::Wake;
use crate::releases::Releases;
use crate::settings::ControlSettings;
use crate::sources::{Queued, SourceHandle, Sources};

/// Drives runs. Clones share it.
#[derive(Debug, Clone)]
pub struct Runs(Arc<Inner>);

/// What runs work with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) jobs: Jobs,
    pub(crate) sources: Arc<Sources>,
    pub(crate) inventory: Inventory,
    pub(crate) releases: Releases,
    pub(crate) locks: Locks,
    pub(crate) tasks: Tasks,
    pub(crate) cancellations: Cancellations,
    /// Wakes the reconciler.
    pub(crate) wake: Wake,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    hosting: Hosting,
    clock: Clock,
    events: Events,
    sources: Arc<Sources>,
    releases: Releases,
    locks: Locks,
    planner: Planner,
    engine: Engine,
    tasks: Tasks,
    cancellations: Cancellations,
    wake: Wake,
    /// The pauses between attempts to drive a run.
    retry: Backoff,
    /// Held while a run is queued that is driven with a selection only.
    selecting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Domains of which a run is driven: a trusted run does not wait for an untrusted one of its source.
    driving: BTreeSet<TrustDomain>,
    /// What this process was asked to do of some runs. A run that lost its selection with its process is
    /// cancelled.
    selections: BTreeMap<RunNumber, Selection>,
}

impl Runs {
    /// Nothing is driven yet.
    pub(crate) fn new(settings: &ControlSettings, parts: Parts) -> Self {
        let Parts { jobs, sources, inventory, releases, locks, tasks, cancellations, wake } = parts;
        let (store, clock, events) = (jobs.store.clone(), jobs.clock.clone(), jobs.events.clone());
        let retry = settings.retry();
        let planner = Planner {
            store: store.clone(),
            clock: clock.clone(),
            events: events.clone(),
            sources: Arc::clone(&sources),
            inventory,
            releases: releases.clone(),
            locks: locks.clone(),
            jobs: jobs.clone(),
            retired_for: settings.keep.retired_for,
            planned: Arc::default(),
        };
        let engine = Engine {
            store: store.clone(),
            jobs: jobs.clone(),
            clock: clock.clone(),
            events: events.clone(),
            limits: Limits { attempts: settings.attempts, retry, check_every: settings.retry_after },
            external_within: settings.external_within,
        };
        Self(Arc::new(Inner {
            store,
            hosting: jobs.hosting,
            clock,
            events,
            sources,
            releases,
            locks,
            planner,
            engine,
            tasks,
            cancellations,
            wake,
            retry,
            selecting: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }))
    }

    /// Wakes the reconciler.
    pub(crate) fn wake(&self) -> &Wake {
        &self.0.wake
    }

    /// Narrows a run before it is driven.
    pub fn select(&self, run: RunNumber, selection: Selection) {
        self.0.state().selections.insert(run, selection);
    }

    /// Queues a run that is driven with a selection only.
    ///
    /// # Errors
    /// The commit is unknown, or the database cannot be written.
    pub(crate) async fn queue_selected(
        &self,
        (handle, commit): (&SourceHandle, &CommitId),
        queued: Queued<'_>,
        selection: Selection,
    ) -> Result<RunNumber, ControlError> {
        let _selecting = self.0.selecting.lock().await;
        let run = self.0.sources.queue(handle, commit, queued).await?;
        self.select(run, selection);
        Ok(run)
    }

    async fn selection(&self, run: &RunRow) -> Option<Selection> {
        if run.trigger == Trigger::Update {
            // It may have been found before its selection is there.
            drop(self.0.selecting.lock().await);
        }
        self.0.state().selections.get(&run.number).cloned()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
