//! What a folder of the repository gives a layer: plain entries, and templates that become files for each variant.

use std::collections::BTreeMap;

use edgewright_model::tree::{Entry, EntryKind, Tree, TreePath};

use super::{Content, LayerEntry, LayerKind, Rules, Template};
use crate::template::SUFFIX;

/// The entries of a folder, as they are found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) plain: BTreeMap<TreePath, LayerEntry>,
    pub(super) templates: BTreeMap<TreePath, Template>,
}

/// Why an entry of the repository cannot be one of the image, and what to do.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: &'static str,
}

impl Found {
    /// Adds the entry `source` of the repository, which is `path` in its folder.
    pub(super) fn add(
        &mut self,
        tree: &Tree,
        source: &TreePath,
        path: &TreePath,
        entry: &Entry,
        rules: &Rules<'_>,
    ) -> Result<(), Fault> {
        let target = target(path, entry.kind)?;
        if self.plain.contains_key(&target) || self.templates.contains_key(&target) {
            return Err(Fault {
                message: format!("`{target}` is there twice: as a file and as a template"),
                hint: "keep one of `NAME` and `NAME.j2`",
            });
        }
        let mode = rules.mode(&target, entry.kind);
        let (owner, xattrs) = (rules.owner, rules.xattrs(&target));
        let kind = match entry.kind {
            EntryKind::Submodule => {
                return Err(Fault {
                    message: "a submodule's files are not part of the repository".to_owned(),
                    hint: "copy the files in, or fetch them in a containerfile step",
                });
            }
            EntryKind::Link => LayerKind::Link { target: link(tree, source)? },
            EntryKind::File | EntryKind::Executable if target != *path => {
                let template = Template { source: source.clone(), path: target.clone(), mode, owner, xattrs };
                self.templates.insert(target, template);
                return Ok(());
            }
            EntryKind::File | EntryKind::Executable => LayerKind::File {
                mode,
                content: Content::Git { id: entry.content.clone(), size: entry.size },
            },
        };
        self.plain.insert(target.clone(), LayerEntry { path: target, kind, owner, xattrs });
        Ok(())
    }
}

/// Where an entry goes: a template loses its suffix.
fn target(path: &TreePath, kind: EntryKind) -> Result<TreePath, Fault> {
    let target = path.as_str().strip_suffix(SUFFIX).filter(|_| kind != EntryKind::Link);
    match target.map(str::parse::<TreePath>) {
        None => Ok(path.clone()),
        Some(Ok(target)) if !target.as_str().ends_with('/') => Ok(target),
        Some(_) => {
            Err(Fault { message: "a template needs a name before `.j2`".to_owned(), hint: "rename it" })
        }
    }
}

/// What a symbolic link points to.
fn link(tree: &Tree, source: &TreePath) -> Result<String, Fault> {
    let text = tree.content(source).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.map(str::to_owned).ok_or_else(|| Fault {
        message: "the link's target is not UTF-8 or too long".to_owned(),
        hint: "make it shorter",
    })
}
