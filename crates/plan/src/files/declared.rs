//! Directories and hard links that a step declares, added to the entries of its folder.

use std::collections::BTreeMap;

use edgewright_model::format::Diagnostic;
use edgewright_model::tree::TreePath;

use super::{Declared, LayerEntry, LayerKind, Rules};

/// Permission bits of directories without `mode`.
const MODE_DIRECTORY: u32 = 0o755;

/// Adds the declarations; a conflict is a fault.
pub(super) fn add(
    rules: &Rules<'_>,
    plain: &mut BTreeMap<TreePath, LayerEntry>,
    template_mode: impl Fn(&TreePath) -> Option<(u32, bool)>,
    faults: &mut Vec<Diagnostic>,
) {
    check(rules, &Present { plain, template_mode: &template_mode }, faults);
    for directory in rules.directories {
        let path = directory.path.clone();
        let xattrs = rules.xattrs(&path);
        let kind = LayerKind::Directory { mode: directory.mode.unwrap_or(MODE_DIRECTORY) };
        let declared = Declared { mode: directory.mode.is_some(), owner: directory.owner.is_some() };
        let owner = directory.owner.unwrap_or_default();
        plain.entry(path.clone()).or_insert(LayerEntry { path, kind, owner, xattrs, declared });
    }
    for (link, target) in &rules.hard_links {
        let Some((mode, is_declared)) = (Present { plain, template_mode: &template_mode }).mode(target)
        else {
            continue;
        };
        let path = (*link).clone();
        let xattrs = rules.xattrs(target);
        let kind = LayerKind::HardLink { target: (*target).clone(), mode };
        let declared = Declared { mode: is_declared, owner: rules.owner.is_some() };
        let owner = rules.owner.unwrap_or_default();
        let entry = LayerEntry { path: path.clone(), kind, owner, xattrs, declared };
        plain.entry(path).or_insert(entry);
    }
}

/// The entries that a folder has.
struct Present<'a> {
    plain: &'a BTreeMap<TreePath, LayerEntry>,
    template_mode: &'a dyn Fn(&TreePath) -> Option<(u32, bool)>,
}

impl Present<'_> {
    /// The mode of a file after rendering, and whether it is declared; `None` for other entries.
    fn mode(&self, path: &TreePath) -> Option<(u32, bool)> {
        (self.template_mode)(path).or_else(|| {
            let entry = self.plain.get(path)?;
            match entry.kind {
                LayerKind::File { mode, .. } => Some((mode, entry.declared.mode)),
                _ => None,
            }
        })
    }

    /// The file or link that is already at this path or at one of its parents.
    fn in_the_way_of(&self, path: &TreePath) -> Option<TreePath> {
        let mut places = std::iter::successors(Some(path.clone()), TreePath::parent);
        places.find(|place| self.plain.contains_key(place) || (self.template_mode)(place).is_some())
    }
}

/// Reports conflicting declarations.
fn check(rules: &Rules<'_>, present: &Present<'_>, faults: &mut Vec<Diagnostic>) {
    let mut fault = |message: String, hint: &str| {
        let hint = Some(hint.to_owned());
        faults.push(Diagnostic { file: rules.file.cloned(), place: None, message, hint });
    };
    for directory in rules.directories {
        let path = &directory.path;
        if let Some(place) = present.in_the_way_of(path) {
            fault(
                format!("`directories` declares `{path}`, but the step has a file or link `{place}`"),
                "rename one of them",
            );
        }
    }
    for (link, target) in &rules.hard_links {
        if let Some(place) = present.in_the_way_of(link) {
            fault(
                format!("`hard_links` declares `{link}`, but the step has a file or link `{place}`"),
                "remove the file, or rename the link",
            );
        }
        if present.mode(target).is_none() {
            fault(
                format!("`hard_links` declares `{link}`: `{target}`, which is not a file of this step"),
                "write the path of a file of the same step, or use a symbolic link",
            );
        }
    }
    for path in rules.xattrs.keys() {
        let is_directory = rules.directories.iter().any(|directory| directory.path == **path);
        if present.mode(path).is_none() && !is_directory {
            fault(
                format!("`xattrs` sets `{path}`, which is not a file or declared directory of this step"),
                "add the file to the step's folder, or declare the directory",
            );
        }
    }
}
