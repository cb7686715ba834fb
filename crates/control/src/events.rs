//! What happens in runs, as a stream: for progress bars, logs and followers. Nothing depends on its arrival:
//! a slow reader loses the oldest events, and the truth is in the store.

use std::sync::{Arc, Mutex, PoisonError};

use edgewright_model::names::Platform;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::run::{NodeState, ReleaseNumber, RunNumber, RunState};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::reconcile::Wake;

/// Events kept for readers that lag behind.
const BACKLOG: usize = 1024;

/// Something that happened in a run.
#[derive(Debug, Clone)]
pub struct RunEvent {
    /// Which run.
    pub run: RunNumber,
    /// What.
    pub kind: RunEventKind,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum RunEventKind {
    /// The run is in another state.
    State(RunState),
    /// The plan is fixed.
    Planned {
        /// The plan in one line.
        summary: String,
        /// How many jobs it needs.
        jobs: usize,
    },
    /// A node is in another state.
    Node {
        /// Which node.
        node: String,
        /// For which platform.
        platform: Platform,
        /// Its state.
        state: NodeState,
        /// Why it failed, is blocked, or waits for another try.
        failure: Option<JobFailure>,
    },
    /// A job began a phase.
    Phase {
        /// Which node, or `lock IMAGE`.
        node: String,
        /// The phase.
        phase: Phase,
        /// What it works on.
        title: String,
    },
    /// A job's phase got further.
    Progress {
        /// Which node, or `lock IMAGE`.
        node: String,
        /// Done so far.
        done: u64,
        /// In all, where known.
        total: Option<u64>,
        /// Of what.
        unit: String,
    },
    /// A job's tool wrote a line.
    Log {
        /// Which node, or `lock IMAGE`.
        node: String,
        /// The line.
        line: String,
    },
    /// A release was made.
    Released(ReleaseNumber),
}

/// The sending side. Clones share the readers.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<RunEvent>,
    sleepers: Arc<Mutex<Vec<Sleeper>>>,
}

/// A reconciler that some events wake, until `stop` fires.
#[derive(Debug)]
struct Sleeper {
    is_concerned: fn(&RunEventKind) -> bool,
    wake: Wake,
    stop: CancellationToken,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, sleepers: Arc::default() }
    }
}

impl Events {
    /// Sends to all readers, and wakes who is concerned; without readers nothing happens.
    pub(crate) fn send(&self, run: RunNumber, kind: RunEventKind) {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        sleepers.retain(|sleeper| !sleeper.stop.is_cancelled());
        for sleeper in sleepers.iter().filter(|sleeper| (sleeper.is_concerned)(&kind)) {
            sleeper.wake.wake("an event");
        }
        drop(sleepers);
        drop(self.sender.send(RunEvent { run, kind }));
    }

    /// A reader of all events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<RunEvent> {
        self.sender.subscribe()
    }

    /// Wakes a reconciler at the events that concern it, until `stop` fires.
    pub(crate) fn wake(&self, is_concerned: fn(&RunEventKind) -> bool, wake: Wake, stop: CancellationToken) {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        sleepers.push(Sleeper { is_concerned, wake, stop });
    }
}
