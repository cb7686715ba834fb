//! The plan: the action for each node of a graph, with reasons.
//!
//! | the node | action |
//! |---|---|
//! | its key has a known manifest, and every lane a passed verdict | [`Action::Reuse`] |
//! | its key has a known manifest, and some lane no verdict | [`Action::Test`] |
//! | its key has no known manifest | [`Action::Build`], from the longest known prefix |
//! | its key, or a lane on its manifest, failed before because of the image | [`Action::Failed`] |
//! | it, an ancestor or its site has errors, or its parent failed | [`Action::Blocked`]: keeps its release |
//! | it is in the history, but not in the graph | [`Action::Retire`] |
//!
//! A variant whose own digest is known and passed stays [`Action::Reuse`] even if its parent failed: nothing
//! has to be built on the parent. A prefix is in the plan only if a variant below it is built and the
//! prefix's key is not known yet.

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

/// The actions for a commit. Complete and immutable: executors make no choices.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The source.
    pub source: SourceName,
    /// The planned nodes.
    pub nodes: BTreeMap<NodeId, Planned>,
}

/// The action for one node.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The node. Retired and blocked variants are not in the graph.
    pub id: NodeId,
    /// The action.
    pub action: Action,
    /// The reasons, the most important first; never empty.
    pub reasons: Vec<Reason>,
    /// The node's key; `None` for retired and blocked variants, which are not in the graph.
    pub key: Option<Digest>,
    /// The nodes whose jobs must succeed before this one starts; only nodes of this plan with a job.
    pub after: Vec<NodeId>,
    /// The nodes whose verdicts this one may inherit: their jobs must end before this one starts, with any
    /// result. Only nodes of this plan with a job.
    pub awaits: Vec<NodeId>,
}

/// The action.
#[derive(Debug, Clone)]
pub enum Action {
    /// Build, then test all its lanes.
    Build {
        /// The start of the build.
        start: Start,
        /// The steps from there. Empty where the node adds nothing to `start`: then the manifest is only
        /// mounted into the node's repository (and tested there).
        steps: Vec<Arc<GraphStep>>,
    },
    /// The digest is known: run only these lanes.
    Test {
        /// The known build; its repository may differ from the node's: then mount it first.
        manifest: ManifestRef,
        /// The lanes without a verdict, in running order.
        lanes: Vec<Lane>,
    },
    /// Use the known digest (which may have to be mounted into the node's repository).
    Reuse {
        /// The known build.
        manifest: ManifestRef,
    },
    /// The variant is no longer declared.
    Retire,
    /// Cannot be built now: it keeps its last release.
    Blocked,
    /// Known bad: the same input failed before because of the image. The variant keeps its last release.
    Failed,
}

/// The start of a build.
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

    /// Order by work, the most first: a variant with several platforms is counted by its first.
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

/// Plans a graph. `previous` is the graph of the history's builds (the last planned commit, or `--since
/// REV`): with it the reasons name what changed.
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

    /// The number of variants per action; a variant counts once, by the platform with the most work.
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

/// A plan in numbers. Prints as `builds 7 of 214 variants, because files sites/plant-a/files changed:
/// etc/motd`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Variants to build.
    pub build: usize,
    /// Variants to test again.
    pub test: usize,
    /// Unchanged variants.
    pub reuse: usize,
    /// Variants that are no longer declared.
    pub retire: usize,
    /// Variants that cannot be built.
    pub blocked: usize,
    /// Variants that are known bad.
    pub failed: usize,
    /// Distinct reasons of builds and tests, the most frequent first, without those that only name a changed
    /// parent.
    pub because: Vec<String>,
}

/// The number of reasons in a summary.
const SUMMARY_REASONS: usize = 3;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.build + self.test + self.reuse + self.blocked + self.failed;
        let variants = if all == 1 { "variant" } else { "variants" };
        write!(f, "builds {} of {all} {variants}", self.build)?;
        for (count, verb, what) in [
            (self.test, "tests", ""),
            (self.retire, "retires", ""),
            (self.blocked, "cannot build", ""),
            (self.failed, "skips", " known bad"),
        ] {
            if count > 0 {
                write!(f, ", {verb} {count}{what}")?;
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
    /// The reasons as text.
    reason: String,
    /// The reasons as data.
    reasons: &'a [Reason],
    key: Option<&'a Digest>,
    /// The number of steps that a build executes.
    steps: usize,
    after: Vec<String>,
}

impl Planned {
    /// The node's name for tables. While a lock is missing the key of a prefix is provisional, and the run
    /// has another one: then the name has no key.
    pub fn display_name(&self) -> String {
        let is_provisional =
            self.reasons.iter().any(|reason| matches!(reason, Reason::LockUnresolved { .. }));
        match &self.id.name {
            NodeName::Prefix { image, .. } if is_provisional => format!("{image}~"),
            name => name.to_string(),
        }
    }

    /// All reasons as text.
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
