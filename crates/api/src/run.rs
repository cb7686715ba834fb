//! Runs: one execution of a plan.

use edgewright_model::digest::Digest;
use edgewright_model::format::Diagnostic;
use edgewright_model::moves::LockCheck;
use edgewright_model::names::{Platform, SourceName, VariantName};
use edgewright_model::order::JobId;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::run::{NodeState, ReleaseNumber, RunNumber, RunState, Trigger};
use edgewright_model::verdict::Note;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::image::VerdictSummary;

/// A run in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// Its number, counted over the data folder from 1.
    #[schema(value_type = u32)]
    pub number: RunNumber,
    /// Its source.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// The branch.
    pub branch: String,
    /// The commit, in full.
    pub commit: String,
    /// That commit's first line.
    pub subject: String,
    /// Who wrote it: `NAME <ADDRESS>`.
    pub author: String,
    /// What asked for it.
    #[schema(value_type = String)]
    pub trigger: Trigger,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: RunState,
    /// The plan in one line; absent before there is one.
    pub summary: Option<String>,
    /// What the plan holds.
    pub counts: Counts,
    /// When it was asked for.
    pub created: Timestamp,
    /// When work on it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The release that it made; absent where no digest changed.
    #[schema(value_type = Option<u32>)]
    pub release: Option<ReleaseNumber>,
}

/// How many nodes of a plan have which action, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Failed themselves.
    pub failed: u32,
    /// Stopped because an ancestor failed, or because their definition has errors.
    pub blocked: u32,
}

/// The answer to an operation on a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunAnswer {
    /// The run: the one that ends, or the new one.
    #[schema(value_type = u32)]
    pub run: RunNumber,
}

/// A run is in another state: the data of a `run` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunMoved {
    /// The run.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// Where it stands now.
    #[schema(value_type = String)]
    pub state: RunState,
}

/// A run with all that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// The run in one line.
    pub run: RunSummary,
    /// Errors of the commit's definitions, in file order.
    #[schema(value_type = Vec<Object>)]
    pub diagnostics: Vec<Diagnostic>,
    /// What it found at the outside inputs of images, where it looked.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub locks: Vec<LockCheck>,
    /// The plan: ancestors before their descendants.
    pub nodes: Vec<NodeView>,
    /// Why the run as a whole failed, outside of any node, with its causes, on one line.
    pub failure: Option<String>,
}

/// One node of a plan, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// A variant, or a prefix that variants share, such as `hmi~1a2b3c4d5e6f`.
    pub node: String,
    /// The variant; absent for prefixes.
    #[schema(value_type = Option<String>)]
    pub variant: Option<VariantName>,
    /// The platform; absent for what concerns all.
    #[schema(value_type = Option<String>)]
    pub platform: Option<Platform>,
    /// What the plan says.
    pub action: NodeAction,
    /// Why, in words.
    pub reason: String,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: NodeState,
    /// Its input key.
    #[schema(value_type = Option<String>)]
    pub key: Option<Digest>,
    /// The platform manifest, once known.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// The job that works or worked on it.
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// What the job is doing, while it runs.
    #[schema(value_type = Option<String>)]
    pub phase: Option<Phase>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it will be tried again, where a failure of the infrastructure is waited out.
    pub not_before: Option<Timestamp>,
    /// When its job began.
    pub started: Option<Timestamp>,
    /// When its job ended.
    pub finished: Option<Timestamp>,
    /// How long its job took; absent while it runs.
    pub duration_ms: Option<u64>,
    /// Why it failed.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<JobFailure>,
    /// What its state does not say: exceptions, inherited verdicts, what it waits for.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub notes: Vec<Note>,
    /// The verdicts on its digest.
    pub verdicts: Vec<VerdictSummary>,
}

/// What a plan does with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
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
    /// Cannot be planned, because its definition, or one that it needs, is broken.
    Blocked,
    /// Failed before with the same inputs: not tried again.
    Failed,
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
