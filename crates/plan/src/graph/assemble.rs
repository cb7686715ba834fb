//! From a definition to nodes.

use edgewright_model::spec::Definition;
use edgewright_model::tree::Tree;

use super::Graph;
use crate::lock::Locks;

pub(super) fn assemble(definition: &Definition, _tree: &Tree, locks: &Locks) -> Graph {
    Graph {
        source: definition.source.name.clone(),
        nodes: Default::default(),
        blocked: Default::default(),
        broken_images: definition.broken_images.clone(),
        broken_sites: definition.broken_sites.clone(),
        doubtful_sites: Default::default(),
        unresolved: Default::default(),
        locks: locks.images.clone(),
        diagnostics: Vec::new(),
    }
}
