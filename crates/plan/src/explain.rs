//! The differences between two graphs of a source: here as reasons, in [`changes`](mod@changes)
//! entry by entry.

pub mod changes;

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::lock::{LockedArchive, LockedImage, LockedPackage};
use edgewright_model::names::{CheckId, ImageName};
use edgewright_model::spec::{BootstrapStep, Check, ContainerfileStep, Vars};
use edgewright_model::tree::TreePath;

use crate::context::ContextEntry;
use crate::files::{Content, LayerEntry, LayerKind, Listing};
use crate::graph::{Graph, GraphBase, Node};
use crate::reason::Reason;
use crate::step::{GraphStep, PlannedStep};

/// Why a node's key differs between an old and a new graph; empty if it does not, or if the cause is not
/// known. Changes of an ancestor are one reason; the ancestor's own reasons have the details.
pub fn explain(old: (&Graph, &Node), new: (&Graph, &Node)) -> Vec<Reason> {
    let (old_parent, new_parent) = (parent_variant(old), parent_variant(new));
    let mut reasons = Vec::new();
    match (old_parent, new_parent) {
        (Some(old), Some(new)) if old.id.name == new.id.name => {
            if old.key != new.key
                && let Some(parent) = new.variant()
            {
                reasons.push(Reason::ParentChanges { parent: parent.clone() });
            }
        }
        (None, None) => base(old.1, new.1, &mut reasons),
        _ => reasons.push(Reason::BaseChanged { base: base_name(new_parent, new.1) }),
    }
    let own = |node: &Node, parent: Option<&Node>| {
        parent.map_or(0, |parent| parent.path.len().min(node.path.len()))
    };
    let old_steps = &old.1.path[own(old.1, old_parent)..];
    let new_steps = &new.1.path[own(new.1, new_parent)..];
    steps(old_steps, new_steps, (&old.1.vars, &new.1.vars), &mut reasons);
    let labels = differing(&old.1.labels, &new.1.labels);
    if !labels.is_empty() {
        reasons.push(Reason::LabelsChanged { names: labels });
    }
    let moved = |reason: &Reason| matches!(reason, Reason::LockMoved { .. } | Reason::ParentChanges { .. });
    if old.1.epoch != new.1.epoch && !reasons.iter().any(moved) {
        let first = format!("epoch {} → {}", old.1.epoch, new.1.epoch);
        reasons.push(Reason::LockMoved { image: new.1.id.name.image().clone(), first, more: 0 });
    }
    reasons.dedup();
    reasons
}

/// The ids of checks that are new, gone or different, in id order.
pub fn changed_checks(old: &[Check], new: &[Check]) -> Vec<CheckId> {
    let by_id = |checks: &[Check]| checks.iter().map(|check| (check.id.clone(), check.clone())).collect();
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (by_id(old), by_id(new));
    differing(&old, &new)
}

fn differing<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}

fn parent_variant<'a>((graph, node): (&'a Graph, &'a Node)) -> Option<&'a Node> {
    graph.line(node).skip(1).find(|ancestor| ancestor.variant().is_some())
}

fn base_name(parent: Option<&Node>, node: &Node) -> String {
    match (parent, &node.base) {
        (Some(parent), _) => parent.id.name.to_string(),
        (None, GraphBase::Scratch) => "scratch".to_owned(),
        (None, GraphBase::External { reference, .. }) => reference.to_string(),
    }
}

fn base(old: &Node, new: &Node, reasons: &mut Vec<Reason>) {
    match (&old.base, &new.base) {
        (old, new) if old == new => {}
        (
            GraphBase::External { reference: a, digest },
            GraphBase::External { reference: b, digest: moved },
        ) if a == b => {
            let short = |digest: &Option<_>| {
                digest.as_ref().map_or("none", edgewright_model::Digest::short).to_owned()
            };
            reasons.push(Reason::LockMoved {
                image: new.id.name.image().clone(),
                first: format!("base {} → {}", short(digest), short(moved)),
                more: 0,
            });
        }
        _ => reasons.push(Reason::BaseChanged { base: base_name(None, new) }),
    }
    if old.base == new.base && old.root_key != new.root_key {
        reasons.push(Reason::ToolChanged);
    }
}

/// The identity of a step across two graphs: its kind, its place in the repository, and its number among
/// equal ones.
fn identities(steps: &[std::sync::Arc<GraphStep>]) -> Vec<((String, usize), &GraphStep)> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let identity = |step: &GraphStep| match &*step.work {
        PlannedStep::Bootstrap { .. } => "bootstrap".to_owned(),
        PlannedStep::Containerfile { step, .. } => format!("containerfile {}", step.file),
        PlannedStep::Files { folder, .. } => format!("files {folder}"),
    };
    let mut number = |step| {
        let name = identity(step);
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        ((name, *count), step)
    };
    steps.iter().map(|step| number(&**step)).collect()
}

fn steps(
    old: &[std::sync::Arc<GraphStep>],
    new: &[std::sync::Arc<GraphStep>],
    vars: (&Vars, &Vars),
    reasons: &mut Vec<Reason>,
) {
    let (old, new) = (identities(old), identities(new));
    let old_by_id: BTreeMap<_, _> = old.iter().cloned().collect();
    let new_by_id: BTreeMap<_, _> = new.iter().cloned().collect();
    for (id, step) in &new {
        match old_by_id.get(id) {
            None => reasons.push(Reason::StepAdded { title: step.title.clone() }),
            Some(before) => {
                if before.inputs != step.inputs {
                    works(before, step, vars, reasons);
                }
                let changes = step.tools.changes_since(&before.tools);
                if !changes.is_empty() {
                    reasons.push(Reason::ToolsChanged { changes });
                }
            }
        }
    }
    for (id, step) in &old {
        if !new_by_id.contains_key(id) {
            reasons.push(Reason::StepRemoved { title: step.title.clone() });
        }
    }
    let same_set = old_by_id.keys().eq(new_by_id.keys());
    if same_set && old.iter().map(|(id, _)| id).ne(new.iter().map(|(id, _)| id)) {
        reasons.push(Reason::StepsReordered);
    }
}

/// Images of a Containerfile that are named as before, with another digest.
fn images_moved(owner: &ImageName, old: &[LockedImage], new: &[LockedImage]) -> Option<Reason> {
    let moved = |new: &LockedImage| {
        let same = |old: &&LockedImage| old.is_version_of(new) && old.digest != new.digest;
        let old = old.iter().find(same)?;
        Some(format!("{} {} → {}", new.reference, old.digest.short(), new.digest.short()))
    };
    let mut all = new.iter().filter_map(moved);
    let first = all.next()?;
    Some(Reason::LockMoved { image: owner.clone(), first, more: all.count() })
}

/// Two versions of one step.
fn works(old: &GraphStep, new: &GraphStep, vars: (&Vars, &Vars), reasons: &mut Vec<Reason>) {
    match (&*old.work, &*new.work) {
        (
            PlannedStep::Bootstrap { step: a, packages: before, keys: old_keys, archive: old_archive },
            PlannedStep::Bootstrap { step: b, packages: after, keys: new_keys, archive: new_archive },
        ) => {
            bootstrap(a, b, reasons);
            if old_keys != new_keys {
                reasons.push(Reason::BootstrapChanged { field: "keys".to_owned() });
            }
            let lines = |archive: &Option<LockedArchive>| archive.as_ref().map(|it| it.lines.clone());
            if lines(old_archive) != lines(new_archive) {
                reasons.push(Reason::BootstrapChanged { field: "locked package sources".to_owned() });
            }
            let moved = moves(&new.image, before, after, a.packages != b.packages);
            if moved.is_none() && a.packages == b.packages && before != after {
                reasons.push(Reason::BootstrapChanged { field: "hashes of locked packages".to_owned() });
            }
            reasons.extend(moved);
        }
        (
            PlannedStep::Containerfile {
                step: a,
                containerfile: before,
                context: old_context,
                images: old_images,
            },
            PlannedStep::Containerfile {
                step: b,
                containerfile: after,
                context: new_context,
                images: new_images,
            },
        ) => {
            if before != after {
                reasons.push(Reason::ContainerfileChanged { file: b.file.clone() });
            }
            settings(a, b, reasons);
            reasons.extend(images_moved(&new.image, old_images, new_images));
            let by_path = |entries: &[ContextEntry]| -> BTreeMap<TreePath, ContextEntry> {
                entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
            };
            let mut paths = differing(&by_path(old_context), &by_path(new_context));
            // The Containerfile is usually part of its own context; it has a reason of its own.
            paths.retain(|path| before == after || b.context.join(path) != b.file);
            if !paths.is_empty() {
                reasons.push(Reason::ContextChanged { folder: b.context.clone(), paths });
            }
        }
        (
            PlannedStep::Files { listing: before, delete: old_delete, .. },
            PlannedStep::Files { listing: after, delete: new_delete, folder },
        ) => {
            files(before, after, folder, vars, reasons);
            if old_delete != new_delete {
                reasons.push(Reason::DeletesChanged { folder: folder.clone() });
            }
        }
        // Unreachable: steps are paired by kind.
        _ => reasons.push(Reason::InputChanged),
    }
}

fn bootstrap(old: &BootstrapStep, new: &BootstrapStep, reasons: &mut Vec<Reason>) {
    let mut field = |name: &str, changed: bool| {
        if changed {
            reasons.push(Reason::BootstrapChanged { field: name.to_owned() });
        }
    };
    field("suite", old.suite != new.suite);
    field("mirror", old.mirror != new.mirror);
    field("components", old.components != new.components);
    field("sources", old.sources != new.sources);
    if old.packages != new.packages {
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (old.packages.iter().collect(), new.packages.iter().collect());
        let changes = before.symmetric_difference(&after);
        let sign = |name: &&String| if after.contains(*name) { '+' } else { '-' };
        let changes = changes.map(|name| format!("{}{name}", sign(name))).collect();
        reasons.push(Reason::PackageList { changes });
    }
}

/// How locked packages moved. If the request changed, only new versions are listed: the rest follows from the
/// request.
fn moves(image: &ImageName, old: &[LockedPackage], new: &[LockedPackage], asked: bool) -> Option<Reason> {
    let by_name = |packages: &[LockedPackage]| -> BTreeMap<(String, String), String> {
        let entry = |package: &LockedPackage| {
            ((package.name.clone(), package.architecture.clone()), package.version.clone())
        };
        packages.iter().map(entry).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let describe = |key: (String, String)| match (old.get(&key), new.get(&key)) {
        (Some(before), Some(after)) => Some(format!("{} {before} → {after}", key.0)),
        (None, Some(after)) if !asked => Some(format!("+{} {after}", key.0)),
        (Some(before), None) if !asked => Some(format!("-{} {before}", key.0)),
        _ => None,
    };
    let moves: Vec<String> = differing(&old, &new).into_iter().filter_map(describe).collect();
    let more = moves.len().saturating_sub(1);
    let first = moves.into_iter().next()?;
    Some(Reason::LockMoved { image: image.clone(), first, more })
}

fn settings(old: &ContainerfileStep, new: &ContainerfileStep, reasons: &mut Vec<Reason>) {
    let mut what: Vec<String> =
        differing(&old.args, &new.args).iter().map(|name| format!("argument {name}")).collect();
    if old.target != new.target {
        what.push("target".to_owned());
    }
    let secrets = |step: &ContainerfileStep| -> BTreeMap<String, String> {
        step.secrets.iter().map(|secret| (secret.id.clone(), secret.version.clone())).collect()
    };
    what.extend(differing(&secrets(old), &secrets(new)).iter().map(|id| format!("secret {id}")));
    reasons.extend(what.into_iter().map(|what| Reason::BuildSettings { what }));
}

fn files(old: &Listing, new: &Listing, folder: &TreePath, vars: (&Vars, &Vars), reasons: &mut Vec<Reason>) {
    let by_path = |listing: &Listing| -> BTreeMap<TreePath, LayerEntry> {
        listing.entries().into_iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
    };
    let (old, new) = (by_path(old), by_path(new));
    let variables = differing(vars.0, vars.1);
    // The same template rendered differently: changed variables are the cause.
    let by_variables = |path: &TreePath| {
        !variables.is_empty()
            && match (old.get(path), new.get(path)) {
                (Some(before), Some(after)) => same_template(before, after),
                _ => false,
            }
    };
    let (rendered, paths): (Vec<TreePath>, Vec<TreePath>) =
        differing(&old, &new).into_iter().partition(by_variables);
    if !paths.is_empty() {
        reasons.push(Reason::FilesChanged { folder: folder.clone(), paths });
    }
    if !rendered.is_empty() {
        for name in variables {
            let reason = Reason::VariableChanged { name };
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    }
}

fn same_template(old: &LayerEntry, new: &LayerEntry) -> bool {
    let template = |entry: &LayerEntry| match &entry.kind {
        LayerKind::File { mode, content: Content::Rendered { template, .. } } => {
            Some((*mode, template.clone(), entry.owner, entry.declared))
        }
        _ => None,
    };
    template(old).is_some_and(|before| template(new) == Some(before))
}
