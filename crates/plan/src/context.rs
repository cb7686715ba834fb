//! The build context of a `containerfile` step: which entries of the tree the Containerfile can see.
//!
//! Everything below the context folder, except for ignored entries and the image's own `image.yaml`,
//! `edgewright.lock` and check scripts: a change of a check or of the
//! lock's comment must not cause a rebuild.

use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::format::{Diagnostic, Place};
use edgewright_model::spec::{Assertion, CheckEntry, ContainerfileStep, ImageSpec};
use edgewright_model::tree::{ContentId, EntryKind, Tree, TreePath};

use crate::ignore::Ignore;
use crate::key::Fields;
use crate::limits;

/// An entry of a build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextEntry {
    /// Path in the context.
    pub path: TreePath,
    /// File, executable or link; the content of a link is its target.
    pub kind: EntryKind,
    /// The identity of its bytes.
    pub content: ContentId,
    /// Length in bytes.
    pub size: u64,
}

/// The inputs of a `containerfile` step from the tree.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) containerfile: Arc<str>,
    pub(crate) entries: Arc<[ContextEntry]>,
    pub(crate) digest: Digest,
}

impl Context {
    /// Reads Containerfile, ignore file and entries. All faults are returned, not only the first.
    pub(crate) fn list(
        tree: &Tree,
        image: &ImageSpec,
        step: &ContainerfileStep,
    ) -> Result<Self, Vec<Diagnostic>> {
        let containerfile = text(
            tree,
            &step.file,
            "use a name that contains `Containerfile` or `Dockerfile`, and at most 1 MiB of UTF-8",
        );
        let ignore = ignore(tree, step);
        let entries = entries(tree, image, step, ignore.as_ref().unwrap_or(&Ignore::default()));
        match (containerfile, ignore, entries) {
            (Ok(containerfile), Ok(_), Ok(entries)) => {
                let digest = digest(step, containerfile, &entries);
                Ok(Self { containerfile: containerfile.into(), entries: entries.into(), digest })
            }
            (containerfile, ignore, entries) => {
                let mut faults = entries.err().unwrap_or_default();
                faults.extend(containerfile.err());
                faults.extend(ignore.err());
                Err(faults)
            }
        }
    }
}

fn text<'t>(tree: &'t Tree, path: &TreePath, hint: &str) -> Result<&'t str, Diagnostic> {
    let loaded = tree.content(path).and_then(|bytes| std::str::from_utf8(bytes).ok());
    loaded.ok_or_else(|| Diagnostic {
        file: Some(path.clone()),
        place: None,
        message: format!("cannot read `{path}`: missing, too large or not UTF-8"),
        hint: Some(hint.to_owned()),
    })
}

/// The rules of the first ignore file that exists: first beside the Containerfile with its name as prefix,
/// then at the top of the context.
fn ignore(tree: &Tree, step: &ContainerfileStep) -> Result<Ignore, Diagnostic> {
    let candidates = [
        format!("{}.containerignore", step.file),
        format!("{}.dockerignore", step.file),
        format!("{}/.containerignore", step.context),
        format!("{}/.dockerignore", step.context),
    ];
    let there = |path: &TreePath| tree.entry(path).is_some();
    let Some(path) = candidates.iter().filter_map(|path| path.parse().ok()).find(there) else {
        return Ok(Ignore::default());
    };
    let text = text(tree, &path, "write an ignore file in UTF-8 of at most 1 MiB")?;
    Ignore::parse(text).map_err(|error| Diagnostic {
        file: Some(path),
        place: Some(Place { line: error.line, column: 1, length: 1 }),
        message: Chain(&error).to_string(),
        hint: Some("write a rule as in .dockerignore".to_owned()),
    })
}

fn entries(
    tree: &Tree,
    image: &ImageSpec,
    step: &ContainerfileStep,
    ignore: &Ignore,
) -> Result<Vec<ContextEntry>, Vec<Diagnostic>> {
    let lock = image.file.parent().map(|folder| format!("{folder}/edgewright.lock"));
    let scripts: Vec<&TreePath> = image.checks.iter().filter_map(script).collect();
    let is_definition = |path: &TreePath| {
        *path == image.file
            || lock.as_deref().is_some_and(|lock| path.as_str() == lock)
            || scripts.contains(&path)
    };
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut faults = Vec::new();
    for (path, entry) in tree.below(&step.context) {
        let whole = step.context.join(&path);
        if is_definition(&whole) || ignore.ignores(path.as_str()) {
            continue;
        }
        if entry.kind == EntryKind::Submodule {
            faults.push(Diagnostic {
                file: Some(whole),
                place: None,
                message: "cannot read the submodule: its files are not part of the repository".to_owned(),
                hint: Some("write `submodules: true` in edgewright.yaml, add it to .containerignore, or fetch it in the Containerfile".to_owned()),
            });
            continue;
        }
        bytes += entry.size;
        entries.push(ContextEntry {
            path,
            kind: entry.kind,
            content: entry.content.clone(),
            size: entry.size,
        });
    }
    let hint = "add what the Containerfile does not need to .containerignore";
    faults.extend(limits::exceeded(&step.context, entries.len(), bytes, hint));
    if faults.is_empty() { Ok(entries) } else { Err(faults) }
}

/// The script of a check.
fn script(entry: &CheckEntry) -> Option<&TreePath> {
    match entry {
        CheckEntry::On(check) => match &check.assert {
            Assertion::Script { path, .. } => Some(path),
            _ => None,
        },
        CheckEntry::Off { .. } => None,
    }
}

fn digest(step: &ContainerfileStep, containerfile: &str, entries: &[ContextEntry]) -> Digest {
    let mut fields = Fields::new("containerfile");
    fields.field("text", containerfile).optional("target", step.target.as_deref());
    fields.number("args", step.args.len() as u64);
    for (name, value) in &step.args {
        fields.field(name, value);
    }
    fields.number("secrets", step.secrets.len() as u64);
    for secret in &step.secrets {
        fields.field(&secret.id, &secret.version);
    }
    for ContextEntry { path, kind, content, size: _ } in entries {
        let kind = match kind {
            EntryKind::File => "file",
            EntryKind::Executable => "executable",
            EntryKind::Link => "link",
            EntryKind::Submodule => "submodule",
        };
        fields.field("path", path.as_str()).field(kind, content.as_str());
    }
    fields.finish()
}
