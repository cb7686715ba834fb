//! Directories and hard links that a step declares, added to the entries of its folder.

use std::collections::BTreeMap;

use edgewright_model::format::Diagnostic;
use edgewright_model::tree::TreePath;

use super::{LayerEntry, LayerKind, Rules};

/// Adds the declarations; a conflict is a fault.
pub(super) fn add(
    rules: &Rules<'_>,
    plain: &mut BTreeMap<TreePath, LayerEntry>,
    template_mode: impl Fn(&TreePath) -> Option<u32>,
    faults: &mut Vec<Diagnostic>,
) {
    check(rules, &Present { plain, template_mode: &template_mode }, faults);
    for directory in rules.directories {
        let path = directory.path.clone();
        let xattrs = rules.xattrs(&path);
        let kind = LayerKind::Directory { mode: directory.mode };
        plain.entry(path.clone()).or_insert(LayerEntry { path, kind, owner: directory.owner, xattrs });
    }
    for (link, target) in &rules.hard_links {
        let Some(mode) = (Present { plain, template_mode: &template_mode }).mode(target) else { continue };
        let path = (*link).clone();
        let xattrs = rules.xattrs(target);
        let kind = LayerKind::HardLink { target: (*target).clone(), mode };
        let entry = LayerEntry { path: path.clone(), kind, owner: rules.owner, xattrs };
        plain.entry(path).or_insert(entry);
    }
}

/// The entries that a folder has.
struct Present<'a> {
    plain: &'a BTreeMap<TreePath, LayerEntry>,
    template_mode: &'a dyn Fn(&TreePath) -> Option<u32>,
}

impl Present<'_> {
    /// The mode of a file after rendering; `None` for other entries.
    fn mode(&self, path: &TreePath) -> Option<u32> {
        (self.template_mode)(path).or_else(|| match self.plain.get(path)?.kind {
            LayerKind::File { mode, .. } => Some(mode),
            _ => None,
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
