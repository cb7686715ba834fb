//! `plan --explain VARIANT`: every step with its key, the key's inputs, their changes, and the variants that
//! share the step.

use std::collections::BTreeSet;

use edgewright_api::NodeAction;
use edgewright_api::documents::{
    ChangeView, ChangedKind, PlanExplanation, PlatformExplanation, StepExplanation, StepState,
};
use edgewright_model::names::VariantName;
use edgewright_model::spec::Definition;
use edgewright_plan::explain::changes::{self, Change, StepChanges, changes};
use edgewright_plan::graph::Node;
use edgewright_plan::step::{GraphStep, PlannedStep};
use edgewright_plan::{Graph, Plan};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::target::resolved;
use crate::exit::Failure;

/// How many changes of one step the document holds; a whole operating system that is new has thousands of
/// packages.
const CHANGES_LIMIT: usize = 1_000;

/// Explains a variant of a plan.
pub(crate) fn explain(
    variant: &VariantName,
    definition: &Definition,
    graph: &Graph,
    previous: Option<&Graph>,
    plan: &Plan,
) -> Result<PlanExplanation, Failure> {
    resolved(definition, variant)?;
    let nodes: Vec<&Node> = graph.nodes.values().filter(|node| node.variant() == Some(variant)).collect();
    if nodes.is_empty() {
        let why =
            graph.blocked.get(variant).map_or("its image or site has errors", |blocked| &blocked.reason);
        return Err(Failure::user(format!("`{variant}` cannot be built: {why}"))
            .hint("`edgewright check` shows all errors"));
    }
    let platforms = nodes.into_iter().map(|node| platform(node, graph, previous, plan)).collect();
    Ok(PlanExplanation { variant: variant.to_string(), since: None, platforms })
}

fn platform(node: &Node, graph: &Graph, previous: Option<&Graph>, plan: &Plan) -> PlatformExplanation {
    let planned = plan.nodes.get(&node.id);
    let before = previous.and_then(|previous| Some((previous, previous.nodes.get(&node.id)?)));
    let (base_changes, steps) = changes(before, (graph, node));
    PlatformExplanation {
        platform: node.id.platform.to_string(),
        action: planned.map_or(NodeAction::Other, |planned| NodeAction::from_name(planned.action.name())),
        reason: planned.map(edgewright_plan::plan::Planned::reason).unwrap_or_default(),
        reasons: planned
            .map(|planned| planned.reasons.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        base_key: node.root_key.to_string(),
        base_changes: base_changes.into_iter().map(change).collect(),
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
    let is_gone = state == changes::StepState::Removed;
    StepExplanation {
        key: step.key.to_string(),
        title: step.title.clone(),
        inputs: inputs(step),
        change: is_compared.then(|| same_name(state, StepState::Other)),
        changes: changes.into_iter().map(change).collect(),
        more_changes: more_changes as u64,
        shared_with: if is_gone { Vec::new() } else { sharing(step, node, graph) },
    }
}

fn change(change: Change) -> ChangeView {
    let Change { kind, name, old, new } = change;
    ChangeView { kind: same_name(kind, ChangedKind::Other), name, old, new }
}

/// The document's value with the name that a value of `plan` has.
fn same_name<T: DeserializeOwned>(value: impl Serialize, otherwise: T) -> T {
    serde_json::to_value(value).and_then(serde_json::from_value).unwrap_or(otherwise)
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
    let mut words: Vec<String> =
        step.tools.0.iter().map(|(name, version)| format!("{name} {version}")).collect();
    match &*step.work {
        PlannedStep::Bootstrap { step, packages, keys, archive: _ } => {
            words.push(format!("suite {}", step.suite));
            words.push(format!("{} packages requested, {} locked", step.packages.len(), packages.len()));
            words.extend(keys.keys().map(|path| format!("key file {path}")));
        }
        PlannedStep::Containerfile { step, context, images, .. } => {
            words.push(format!("{}", step.file));
            words.extend(step.args.keys().map(|name| format!("argument {name}")));
            words.extend(images.iter().map(|image| format!("{} {}", image.reference, image.digest.short())));
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
