//! What judging needs to know of one node, loaded from the store.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::order::{ManifestRef, TrustDomain};
use edgewright_model::spec::{Check, Lane};
use edgewright_model::verdict::{LaneInputs, LaneResult, Verdict};
use edgewright_plan::Graph;
use edgewright_plan::graph::Node;
use edgewright_store::{Store, StoreError};

use super::inherit::Representatives;
use super::judge::Known;
use crate::verdicts::ReleasedChecks;

/// What is known about a node's lanes.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) known: Known,
    pub(crate) representatives: Representatives,
}

impl Facts {
    /// What a domain may know of some manifests, and of the node's representatives; `inputs` are those of
    /// verdicts that count today.
    pub(crate) async fn load(
        (store, domain): (&Store, TrustDomain),
        graph: &Graph,
        node: &Node,
        inputs: &BTreeMap<Lane, LaneInputs>,
        mut digests: BTreeSet<&Digest>,
    ) -> Result<Self, StoreError> {
        let representatives = representatives((store, domain), graph, node).await?;
        digests.extend(representatives.values().map(|(_, manifest)| &manifest.digest));
        let rows =
            if digests.is_empty() { Vec::new() } else { store.newest_verdicts(&digests, domain).await? };
        Ok(Self { known: Known::of(inputs, rows), representatives })
    }
}

/// The checks that some digests were released with. Digests of which no one knows are missing.
pub(crate) async fn released_checks(
    store: &Store,
    digests: impl IntoIterator<Item = &Digest>,
) -> Result<BTreeMap<Digest, ReleasedChecks>, StoreError> {
    let mut found = BTreeMap::new();
    let mut sets: BTreeMap<Digest, Vec<Check>> = BTreeMap::new();
    for digest in digests {
        let nodes = store.nodes_of(digest).await?;
        let Some(lanes) = nodes.into_iter().find_map(|(_, node)| node.lanes) else { continue };
        let mut checks = ReleasedChecks::new();
        for lane in lanes {
            if !sets.contains_key(&lane.check_set) {
                let set = store.check_set(&lane.check_set).await?.unwrap_or_default();
                sets.insert(lane.check_set.clone(), set);
            }
            checks.insert(lane.lane, sets.get(&lane.check_set).cloned().unwrap_or_default());
        }
        found.insert(digest.clone(), checks);
    }
    Ok(found)
}

/// The manifests whose verdicts matter for judging a node whose job just found `fresh` ones. None of them
/// where every lane passed: the usual case reads nothing.
pub(crate) fn needed<'a>(
    node: &Node,
    manifest: &'a ManifestRef,
    last_good: Option<&'a ManifestRef>,
    fresh: &[Verdict],
) -> BTreeSet<&'a Digest> {
    let is_fresh = |lane| fresh.iter().any(|verdict| verdict.lane == lane);
    let is_recorded = node.lanes.iter().any(|lane| !is_fresh(lane.lane));
    let mut digests = BTreeSet::new();
    if is_recorded {
        digests.insert(&manifest.digest);
    }
    if is_recorded || fresh.iter().any(|verdict| verdict.result != LaneResult::Passed) {
        digests.extend(last_good.map(|good| &good.digest));
    }
    digests
}

async fn representatives(
    (store, domain): (&Store, TrustDomain),
    graph: &Graph,
    node: &Node,
) -> Result<Representatives, StoreError> {
    let wanted: Vec<&Node> =
        node.lanes.iter().filter_map(|lane| graph.nodes.get(lane.inherit.as_ref()?)).collect();
    if wanted.is_empty() {
        return Ok(Representatives::new());
    }
    let built = store.built(&wanted.iter().map(|node| &node.key).collect(), domain).await?;
    let representative = |node: &&Node| {
        let manifest = built.get(&node.key)?;
        Some((node.id.clone(), (node.variant()?.clone(), manifest.clone())))
    };
    Ok(wanted.iter().filter_map(representative).collect())
}
