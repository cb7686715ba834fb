//! The limits of a commit's tree, checked while git lists it: git stores a folder once however often it is in
//! a tree, so that a few kilobytes can list a billion files.

use std::fmt;

use edgewright_model::tree::{
    Entry, MAX_TREE_DEPTH, MAX_TREE_ENTRIES, MAX_TREE_LOADED_BYTES, MAX_TREE_PATH_BYTES, Tree, TreePath,
};

/// A limit of a commit that is exceeded. Reading ended there, so there may be more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// This many files and folders.
    Entries(usize),
    /// This many folders inside each other.
    Depth(usize),
    /// Paths of this many bytes together.
    PathBytes(u64),
    /// This many bytes of files that planning reads.
    LoadedBytes(u64),
}

impl Excess {
    /// The next action.
    pub(crate) const fn hint(self) -> &'static str {
        match self {
            Self::Entries(_) | Self::PathBytes(_) => {
                "remove generated and vendored files from the branch, or split the repository; later commits are built as usual"
            }
            Self::Depth(_) => "move the folders up; later commits are built as usual",
            Self::LoadedBytes(_) => {
                "remove generated YAML, lock files and templates from the branch; later commits are built as usual"
            }
        }
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(value) => {
                write!(f, "it has {value} files and folders or more, at most {MAX_TREE_ENTRIES}")
            }
            Self::Depth(value) => write!(f, "a path in it has {value} components, at most {MAX_TREE_DEPTH}"),
            Self::PathBytes(value) => {
                write!(f, "its paths have {value} bytes together or more, at most {MAX_TREE_PATH_BYTES}")
            }
            Self::LoadedBytes(value) => write!(
                f,
                "its definitions, templates, Containerfiles and scripts have {value} bytes together, at most {MAX_TREE_LOADED_BYTES}"
            ),
        }
    }
}

impl std::error::Error for Excess {}

/// An entry of a tree with its path as stored by git.
pub(crate) type Listed = (Vec<u8>, Entry);

/// The files of a tree so far.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) listed: Vec<Listed>,
    entries: usize,
    path_bytes: u64,
}

impl Files {
    /// Counts a file or folder, before its path is kept.
    pub(crate) fn count(&mut self, path: &[u8]) -> Result<(), Excess> {
        self.entries += 1;
        if self.entries > MAX_TREE_ENTRIES {
            return Err(Excess::Entries(self.entries));
        }
        self.path_bytes += path.len() as u64;
        if self.path_bytes > MAX_TREE_PATH_BYTES {
            return Err(Excess::PathBytes(self.path_bytes));
        }
        let depth = path.split(|&byte| byte == b'/').count();
        if depth > MAX_TREE_DEPTH { Err(Excess::Depth(depth)) } else { Ok(()) }
    }

    /// The most bytes that the next path may have.
    pub(crate) const fn room(&self) -> u64 {
        MAX_TREE_PATH_BYTES.saturating_sub(self.path_bytes)
    }
}

/// Checks the files that are about to be loaded. One that is in the tree twice is read twice by what follows.
pub(crate) fn check_loaded(tree: &Tree, is_loaded: impl Fn(&TreePath, &Entry) -> bool) -> Result<(), Excess> {
    let loaded = tree.entries.iter().filter(|(path, entry)| is_loaded(path, entry));
    let bytes: u64 = loaded.map(|(_, entry)| entry.size).sum();
    if bytes > MAX_TREE_LOADED_BYTES { Err(Excess::LoadedBytes(bytes)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use edgewright_model::tree::{EntryKind, is_loaded};

    use super::*;

    #[test]
    fn every_limit_is_checked_while_counting() {
        let count = |path: &[u8], times: usize| {
            let mut files = Files::default();
            (0..times).try_for_each(|_| files.count(path))
        };
        assert_eq!(count(b"a", MAX_TREE_ENTRIES), Ok(()));
        assert_eq!(count(b"a", MAX_TREE_ENTRIES + 1), Err(Excess::Entries(MAX_TREE_ENTRIES + 1)));
        let nested = |depth: usize| vec!["d"; depth].join("/").into_bytes();
        assert_eq!(count(&nested(MAX_TREE_DEPTH), 1), Ok(()));
        assert_eq!(count(&nested(MAX_TREE_DEPTH + 1), 1), Err(Excess::Depth(MAX_TREE_DEPTH + 1)));
        let long = vec![b'n'; 1024 * 1024];
        let fits = usize::try_from(MAX_TREE_PATH_BYTES).unwrap() / long.len();
        assert_eq!(count(&long, fits), Ok(()));
        assert!(matches!(count(&long, fits + 1), Err(Excess::PathBytes(_))));
    }

    #[test]
    fn loaded_bytes_count_for_every_path() {
        let mut tree = Tree::default();
        tree.insert("a.yaml".parse().unwrap(), EntryKind::File, &vec![b'#'; 1024 * 1024]);
        let entry = tree.entries.values().next().unwrap().clone();
        for number in 1..256 {
            tree.entries.insert(format!("{number}.yaml").parse().unwrap(), entry.clone());
            tree.entries.insert(format!("{number}.bin").parse().unwrap(), entry.clone());
        }
        assert_eq!(check_loaded(&tree, is_loaded), Ok(()));
        tree.entries.insert("b.yaml".parse().unwrap(), entry);
        let excess = check_loaded(&tree, is_loaded).unwrap_err();
        assert_eq!(
            excess.to_string(),
            "its definitions, templates, Containerfiles and scripts have 269484032 bytes together, at most 268435456"
        );
    }
}
