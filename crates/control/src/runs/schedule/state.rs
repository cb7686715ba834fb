//! What a schedule knows: every node's stage, who waits for whom, and what is outstanding.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::run::{NodeState, RunNumber};
use edgewright_plan::NodeId;
use edgewright_plan::history::VerdictKey;
use jiff::Timestamp;

use super::{End, Job, Limits, NodeFacts, Position};

/// A node's place in [`Schedule::nodes`], which are in the plan's order.
pub(super) type Index = usize;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for other nodes, for a time, or for its turn.
    Waiting,
    /// The executor is asked whether its job may start.
    Admitting,
    /// Its job works.
    Running,
    /// What is known of its lanes is being judged.
    Judging,
    /// Its end is being recorded.
    Settling(End),
    /// It waits for comparisons with the last good digest.
    Comparing,
    /// It waits for a verdict that others post.
    Awaiting,
    /// Its job was stopped.
    Stopped,
    /// It is over.
    Ended(NodeState),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) stage: Stage,
    pub(super) after: Vec<Index>,
    pub(super) awaits: Vec<Index>,
    /// The nodes that have this one in `after` or `awaits`.
    pub(super) dependents: Vec<Index>,
    pub(super) inherits_external: bool,
    pub(super) attempts: u32,
    /// When it may start at the earliest.
    pub(super) not_before: Option<Timestamp>,
    /// Until when others may post a verdict; kept while the node is judged again.
    pub(super) until: Option<Timestamp>,
    /// Whether its row records that it waits for a comparison.
    pub(super) is_comparing: bool,
    /// The verdicts that its comparison misses.
    pub(super) missing: BTreeSet<VerdictKey>,
}

/// A comparison that nodes wait for.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) stage: ComparisonStage,
    /// The nodes that miss its verdict; the first asked for it.
    pub(super) waiters: Vec<Index>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComparisonStage {
    Waiting { not_before: Option<Timestamp> },
    Admitting,
    Running,
}

/// The check for posted verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Due(Timestamp),
    Outstanding,
}

/// The schedule of one run.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(super) limits: Limits,
    pub(super) nodes: Vec<Node>,
    pub(super) index: BTreeMap<NodeId, Index>,
    /// Waiting nodes that nothing holds back.
    pub(super) ready: BTreeSet<Index>,
    /// Waiting nodes that only time holds back.
    pub(super) delayed: BTreeSet<(Timestamp, Index)>,
    /// Nodes in [`Stage::Awaiting`], by the end of their time.
    pub(super) awaiting: BTreeSet<(Timestamp, Index)>,
    pub(super) comparisons: BTreeMap<VerdictKey, Comparison>,
    /// Comparisons that were tried: none is tried twice by one schedule, whether or not it found a verdict.
    pub(super) compared: BTreeSet<VerdictKey>,
    pub(super) admitting: Option<Job>,
    pub(super) check: Check,
    pub(super) newer: Option<RunNumber>,
    /// Actions that no event answered yet.
    pub(super) outstanding: usize,
    /// Nodes that are not over.
    pub(super) open: usize,
    pub(super) has_begun: bool,
    pub(super) is_stopping: bool,
}

/// What a waiting node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Start,
    Wait,
    Block(Index),
}

impl Schedule {
    /// A schedule of nodes in the plan's order. Names in `after` and `awaits` that are no nodes of the run
    /// hold nothing back.
    pub(crate) fn new(facts: Vec<NodeFacts>, limits: Limits) -> Self {
        let index: BTreeMap<NodeId, Index> =
            facts.iter().enumerate().map(|(place, node)| (node.id.clone(), place)).collect();
        let places =
            |ids: &[NodeId]| -> Vec<Index> { ids.iter().filter_map(|id| index.get(id).copied()).collect() };
        let mut nodes: Vec<Node> = Vec::with_capacity(facts.len());
        for facts in facts {
            let (stage, not_before, until) = match facts.position {
                Position::Waiting { not_before } => (Stage::Waiting, not_before, None),
                Position::Comparing => (Stage::Comparing, None, None),
                Position::Awaiting { until } => (Stage::Awaiting, None, Some(until)),
                Position::Ended(state) => (Stage::Ended(state), None, None),
            };
            nodes.push(Node {
                is_comparing: stage == Stage::Comparing,
                stage,
                after: places(&facts.after),
                awaits: places(&facts.awaits),
                id: facts.id,
                dependents: Vec::new(),
                inherits_external: facts.inherits_external,
                attempts: facts.attempts,
                not_before,
                until,
                missing: BTreeSet::new(),
            });
        }
        for place in 0..nodes.len() {
            let before: Vec<Index> = nodes[place].after.iter().chain(&nodes[place].awaits).copied().collect();
            for other in before {
                nodes[other].dependents.push(place);
            }
        }
        let open = nodes.iter().filter(|node| !matches!(node.stage, Stage::Ended(_))).count();
        Self {
            limits,
            nodes,
            index,
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            awaiting: BTreeSet::new(),
            comparisons: BTreeMap::new(),
            compared: BTreeSet::new(),
            admitting: None,
            check: Check::Due(Timestamp::MIN),
            newer: None,
            outstanding: 0,
            open,
            has_begun: false,
            is_stopping: false,
        }
    }

    /// The comparisons that were tried: a verdict that none of them found is not to be had now.
    pub(crate) const fn compared(&self) -> &BTreeSet<VerdictKey> {
        &self.compared
    }

    /// The nodes that wait for verdicts which others post.
    pub(crate) fn awaiting(&self) -> impl Iterator<Item = &NodeId> {
        self.awaiting.iter().map(|(_, place)| &self.nodes[*place].id)
    }

    /// What the nodes before a waiting node allow.
    pub(super) fn next(&self, place: Index) -> Next {
        let node = &self.nodes[place];
        let mut next = Next::Start;
        for before in &node.after {
            match self.nodes[*before].stage {
                Stage::Ended(state) if state.is_good() => {}
                Stage::Ended(_) => return Next::Block(*before),
                _ => next = Next::Wait,
            }
        }
        // A job's verdicts are recorded when it is settled: before, there is nothing to inherit. Only a
        // verdict that others post comes later, and only heirs of that verdict wait for it.
        let is_open = |other: &Node| match other.stage {
            Stage::Ended(_) => false,
            _ => other.until.is_none() || node.inherits_external,
        };
        if next == Next::Start && node.awaits.iter().any(|other| is_open(&self.nodes[*other])) {
            next = Next::Wait;
        }
        next
    }
}
