//! From a tree's YAML to a [`Definition`], with every error of the repository at once.

use crate::spec::Definition;
use crate::tree::{Tree, TreePath};

/// One error or warning, with its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic {
    /// Where; absent for the repository as a whole.
    pub file: Option<TreePath>,
    /// First line and column, from 1, and the length of the underlined text in characters.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters to underline, at least 1.
    pub length: u32,
}

/// What a tree declares, and all that is wrong with it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The definition; absent only where `edgewright.yaml` itself is missing or broken.
    pub definition: Option<Definition>,
    /// All errors, in file order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a tree.
pub fn parse(tree: &Tree) -> Parsed {
    let _ = tree;
    Parsed { definition: None, diagnostics: Vec::new() }
}
