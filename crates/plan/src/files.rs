//! The listing of a `files` step: which paths the layer holds, with mode, owner and content.

use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::spec::Owner;
use edgewright_model::tree::{ContentId, TreePath};

/// An entry of a `files` layer as it shall stand in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// Path in the image, without leading `/`.
    pub path: TreePath,
    /// What it is.
    pub kind: LayerKind,
    /// Its numeric owner.
    pub owner: Owner,
}

/// What an entry of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerKind {
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its bytes.
        content: Content,
    },
    /// A symbolic link.
    Link {
        /// Its target as written.
        target: String,
    },
}

/// Where an entry's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The repository, unchanged.
    Git {
        /// Their identity.
        id: ContentId,
        /// Length in bytes.
        size: u64,
    },
    /// A template, rendered.
    Rendered {
        /// The bytes.
        bytes: Arc<[u8]>,
        /// The template that they come from.
        template: ContentId,
    },
}

/// All entries of a `files` step. What does not come from templates is shared between variants.
#[derive(Debug, Clone)]
pub struct Listing {
    pub(crate) plain: Arc<Plain>,
    pub(crate) rendered: Arc<[LayerEntry]>,
    pub(crate) digest: Digest,
}

/// The entries that are the same for every variant, in path order, with their digest.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) entries: Vec<LayerEntry>,
    pub(crate) digest: Digest,
}

impl Listing {
    /// All entries in path order; paths are unique.
    pub fn entries(&self) -> Vec<&LayerEntry> {
        let mut all: Vec<&LayerEntry> = self.plain.entries.iter().chain(self.rendered.iter()).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.plain.entries.len() + self.rendered.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Digest of all entries: the input of the step.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}
