//! The changes of each step between two graphs, entry by entry, with the old and the new value.
//!
//! [`explain`](super::explain()) summarises why a node is built; this lists all changes of one variant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use edgewright_model::Digest;
use edgewright_model::lock::{LockedImage, LockedPackage};
use edgewright_model::spec::{BootstrapStep, ContainerfileStep, Vars};
use edgewright_model::tree::EntryKind;
use jiff::Timestamp;
use serde::Serialize;

use super::{identities, same_template};
use crate::context::ContextEntry;
use crate::files::{Content, LayerEntry, LayerKind, Listing};
use crate::graph::{Graph, GraphBase, Node};
use crate::step::{GraphStep, PlannedStep};

/// The kind of a changed input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedKind {
    /// The reference of an external base.
    Base,
    /// The locked digest of a base.
    BaseDigest,
    /// Edgewright itself (the platform's spelling, the compressor, the encoding of keys), or a program that
    /// executes the step.
    Tool,
    /// `created` of the image and upper bound of its files' times, from the lock.
    Epoch,
    /// An OCI label.
    Label,
    /// A setting of the step, such as `suite` or `target`.
    Setting,
    /// A package in the step's package list.
    Package,
    /// A package of the lock.
    LockedPackage,
    /// A keyring file.
    Key,
    /// The Containerfile.
    Containerfile,
    /// A build argument.
    Argument,
    /// A build secret's version.
    Secret,
    /// A file, link or directory of the build context or the image.
    Entry,
    /// A path that the step deletes.
    Deletion,
    /// A variable that a template of the step may read.
    Variable,
}

/// One changed input. Without `old` it was added, without `new` removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The input's kind.
    pub kind: ChangedKind,
    /// The input's path or name.
    pub name: String,
    /// The old value.
    pub old: Option<String>,
    /// The new value.
    pub new: Option<String>,
}

/// How a step compares with the earlier graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// The key and thus the result are the same.
    Same,
    /// Its own inputs are the same; an earlier step changed.
    Follows,
    /// Its own inputs changed.
    Changed,
    /// The step is new.
    New,
    /// The step was removed.
    Removed,
}

/// A present or removed step with its changes.
#[derive(Debug, Clone)]
pub struct StepChanges<'a> {
    /// The step.
    pub step: &'a GraphStep,
    /// The comparison.
    pub state: StepState,
    /// All changes, by kind and name.
    pub changes: Vec<Change>,
}

/// Compares the whole paths of two nodes: the changes of the base, then step by step, removed ones last.
/// Without an earlier node every step is new.
pub fn changes<'a>(
    old: Option<(&'a Graph, &'a Node)>,
    new: (&'a Graph, &'a Node),
) -> (Vec<Change>, Vec<StepChanges<'a>>) {
    let base = old.map(|(_, old)| base(old, new.1)).unwrap_or_default();
    let before = old.map(|(_, node)| identities(&node.path)).unwrap_or_default();
    let now = identities(&new.1.path);
    let mut steps = Vec::with_capacity(now.len());
    for (index, (id, step)) in now.iter().enumerate() {
        let earlier = before.iter().position(|(earlier, _)| earlier == id);
        steps.push(if let (Some(place), Some(old)) = (earlier, old) {
            compared((old, place), (new, index))
        } else {
            let changes = works(None, Some(&step.work), (None, &new.1.vars));
            StepChanges { step, state: StepState::New, changes }
        });
    }
    let gone = before.iter().filter(|(id, _)| !now.iter().any(|(other, _)| other == id));
    steps.extend(gone.map(|(_, step)| StepChanges {
        step,
        state: StepState::Removed,
        changes: works(Some(&step.work), None, (None, &new.1.vars)),
    }));
    (base, steps)
}

fn compared<'a>(
    ((old_graph, old), place): ((&Graph, &Node), usize),
    ((graph, new), index): ((&'a Graph, &'a Node), usize),
) -> StepChanges<'a> {
    let (before, step) = (&*old.path[place], &*new.path[index]);
    if before.key == step.key {
        return StepChanges { step, state: StepState::Same, changes: Vec::new() };
    }
    let mut changes = Vec::new();
    if before.inputs != step.inputs {
        changes = works(Some(&before.work), Some(&step.work), (Some(&old.vars), &new.vars));
    }
    maps(&mut changes, ChangedKind::Tool, &before.tools.0, &step.tools.0);
    // Epoch and labels belong to the image: they are listed at its first step only.
    let is_first = index.checked_sub(1).is_none_or(|above| new.path[above].image != step.image);
    if is_first {
        let (was, is) = (owner(old_graph, old, place), owner(graph, new, index));
        let text = |epoch: Timestamp| Some(epoch.to_string());
        note(&mut changes, ChangedKind::Epoch, "epoch", text(was.epoch), text(is.epoch));
        maps(&mut changes, ChangedKind::Label, &was.labels, &is.labels);
    }
    changes.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let state = if changes.is_empty() { StepState::Follows } else { StepState::Changed };
    StepChanges { step, state, changes }
}

/// The node that the step belongs to, with its image's epoch and labels.
fn owner<'a>(graph: &'a Graph, node: &'a Node, index: usize) -> &'a Node {
    graph.line(node).take_while(|node| node.path.len() > index).last().unwrap_or(node)
}

fn base(old: &Node, new: &Node) -> Vec<Change> {
    let mut changes = Vec::new();
    let name = |base: &GraphBase| match base {
        GraphBase::Scratch => "scratch".to_owned(),
        GraphBase::External { reference, .. } => reference.to_string(),
    };
    let digest = |base: &GraphBase| match base {
        GraphBase::Scratch | GraphBase::External { digest: None, .. } => None,
        GraphBase::External { digest: Some(digest), .. } => Some(digest.to_string()),
    };
    note(&mut changes, ChangedKind::Base, "from", Some(name(&old.base)), Some(name(&new.base)));
    note(&mut changes, ChangedKind::BaseDigest, &name(&new.base), digest(&old.base), digest(&new.base));
    if changes.is_empty() {
        let short = |key: &Digest| Some(key.short().to_owned());
        note(&mut changes, ChangedKind::Tool, "edgewright", short(&old.root_key), short(&new.root_key));
    }
    changes
}

/// Adds a change if the values differ.
fn note(changes: &mut Vec<Change>, kind: ChangedKind, name: &str, old: Option<String>, new: Option<String>) {
    if old != new {
        changes.push(Change { kind, name: name.to_owned(), old, new });
    }
}

/// Adds the differences between two maps.
fn maps<K: Ord + fmt::Display, V: PartialEq + fmt::Display>(
    changes: &mut Vec<Change>,
    kind: ChangedKind,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) {
    let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before != after {
            let text = |value: Option<&V>| value.map(ToString::to_string);
            changes.push(Change { kind, name: key.to_string(), old: text(before), new: text(after) });
        }
    }
}

/// Two versions of one step's work; `None` (an added or removed step) counts as empty.
fn works(old: Option<&PlannedStep>, new: Option<&PlannedStep>, vars: (Option<&Vars>, &Vars)) -> Vec<Change> {
    let mut changes = Vec::new();
    for_bootstrap(&mut changes, bootstrap_of(old), bootstrap_of(new));
    for_containerfile(&mut changes, containerfile_of(old), containerfile_of(new));
    for_files(&mut changes, files_of(old), files_of(new), vars);
    changes
}

type Bootstrap<'a> = (&'a BootstrapStep, &'a [LockedPackage], BTreeMap<String, String>);

fn bootstrap_of(work: Option<&PlannedStep>) -> Option<Bootstrap<'_>> {
    let Some(PlannedStep::Bootstrap { step, packages, keys, archive: _ }) = work else { return None };
    let keys = keys.iter().map(|(path, content)| (path.to_string(), short(content.as_str())));
    Some((step, packages, keys.collect()))
}

fn for_bootstrap(changes: &mut Vec<Change>, old: Option<Bootstrap<'_>>, new: Option<Bootstrap<'_>>) {
    let settings = |of: Option<&Bootstrap<'_>>| -> BTreeMap<String, String> {
        let Some((step, ..)) = of else { return BTreeMap::new() };
        let mut settings = BTreeMap::from([("suite".to_owned(), step.suite.clone())]);
        settings.extend(step.mirror.clone().map(|mirror| ("mirror".to_owned(), mirror)));
        settings.insert("components".to_owned(), step.components.join(" "));
        settings.extend(step.sources.iter().map(|line| (format!("source {line}"), "present".to_owned())));
        settings
    };
    maps(changes, ChangedKind::Setting, &settings(old.as_ref()), &settings(new.as_ref()));
    let asked = |of: Option<&Bootstrap<'_>>| -> BTreeMap<String, &'static str> {
        of.map(|(step, ..)| step.packages.iter().map(|name| (name.clone(), "requested")).collect())
            .unwrap_or_default()
    };
    maps(changes, ChangedKind::Package, &asked(old.as_ref()), &asked(new.as_ref()));
    let locked = |of: Option<&Bootstrap<'_>>| -> BTreeMap<String, String> {
        let entry = |package: &LockedPackage| {
            (format!("{}:{}", package.name, package.architecture), package.version.clone())
        };
        of.map(|(_, packages, _)| packages.iter().map(entry).collect()).unwrap_or_default()
    };
    maps(changes, ChangedKind::LockedPackage, &locked(old.as_ref()), &locked(new.as_ref()));
    let keys = |of: Option<Bootstrap<'_>>| of.map(|(.., keys)| keys).unwrap_or_default();
    maps(changes, ChangedKind::Key, &keys(old), &keys(new));
}

#[derive(Clone, Copy)]
struct Containerfile<'a> {
    step: &'a ContainerfileStep,
    text: &'a str,
    context: &'a [ContextEntry],
    images: &'a [LockedImage],
}

fn containerfile_of(work: Option<&PlannedStep>) -> Option<Containerfile<'_>> {
    let Some(PlannedStep::Containerfile { step, containerfile, context, images }) = work else { return None };
    Some(Containerfile { step, text: containerfile, context, images })
}

fn for_containerfile(
    changes: &mut Vec<Change>,
    old: Option<Containerfile<'_>>,
    new: Option<Containerfile<'_>>,
) {
    let Some(Containerfile { step, .. }) = new.or(old) else { return };
    let text = |of: Option<Containerfile<'_>>| {
        of.map(|Containerfile { text, .. }| {
            format!("{} lines, {}", text.lines().count(), Digest::of(text).short())
        })
    };
    note(changes, ChangedKind::Containerfile, step.file.as_str(), text(old), text(new));
    let target = |of: Option<Containerfile<'_>>| of.and_then(|of| of.step.target.clone());
    note(changes, ChangedKind::Setting, "target", target(old), target(new));
    let none = BTreeMap::new();
    let arguments = |of: Option<Containerfile<'_>>| of.map_or(none.clone(), |of| of.step.args.clone());
    maps(changes, ChangedKind::Argument, &arguments(old), &arguments(new));
    let secrets = |of: Option<Containerfile<'_>>| -> BTreeMap<String, String> {
        let secrets = of.map(|of| of.step.secrets.as_slice()).unwrap_or_default();
        secrets.iter().map(|secret| (secret.id.clone(), format!("version {}", secret.version))).collect()
    };
    maps(changes, ChangedKind::Secret, &secrets(old), &secrets(new));
    let images = |of: Option<Containerfile<'_>>| -> BTreeMap<String, String> {
        let images = of.map(|of| of.images).unwrap_or_default();
        // One image may be used on two platforms.
        let several = |image: &LockedImage| {
            images.iter().any(|other| other.reference == image.reference && other.platform != image.platform)
        };
        let name = |image: &LockedImage| {
            let platform = several(image).then(|| format!(" ({})", image.platform));
            format!("{}{}", image.reference, platform.unwrap_or_default())
        };
        images.iter().map(|image| (name(image), image.digest.to_string())).collect()
    };
    maps(changes, ChangedKind::BaseDigest, &images(old), &images(new));
    let context = |of: Option<Containerfile<'_>>| -> BTreeMap<String, Traits> {
        let Some(Containerfile { step, context: entries, .. }) = of else { return BTreeMap::new() };
        // The Containerfile is usually part of its own context; it is listed separately.
        let all = entries.iter().map(|entry| (step.context.join(&entry.path), entry));
        all.filter(|(path, _)| *path != step.file)
            .map(|(path, entry)| (path.to_string(), of_context(entry)))
            .collect()
    };
    traits(changes, &context(old), &context(new));
}

type Files<'a> = (&'a Listing, &'a [String]);

fn files_of(work: Option<&PlannedStep>) -> Option<Files<'_>> {
    let Some(PlannedStep::Files { listing, delete, .. }) = work else { return None };
    Some((listing, delete))
}

fn for_files(
    changes: &mut Vec<Change>,
    old: Option<Files<'_>>,
    new: Option<Files<'_>>,
    (old_vars, vars): (Option<&Vars>, &Vars),
) {
    fn entries(of: Option<Files<'_>>) -> BTreeMap<String, LayerEntry> {
        let all = of.map(|(listing, _)| listing.entries()).unwrap_or_default();
        all.into_iter().map(|entry| (format!("/{}", entry.path), entry.clone())).collect()
    }
    let (before, after) = (entries(old), entries(new));
    let of_all = |entries: &BTreeMap<String, LayerEntry>| -> BTreeMap<String, Traits> {
        entries.iter().map(|(path, entry)| (path.clone(), of_layer(entry))).collect()
    };
    traits(changes, &of_all(&before), &of_all(&after));
    let deletes = |of: Option<Files<'_>>| -> BTreeMap<String, &'static str> {
        let paths = of.map(|(_, delete)| delete).unwrap_or_default();
        paths.iter().map(|path| (format!("/{path}"), "deleted")).collect()
    };
    maps(changes, ChangedKind::Deletion, &deletes(old), &deletes(new));
    // The same template rendered differently: changed variables are the cause.
    let rendered = |(path, entry): (&String, &LayerEntry)| {
        before.get(path).is_some_and(|before| before != entry && same_template(before, entry))
    };
    if let Some(old_vars) = old_vars
        && after.iter().any(rendered)
    {
        maps(changes, ChangedKind::Variable, &shown(old_vars), &shown(vars));
    }
}

fn shown(vars: &Vars) -> BTreeMap<String, String> {
    let text = |value| serde_json::to_string(value).unwrap_or_default();
    vars.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// The properties of an entry, by name; of a changed entry only the differing ones are shown.
type Traits = Vec<(&'static str, String)>;

fn traits(changes: &mut Vec<Change>, old: &BTreeMap<String, Traits>, new: &BTreeMap<String, Traits>) {
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for path in paths {
        let (before, after) = (old.get(path), new.get(path));
        if before == after {
            continue;
        }
        let text = |of: Option<&Traits>, other: Option<&Traits>| {
            let differs = |of: &&(&str, String)| !other.is_some_and(|other| other.contains(of));
            let words: Vec<&str> = of?.iter().filter(differs).map(|(_, value)| value.as_str()).collect();
            Some(words.join(", "))
        };
        let (was, is) = (text(before, after), text(after, before));
        changes.push(Change { kind: ChangedKind::Entry, name: path.clone(), old: was, new: is });
    }
}

fn of_context(entry: &ContextEntry) -> Traits {
    let kind = match entry.kind {
        EntryKind::File => "file",
        EntryKind::Executable => "executable",
        EntryKind::Link => "link",
        EntryKind::Submodule => "submodule",
    };
    vec![("kind", kind.to_owned()), ("size", bytes(entry.size)), ("content", short(entry.content.as_str()))]
}

fn of_layer(entry: &LayerEntry) -> Traits {
    let note = |is_declared: bool| if is_declared { " (declared)" } else { "" };
    let mode = |mode: &u32| ("mode", format!("mode {mode:04o}{}", note(entry.declared.mode)));
    let mut traits = match &entry.kind {
        LayerKind::File { mode: bits, content: Content::Git { id, size } } => {
            vec![mode(bits), ("size", bytes(*size)), ("content", short(id.as_str()))]
        }
        LayerKind::File { mode: bits, content: Content::Rendered { bytes: rendered, .. } } => vec![
            mode(bits),
            ("size", bytes(rendered.len() as u64)),
            ("content", format!("rendered {}", Digest::of(rendered).short())),
        ],
        LayerKind::Link { target } => vec![("link", format!("link to {target}"))],
        LayerKind::Directory { mode: bits } => vec![("kind", "directory".to_owned()), mode(bits)],
        LayerKind::HardLink { mode: bits, target } => {
            vec![("link", format!("hard link to /{target}")), mode(bits)]
        }
    };
    let (owner, is_declared) = (entry.owner, entry.declared.owner);
    traits.push(("owner", format!("owner {}:{}{}", owner.user, owner.group, note(is_declared))));
    let attribute = |(name, value): (&String, &Vec<u8>)| {
        ("xattr", format!("attribute {name} {}", Digest::of(value).short()))
    };
    traits.extend(entry.xattrs.iter().map(attribute));
    traits
}

fn bytes(count: u64) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// The part of an id that is shown.
fn short(id: &str) -> String {
    const SHORT: usize = 12;
    id.chars().take(SHORT).collect()
}
