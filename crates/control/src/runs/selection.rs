//! A run that makes no release and moves no channel: of some variants or lanes only, of files that are not
//! committed, or of an update that a channel waits for.

use std::collections::BTreeSet;

use edgewright_model::names::VariantName;
use edgewright_model::run::{ReleaseNumber, RunNumber};
use edgewright_model::spec::Lane;
use edgewright_plan::graph::NodeId;
use edgewright_plan::{Action, Graph, History, Plan};

/// Why a run makes no release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NoRelease {
    /// Only some variants or lanes are run.
    #[default]
    Narrowed,
    /// The files are not committed.
    Uncommitted,
    /// `run --watch` builds and tests every change.
    Watching,
}

impl NoRelease {
    /// In words, as a run shows it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Narrowed => "only some variants or lanes were run: no release",
            Self::Uncommitted => "the files are not committed: no release",
            Self::Watching => "`--watch` builds and tests only: no release",
        }
    }
}

/// What of a plan a run does. Such a run makes no release. The default is the whole plan.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Why there is no release.
    pub why: NoRelease,
    /// The variants; all where empty.
    pub variants: BTreeSet<VariantName>,
    /// The lanes, run whatever is known already; those that have no verdict yet where empty.
    pub lanes: BTreeSet<Lane>,
    /// Whether machines of the container lane stay when their checks are done.
    pub keep: bool,
    /// The update that is tested, if it is not the one from what the branch released last.
    pub update: Option<UpdateTest>,
}

/// An update to a release that is there.
#[derive(Debug, Clone, Copy)]
pub struct UpdateTest {
    /// The run that built the images that devices would get: its locks are taken.
    pub built: RunNumber,
    /// What devices have before.
    pub from: ReleaseNumber,
}

impl Selection {
    /// Why there is no release, in words.
    pub(crate) fn words(&self) -> &'static str {
        match self.update {
            Some(_) => "it tests an update that a channel waits for: no release",
            None => self.why.words(),
        }
    }

    /// Whether lanes run that have a verdict already.
    pub(crate) fn again(&self) -> bool {
        self.keep || !self.lanes.is_empty()
    }

    /// Leaves what the selected variants stand on, with lanes of the selected variants only.
    pub(crate) fn narrow(&self, graph: &mut Graph, history: &mut History) {
        let is_wanted = |id: &NodeId| {
            id.name.variant().is_some_and(|name| self.variants.is_empty() || self.variants.contains(name))
        };
        let needed: BTreeSet<NodeId> = graph
            .nodes
            .values()
            .filter(|node| is_wanted(&node.id))
            .flat_map(|node| graph.line(node).map(|node| node.id.clone()))
            .collect();
        graph.nodes.retain(|id, _| needed.contains(id));
        for (id, node) in &mut graph.nodes {
            let wanted = is_wanted(id);
            node.lanes.retain(|lane| wanted && (self.lanes.is_empty() || self.lanes.contains(&lane.lane)));
        }
        graph.blocked.retain(|name, _| self.variants.is_empty() || self.variants.contains(name));
        // Someone who tries something wants to see it fail again.
        history.failed.clear();
        if self.again() {
            history.passed.clear();
        }
    }

    /// Variants that were left out are not gone.
    pub(crate) fn keep_declared(&self, plan: &mut Plan) {
        if !self.variants.is_empty() {
            plan.nodes.retain(|_, node| !matches!(node.action, Action::Retire));
        }
    }
}
