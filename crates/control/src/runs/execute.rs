//! Jobs in the plan's order: as many at once as the machine does well; a failure stops only what stands on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::names::Platform;
use edgewright_model::outcome::JobFailure;
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_model::spec::Lane;
use edgewright_plan::{NodeId, NodeName};
use edgewright_store::nodes::{NodeChange, NodeRow};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;

use super::Driver;
use super::prepare::Prepared;
use super::waiting::awaited_until;
use crate::ControlError;
use crate::events::RunEventKind;

/// What the loop knows of a node.
struct Progress {
    state: NodeState,
    after: Vec<NodeId>,
    /// Those whose verdicts it may inherit: they only have to be tested.
    awaits: Vec<NodeId>,
    /// Whether the verdict of somebody else is one of those.
    awaits_external: bool,
    attempts: u32,
    not_before: Option<Timestamp>,
    /// Until when it waits for a verdict of somebody else; it is built and takes no slot.
    until: Option<Timestamp>,
}

/// How a job left its node.
pub(crate) struct NodeEnd {
    pub(crate) id: NodeId,
    pub(crate) state: NodeState,
    pub(crate) not_before: Option<Timestamp>,
    /// Until when it waits for a verdict of somebody else.
    pub(crate) awaits: Option<Timestamp>,
}

/// What to do about a waiting node now.
#[derive(Debug, PartialEq, Eq)]
enum Next<'a> {
    Start,
    Wait,
    Block(&'a NodeId),
}

impl Driver<'_> {
    /// Works until no node waits or runs. Cancelled, it ends its jobs, marks what is left and returns.
    pub(crate) async fn execute(&self, prepared: &Arc<Prepared>) -> Result<(), ControlError> {
        let mut nodes = self.progress(prepared).await?;
        let mut jobs = FuturesUnordered::new();
        loop {
            let now = self.clock.now();
            let mut wake: Option<Timestamp> = None;
            let waiting: Vec<NodeId> = nodes
                .iter()
                .filter(|(_, node)| node.state == NodeState::Waiting)
                .map(|(id, _)| id.clone())
                .collect();
            for id in waiting {
                let node = &nodes[&id];
                if let Some(until) = node.until {
                    if let Some(end) = self.settle(prepared, &id, until).await? {
                        set(&mut nodes, &id, end.state);
                    } else {
                        let look = now.checked_add(self.settings.retry_after).unwrap_or(until);
                        wake = Some(wake.map_or(look, |wake| wake.min(look)));
                    }
                    continue;
                }
                match next(&nodes, node) {
                    Next::Block(cause) => {
                        let failure = blocked_by(self.run.number, cause);
                        self.block(&id, &failure).await?;
                        set(&mut nodes, &id, NodeState::Blocked);
                    }
                    Next::Start => {
                        if let Some(at) = node.not_before.filter(|at| *at > now) {
                            wake = Some(wake.map_or(at, |wake| wake.min(at)));
                        } else {
                            let attempt = node.attempts + 1;
                            jobs.push(self.run_node(Arc::clone(prepared), id.clone(), attempt));
                            set(&mut nodes, &id, NodeState::Running);
                        }
                    }
                    Next::Wait => {}
                }
            }
            // Blocking a node may block its children: look again before waiting.
            // Settling one may let others start.
            let ready = |node: &Progress| match next(&nodes, node) {
                Next::Block(_) => true,
                Next::Start => node.not_before.is_none_or(|at| at <= now),
                Next::Wait => false,
            };
            let again =
                |node: &Progress| node.state == NodeState::Waiting && node.until.is_none() && ready(node);
            if nodes.values().any(again) {
                continue;
            }
            if jobs.is_empty() && wake.is_none() {
                return Ok(());
            }
            let pause =
                wake.map_or(Duration::MAX, |at| at.duration_since(now).try_into().unwrap_or(Duration::ZERO));
            tokio::select! {
                Some(end) = jobs.next() => {
                    let end: NodeEnd = match end {
                        Ok(end) => end,
                        Err(error) => {
                            if matches!(error, ControlError::Stopped) {
                                // The other jobs were told to stop, too: let them clean up.
                                while jobs.next().await.is_some() {}
                            }
                            return Err(error);
                        }
                    };
                    if let Some(node) = nodes.get_mut(&end.id) {
                        node.state = end.state;
                        node.not_before = end.not_before;
                        node.until = end.awaits;
                        node.attempts += 1;
                    }
                }
                () = tokio::time::sleep(pause.min(LONGEST_SLEEP)) => {}
                () = self.cancel.cancelled(), if jobs.is_empty() => return Err(ControlError::Stopped),
            }
        }
    }

    async fn progress(&self, prepared: &Prepared) -> Result<BTreeMap<NodeId, Progress>, ControlError> {
        let rows: BTreeMap<(String, Platform), NodeRow> = self
            .store
            .own_nodes(self.run.number)
            .await?
            .into_iter()
            .map(|row| ((row.node.clone(), row.platform.clone()), row))
            .collect();
        let mut nodes = BTreeMap::new();
        for id in prepared.graph.nodes.keys() {
            let Some(row) = rows.get(&(id.name.to_string(), id.platform.clone())) else { continue };
            // After a restart the new plan may not hold a node that is done; its row tells.
            let planned = prepared.plan.nodes.get(id);
            let after = planned.map_or_else(Vec::new, |node| node.after.clone());
            let awaits = planned.map_or_else(Vec::new, |node| node.awaits.clone());
            let lanes = prepared.graph.nodes.get(id).map_or(&[][..], |node| &node.lanes);
            let awaits_external =
                lanes.iter().any(|lane| lane.lane == Lane::External && lane.inherit.is_some());
            let state = if row.state == NodeState::Running { NodeState::Waiting } else { row.state };
            let until = awaited_until(&row.notes).filter(|_| row.state == NodeState::Waiting);
            let (attempts, not_before) = (row.attempts, row.not_before);
            let progress = Progress { state, after, awaits, awaits_external, attempts, not_before, until };
            nodes.insert(id.clone(), progress);
        }
        Ok(nodes)
    }

    async fn block(&self, id: &NodeId, failure: &JobFailure) -> Result<(), ControlError> {
        let name = id.name.to_string();
        let change = NodeChange { failure: Some(failure), ..NodeChange::default() };
        let key = (name.as_str(), &id.platform);
        let now = self.clock.now();
        self.store
            .move_node(self.run.number, key, NodeState::Waiting, NodeState::Blocked, change, now)
            .await?;
        self.tell(id, NodeState::Blocked, Some(failure.clone()));
        Ok(())
    }

    pub(crate) fn tell(&self, id: &NodeId, state: NodeState, failure: Option<JobFailure>) {
        let kind =
            RunEventKind::Node { node: id.name.to_string(), platform: id.platform.clone(), state, failure };
        self.events.send(self.run.number, kind);
    }
}

/// Sleeps are cut so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

fn set(nodes: &mut BTreeMap<NodeId, Progress>, id: &NodeId, state: NodeState) {
    if let Some(node) = nodes.get_mut(id) {
        node.state = state;
    }
}

fn next<'a>(nodes: &BTreeMap<NodeId, Progress>, node: &'a Progress) -> Next<'a> {
    let mut next = Next::Start;
    for before in &node.after {
        match nodes.get(before).map(|node| node.state) {
            None => {}
            Some(state) if state.is_good() => {}
            Some(state) if state.is_terminal() => return Next::Block(before),
            Some(_) => next = Next::Wait,
        }
    }
    // A job's verdicts are recorded together with its result, in one transaction: before its end there is nothing to take
    // over. Only somebody else's verdict comes later.
    let is_open =
        |other: &Progress| !other.state.is_terminal() && (node.awaits_external || other.until.is_none());
    let still_works = |id: &NodeId| nodes.get(id).is_some_and(is_open);
    if next == Next::Start && node.awaits.iter().any(still_works) {
        next = Next::Wait;
    }
    next
}

fn blocked_by(run: RunNumber, cause: &NodeId) -> JobFailure {
    use edgewright_model::outcome::{FailureKind, Phase};
    let what = match &cause.name {
        NodeName::Variant(variant) => format!("`{variant}`"),
        NodeName::Prefix { .. } => format!("the shared steps `{}`", cause.name),
    };
    JobFailure {
        kind: FailureKind::Image,
        phase: Phase::Build,
        message: format!("not built: {what}, which it stands on, did not pass"),
        hint: Some(format!("see why with `edgewright logs {run} {}`", cause.name)),
        output: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId { name: NodeName::Variant(name.parse().unwrap()), platform: "linux/amd64".parse().unwrap() }
    }

    fn progress(state: NodeState, after: &[&str]) -> Progress {
        Progress {
            state,
            after: after.iter().map(|name| id(name)).collect(),
            awaits: Vec::new(),
            awaits_external: false,
            attempts: 0,
            not_before: None,
            until: None,
        }
    }

    #[test]
    fn a_node_starts_after_all_it_stands_on_and_is_blocked_by_the_first_that_fails() {
        let nodes = |first, second| {
            BTreeMap::from([(id("a"), progress(first, &[])), (id("b"), progress(second, &[]))])
        };
        let child = progress(NodeState::Waiting, &["a", "b"]);
        assert_eq!(next(&nodes(NodeState::Passed, NodeState::Reused), &child), Next::Start);
        assert_eq!(next(&nodes(NodeState::Passed, NodeState::Running), &child), Next::Wait);
        assert_eq!(next(&nodes(NodeState::Waiting, NodeState::Failed), &child), Next::Block(&id("b")));
        assert_eq!(next(&nodes(NodeState::Blocked, NodeState::Passed), &child), Next::Block(&id("a")));
        let heir = Progress { awaits: vec![id("b")], ..progress(NodeState::Waiting, &["a"]) };
        assert_eq!(next(&nodes(NodeState::Passed, NodeState::Running), &heir), Next::Wait);
        assert_eq!(next(&nodes(NodeState::Passed, NodeState::Failed), &heir), Next::Start);
        assert_eq!(next(&nodes(NodeState::Failed, NodeState::Running), &heir), Next::Block(&id("a")));

        // The representative is tested here, and waits for somebody else, whom not every heir waits for.
        let until = Some(Timestamp::UNIX_EPOCH);
        let mut tested = nodes(NodeState::Passed, NodeState::Waiting);
        tested.insert(id("b"), Progress { until, ..progress(NodeState::Waiting, &[]) });
        assert_eq!(next(&tested, &heir), Next::Start);
        assert_eq!(next(&tested, &Progress { awaits_external: true, ..heir }), Next::Wait);
    }
}
