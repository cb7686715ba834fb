//! The rules of the table in the module above.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::VariantName;
use edgewright_model::order::ManifestRef;
use edgewright_model::spec::Lane;

use super::{Action, Plan, Planned, Start};
use crate::explain::{changed_checks, explain};
use crate::graph::{Graph, Node, NodeId, NodeName};
use crate::history::{History, Judgement};
use crate::reason::Reason;

pub(super) fn decide(graph: &Graph, history: &History, previous: Option<&Graph>) -> Plan {
    let mut decider = Decider { graph, history, previous, nodes: BTreeMap::new() };
    let mut variants: Vec<&Node> = graph.nodes.values().filter(|node| node.variant().is_some()).collect();
    variants.sort_by_key(|node| graph.line(node).count());
    for node in variants {
        let (action, reasons) = decider.variant(node);
        decider.put(&node.id, action, reasons, Some(node.key.clone()));
    }
    decider.prefixes();
    decider.waits();
    decider.absent();
    Plan { source: graph.source.clone(), nodes: decider.nodes }
}

struct Decider<'a> {
    graph: &'a Graph,
    history: &'a History,
    previous: Option<&'a Graph>,
    nodes: BTreeMap<NodeId, Planned>,
}

impl<'a> Decider<'a> {
    fn put(&mut self, id: &NodeId, action: Action, reasons: Vec<Reason>, key: Option<Digest>) {
        let planned = Planned { id: id.clone(), action, reasons, key, after: Vec::new(), awaits: Vec::new() };
        self.nodes.insert(id.clone(), planned);
    }

    /// A variant whose ancestors are decided.
    fn variant(&self, node: &Node) -> (Action, Vec<Reason>) {
        let (action, reasons) = match self.history.builds.get(&node.key) {
            Some(manifest) => self.known(node, manifest),
            None => self.unknown(node),
        };
        if action.is_work()
            && let Some(parent) = self.failed_parent(node)
        {
            return (
                Action::Blocked,
                vec![Reason::Broken { because: format!("parent {parent} is known bad") }],
            );
        }
        (action, reasons)
    }

    fn failed_parent(&self, node: &'a Node) -> Option<&'a VariantName> {
        let bad = |parent: &&Node| {
            let planned = self.nodes.get(&parent.id);
            planned.is_some_and(|planned| matches!(planned.action, Action::Failed | Action::Blocked))
        };
        self.graph.line(node).skip(1).find(bad).and_then(Node::variant)
    }

    /// A node with a known digest: only verdicts can be missing.
    fn known(&self, node: &Node, manifest: &ManifestRef) -> (Action, Vec<Reason>) {
        let mut missing = Vec::new();
        for lane in &node.lanes {
            match self.history.judgement(node.variant(), &manifest.digest, lane) {
                Judgement::Passed => {}
                Judgement::Open => missing.push(lane.lane),
                Judgement::Failed(message) => {
                    let what = format!("lane {}", lane.lane);
                    return (Action::Failed, vec![Reason::FailedBefore { what, message }]);
                }
            }
        }
        let manifest = manifest.clone();
        if missing.is_empty() {
            let reason = match self.history_key(node) {
                Some(key) if *key == node.key => vec![Reason::Unchanged],
                Some(_) => vec![Reason::KnownAlready],
                None => vec![self.absent_before(node), Reason::KnownAlready],
            };
            return (Action::Reuse { manifest }, reason);
        }
        let reasons = self.test_reasons(node, &missing);
        (Action::Test { manifest, lanes: missing }, reasons)
    }

    fn test_reasons(&self, node: &Node, missing: &[Lane]) -> Vec<Reason> {
        if self.history_key(node) != Some(&node.key) {
            let never_built_to_not_passed = |reason| match reason {
                Reason::NeverBuilt => Reason::NotPassed,
                other => other,
            };
            return self.build_reasons(node).into_iter().map(never_built_to_not_passed).collect();
        }
        let old = self.previous.and_then(|previous| previous.nodes.get(&node.id));
        let mut checks = BTreeSet::new();
        let mut reasons = Vec::new();
        for lane in missing {
            let lanes = |node: &'a Node| node.lanes.iter().find(|known| known.lane == *lane);
            let of = |node: &Node| node.lanes.iter().find(|known| known.lane == *lane).cloned();
            match (old.and_then(lanes), of(node)) {
                (Some(old), Some(new)) if old.check_set != new.check_set => {
                    checks.extend(changed_checks(&old.checks, &new.checks));
                }
                _ => reasons.push(Reason::NoVerdict { lane: *lane }),
            }
        }
        if !checks.is_empty() {
            reasons.insert(0, Reason::ChecksChanged { checks: checks.into_iter().collect() });
        }
        reasons
    }

    /// A node whose digest is not known.
    fn unknown(&self, node: &Node) -> (Action, Vec<Reason>) {
        let (start, done) = self.start(node);
        let steps = node.path[done..].to_vec();
        let failed = steps.iter().find_map(|step| Some((step, self.history.failed_builds.get(&step.key)?)));
        if let Some((step, message)) = failed {
            let reason = Reason::FailedBefore { what: step.title.clone(), message: message.clone() };
            return (Action::Failed, vec![reason]);
        }
        let mut reasons = self.build_reasons(node);
        if let Some(image) = &node.unresolved {
            // The moves are not known before the lock is.
            reasons.retain(|reason| !matches!(reason, Reason::LockMoved { .. }));
            reasons.insert(0, Reason::LockUnresolved { image: image.clone() });
        }
        (Action::Build { start, steps }, reasons)
    }

    /// The start of a build, and the number of steps before it.
    fn start(&self, node: &Node) -> (Start, usize) {
        // The keys come longest first; the first is the node's own, which is not known.
        let length = node.path.len();
        let known = node.keys().enumerate().find_map(|(shorter, key)| {
            let manifest = self.history.builds.get(key)?.clone();
            Some((Start::Known { key: key.clone(), manifest }, length - shorter))
        });
        let parent = node.parent.as_ref().and_then(|id| self.graph.nodes.get(id));
        match (known, parent) {
            (Some((start, done)), Some(parent)) if done >= parent.path.len() => (start, done),
            (_, Some(parent)) => (Start::After(parent.id.clone()), node.inherited),
            (Some(known), None) => known,
            (None, None) => (Start::Base, 0),
        }
    }

    fn build_reasons(&self, node: &Node) -> Vec<Reason> {
        let old = self.previous.and_then(|previous| Some((previous, previous.nodes.get(&node.id)?)));
        match (old, self.history_key(node)) {
            (Some((_, old)), _) if old.key == node.key => vec![Reason::NeverBuilt],
            (_, Some(key)) if *key == node.key => vec![Reason::NeverBuilt],
            (Some((previous, old)), _) => {
                let reasons = explain((previous, old), (self.graph, node));
                if reasons.is_empty() { vec![Reason::InputChanged] } else { reasons }
            }
            (None, Some(_)) => vec![Reason::InputChanged],
            (None, None) => vec![self.absent_before(node)],
        }
    }

    fn history_key(&self, node: &Node) -> Option<&'a Digest> {
        let builds = self.history.variants.get(node.variant()?)?;
        builds.get(&node.id.platform).map(|build| &build.key)
    }

    fn absent_before(&self, node: &Node) -> Reason {
        let known = node.variant().is_some_and(|variant| self.history.variants.contains_key(variant));
        if known { Reason::NewPlatform } else { Reason::NewVariant }
    }

    /// The prefixes that builds start after, and those that these start after in turn.
    fn prefixes(&mut self) {
        let mut needed: BTreeMap<NodeId, BTreeSet<VariantName>> = BTreeMap::new();
        let built = self.nodes.values().filter(|planned| matches!(planned.action, Action::Build { .. }));
        for planned in built {
            let Some(variant) = planned.id.name.variant() else { continue };
            let mut action = &planned.action;
            let mut found;
            while let Action::Build { start: Start::After(id), .. } = action {
                let Some(prefix) = self.graph.nodes.get(id).filter(|node| node.variant().is_none()) else {
                    break;
                };
                needed.entry(id.clone()).or_default().insert(variant.clone());
                let (start, done) = self.start(prefix);
                found = Action::Build { start, steps: prefix.path[done..].to_vec() };
                action = &found;
            }
        }
        for (id, variants) in needed {
            let Some(node) = self.graph.nodes.get(&id) else { continue };
            let (start, done) = self.start(node);
            let action = Action::Build { start, steps: node.path[done..].to_vec() };
            let first = variants.first().cloned();
            let reasons = first.map(|first| Reason::NeededBy { first, count: variants.len() });
            let unresolved = node.unresolved.clone().map(|image| Reason::LockUnresolved { image });
            self.put(&id, action, unresolved.into_iter().chain(reasons).collect(), Some(node.key.clone()));
        }
    }

    /// Every job waits for the nearest ancestor with a job: for its result, and so that a bad image blocks
    /// its descendants.
    fn waits(&mut self) {
        let work: BTreeSet<NodeId> =
            self.nodes.values().filter(|node| node.action.is_work()).map(|node| node.id.clone()).collect();
        for id in &work {
            let Some(node) = self.graph.nodes.get(id) else { continue };
            let before = self.graph.line(node).skip(1).find(|ancestor| work.contains(&ancestor.id));
            let representatives: BTreeSet<&NodeId> = node
                .lanes
                .iter()
                .filter_map(|lane| lane.inherit.as_ref())
                .filter(|representative| work.contains(representative))
                .collect();
            if let Some(planned) = self.nodes.get_mut(id) {
                planned.after = before.map(|ancestor| ancestor.id.clone()).into_iter().collect();
                planned.awaits = representatives.into_iter().cloned().collect();
            }
        }
    }

    /// Variants that are not in the graph: blocked, or known only to the history.
    fn absent(&mut self) {
        for (variant, blocked) in &self.graph.blocked {
            for platform in &blocked.platforms {
                let id = NodeId { name: NodeName::Variant(variant.clone()), platform: platform.clone() };
                let reason = Reason::Broken { because: blocked.reason.clone() };
                self.put(&id, Action::Blocked, vec![reason], None);
            }
        }
        for (variant, builds) in &self.history.variants {
            for platform in builds.keys() {
                let id = NodeId { name: NodeName::Variant(variant.clone()), platform: platform.clone() };
                if self.nodes.contains_key(&id) {
                    continue;
                }
                let (action, reason) = match self.doubt(variant) {
                    Some(because) => (Action::Blocked, Reason::Broken { because }),
                    None => (Action::Retire, Reason::Gone),
                };
                self.put(&id, action, vec![reason], None);
            }
        }
    }

    /// Why a variant that is not in the graph must not be retired.
    fn doubt(&self, variant: &VariantName) -> Option<String> {
        let graph = self.graph;
        if graph.broken_images.contains(&variant.image) {
            return Some(format!("image {} has errors", variant.image));
        }
        if let Some(blocked) = graph.blocked.get(variant) {
            return Some(blocked.reason.clone());
        }
        let site = variant.site.as_ref()?;
        if graph.broken_sites.contains(site) {
            return Some(format!("site {site} has errors"));
        }
        let image = graph.doubtful_sites.get(site)?;
        Some(format!("site {site} has a slot with image {image}, which has errors and may need it"))
    }
}
