//! The graph: every variant, and every prefix that two or more variants share, as nodes with keys.
//!
//! A variant is a path of steps: its parent variant's path, its own steps, then site, site × image and slot
//! files. All paths together form a trie by key. Nodes are the ends of variants, and the places where the
//! paths of variants of one image branch (or where two of them end), so that the steps that sites share are
//! built once, by a separate job.
//!
//! ```text
//!  scratch ─ bootstrap ─ files ┄ base ─ containerfile ─ files ┄ hmi~1a2b… ┬ site files ┄ hmi/plant-a
//!                                                                         └ site files ┄ hmi/plant-b
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::format::Diagnostic;
use edgewright_model::lock::LockRequest;
use edgewright_model::names::{ImageName, Platform, SiteName, SourceName, VariantName};
use edgewright_model::order::{Base, ManifestRef};
use edgewright_model::reference::{ImageReference, RepoName};
use edgewright_model::spec::{Check, Definition, Lane, Vars, VmSpec};
use edgewright_model::tools::ToolVersions;
use edgewright_model::tree::Tree;
use edgewright_model::verdict::LaneInputs;
use jiff::Timestamp;
use serde::Serialize;

use crate::lock::{EffectiveLock, Locks};
use crate::step::GraphStep;

mod assemble;
mod exposed;
mod inherit;
mod prefixes;
mod steps;

/// The name of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeName {
    /// A variant.
    Variant(VariantName),
    /// A prefix that variants of one image share. Has no lanes.
    Prefix {
        /// The image whose steps it ends with.
        image: ImageName,
        /// Its key.
        key: Digest,
    },
}

impl NodeName {
    /// The image that the node belongs to.
    pub const fn image(&self) -> &ImageName {
        match self {
            Self::Variant(variant) => &variant.image,
            Self::Prefix { image, .. } => image,
        }
    }

    /// The variant; `None` for a prefix.
    pub const fn variant(&self) -> Option<&VariantName> {
        match self {
            Self::Variant(variant) => Some(variant),
            Self::Prefix { .. } => None,
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variant(variant) => variant.fmt(f),
            Self::Prefix { image, key } => f.pad(&format!("{image}~{}", key.short())),
        }
    }
}

/// A node of the graph: a name and a platform. Prints as `hmi/plant-a (linux/amd64)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The node's name.
    pub name: NodeName,
    /// The node's platform.
    pub platform: Platform,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.platform)
    }
}

/// Everything that a commit declares, with keys.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The source.
    pub source: SourceName,
    /// Every node that can be built.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Variants that cannot be built, each with its reason; they block only their descendants, which are in
    /// this map, too.
    pub blocked: BTreeMap<VariantName, Blocked>,
    /// Images with errors of their own: their variants are unknown, so none of them is retired.
    pub broken_images: BTreeSet<ImageName>,
    /// Sites with errors of their own: their variants are unknown, so none of them is retired.
    pub broken_sites: BTreeSet<SiteName>,
    /// Sites that have a slot with a broken image: a variant of such a site may be needed by it, so it is not
    /// retired.
    pub doubtful_sites: BTreeMap<SiteName, ImageName>,
    /// Images that need a lock and have none for their present request. Their nodes and descendants have
    /// provisional keys.
    pub unresolved: BTreeMap<ImageName, LockRequest>,
    /// The locks that are part of the keys.
    pub locks: BTreeMap<ImageName, EffectiveLock>,
    /// The programs that execute steps.
    pub tools: ToolVersions,
    /// Errors found while planning, each once: templates, ignore files, contexts.
    pub diagnostics: Vec<Diagnostic>,
    /// Warnings found while planning, each once: secrets that every user could read.
    pub warnings: Vec<Diagnostic>,
}

/// Why a declared variant cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The reason, as text.
    pub reason: String,
    /// The platforms that it is declared for.
    pub platforms: Vec<Platform>,
}

/// A node: one image that can be built for one platform.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name and platform.
    pub id: NodeId,
    /// The key of the whole image: of its last step, or `root_key` where there is no step at all.
    pub key: Digest,
    /// The nearest node on the way from the base: the parent variant, or a prefix.
    pub parent: Option<NodeId>,
    /// The base of the whole path.
    pub base: GraphBase,
    /// `key_0`: the key of the base alone.
    pub root_key: Digest,
    /// Every step from the base on.
    pub path: Vec<Arc<GraphStep>>,
    /// How many steps of `path` belong to `parent`.
    pub inherited: usize,
    /// The repository that takes the result.
    pub repository: RepoName,
    /// `created` of the config and upper bound of file times of the node's own steps.
    pub epoch: Timestamp,
    /// OCI labels that each of its own steps sets; part of the steps' keys.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Lanes with their check sets, in running order; none for prefixes and with `test: none`.
    pub lanes: Vec<LaneChecks>,
    /// Variables as templates see them; empty for prefixes.
    pub vars: Arc<Vars>,
    /// The image whose missing lock makes the key provisional; `None` if the node can be built.
    pub unresolved: Option<ImageName>,
}

/// A lane with all the checks that apply in it.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneChecks {
    /// The lane.
    pub lane: Lane,
    /// The checks, in id order.
    pub checks: Arc<[Check]>,
    /// Their digest ([`check_set_digest`](edgewright_model::order::check_set_digest)).
    pub check_set: Digest,
    /// The node that runs the lane for this one, if that is declared (`test: {inherit: …}`).
    pub inherit: Option<NodeId>,
    /// The time limit for an external verdict, if the image sets one; only in the lane `external`.
    pub within: Option<Span>,
    /// The machine, in lanes with a kernel.
    pub vm: Option<VmSpec>,
    /// The variant whose release the lane needs, in such lanes.
    pub of: Option<VariantName>,
    /// The released manifest, in lanes that need one: [`Graph::compare_with`]. Without it the lane does
    /// nothing.
    pub from: Option<ManifestRef>,
    /// The same of the node in `inherit`.
    pub inherited_from: Option<Digest>,
}

impl LaneChecks {
    /// The digest that the machine runs before, or after.
    pub fn from_digest(&self) -> Option<&Digest> {
        self.from.as_ref().map(|from| &from.digest)
    }

    /// The lane as the node in `inherit` runs it.
    #[must_use]
    pub fn as_inherited(&self) -> Self {
        let like = |(from, digest): (ManifestRef, Digest)| ManifestRef { digest, ..from };
        let from = self.from.clone().zip(self.inherited_from.clone()).map(like);
        Self { from, ..self.clone() }
    }

    /// The inputs of this lane's verdicts, where `today` are those of its lane: the image chooses the virtual
    /// machine, and its history what the machine ran before.
    pub fn inputs(&self, today: &LaneInputs) -> LaneInputs {
        let today = today.clone().with_from(self.from_digest().cloned());
        match &self.vm {
            Some(vm) => LaneInputs { profile: vm.chosen(self.lane, &today.profile), ..today },
            None => today,
        }
    }
}

/// The base of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphBase {
    /// Nothing.
    Scratch,
    /// An image in another registry.
    External {
        /// As declared.
        reference: ImageReference,
        /// The locked digest; `None` while the lock is not resolved.
        digest: Option<Digest>,
    },
}

impl GraphBase {
    /// The base for a job's order; `None` while its lock is not resolved.
    pub fn order(&self) -> Option<Base> {
        match self {
            Self::Scratch => Some(Base::Scratch),
            Self::External { reference, digest } => Some(Base::External {
                registry: reference.registry.clone(),
                repository: reference.repository.clone(),
                digest: digest.clone()?,
            }),
        }
    }
}

impl Node {
    /// The steps from the parent node to this one.
    pub fn steps(&self) -> &[Arc<GraphStep>] {
        &self.path[self.inherited..]
    }

    /// The keys of all prefixes of the path, longest first, the base's own last.
    pub fn keys(&self) -> impl Iterator<Item = &Digest> {
        self.path.iter().rev().map(|step| &step.key).chain([&self.root_key])
    }

    /// The variant; `None` for a prefix.
    pub const fn variant(&self) -> Option<&VariantName> {
        self.id.name.variant()
    }
}

impl Graph {
    /// Every key of the graph, to look up a history's builds.
    pub fn keys(&self) -> BTreeSet<&Digest> {
        self.nodes.values().flat_map(Node::keys).collect()
    }

    /// The variants that can be built, in name order.
    pub fn variants(&self) -> BTreeSet<&VariantName> {
        self.nodes.values().filter_map(Node::variant).collect()
    }

    /// Names the manifest that lanes need which update a device: what is released of the same variant, or of
    /// another role. A lane is left out where the variant's own digest (by `builds`) is the released one: a
    /// device has nothing to do then.
    pub fn compare_with(
        &mut self,
        builds: &BTreeMap<Digest, ManifestRef>,
        released: impl Fn(&VariantName, &Platform) -> Option<ManifestRef>,
    ) {
        for node in self.nodes.values_mut() {
            let present = builds.get(&node.key).map(|build| &build.digest);
            for lane in &mut node.lanes {
                lane.from = lane.of.as_ref().and_then(|of| released(of, &node.id.platform));
            }
            node.lanes.retain(|lane| lane.from.is_none() || lane.from_digest() != present);
        }
        self.inherit_releases();
    }

    /// Notes in inheriting lanes what the machines of their representatives ran before.
    fn inherit_releases(&mut self) {
        let of = |node: &Node| {
            let lanes = node.lanes.iter().filter(|lane| lane.of.is_some());
            lanes.map(|lane| ((node.id.clone(), lane.lane), lane.from_digest().cloned())).collect::<Vec<_>>()
        };
        let known: BTreeMap<(NodeId, Lane), Option<Digest>> = self.nodes.values().flat_map(of).collect();
        for lane in self.nodes.values_mut().flat_map(|node| &mut node.lanes).filter(|lane| lane.of.is_some())
        {
            let Some(representative) = lane.inherit.take() else { continue };
            match known.get(&(representative.clone(), lane.lane)) {
                // Both or none have something to start from: they run the same.
                Some(from) if from.is_some() == lane.from.is_some() => {
                    (lane.inherit, lane.inherited_from) = (Some(representative), from.clone());
                }
                // It runs nothing of which this could inherit the result.
                _ => {}
            }
        }
    }

    /// A node and all its ancestors, the node first.
    pub fn line<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        std::iter::successors(Some(node), |node| self.nodes.get(node.parent.as_ref()?))
    }

    /// The node of a variant for a platform.
    pub fn variant(&self, variant: &VariantName, platform: &Platform) -> Option<&Node> {
        let name = NodeName::Variant(variant.clone());
        self.nodes.get(&NodeId { name, platform: platform.clone() })
    }
}

/// Builds the graph of a commit. Never fails: what cannot be built is in [`Graph::blocked`] and
/// [`Graph::diagnostics`].
pub fn graph(definition: &Definition, tree: &Tree, locks: &Locks) -> Graph {
    assemble::assemble(definition, tree, locks)
}

impl Serialize for NodeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
