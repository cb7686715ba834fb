//! What control remembers, as one value that it fills from its tables in one go.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::LaneInputs;
pub use edgewright_model::verdict::VerdictKey;

use crate::graph::{Graph, LaneChecks};

/// The past, as far as it matters to a plan. An empty history makes everything new.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Known builds by key: the first manifest recorded for a key is *the* manifest. Only the keys of
    /// [`Graph::keys`](crate::Graph::keys) are looked at.
    pub builds: BTreeMap<Digest, ManifestRef>,
    /// What every variant had before, per platform. Variants that are not in the graph any more are retired.
    pub variants: BTreeMap<VariantName, BTreeMap<Platform, PreviousBuild>>,
    /// The inputs that each lane's verdicts have today. A verdict with other inputs does not count, and in a lane that is
    /// not here none does.
    pub lane_inputs: BTreeMap<Lane, LaneInputs>,
    /// Verdicts that passed. Leaving one out tests again.
    pub passed: BTreeSet<VerdictKey>,
    /// Verdicts that failed through the *image*, with their message. Failures of the check or the infrastructure do not
    /// belong here: they are simply no verdict yet. Leaving one out (`retry`) tests again.
    pub failed: BTreeMap<VerdictKey, String>,
    /// What counts for one variant in place of `passed` and `failed`: exceptions have a scope, and what is not new depends
    /// on what the variant had before.
    pub judged: BTreeMap<(VariantName, VerdictKey), Judgement>,
    /// Keys whose step failed through the *image*, with the message. Leaving one out (`retry`) builds again.
    pub failed_builds: BTreeMap<Digest, String>,
}

impl History {
    /// The history of somebody who has built and tested all of a graph: what `plan --since REV` compares with where nothing
    /// else is known. The manifests' digests and the lane inputs are stand-ins.
    pub fn as_if_built(graph: &Graph) -> Self {
        let stand_in = |lane| (lane, LaneInputs::external());
        let lane_inputs = Lane::ALL.into_iter().map(stand_in).collect();
        let mut history = Self { lane_inputs, ..Self::default() };
        for node in graph.nodes.values().filter(|node| node.unresolved.is_none()) {
            for key in node.keys() {
                let stand_in = || ManifestRef { repository: node.repository.clone(), digest: key.clone() };
                history.builds.entry(key.clone()).or_insert_with(stand_in);
            }
            let Some(variant) = node.variant() else { continue };
            let build = PreviousBuild { key: node.key.clone(), manifest: node.key.clone() };
            let platforms = history.variants.entry(variant.clone()).or_default();
            platforms.insert(node.id.platform.clone(), build);
            let keys: Vec<VerdictKey> =
                node.lanes.iter().filter_map(|lane| history.verdict_key(&node.key, lane)).collect();
            history.passed.extend(keys);
        }
        history
    }

    /// What identifies the verdict of a lane on a manifest, as it would be found today; none where nobody runs the lane.
    pub fn verdict_key(&self, manifest: &Digest, lane: &LaneChecks) -> Option<VerdictKey> {
        let inputs = self.lane_inputs.get(&lane.lane)?;
        Some(VerdictKey {
            manifest: manifest.clone(),
            lane: lane.lane,
            check_set: lane.check_set.clone(),
            inputs: inputs.digest(),
        })
    }

    /// What counts for a variant in a lane on a manifest.
    pub(crate) fn judgement(
        &self,
        variant: Option<&VariantName>,
        manifest: &Digest,
        lane: &LaneChecks,
    ) -> Judgement {
        let Some(verdict) = &self.verdict_key(manifest, lane) else { return Judgement::Open };
        let judged = variant.and_then(|variant| self.judged.get(&(variant.clone(), verdict.clone())));
        if let Some(judged) = judged {
            return judged.clone();
        }
        match self.failed.get(verdict) {
            Some(message) => Judgement::Failed(message.clone()),
            None if self.passed.contains(verdict) => Judgement::Passed,
            None => Judgement::Open,
        }
    }
}

/// What a verdict means for one variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It passed, or an exception covers all that failed.
    Passed,
    /// It failed through the image; the message says how.
    Failed(String),
    /// There is none that counts: the lane has to run.
    Open,
}

/// A variant's earlier build for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousBuild {
    /// Its key.
    pub key: Digest,
    /// Digest of its platform manifest.
    pub manifest: Digest,
}
