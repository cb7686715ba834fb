//! The plan: what to do about each node of a graph, and why.
//!
//! | the node | action |
//! |---|---|
//! | its key has a known manifest, and every lane a passed verdict | [`Action::Reuse`] |
//! | its key has a known manifest, and some lane no verdict | [`Action::Test`] |
//! | its key has no known manifest | [`Action::Build`], from the longest known prefix |
//! | its key, or a lane on its manifest, failed before through the image | [`Action::Failed`]: equal input fails equally; `retry` leaves the failure out of the history |
//! | it, an ancestor or its site has errors, or it must be built on a failed parent | [`Action::Blocked`]: it keeps what it had |
//! | only the history knows it | [`Action::Retire`] |
//!
//! A variant whose own digest is known and passed stays [`Action::Reuse`] even when its parent failed: nothing has to be made
//! of the parent. Prefixes appear only where a variant below them is built and their key is not known yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::names::{Platform, SourceName, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::spec::Lane;
use serde::Serialize;

use crate::graph::{Graph, NodeId, NodeName};
use crate::history::History;
use crate::reason::Reason;
use crate::step::GraphStep;

mod decide;

/// What a commit must build, test, reuse or retire. Complete and immutable: executors make no choices.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The source.
    pub source: SourceName,
    /// What to do, by node.
    pub nodes: BTreeMap<NodeId, Planned>,
}

/// What to do about one node.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The node. Retired and blocked variants are not in the graph.
    pub id: NodeId,
    /// What to do.
    pub action: Action,
    /// Why, the most telling first; never empty.
    pub reasons: Vec<Reason>,
    /// The node's key; absent for retired and blocked variants that the graph does not hold.
    pub key: Option<Digest>,
    /// The nodes whose jobs must end well before this one starts; only nodes of this plan with a job.
    pub after: Vec<NodeId>,
    /// The nodes whose verdicts this one may inherit: their jobs must end before this one starts, well or not. Only nodes of
    /// this plan with a job.
    pub awaits: Vec<NodeId>,
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Build, then test all its lanes.
    Build {
        /// Where the build starts.
        start: Start,
        /// The steps from there. Empty where the node adds nothing to `start`: then the manifest is only mounted into the
        /// node's repository (and tested there).
        steps: Vec<Arc<GraphStep>>,
    },
    /// The digest is known: run these lanes.
    Test {
        /// The known build; its repository may differ from the node's: then mount it first.
        manifest: ManifestRef,
        /// The lanes without a verdict, in running order.
        lanes: Vec<Lane>,
    },
    /// Nothing: take the known digest (which may have to be mounted into the node's repository).
    Reuse {
        /// The known build.
        manifest: ManifestRef,
    },
    /// The variant left the source.
    Retire,
    /// Cannot be built now: it keeps what it had.
    Blocked,
    /// Known bad: the same input failed before through the image. It keeps what it had.
    Failed,
}

/// Where a build starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The node's [`base`](crate::Node::base).
    Base,
    /// A known build.
    Known {
        /// Its key.
        key: Digest,
        /// The manifest.
        manifest: ManifestRef,
    },
    /// The result of another node of this plan (one of `after`).
    After(NodeId),
}

impl Action {
    /// The name in tables and JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Build { .. } => "build",
            Self::Test { .. } => "test",
            Self::Reuse { .. } => "reuse",
            Self::Retire => "retire",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }

    /// Most work first: what a variant with several platforms is counted as.
    const fn rank(&self) -> u8 {
        match self {
            Self::Build { .. } => 0,
            Self::Test { .. } => 1,
            Self::Failed => 2,
            Self::Blocked => 3,
            Self::Reuse { .. } => 4,
            Self::Retire => 5,
        }
    }

    /// Whether a job has to run.
    pub const fn is_work(&self) -> bool {
        matches!(self, Self::Build { .. } | Self::Test { .. })
    }
}

/// Plans. `previous` is the graph that the history's builds come from (the last planned commit, or `--since REV`): with it
/// reasons say what changed.
pub fn plan(graph: &Graph, history: &History, previous: Option<&Graph>) -> Plan {
    decide::decide(graph, history, previous)
}

impl Plan {
    /// The nodes with a job, each after all those it waits for; equal ranks by name.
    pub fn order(&self) -> Vec<&Planned> {
        let mut waiting: BTreeMap<&NodeId, usize> = self
            .nodes
            .values()
            .filter(|node| node.action.is_work())
            .map(|node| (&node.id, node.after.len() + node.awaits.len()))
            .collect();
        let mut followers: BTreeMap<&NodeId, Vec<&NodeId>> = BTreeMap::new();
        for node in self.nodes.values() {
            for before in node.after.iter().chain(&node.awaits) {
                followers.entry(before).or_default().push(&node.id);
            }
        }
        let mut ready: BTreeSet<&NodeId> =
            waiting.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some(id) = ready.pop_first() {
            order.extend(self.nodes.get(id));
            for follower in followers.remove(id).unwrap_or_default() {
                let Some(count) = waiting.get_mut(follower) else { continue };
                *count -= 1;
                if *count == 0 {
                    ready.insert(follower);
                }
            }
        }
        order
    }

    /// How many variants have which action, counted once per variant, the most work of its platforms first.
    pub fn summary(&self) -> Summary {
        let mut most: BTreeMap<&VariantName, &Planned> = BTreeMap::new();
        for node in self.nodes.values() {
            let Some(variant) = node.id.name.variant() else { continue };
            let known = most.entry(variant).or_insert(node);
            if node.action.rank() < known.action.rank() {
                *known = node;
            }
        }
        let mut summary = Summary::default();
        let mut because: BTreeMap<String, usize> = BTreeMap::new();
        for node in most.values() {
            let count = match node.action {
                Action::Build { .. } => &mut summary.build,
                Action::Test { .. } => &mut summary.test,
                Action::Reuse { .. } => &mut summary.reuse,
                Action::Retire => &mut summary.retire,
                Action::Blocked => &mut summary.blocked,
                Action::Failed => &mut summary.failed,
            };
            *count += 1;
            if node.action.is_work()
                && let Some(reason) = node.reasons.first()
                && !matches!(reason, Reason::ParentChanges { .. })
            {
                *because.entry(reason.to_string()).or_default() += 1;
            }
        }
        let mut because: Vec<(String, usize)> = because.into_iter().collect();
        because.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        summary.because = because.into_iter().map(|(reason, _)| reason).collect();
        summary
    }
}

/// A plan in numbers. Prints as `builds 7 of 214 variants, because files sites/plant-a/files changed: etc/motd`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Variants to build.
    pub build: usize,
    /// Variants to test again.
    pub test: usize,
    /// Variants that stay.
    pub reuse: usize,
    /// Variants that leave.
    pub retire: usize,
    /// Variants that cannot be built.
    pub blocked: usize,
    /// Variants that are known bad.
    pub failed: usize,
    /// Distinct reasons of builds and tests, the most frequent first, without those that only pass on a parent's change.
    pub because: Vec<String>,
}

/// How many reasons a summary names.
const SUMMARY_REASONS: usize = 3;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.build + self.test + self.reuse + self.blocked + self.failed;
        let variants = if all == 1 { "variant" } else { "variants" };
        write!(f, "builds {} of {all} {variants}", self.build)?;
        for (count, words) in [
            (self.test, "tests"),
            (self.retire, "retires"),
            (self.blocked, "cannot build"),
            (self.failed, "leaves out as known bad"),
        ] {
            if count > 0 {
                write!(f, ", {words} {count}")?;
            }
        }
        if !self.because.is_empty() {
            write!(f, ", because {}", self.because[..self.because.len().min(SUMMARY_REASONS)].join("; "))?;
            if self.because.len() > SUMMARY_REASONS {
                write!(f, " (+{} more)", self.because.len() - SUMMARY_REASONS)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

/// A planned node as `edgewright plan --json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    node: &'a NodeName,
    kind: &'static str,
    platform: &'a Platform,
    action: &'static str,
    /// The reasons in words.
    reason: String,
    /// The reasons as data.
    reasons: &'a [Reason],
    key: Option<&'a Digest>,
    /// How many steps a build executes.
    steps: usize,
    after: Vec<String>,
}

impl Planned {
    /// All reasons in words.
    pub fn reason(&self) -> String {
        self.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// A list of rows in node order.
impl Serialize for Plan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.nodes.values().map(|node| Row {
            node: &node.id.name,
            kind: if node.id.name.variant().is_some() { "variant" } else { "prefix" },
            platform: &node.id.platform,
            action: node.action.name(),
            reason: node.reason(),
            reasons: &node.reasons,
            key: node.key.as_ref(),
            steps: if let Action::Build { steps, .. } = &node.action { steps.len() } else { 0 },
            after: node.after.iter().map(|id| id.name.to_string()).collect(),
        }))
    }
}
