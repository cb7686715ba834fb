//! The three-way merge of `/etc`: the old image, the new image, and what was changed on the device.
//!
//! A device's `/etc` is an overlay: the image's folder below, the device's changes (*upper*) above. An update
//! has another image below, so its upper is computed again:
//!
//! ```text
//!  old image ─┬─▶ view of the device ─┐
//!  upper ─────┘                       ├─ merge, path by path ─▶ result ─▶ upper on the new image
//!  new image ─────────────────────────┘
//! ```
//!
//! What the device did not change comes from the new image. What only the device changed is kept. Where both
//! changed the same path in different ways, the device's version is kept and reported as a conflict.
//! This module is pure: trees go in, a tree and conflicts come out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Owner, mode and attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes, without those of overlay file systems and security labels.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder; its entries have paths of their own.
    Directory,
    /// A file, by the fs-verity digest of its content in hexadecimal digits.
    File(String),
    /// A symbolic link.
    Link(Vec<u8>),
    /// A device, pipe or socket: the bits of its type, and its device number.
    Special(u32, u64),
}

/// A path's content and metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its metadata.
    pub meta: Meta,
}

impl Node {
    /// Whether it is a folder.
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }
}

/// A tree by relative paths, without its root. The parent of each path is a folder in it.
pub type Tree = BTreeMap<PathBuf, Node>;

/// One path of an upper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Hides the path of the lower folder.
    Whiteout,
    /// A folder whose entries are added to those below, or replace them if it is opaque.
    Directory {
        /// Its metadata.
        meta: Meta,
        /// Whether it hides the folder below.
        is_opaque: bool,
    },
    /// Anything else.
    Node(Node),
}

/// An upper by relative paths.
pub type Upper = BTreeMap<PathBuf, Change>;

/// What a merge came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    /// The upper for the new image. Its files, links and special files are those of the old upper.
    pub upper: Upper,
    /// Paths that both changed; the device's version was kept.
    pub conflicts: Vec<PathBuf>,
}

/// What a reader of the overlay sees.
pub fn view(lower: &Tree, upper: &Upper) -> Tree {
    let mut tree = lower.clone();
    for (path, change) in upper {
        match change {
            Change::Whiteout => {
                remove_below(&mut tree, path);
                tree.remove(path);
            }
            Change::Directory { meta, is_opaque } => {
                if *is_opaque || tree.get(path).is_some_and(|node| !node.is_directory()) {
                    remove_below(&mut tree, path);
                }
                tree.insert(path.clone(), Node { kind: Kind::Directory, meta: meta.clone() });
            }
            Change::Node(node) => {
                remove_below(&mut tree, path);
                tree.insert(path.clone(), node.clone());
            }
        }
    }
    tree
}

fn remove_below(tree: &mut Tree, path: &Path) {
    let below: Vec<PathBuf> = tree
        .range(path.to_path_buf()..)
        .skip_while(|(found, _)| found.as_path() == path)
        .take_while(|(found, _)| found.starts_with(path))
        .map(|(found, _)| found.clone())
        .collect();
    for found in below {
        tree.remove(&found);
    }
}

/// Merges.
pub fn merge(old: &Tree, new: &Tree, upper: &Upper) -> Merged {
    let local = view(old, upper);
    let mut conflicts = Vec::new();
    let result = merge_trees(old, new, &local, &mut conflicts);
    conflicts.dedup();
    Merged { upper: upper_of(new, &result), conflicts }
}

/// Merges path by path, parents first.
fn merge_trees(old: &Tree, new: &Tree, local: &Tree, conflicts: &mut Vec<PathBuf>) -> Tree {
    let kept: Vec<&PathBuf> =
        local.iter().filter(|(path, node)| old.get(*path) != Some(node)).map(|(path, _)| path).collect();
    // A change of the device needs its folder, even if the new image has something else or nothing there.
    let needed: BTreeSet<&Path> = kept.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    let paths: BTreeSet<&PathBuf> = local.keys().chain(new.keys()).chain(old.keys()).collect();
    let mut result = Tree::new();
    for path in paths {
        let (was, is, will) = (old.get(path), local.get(path), new.get(path));
        if !has_parent(&result, path) {
            // The device removed or replaced a folder to which the new image adds something.
            if will.is_some() && will != was {
                conflicts.push(path.clone());
            }
            continue;
        }
        let mut chosen = will;
        if is != was {
            chosen = is;
            if will != was && will != is {
                conflicts.push(path.clone());
            }
        }
        if needed.contains(path.as_path()) && chosen.is_none_or(|node| !node.is_directory()) {
            if will.is_some() {
                conflicts.push(path.clone());
            }
            chosen = is;
        }
        if let Some(node) = chosen {
            result.insert(path.clone(), node.clone());
        }
    }
    result
}

fn has_parent(tree: &Tree, path: &Path) -> bool {
    match path.parent() {
        None => true,
        Some(parent) if parent.as_os_str().is_empty() => true,
        Some(parent) => tree.get(parent).is_some_and(Node::is_directory),
    }
}

/// The upper that makes `result` of a lower folder.
fn upper_of(lower: &Tree, result: &Tree) -> Upper {
    let mut upper = Upper::new();
    for (path, node) in result {
        if lower.get(path) == Some(node) {
            continue;
        }
        upper.insert(path.clone(), change(node));
    }
    for path in lower.keys().filter(|path| !result.contains_key(*path)) {
        // Below a folder that is gone or replaced, the folder's own change hides the path.
        let is_reached = has_parent(result, path) && has_parent(lower, path);
        if is_reached {
            upper.insert(path.clone(), Change::Whiteout);
        }
    }
    add_parents(&mut upper, result);
    upper
}

fn change(node: &Node) -> Change {
    match node.kind {
        Kind::Directory => Change::Directory { meta: node.meta.clone(), is_opaque: false },
        _ => Change::Node(node.clone()),
    }
}

/// Adds the folders that lead to each change, as they are in the result.
fn add_parents(upper: &mut Upper, result: &Tree) {
    let parents: BTreeSet<PathBuf> =
        upper.keys().flat_map(|path| path.ancestors().skip(1)).map(Path::to_path_buf).collect();
    for parent in parents {
        if let Some(node) = result.get(&parent) {
            upper.entry(parent).or_insert_with(|| change(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(content: u8) -> Node {
        Node { kind: Kind::File(content.to_string()), meta: Meta { mode: 0o644, ..Meta::default() } }
    }

    fn directory(mode: u32) -> Node {
        Node { kind: Kind::Directory, meta: Meta { mode, ..Meta::default() } }
    }

    fn tree(entries: &[(&str, Node)]) -> Tree {
        entries.iter().map(|(path, node)| (PathBuf::from(path), node.clone())).collect()
    }

    fn merged(old: &Tree, new: &Tree, local: &Tree) -> (Tree, Vec<PathBuf>) {
        let merged = merge(old, new, &upper_of(old, local));
        (view(new, &merged.upper), merged.conflicts)
    }

    #[test]
    fn what_only_the_image_changed_is_new() {
        let old = tree(&[("a", file(1)), ("b", file(1))]);
        let new = tree(&[("a", file(2)), ("c", file(1))]);
        assert_eq!(merged(&old, &new, &old), (new, vec![]));
    }

    #[test]
    fn what_only_the_device_changed_is_kept() {
        let old = tree(&[("a", file(1)), ("b", file(1)), ("d", directory(0o755)), ("d/x", file(1))]);
        let new = tree(&[("a", file(1)), ("b", file(2)), ("d", directory(0o755)), ("d/x", file(1))]);
        let local = tree(&[("a", file(7)), ("b", file(1)), ("d", directory(0o700)), ("e", file(8))]);
        let expected = tree(&[("a", file(7)), ("b", file(2)), ("d", directory(0o700)), ("e", file(8))]);
        assert_eq!(merged(&old, &new, &local), (expected, vec![]));
    }

    #[test]
    fn a_conflict_keeps_the_devices_version() {
        let (old, new) = (tree(&[("a", file(1))]), tree(&[("a", file(2))]));
        let local = tree(&[("a", file(3))]);
        assert_eq!(merged(&old, &new, &local), (local, vec![PathBuf::from("a")]));
    }

    #[test]
    fn the_same_change_on_both_sides_leaves_nothing_local() {
        let (old, new) = (tree(&[("a", file(1))]), tree(&[("a", file(2))]));
        let merged = merge(&old, &new, &upper_of(&old, &new));
        assert_eq!(merged, Merged::default());
    }

    #[test]
    fn a_file_of_the_device_keeps_the_folder_that_the_image_removed() {
        let old = tree(&[("d", directory(0o755)), ("d/a", file(1))]);
        let local = tree(&[("d", directory(0o755)), ("d/a", file(1)), ("d/mine", file(9))]);
        let expected = tree(&[("d", directory(0o755)), ("d/mine", file(9))]);
        assert_eq!(merged(&old, &Tree::new(), &local), (expected, vec![]));
    }

    #[test]
    fn an_opaque_folder_hides_the_images_entries() {
        let old = tree(&[("d", directory(0o755)), ("d/a", file(1))]);
        let mut upper = Upper::new();
        let opaque = Change::Directory { meta: Meta { mode: 0o755, ..Meta::default() }, is_opaque: true };
        upper.insert("d".into(), opaque);
        assert_eq!(view(&old, &upper), tree(&[("d", directory(0o755))]));
    }

    const PATHS: [&str; 10] = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a", "e/b"];

    fn trees() -> impl Strategy<Value = Tree> {
        let node = prop_oneof![
            3 => Just(None),
            3 => prop_oneof![Just(0o755), Just(0o700)].prop_map(|mode| Some(directory(mode))),
            3 => (1_u8..4).prop_map(|content| Some(file(content))),
        ];
        prop::collection::vec(node, PATHS.len()).prop_map(|nodes| {
            let mut tree = Tree::new();
            for (path, node) in PATHS.iter().zip(nodes) {
                if let Some(node) = node.filter(|_| has_parent(&tree, Path::new(path))) {
                    tree.insert(PathBuf::from(path), node);
                }
            }
            tree
        })
    }

    proptest! {
        #[test]
        fn an_upper_makes_its_result(lower in trees(), result in trees()) {
            prop_assert_eq!(view(&lower, &upper_of(&lower, &result)), result);
        }

        #[test]
        fn without_changes_of_the_device_the_new_image_is_the_result(old in trees(), new in trees()) {
            prop_assert_eq!(merge(&old, &new, &Upper::new()), Merged::default());
        }

        #[test]
        fn with_the_same_image_the_device_keeps_everything(old in trees(), local in trees()) {
            prop_assert_eq!(merged(&old, &old, &local), (local, vec![]));
        }

        #[test]
        fn no_change_of_the_device_is_lost(old in trees(), new in trees(), local in trees()) {
            let (result, conflicts) = merged(&old, &new, &local);
            for (path, node) in &local {
                if old.get(path) != Some(node) {
                    prop_assert_eq!(result.get(path), Some(node), "{}", path.display());
                }
            }
            for (path, _) in result.iter().filter(|(path, _)| !has_parent(&result, path)) {
                prop_assert!(false, "{} has no parent", path.display());
            }
            // A path that is neither of the device nor of the new image is not invented.
            for (path, node) in &result {
                prop_assert!(local.get(path) == Some(node) || new.get(path) == Some(node));
            }
            for path in conflicts {
                prop_assert!(old.get(&path) != new.get(&path));
            }
        }

        /// An upper of a merge has only what the old upper has: nothing else could be copied.
        #[test]
        fn files_of_the_new_upper_are_in_the_old_one(old in trees(), new in trees(), local in trees()) {
            let before = upper_of(&old, &local);
            for (path, change) in merge(&old, &new, &before).upper {
                if matches!(change, Change::Node(_)) {
                    prop_assert_eq!(before.get(&path), Some(&change));
                }
            }
        }
    }
}
