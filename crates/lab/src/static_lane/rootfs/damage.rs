//! What layers did to the layers below: links of the merged `/usr` that they replaced, top-level folders that
//! they hid.

use std::collections::{BTreeMap, BTreeSet};

/// The links of a merged `/usr`.
pub(super) const MERGED: [&str; 8] = ["bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin", "usr/sbin"];
/// Folders that every system needs: deleting one is an accident, such as a mount's target that a builder
/// removed.
const NEEDED: [&str; 18] = [
    "bin",
    "dev",
    "etc",
    "lib",
    "lib64",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "usr/share",
    "var",
];
/// Folders whose content does not matter, so that they may be emptied.
const TRANSIENT: [&str; 8] = ["boot", "dev", "media", "mnt", "proc", "run", "sys", "tmp"];
/// Maximum number of other top-level entries that a layer may delete.
const MAX_DELETED: usize = 3;

/// What the layers hid and linked.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// The first target of each link of the merged `/usr` that led to a folder.
    pub(super) links: BTreeMap<&'static str, String>,
    /// Layer, path and what happened to it.
    hidden: Vec<(usize, String)>,
}

/// The whiteouts of one layer that hide something.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    deleted: BTreeSet<String>,
    emptied: BTreeSet<String>,
}

impl Hidden {
    /// Notes that a path is deleted.
    pub(super) fn delete(&mut self, path: &str) {
        if !path.contains('/') || NEEDED.contains(&path) {
            self.deleted.insert(path.to_owned());
        }
    }

    /// Notes that the entries of lower layers in a folder are gone; the root is the empty path.
    pub(super) fn empty(&mut self, path: &str) {
        let is_needed = !path.contains('/') && !TRANSIENT.contains(&path);
        if is_needed || (NEEDED.contains(&path) && path.contains('/')) {
            self.emptied.insert(path.to_owned());
        }
    }
}

impl Damage {
    /// Adds what a layer hid; `is_replaced` says whether the same layer has an entry in the place.
    pub(super) fn add(&mut self, layer: usize, hidden: Hidden, is_replaced: impl Fn(&str) -> bool) {
        let deleted: Vec<String> = hidden.deleted.into_iter().filter(|path| !is_replaced(path)).collect();
        let are_many = deleted.iter().filter(|path| !path.contains('/')).count() > MAX_DELETED;
        let deleted = deleted.into_iter().filter(|path| are_many || NEEDED.contains(&path.as_str()));
        self.hidden.extend(deleted.map(|path| (layer, format!("/{path} is deleted"))));
        let emptied = hidden.emptied.into_iter();
        self.hidden
            .extend(emptied.map(|path| (layer, format!("/{path} hides what lower layers have in it"))));
    }

    /// What layers hid: the layer's index, from 0, and a text.
    pub(super) fn hidden(&self) -> &[(usize, String)] {
        &self.hidden
    }
}
