//! What control remembers, as one value that it fills from its tables in one go.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::spec::Lane;

use crate::graph::Graph;

/// The past, as far as it matters to a plan. An empty history makes everything new.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Known builds by key: the first manifest recorded for a key is *the* manifest. Only the keys of
    /// [`Graph::keys`](crate::Graph::keys) are looked at.
    pub builds: BTreeMap<Digest, ManifestRef>,
    /// What every variant had before, per platform. Variants that are not in the graph any more are retired.
    pub variants: BTreeMap<VariantName, BTreeMap<Platform, PreviousBuild>>,
    /// Verdicts that passed, for the lane inputs (runner, profile) that a job would have now; control leaves the others out
    /// where it wants them run again.
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
    /// else is known. The manifests' digests are stand-ins.
    pub fn as_if_built(graph: &Graph) -> Self {
        let mut history = Self::default();
        for node in graph.nodes.values().filter(|node| node.unresolved.is_none()) {
            for key in node.keys() {
                let stand_in = || ManifestRef { repository: node.repository.clone(), digest: key.clone() };
                history.builds.entry(key.clone()).or_insert_with(stand_in);
            }
            let Some(variant) = node.variant() else { continue };
            let build = PreviousBuild { key: node.key.clone(), manifest: node.key.clone() };
            let platforms = history.variants.entry(variant.clone()).or_default();
            platforms.insert(node.id.platform.clone(), build);
            history.passed.extend(node.lanes.iter().map(|lane| VerdictKey {
                manifest: node.key.clone(),
                lane: lane.lane,
                check_set: lane.check_set.clone(),
            }));
        }
        history
    }

    /// What counts for a variant.
    pub(crate) fn judgement(&self, variant: Option<&VariantName>, verdict: &VerdictKey) -> Judgement {
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

/// What a verdict is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerdictKey {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// The lane.
    pub lane: Lane,
    /// Digest of the check set.
    pub check_set: Digest,
}
