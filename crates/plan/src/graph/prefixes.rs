//! Which places of the trie are nodes, and the parent of each node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::names::{ImageName, Platform, SourceName, VariantName};
use edgewright_model::spec::Vars;

use super::assemble::{Path, Ready, repository};
use super::{Node, NodeId, NodeName};

/// The variants of one image at one place of the trie.
#[derive(Default)]
struct Place<'a> {
    /// The variants that pass or end here.
    members: Vec<&'a VariantName>,
    /// The number of steps up to here.
    depth: usize,
    /// The keys of their next steps.
    next: BTreeSet<&'a Digest>,
    /// Whether a variant ends here.
    ends: bool,
}

impl Place<'_> {
    fn is_node(&self) -> bool {
        self.members.len() > 1 && (self.next.len() > 1 || self.ends)
    }
}

/// All nodes: variants, and the places where two or more variants of one image branch or end.
pub(super) fn nodes(source: &SourceName, ready: &BTreeMap<VariantName, Ready>) -> BTreeMap<NodeId, Node> {
    let mut nodes = BTreeMap::new();
    let mut by_image: BTreeMap<(&ImageName, &Platform), Vec<(&VariantName, &Path)>> = BTreeMap::new();
    for (variant, made) in ready {
        for (platform, path) in &made.paths {
            by_image.entry((&variant.image, platform)).or_default().push((variant, path));
        }
    }
    // Ancestors first: the parent of a prefix is found among its members' ancestors' nodes.
    let mut order: Vec<_> = by_image.into_iter().collect();
    order.sort_by_key(|((image, _), members)| (generation(ready, members), *image));
    for ((image, platform), members) in order {
        let group = Group { source, image, platform, members: &members, ready };
        group.add_to(&mut nodes);
    }
    nodes
}

/// How many ancestors the variants of an image have.
fn generation(ready: &BTreeMap<VariantName, Ready>, members: &[(&VariantName, &Path)]) -> usize {
    let first = members.first().map(|(variant, _)| *variant);
    let parent = |variant: &&VariantName| ready.get(*variant).and_then(|made| made.parent.as_ref());
    std::iter::successors(first, parent).count()
}

/// The variants of one image for one platform.
struct Group<'a> {
    source: &'a SourceName,
    image: &'a ImageName,
    platform: &'a Platform,
    members: &'a [(&'a VariantName, &'a Path)],
    ready: &'a BTreeMap<VariantName, Ready>,
}

impl<'a> Group<'a> {
    fn add_to(&self, nodes: &mut BTreeMap<NodeId, Node>) {
        let places = self.places();
        let prefixes: BTreeMap<&Digest, &Place<'_>> =
            places.iter().filter(|(_, place)| place.is_node()).map(|(key, place)| (*key, place)).collect();
        let paths: BTreeMap<&VariantName, &Path> = self.members.iter().copied().collect();
        let mut by_depth: Vec<_> = prefixes.iter().collect();
        by_depth.sort_by_key(|(_, place)| place.depth);
        for (key, place) in by_depth {
            let Some(path) = place.members.first().and_then(|member| paths.get(member)) else { continue };
            let parent =
                self.nearest(path, place.depth, &prefixes).or_else(|| self.common(&place.members, nodes));
            let node = Node {
                id: self.id(NodeName::Prefix { image: self.image.clone(), key: (*key).clone() }),
                repository: repository(self.source, self.image),
                lanes: Vec::new(),
                vars: Arc::new(Vars::new()),
                ..self.node(path, place.depth + 1, parent, nodes)
            };
            nodes.insert(node.id.clone(), node);
        }
        for (variant, path) in self.members {
            let Some(made) = self.ready.get(*variant) else { continue };
            let parent_variant = || made.parent.clone().map(|parent| self.id(NodeName::Variant(parent)));
            let parent = self.nearest(path, path.steps.len(), &prefixes).or_else(parent_variant);
            let node = Node {
                id: self.id(NodeName::Variant((*variant).clone())),
                repository: repository(self.source, variant),
                lanes: made.lanes.clone(),
                vars: Arc::clone(&made.vars),
                ..self.node(path, path.steps.len(), parent, nodes)
            };
            nodes.insert(node.id.clone(), node);
        }
    }

    fn id(&self, name: NodeName) -> NodeId {
        NodeId { name, platform: self.platform.clone() }
    }

    /// Every place that the image's own steps reach.
    fn places(&self) -> BTreeMap<&'a Digest, Place<'a>> {
        let mut places: BTreeMap<&Digest, Place<'_>> = BTreeMap::new();
        for (variant, path) in self.members {
            for (depth, step) in path.steps.iter().enumerate().skip(path.inherited) {
                let place = places.entry(&step.key).or_default();
                place.members.push(variant);
                place.depth = depth;
                match path.steps.get(depth + 1) {
                    Some(next) => drop(place.next.insert(&next.key)),
                    None => place.ends = true,
                }
            }
        }
        places
    }

    /// The nearest prefix on a path among the first `length` own steps.
    fn nearest(
        &self,
        path: &Path,
        length: usize,
        prefixes: &BTreeMap<&Digest, &Place<'_>>,
    ) -> Option<NodeId> {
        let own = path.steps.get(path.inherited..length)?;
        let step = own.iter().rev().find(|step| prefixes.contains_key(&step.key))?;
        Some(self.id(NodeName::Prefix { image: self.image.clone(), key: step.key.clone() }))
    }

    /// The nearest common ancestor of all members: their parent variant, or a prefix that their parent
    /// variants share.
    fn common(&self, members: &[&VariantName], nodes: &BTreeMap<NodeId, Node>) -> Option<NodeId> {
        let mut parents: Vec<NodeId> = members
            .iter()
            .filter_map(|member| self.ready.get(*member)?.parent.clone())
            .map(|parent| self.id(NodeName::Variant(parent)))
            .collect();
        parents.dedup();
        let line = |id: &NodeId| {
            let up = |id: &NodeId| nodes.get(id).and_then(|node| node.parent.clone());
            std::iter::successors(Some(id.clone()), up).collect::<Vec<_>>()
        };
        let first = line(parents.first()?);
        let others: Vec<BTreeSet<NodeId>> =
            parents[1..].iter().map(|id| line(id).into_iter().collect()).collect();
        first.into_iter().find(|id| others.iter().all(|line| line.contains(id)))
    }

    /// The part of a node that is determined by the first `length` steps of a path.
    fn node(
        &self,
        path: &Path,
        length: usize,
        parent: Option<NodeId>,
        nodes: &BTreeMap<NodeId, Node>,
    ) -> Node {
        let steps = &path.steps[..length];
        let inherited = parent.as_ref().and_then(|id| nodes.get(id)).map_or(0, |node| node.path.len());
        Node {
            id: self.id(NodeName::Variant(VariantName::of_image(self.image.clone()))),
            key: steps.last().map_or_else(|| path.root_key.clone(), |step| step.key.clone()),
            parent,
            base: path.base.clone(),
            root_key: path.root_key.clone(),
            path: steps.to_vec(),
            inherited,
            repository: repository(self.source, self.image),
            epoch: path.epoch,
            labels: Arc::clone(&path.labels),
            lanes: Vec::new(),
            vars: Arc::new(Vars::new()),
            unresolved: path.unresolved.clone(),
        }
    }
}
