//! Directories and hard links that a step declares, among the entries that its folder has.

use std::collections::BTreeMap;

use edgewright_model::format::Diagnostic;
use edgewright_model::tree::TreePath;

use super::{LayerEntry, LayerKind, Rules};

/// Adds what is declared; what cannot be there is a fault.
pub(super) fn add(
    rules: &Rules<'_>,
    plain: &mut BTreeMap<TreePath, LayerEntry>,
    template_mode: impl Fn(&TreePath) -> Option<u32>,
    faults: &mut Vec<Diagnostic>,
) {
    let mut fault = |message: String, hint: &str| {
        let hint = Some(hint.to_owned());
        faults.push(Diagnostic { file: rules.file.cloned(), place: None, message, hint });
    };
    let is_template = |path: &TreePath| template_mode(path).is_some();
    let file_mode = |path: &TreePath, plain: &BTreeMap<TreePath, LayerEntry>| match plain.get(path)?.kind {
        LayerKind::File { mode, .. } => Some(mode),
        _ => None,
    };
    let mode_of = |path: &TreePath, plain: &BTreeMap<TreePath, LayerEntry>| {
        template_mode(path).or_else(|| file_mode(path, plain))
    };
    for directory in rules.directories {
        let path = &directory.path;
        let mut places = std::iter::successors(Some(path.clone()), TreePath::parent);
        if let Some(place) = places.find(|place| plain.contains_key(place) || is_template(place)) {
            fault(
                format!("`directories` has `{path}`, but this step has a file or link `{place}`"),
                "rename one of the two",
            );
        }
    }
    for (link, target) in &rules.hard_links {
        let mut places = std::iter::successors(Some((*link).clone()), TreePath::parent);
        if let Some(place) = places.find(|place| plain.contains_key(place) || is_template(place)) {
            fault(
                format!("`hard_links` has `{link}`, but this step has a file or link `{place}`"),
                "remove the file, or rename the link",
            );
        }
        if mode_of(target, plain).is_none() {
            fault(
                format!("`hard_links` has `{link}`: `{target}`, which is no file of this step"),
                "name a file of the same folder, or use a symbolic link",
            );
        }
    }
    for path in rules.xattrs.keys() {
        if mode_of(path, plain).is_none()
            && !rules.directories.iter().any(|directory| directory.path == **path)
        {
            fault(
                format!("`xattrs` has `{path}`, which is no file or declared directory of this step"),
                "attributes belong to entries of the same step: add the file to its folder",
            );
        }
    }
    for directory in rules.directories {
        let path = directory.path.clone();
        let xattrs = rules.xattrs(&path);
        let kind = LayerKind::Directory { mode: directory.mode };
        plain.entry(path.clone()).or_insert(LayerEntry { path, kind, owner: directory.owner, xattrs });
    }
    for (link, target) in &rules.hard_links {
        let Some(mode) = mode_of(target, plain) else { continue };
        let path = (*link).clone();
        let xattrs = rules.xattrs(target);
        let kind = LayerKind::HardLink { target: (*target).clone(), mode };
        let entry = LayerEntry { path: path.clone(), kind, owner: rules.owner, xattrs };
        plain.entry(path).or_insert(entry);
    }
}
