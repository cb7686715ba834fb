//! `plan --explain VARIANT`: every step with its key, what it hashes, what changed in it, and which variants
//! share it.

use std::collections::BTreeSet;

use edgewright_model::names::VariantName;
use edgewright_model::spec::Definition;
use edgewright_plan::explain::changes::{Change, StepChanges, StepState, changes};
use edgewright_plan::graph::Node;
use edgewright_plan::step::{GraphStep, PlannedStep};
use edgewright_plan::{Graph, Plan};
use serde::Serialize;

use super::target::resolved;
use crate::exit::Failure;

/// How many changes of one step the document holds; a whole operating system that is new has thousands of
/// packages.
const CHANGES_LIMIT: usize = 1_000;

/// How one variant is built, for each of its platforms.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    /// The variant.
    pub(crate) variant: String,
    /// One for each platform.
    pub(crate) platforms: Vec<PlatformExplanation>,
}

/// How a variant is built for one platform.
#[derive(Debug, Serialize)]
pub(crate) struct PlatformExplanation {
    pub(crate) platform: String,
    /// What a run would do about it.
    pub(crate) action: String,
    /// Why, in words.
    pub(crate) reasons: Vec<String>,
    /// The key of the base of the first step.
    pub(crate) base_key: String,
    /// What differs in that base: its reference, its digest.
    pub(crate) base_changes: Vec<Change>,
    /// The steps from the base on; steps that were removed come last.
    pub(crate) steps: Vec<StepExplanation>,
}

/// One step.
#[derive(Debug, Serialize)]
pub(crate) struct StepExplanation {
    /// The key of the image up to and including this step.
    pub(crate) key: String,
    pub(crate) title: String,
    /// What the key hashes besides the key before it, in words.
    pub(crate) inputs: Vec<String>,
    /// How it compares with before; absent if nothing is compared.
    pub(crate) change: Option<StepState>,
    /// What differs, each with its old and new value.
    pub(crate) changes: Vec<Change>,
    /// How many more differ.
    pub(crate) more_changes: usize,
    /// Other variants that share this step: it is built once for all of them.
    pub(crate) shared_with: Vec<String>,
}

/// Explains a variant of a plan.
pub(crate) fn explain(
    variant: &VariantName,
    definition: &Definition,
    graph: &Graph,
    previous: Option<&Graph>,
    plan: &Plan,
) -> Result<Explanation, Failure> {
    resolved(definition, variant)?;
    let nodes: Vec<&Node> = graph.nodes.values().filter(|node| node.variant() == Some(variant)).collect();
    if nodes.is_empty() {
        let why =
            graph.blocked.get(variant).map_or("its image or site has errors", |blocked| &blocked.reason);
        return Err(Failure::user(format!("`{variant}` cannot be built: {why}"))
            .hint("`edgewright check` shows all errors"));
    }
    let platforms = nodes.into_iter().map(|node| platform(node, graph, previous, plan)).collect();
    Ok(Explanation { variant: variant.to_string(), platforms })
}

fn platform(node: &Node, graph: &Graph, previous: Option<&Graph>, plan: &Plan) -> PlatformExplanation {
    let planned = plan.nodes.get(&node.id);
    let before = previous.and_then(|previous| Some((previous, previous.nodes.get(&node.id)?)));
    let (base_changes, steps) = changes(before, (graph, node));
    PlatformExplanation {
        platform: node.id.platform.to_string(),
        action: planned.map_or("none", |planned| planned.action.name()).to_owned(),
        reasons: planned
            .map(|planned| planned.reasons.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        base_key: node.root_key.to_string(),
        base_changes,
        steps: steps.into_iter().map(|step| explained(step, node, graph, previous.is_some())).collect(),
    }
}

fn explained(changes: StepChanges<'_>, node: &Node, graph: &Graph, is_compared: bool) -> StepExplanation {
    let StepChanges { step, state, mut changes } = changes;
    // A new variant is not a list of additions: its inputs already name them.
    if !is_compared {
        changes.clear();
    }
    let more_changes = changes.len().saturating_sub(CHANGES_LIMIT);
    changes.truncate(CHANGES_LIMIT);
    let is_gone = state == StepState::Removed;
    StepExplanation {
        key: step.key.to_string(),
        title: step.title.clone(),
        inputs: inputs(step),
        change: is_compared.then_some(state),
        changes,
        more_changes,
        shared_with: if is_gone { Vec::new() } else { sharing(step, node, graph) },
    }
}

fn sharing(step: &GraphStep, node: &Node, graph: &Graph) -> Vec<String> {
    let others = graph.nodes.values().filter(|other| {
        other.id != node.id
            && other.variant().is_some()
            && other.path.iter().any(|theirs| theirs.key == step.key)
    });
    let names: BTreeSet<String> = others.map(|other| other.id.name.to_string()).collect();
    names.into_iter().collect()
}

/// What goes into a step's key, in words.
fn inputs(step: &GraphStep) -> Vec<String> {
    let mut words = Vec::new();
    match &*step.work {
        PlannedStep::Bootstrap { step, packages, keys } => {
            words.push(format!("suite {}", step.suite));
            words.push(format!("{} packages requested, {} locked", step.packages.len(), packages.len()));
            words.extend(keys.keys().map(|path| format!("key file {path}")));
        }
        PlannedStep::Containerfile { step, context, .. } => {
            words.push(format!("{}", step.file));
            words.extend(step.args.keys().map(|name| format!("argument {name}")));
            let paths = context.iter().map(|entry| step.context.join(&entry.path));
            words.extend(paths.filter(|path| *path != step.file).map(|path| path.to_string()));
        }
        PlannedStep::Files { listing, delete, .. } => {
            words.extend(listing.entries().into_iter().map(|entry| format!("/{}", entry.path)));
            words.extend(delete.iter().map(|path| format!("deletes /{path}")));
        }
    }
    words
}
