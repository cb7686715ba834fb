//! The recorded builds and verdicts, as one value that control fills from its tables.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::LaneInputs;
pub use edgewright_model::verdict::VerdictKey;

use crate::graph::{Graph, LaneChecks};

/// The past as far as a plan needs it. With an empty history everything is new.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Known builds by key: the first manifest recorded for a key is *the* manifest. Only the keys of
    /// [`Graph::keys`](crate::Graph::keys) are needed.
    pub builds: BTreeMap<Digest, ManifestRef>,
    /// The last build of every variant, per platform. Variants that are no longer in the graph are retired.
    pub variants: BTreeMap<VariantName, BTreeMap<Platform, PreviousBuild>>,
    /// The current inputs of each lane's verdicts. A verdict with other inputs does not count, and in a lane
    /// that is not in the map none does.
    pub lane_inputs: BTreeMap<Lane, LaneInputs>,
    /// Verdicts that passed. Without a verdict its lane runs again.
    pub passed: BTreeSet<VerdictKey>,
    /// Verdicts that failed because of the *image*, with their message. Failures of the check or the
    /// infrastructure do not belong here: they do not count as verdicts. Without the entry (`retry`) the lane
    /// runs again.
    pub failed: BTreeMap<VerdictKey, String>,
    /// The judgement for one variant in place of `passed` and `failed`: exceptions have a scope, and whether
    /// a failure is new depends on the variant's previous build.
    pub judged: BTreeMap<(VariantName, VerdictKey), Judgement>,
    /// Keys whose step failed because of the *image*, with the message. Without the entry (`retry`) the step
    /// is built again.
    pub failed_builds: BTreeMap<Digest, String>,
}

impl History {
    /// The history in which all of a graph was built and passed: `plan --since REV` compares with it if
    /// nothing else is known. The manifests' digests and the lane inputs are placeholders.
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

    /// The key of a lane's present verdict on a manifest; `None` if no executor runs the lane.
    pub fn verdict_key(&self, manifest: &Digest, lane: &LaneChecks) -> Option<VerdictKey> {
        let inputs = self.lane_inputs.get(&lane.lane)?;
        Some(VerdictKey {
            manifest: manifest.clone(),
            lane: lane.lane,
            check_set: lane.check_set.clone(),
            inputs: lane.inputs(inputs).digest(),
        })
    }

    /// The judgement for a variant in a lane on a manifest.
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

/// The meaning of a verdict for one variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It passed, or an exception covers all that failed.
    Passed,
    /// It failed because of the image, with this message.
    Failed(String),
    /// No verdict counts: the lane must run.
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
