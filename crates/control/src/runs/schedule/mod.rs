//! The schedule of a run's jobs, as a state machine: an event goes in, actions come out. It does no I/O,
//! reads no clock and starts no task; [`super::engine`] performs the actions and feeds back what became of
//! them.
//!
//! ```text
//!             ┌───────────────── retry, after a pause ──────────────────┐
//!             ▼                                                         │
//!  Waiting ─▶ Admitting ─▶ Running ─▶ Judging ─▶ Settling ─▶ Ended      │
//!     │           │                    ▲  ▲          ├──────────────────┘
//!     │           └─ refused ──────────┼──┼────────▶ │
//!     └─ blocked ──────────────────────┼──┼────────▶ │
//!                          Comparing ──┘  │ ◀────────┤
//!                          Awaiting ──────┘ ◀────────┘
//! ```
//!
//! - A node starts only after every node that it is built on is recorded as good.
//! - At most one admission request is outstanding, in the plan's order, so that runs share an executor's
//!   slots fairly.
//! - The comparison of a failure with the last good digest is a job of its own, with its own admission. Nodes
//!   that miss the same verdict share it.
//! - Every action that is answered by an event is answered exactly once; an event that does not match is
//!   ignored.

mod comparing;
mod handle;
mod state;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::BTreeSet;
use std::time::Duration;

use edgewright_model::outcome::FailureKind;
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_plan::NodeId;
use edgewright_plan::history::VerdictKey;
use edgewright_process::Backoff;
use jiff::{SignedDuration, Timestamp};

pub(crate) use state::Schedule;

/// What bounds a schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How often a job is tried that fails through the infrastructure.
    pub(crate) attempts: u32,
    /// The pauses between its attempts.
    pub(crate) retry: Backoff,
    /// How often to check for verdicts that others post.
    pub(crate) check_every: Duration,
}

/// A node as its row and the plan describe it when the schedule is made.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    pub(crate) id: NodeId,
    /// The nodes that must be good before this one starts.
    pub(crate) after: Vec<NodeId>,
    /// The nodes whose verdicts it may inherit: their lanes must have run before this one starts.
    pub(crate) awaits: Vec<NodeId>,
    /// Whether a verdict that others post is among those it may inherit.
    pub(crate) inherits_external: bool,
    /// Attempts so far.
    pub(crate) attempts: u32,
    pub(crate) position: Position,
}

/// The stage that a node's row records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Not started, or due for another attempt.
    Waiting { not_before: Option<Timestamp> },
    /// Built and tested; a comparison with the last good digest is missing.
    Comparing,
    /// Built and tested; a verdict that others post is missing.
    Awaiting { until: Timestamp },
    /// Over.
    Ended(NodeState),
}

/// Something that takes a slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    /// The job of a node.
    Node(NodeId),
    /// A lane on the last good digest, to find the verdict that a comparison misses.
    Comparison(VerdictKey),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The run begins, or resumes after a restart.
    Started,
    /// The executor has room for a job.
    Admitted(Job),
    /// The executor has no room now.
    Deferred { job: Job, until: Timestamp },
    /// The executor will never have room.
    Refused { job: Job, kind: FailureKind },
    /// The job of a node ended with an outcome.
    JobEnded { node: NodeId, end: JobEnd },
    /// The lane on the last good digest ran; where it found a verdict, the verdict is recorded.
    Compared(VerdictKey),
    /// A job, or the request to admit it, was stopped before its end.
    Stopped(Job),
    /// A node's verdicts were judged.
    Judged { node: NodeId, judgement: Judgement },
    /// The end that [`Action::Settle`] named is recorded.
    Settled(NodeId),
    /// The answer to [`Action::CheckVerdicts`].
    VerdictsChecked {
        /// Awaiting nodes for which a verdict was posted.
        posted: Vec<NodeId>,
        /// A newer run of the same source that waits for this one.
        newer: Option<RunNumber>,
    },
    /// Time went by.
    Tick,
    /// The run is cancelled, or the server shuts down: nothing starts any more.
    Stop,
}

/// How the job of a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// It did all it was asked for; what its lanes found is another matter.
    Done,
    /// It failed outside of a lane.
    Failed(FailureKind),
}

/// What all lanes of a node come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Every lane passed.
    Passed,
    /// A lane failed.
    Failed(FailureKind),
    /// A failure must be compared with these verdicts, which are not known yet.
    Compare(BTreeSet<VerdictKey>),
    /// Nothing failed, and a verdict that others post is missing.
    Awaits { within: SignedDuration },
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the executor whether a job may start.
    Admit(Job),
    /// Start the job of a node, which was admitted.
    Start(NodeId),
    /// Run a lane on the last good digest, which was admitted. `node` is the first that asked.
    Compare { verdict: VerdictKey, node: NodeId },
    /// Judge what is known about a node's lanes.
    Judge(NodeId),
    /// Record where a node is now.
    Settle { node: NodeId, end: End },
    /// Check whether verdicts were posted for awaiting nodes, and whether a newer run waits.
    CheckVerdicts,
    /// Send [`Event::Tick`] at this time; an earlier wish is void.
    WakeAt(Timestamp),
    /// Stop all jobs and admission requests.
    Stop,
    /// Nothing is left to do.
    Done,
}

/// Where a node is, once recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Good.
    Passed,
    /// Failed for good.
    Failed,
    /// Something that it is built on is not good.
    Blocked { cause: NodeId },
    /// Due for another attempt.
    Retry { at: Timestamp },
    /// Built and tested; its failure is being compared.
    Compare,
    /// Built and tested; others have until then to post a verdict.
    Await { until: Timestamp },
    /// No one posted a verdict in time.
    Unanswered { until: Timestamp },
    /// A newer run waits, so no verdict is awaited any longer.
    Superseded { by: RunNumber },
}

impl End {
    /// The state of the node's row.
    pub(crate) const fn state(&self) -> NodeState {
        match self {
            Self::Passed => NodeState::Passed,
            Self::Failed | Self::Unanswered { .. } => NodeState::Failed,
            Self::Blocked { .. } => NodeState::Blocked,
            Self::Retry { .. } | Self::Compare | Self::Await { .. } => NodeState::Waiting,
            Self::Superseded { .. } => NodeState::Cancelled,
        }
    }
}
