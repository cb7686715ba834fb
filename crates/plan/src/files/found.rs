//! The entries of a folder of the repository: plain entries, and templates that are rendered for each
//! variant.

use std::collections::BTreeMap;

use edgewright_model::tree::{Entry, EntryKind, Tree, TreePath};

use super::{Content, Declared, LayerEntry, LayerKind, Rules, Template};
use crate::template::SUFFIX;

/// The entries of a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) plain: BTreeMap<TreePath, LayerEntry>,
    pub(super) templates: BTreeMap<TreePath, Template>,
}

/// Why an entry of the repository cannot be in the image, with a hint.
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
        let target = if rules.as_is { path.clone() } else { target(path, entry.kind)? };
        if self.plain.contains_key(&target) || self.templates.contains_key(&target) {
            return Err(Fault {
                message: format!("duplicate file `{target}`: both a file and a template"),
                hint: "keep one of `NAME` and `NAME.j2`",
            });
        }
        let (mode, is_declared) = rules.mode(&target, entry.kind);
        let (owner, xattrs) = (rules.owner.unwrap_or_default(), rules.xattrs(&target));
        let declared = Declared { mode: is_declared, owner: rules.owner.is_some() };
        let kind = match entry.kind {
            EntryKind::Submodule => {
                return Err(Fault {
                    message: "cannot read the submodule: its files are not part of the repository".to_owned(),
                    hint: "write `submodules: true` in edgewright.yaml, copy the files into the repository, or fetch them in a containerfile step",
                });
            }
            EntryKind::Link => LayerKind::Link { target: link(tree, source)? },
            EntryKind::File | EntryKind::Executable if target != *path => {
                let (source, path) = (source.clone(), target.clone());
                let template = Template { source, path, mode, owner, xattrs, declared };
                self.templates.insert(target, template);
                return Ok(());
            }
            EntryKind::File | EntryKind::Executable => LayerKind::File {
                mode,
                content: Content::Git { id: entry.content.clone(), size: entry.size },
            },
        };
        self.plain.insert(target.clone(), LayerEntry { path: target, kind, owner, xattrs, declared });
        Ok(())
    }
}

/// The path of an entry in the image: a template loses its suffix.
fn target(path: &TreePath, kind: EntryKind) -> Result<TreePath, Fault> {
    let target = path.as_str().strip_suffix(SUFFIX).filter(|_| kind != EntryKind::Link);
    match target.map(str::parse::<TreePath>) {
        None => Ok(path.clone()),
        Some(Ok(target)) if !target.as_str().ends_with('/') => Ok(target),
        Some(_) => Err(Fault {
            message: "invalid template name `.j2`".to_owned(),
            hint: "write a name before `.j2`",
        }),
    }
}

/// The target of a symbolic link.
fn link(tree: &Tree, source: &TreePath) -> Result<String, Fault> {
    let text = tree.content(source).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.map(str::to_owned).ok_or_else(|| Fault {
        message: "invalid symbolic link: the target is not UTF-8 or too long".to_owned(),
        hint: "change the link's target",
    })
}
