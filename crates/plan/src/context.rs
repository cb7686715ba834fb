//! The build context of a `containerfile` step: which entries of the tree the Containerfile can see.

use edgewright_model::tree::{ContentId, EntryKind, TreePath};

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
