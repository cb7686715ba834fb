//! Runs: one execution of a plan.

use edgewright_model::digest::Digest;
use edgewright_model::moves::LockCheck;
use edgewright_model::names::{Platform, SourceName, VariantName};
use edgewright_model::order::JobId;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::run::{NodeState, ReleaseNumber, RunNumber, RunState, Trigger};
use edgewright_model::verdict::Note;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::diagnostic::DiagnosticView;
use crate::image::VerdictSummary;
use crate::schemas;

/// A run as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// Number of the run: counted over all sources of the data folder, from 1.
    #[schema(value_type = u32)]
    pub number: RunNumber,
    /// Name of the source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Branch that the commit is from.
    pub branch: String,
    /// Commit id, 40 (SHA-1) or 64 (SHA-256) hexadecimal digits.
    pub commit: String,
    /// First line of the commit's message.
    pub subject: String,
    /// Author of the commit: `NAME <ADDRESS>`.
    pub author: String,
    /// Why the run was made: `commit` (a followed branch moved), `manual`, `lock` (a lock moved) or
    /// `selected` (some variants or lanes only, without a release).
    #[schema(value_type = String)]
    pub trigger: Trigger,
    /// State: `queued`, `preparing`, `running`, `releasing`, or one of the final states `passed`, `failed`,
    /// `cancelled` and `superseded`.
    #[schema(value_type = String)]
    pub state: RunState,
    /// The plan in one line; null until the run is planned.
    pub summary: Option<String>,
    /// Number of the plan's nodes for each action and result.
    pub counts: Counts,
    /// Time at which the run was queued.
    pub created: Timestamp,
    /// Time at which the run left the queue; null while it is queued.
    pub started: Option<Timestamp>,
    /// Time at which the run reached a final state; null before.
    pub finished: Option<Timestamp>,
    /// Number of the release that the run made; null if no digest changed.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
}

/// Number of a plan's nodes for each action, and of those that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Counts {
    /// Nodes to build, and to test if they have lanes.
    pub build: u32,
    /// Nodes to test only: their digest exists already.
    pub test: u32,
    /// Nodes that are reused unchanged.
    pub reuse: u32,
    /// Variants that are no longer declared.
    pub retire: u32,
    /// Nodes that failed; in a plan, those that failed before with the same inputs.
    pub failed: u32,
    /// Nodes that are not built because an ancestor failed or a definition has errors.
    pub blocked: u32,
}

/// The response to an operation on a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunResponse {
    /// Number of the run: the one that is cancelled, or the new one.
    #[schema(value_type = u32)]
    pub run: RunNumber,
}

/// The jobs of a run that were started, for followers of its logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunJobs {
    /// State of the run.
    #[schema(value_type = String)]
    pub state: RunState,
    /// The number of jobs that were started.
    pub count: u64,
    /// The jobs in the order of their start, without the first ones that the client knows (`known`).
    pub jobs: Vec<RunJob>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunJob {
    /// Name of the node.
    pub node: String,
    /// Its platform.
    #[schema(value_type = String)]
    pub platform: Platform,
    /// State of the node.
    #[schema(value_type = String)]
    pub state: NodeState,
}

/// The data of a `run` event: a run changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunStateChanged {
    /// Number of the run.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// New state, as in a run.
    #[schema(value_type = String)]
    pub state: RunState,
}

/// One run: the fields of the list, and its nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// The fields of the list.
    #[serde(flatten)]
    pub run: RunSummary,
    /// Errors in the commit's files, in file order.
    pub diagnostics: Vec<DiagnosticView>,
    /// Results of the update checks that the run made: one for each image with external inputs.
    #[serde(default)]
    #[schema(value_type = Vec<schemas::UpdateCheck>)]
    pub updates: Vec<LockCheck>,
    /// The plan's nodes, ancestors before their descendants.
    pub nodes: Vec<NodeView>,
    /// Why the run as a whole failed, outside of any node, with the causes, on one line; null if it did not.
    #[serde(alias = "failure")]
    pub error: Option<String>,
    /// Why the run made no release although nothing failed, on one line; null otherwise.
    #[serde(default)]
    pub no_release: Option<String>,
}

/// One node of a run's plan, and its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Name of the node: a variant such as `hmi/plant-a`, or a prefix that variants share such as
    /// `hmi~1a2b3c4d5e6f`.
    pub node: String,
    /// The variant; null for a prefix.
    #[schema(value_type = Option<String>)]
    pub variant: Option<VariantName>,
    /// Platform, such as `linux/amd64`; null if the node concerns all platforms.
    #[schema(value_type = Option<String>)]
    pub platform: Option<Platform>,
    /// What the plan does with the node.
    pub action: NodeAction,
    /// Why, as text.
    pub reason: String,
    /// State: `waiting`, `running`, or one of the final states `reused`, `passed`, `failed`, `blocked`,
    /// `retired` and `cancelled`.
    #[schema(value_type = String)]
    pub state: NodeState,
    /// Input key: a digest over everything that the node is built from; null for retired and blocked nodes.
    #[schema(value_type = Option<String>)]
    pub key: Option<Digest>,
    /// Digest of the platform manifest; null until it is known.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Id of the node's last job; null if it had none.
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// Phase of the job; null unless it runs.
    #[schema(value_type = Option<schemas::Phase>)]
    pub phase: Option<Phase>,
    /// Number of attempts, from 0.
    pub attempts: u32,
    /// Time of the next attempt after a failure of the infrastructure; null otherwise.
    pub not_before: Option<Timestamp>,
    /// Time at which the last job began.
    pub started: Option<Timestamp>,
    /// Time at which the last job ended; null while it runs.
    pub finished: Option<Timestamp>,
    /// Duration of the last job in milliseconds; null while it runs.
    pub duration_ms: Option<u64>,
    /// Why the node failed; null if it did not.
    #[schema(value_type = Option<schemas::JobFailure>)]
    pub failure: Option<JobFailure>,
    /// Notes on the state: exceptions, inherited verdicts, what the node waits for.
    #[serde(default)]
    #[schema(value_type = Vec<schemas::Note>)]
    pub notes: Vec<Note>,
    /// Verdicts on the digest, one for each lane that ran.
    pub verdicts: Vec<VerdictSummary>,
}

/// What a plan does with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeAction {
    /// Resolve the external inputs of an image.
    Lock,
    /// Build, then test if there are lanes.
    Build,
    /// Test a digest that exists already.
    Test,
    /// Use the existing digest.
    Reuse,
    /// No longer declared.
    Retire,
    /// Not built: its definition, or one that it depends on, has errors.
    Blocked,
    /// Not built: it failed before with the same inputs.
    Failed,
    /// An action of a newer version.
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
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::Other => "other",
        }
    }

    /// The action of a name; `other` for any that this version does not know.
    pub fn from_name(name: &str) -> Self {
        [Self::Lock, Self::Build, Self::Test, Self::Reuse, Self::Retire, Self::Blocked, Self::Failed]
            .into_iter()
            .find(|action| action.name() == name)
            .unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_names_on_the_wire_and_newer_ones_are_read() {
        use NodeAction as A;
        for action in [A::Lock, A::Build, A::Test, A::Reuse, A::Retire, A::Blocked, A::Failed] {
            assert_eq!(serde_json::to_value(action).unwrap(), action.name());
            assert_eq!(NodeAction::from_name(action.name()), action);
        }
        assert_eq!(serde_json::from_str::<NodeAction>("\"hibernate\"").unwrap(), A::Other);
        assert_eq!(serde_json::from_str::<Counts>(r#"{"build": 2, "new": 1}"#).unwrap().build, 2);
    }
}
