//! Runs: one execution of a plan.

use edgewright_model::digest::Digest;
use edgewright_model::format::Diagnostic;
use edgewright_model::names::{Platform, SourceName, VariantName};
use edgewright_model::order::JobId;
use edgewright_model::outcome::{JobFailure, Phase};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::image::VerdictSummary;

/// A run in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its number, counted over the data folder from 1.
    pub number: u64,
    /// Its source.
    pub source: SourceName,
    /// The commit, in full.
    pub commit: String,
    /// That commit's first line.
    pub subject: String,
    /// What asked for it.
    pub trigger: Trigger,
    /// Where it stands.
    pub state: RunState,
    /// What the plan holds.
    pub counts: Counts,
    /// When it was asked for.
    pub created: Timestamp,
    /// When work on it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The release that it made; absent where no digest changed.
    pub release: Option<u64>,
}

/// What asked for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The poller saw a new commit.
    Poll,
    /// Somebody ran `edgewright run`.
    Manual,
    /// Somebody asked to try a run again.
    Retry,
    /// A lock moved.
    Lock,
    /// Something newer than this reader.
    #[serde(other)]
    Other,
}

impl Trigger {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Manual => "manual",
            Self::Retry => "retry",
            Self::Lock => "lock",
            Self::Other => "other",
        }
    }
}

/// Where a run stands. Everything from `passed` on is an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits.
    Queued,
    /// Outside inputs are being resolved.
    Locking,
    /// The plan is being made.
    Planning,
    /// Jobs run.
    Running,
    /// Everything in the plan passed, or there was nothing to do.
    Passed,
    /// Something failed, the rest passed.
    Partial,
    /// Nothing passed, or the definitions are broken.
    Failed,
    /// Somebody stopped it, or a newer run replaced it.
    Cancelled,
    /// Something newer than this reader.
    #[serde(other)]
    Other,
}

impl RunState {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Locking => "locking",
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }

    /// Whether nothing more will happen.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Passed | Self::Partial | Self::Failed | Self::Cancelled)
    }
}

/// How many nodes of a plan have which action, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// To build (and test, where they have lanes).
    pub build: u32,
    /// To test only: the digest exists already.
    pub test: u32,
    /// To reuse as they are.
    pub reuse: u32,
    /// No longer declared.
    pub retire: u32,
    /// Failed, or stopped because an ancestor did.
    pub failed: u32,
}

/// A run with all that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// The run in one line.
    pub run: RunSummary,
    /// Errors of the commit's definitions, in file order.
    pub diagnostics: Vec<Diagnostic>,
    /// The plan: ancestors before their descendants.
    pub nodes: Vec<NodeView>,
    /// Why the run as a whole failed, outside of any node.
    pub failure: Option<JobFailure>,
}

/// One node of a plan, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// A variant, or a prefix that variants share, such as `hmi~1a2b3c4d5e6f`.
    pub node: String,
    /// The variant; absent for prefixes.
    pub variant: Option<VariantName>,
    /// The platform; absent for what concerns all.
    pub platform: Option<Platform>,
    /// What the plan says.
    pub action: NodeAction,
    /// Why, in words.
    pub reason: String,
    /// Where it stands.
    pub state: NodeState,
    /// Its input key.
    pub key: Option<Digest>,
    /// The platform manifest, once known.
    pub digest: Option<Digest>,
    /// The job that works or worked on it.
    pub job: Option<JobId>,
    /// What the job is doing, while it runs.
    pub phase: Option<Phase>,
    /// How often it was tried.
    pub tries: u32,
    /// When its job began.
    pub started: Option<Timestamp>,
    /// When its job ended.
    pub finished: Option<Timestamp>,
    /// How long its job took; absent while it runs.
    pub duration_ms: Option<u64>,
    /// Why it failed.
    pub failure: Option<JobFailure>,
    /// The verdicts on its digest.
    pub verdicts: Vec<VerdictSummary>,
}

/// What a plan does with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeAction {
    /// Resolve an image's outside inputs.
    Lock,
    /// Build, then test where there are lanes.
    Build,
    /// Test a digest that exists already.
    Test,
    /// Take what exists.
    Reuse,
    /// No longer declared.
    Retire,
    /// Cannot be planned: its definition, or one that it needs, is broken.
    Refuse,
    /// Something newer than this reader.
    #[serde(other)]
    Other,
}

impl NodeAction {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Build => "build",
            Self::Test => "test",
            Self::Reuse => "reuse",
            Self::Retire => "retire",
            Self::Refuse => "refuse",
            Self::Other => "other",
        }
    }
}

/// Where a node of a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It waits for its ancestors or for a free place.
    Waiting,
    /// Its job runs.
    Running,
    /// Done: built and passed, or nothing to do.
    Passed,
    /// Its job or a verdict failed.
    Failed,
    /// Not tried, because an ancestor failed or its definition is broken.
    Blocked,
    /// Stopped.
    Cancelled,
    /// Something newer than this reader.
    #[serde(other)]
    Other,
}

impl NodeState {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use super::{NodeAction as A, NodeState as N, RunState as R, Trigger as T};

    #[test]
    fn names_are_the_names_on_the_wire_and_newer_ones_are_read() {
        fn same<T: Serialize>(all: &[(T, &'static str)]) {
            for (value, name) in all {
                assert_eq!(serde_json::to_value(value).unwrap(), *name);
            }
        }
        same(
            &[R::Queued, R::Locking, R::Planning, R::Running, R::Passed, R::Partial, R::Failed, R::Cancelled]
                .map(|state| (state, state.name())),
        );
        same(
            &[N::Waiting, N::Running, N::Passed, N::Failed, N::Blocked, N::Cancelled]
                .map(|state| (state, state.name())),
        );
        same(
            &[A::Lock, A::Build, A::Test, A::Reuse, A::Retire, A::Refuse]
                .map(|action| (action, action.name())),
        );
        same(&[T::Poll, T::Manual, T::Retry, T::Lock].map(|trigger| (trigger, trigger.name())));
        assert_eq!(serde_json::from_str::<RunState>("\"hibernating\"").unwrap(), R::Other);
        assert_eq!(serde_json::from_str::<Counts>(r#"{"build": 2, "new": 1}"#).unwrap().build, 2);
    }
}
