//! What commands find in the folder of a source.

use std::collections::BTreeMap;

use edgewright_model::moves::LockCheck;
use edgewright_model::run::{RunNumber, RunState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::diagnostic::DiagnosticView;
use crate::run::{Counts, NodeAction};
use crate::schemas;

/// The result of checking a source's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    /// Name of the source; null if `edgewright.yaml` cannot be read.
    pub source: Option<String>,
    /// What the source declares; null if `edgewright.yaml` cannot be read.
    pub declared: Option<Declared>,
    /// Errors, then warnings, each in file order.
    pub diagnostics: Vec<DiagnosticView>,
}

/// What a source declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Declared {
    /// Number of images.
    pub images: u64,
    /// Number of sites.
    pub sites: u64,
    /// Number of variants.
    pub variants: u64,
}

/// The variables of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VariantVars {
    /// Name of the variant.
    pub variant: String,
    /// Variables, by name.
    pub vars: BTreeMap<String, VariableView>,
}

/// A variable of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VariableView {
    /// Value, of any JSON type.
    pub value: Value,
    /// Layer that sets the value.
    #[schema(value_type = schemas::VarOrigin)]
    pub origin: edgewright_model::resolve::VarOrigin,
}

/// A plan: what a run would do, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanReport {
    /// Name of the source.
    pub source: String,
    /// Id of the commit that the plan is compared with; null if nothing of the source is built yet.
    pub since: Option<String>,
    /// The plan in one line.
    pub summary: String,
    /// Number of nodes for each action.
    pub counts: Counts,
    /// Reasons of builds and tests, the most frequent first.
    pub reasons: Vec<String>,
    /// Errors in the source's files; variants that they concern are blocked.
    pub diagnostics: Vec<DiagnosticView>,
    /// Nodes, sorted by name and platform.
    pub nodes: Vec<PlanNode>,
}

/// One node of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanNode {
    /// Name of the node: a variant such as `hmi/plant-a`, or a prefix that variants share such as
    /// `hmi~1a2b3c4d5e6f`.
    pub node: String,
    /// The variant; null for a prefix.
    pub variant: Option<String>,
    /// Platform, such as `linux/amd64`.
    pub platform: String,
    /// What the plan does with the node.
    pub action: NodeAction,
    /// Why, as text.
    pub reason: String,
    /// The parts of `reason`, the most important first.
    pub reasons: Vec<String>,
    /// Input key: a digest over everything that the node is built from; null for retired and blocked nodes.
    pub key: Option<String>,
}

/// The steps of one variant, with everything that changed in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanExplanation {
    /// Name of the variant.
    pub variant: String,
    /// Id of the commit that the plan is compared with; null if nothing of the source is built yet.
    pub since: Option<String>,
    /// Explanations, one for each platform.
    pub platforms: Vec<PlatformExplanation>,
}

/// The steps of one variant for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlatformExplanation {
    /// Platform, such as `linux/amd64`.
    pub platform: String,
    /// What the plan does with the variant.
    pub action: NodeAction,
    /// Why, as text.
    pub reason: String,
    /// The parts of `reason`, the most important first.
    pub reasons: Vec<String>,
    /// Key of the base of the first step.
    pub base_key: String,
    /// Changes of the base: its reference, its digest.
    pub base_changes: Vec<ChangeView>,
    /// Steps from the base on, then steps that were removed.
    pub steps: Vec<StepExplanation>,
}

/// One step of a variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepExplanation {
    /// Key of the image up to and including this step.
    pub key: String,
    /// Title, such as `bootstrap trixie` or `files sites/plant-a/files`.
    pub title: String,
    /// Inputs of the key besides the previous key, as text.
    pub inputs: Vec<String>,
    /// How the step compares with the one before; null if there is nothing to compare with.
    pub change: Option<StepState>,
    /// Changes of the step's inputs, at most 1000.
    pub changes: Vec<ChangeView>,
    /// Number of further changes that are not in the list.
    pub more_changes: u64,
    /// Other variants that have this very step, which is built once for all of them.
    pub shared_with: Vec<String>,
}

/// One change of an input. Without `old` it was added, without `new` removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Kind of the input.
    pub kind: ChangedKind,
    /// Name of the input: a path, a package, a variable.
    pub name: String,
    /// Value before; null if it was added.
    pub old: Option<String>,
    /// Value now; null if it was removed.
    pub new: Option<String>,
}

/// How a step compares with the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// The key is the same, and so are the bytes.
    Same,
    /// The step's own inputs are the same; something before it changed.
    Follows,
    /// The step's own inputs changed.
    Changed,
    /// The step is new.
    New,
    /// The step was removed.
    Removed,
    /// A state of a newer version.
    #[serde(other)]
    Other,
}

/// The kind of an input that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangedKind {
    /// The reference of an external base image.
    Base,
    /// The digest that a base image is locked to.
    BaseDigest,
    /// A property of Edgewright itself (platform, compressor, form of the keys), or a program that executes
    /// the step.
    Tool,
    /// `created` of the image and upper bound of its files' times.
    Epoch,
    /// An OCI label.
    Label,
    /// A setting of the step, such as `suite` or `target`.
    Setting,
    /// A requested package.
    Package,
    /// A locked package.
    LockedPackage,
    /// A keyring file.
    Key,
    /// The Containerfile.
    Containerfile,
    /// A build argument.
    Argument,
    /// The version of a build secret.
    Secret,
    /// A file, link or directory.
    Entry,
    /// A path that the step deletes.
    Deletion,
    /// A variable that a template reads.
    Variable,
    /// A kind of a newer version.
    #[serde(other)]
    Other,
}

/// The result of an update check of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpdateReport {
    /// Number of the run that makes the check.
    #[schema(value_type = u32)]
    pub run: RunNumber,
    /// State of that run, as in a run. A server makes the check later: `run show` has its result then.
    #[schema(value_type = String)]
    pub state: RunState,
    /// Results, one for each image with external inputs.
    #[schema(value_type = Vec<schemas::UpdateCheck>)]
    pub updates: Vec<LockCheck>,
    /// Paths of the lock files that `--write` wrote.
    pub written: Vec<String>,
    /// Why the check failed; null if it did not.
    pub error: Option<String>,
}
