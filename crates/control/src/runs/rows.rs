//! Between the rows of a run's nodes, its plan, and what its schedule starts from.

use std::collections::BTreeMap;

use edgewright_model::names::Platform;
use edgewright_model::run::NodeState;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::Note;
use edgewright_plan::graph::LaneChecks;
use edgewright_plan::plan::Planned;
use edgewright_plan::{Action, EffectiveLock, LockOrigin, NodeId};
use edgewright_store::nodes::{NodeLane, NodeRow, PathStep};

use super::prepare::Prepared;
use super::schedule::{NodeFacts, Position};

/// The nodes of the graph that the run works on, in the plan's order.
pub(crate) fn facts(rows: &[NodeRow], prepared: &Prepared) -> Vec<NodeFacts> {
    let ids: BTreeMap<(String, &Platform), &NodeId> =
        prepared.graph.nodes.keys().map(|id| ((id.name.to_string(), &id.platform), id)).collect();
    rows.iter()
        .filter_map(|row| {
            let id = *ids.get(&(row.node.clone(), &row.platform))?;
            // After a restart the new plan may not contain a node that is done; its row shows it.
            let planned = prepared.plan.nodes.get(id);
            let lanes = prepared.graph.nodes.get(id).map_or(&[][..], |node| &node.lanes);
            Some(NodeFacts {
                id: id.clone(),
                after: planned.map_or_else(Vec::new, |node| node.after.clone()),
                awaits: planned.map_or_else(Vec::new, |node| node.awaits.clone()),
                inherits_external: lanes
                    .iter()
                    .any(|lane| lane.lane == Lane::External && lane.inherit.is_some()),
                attempts: row.attempts,
                position: position(row),
            })
        })
        .collect()
}

fn position(row: &NodeRow) -> Position {
    match row.state {
        NodeState::Waiting => {
            row.notes.iter().find_map(waits_for).unwrap_or(Position::Waiting { not_before: row.not_before })
        }
        // The job was interrupted; its attempt is taken back when the run is resumed.
        NodeState::Running => Position::Waiting { not_before: None },
        ended => Position::Ended(ended),
    }
}

/// What a built node waits for.
fn waits_for(note: &Note) -> Option<Position> {
    match note {
        Note::Comparing { .. } => Some(Position::Comparing),
        Note::Awaiting { until, .. } => Some(Position::Awaiting { until: *until }),
        _ => None,
    }
}

/// The number of the overlay that a lock is; none for a committed lock.
pub(crate) fn overlay_number(lock: &EffectiveLock) -> Option<u32> {
    match lock.origin {
        LockOrigin::Committed => None,
        LockOrigin::Overlay(number) => u32::try_from(number).ok(),
    }
}

/// A planned node as a row of the run.
pub(crate) fn row(prepared: &Prepared, planned: &Planned) -> NodeRow {
    let node = prepared.graph.nodes.get(&planned.id);
    let unlocked =
        node.and_then(|node| node.unresolved.as_ref()).and_then(|image| prepared.unlocked.get(image));
    let (state, digest) = match &planned.action {
        _ if unlocked.is_some() => (NodeState::Blocked, None),
        Action::Build { .. } | Action::Test { .. } => (NodeState::Waiting, None),
        Action::Reuse { manifest } => (NodeState::Reused, Some(manifest.digest.clone())),
        Action::Retire => (NodeState::Retired, None),
        Action::Blocked => (NodeState::Blocked, None),
        Action::Failed => (NodeState::Failed, None),
    };
    let steps = node.map_or_else(Vec::new, |node| {
        node.path.iter().map(|step| PathStep { key: step.key.clone(), title: step.title.clone() }).collect()
    });
    let lane = |lane: &LaneChecks| NodeLane { lane: lane.lane, check_set: lane.check_set.clone() };
    let known = prepared.findings.notes.get(&planned.id).filter(|_| state.is_terminal());
    NodeRow {
        node: planned.id.name.to_string(),
        platform: planned.id.platform.clone(),
        variant: planned.id.name.variant().cloned(),
        key: planned.key.clone(),
        action: planned.action.name().to_owned(),
        reason: unlocked.map_or_else(|| planned.reason(), |failure| failure.message.clone()),
        state,
        job: None,
        attempts: 0,
        phase: None,
        failure: unlocked
            .or_else(|| prepared.findings.failures.get(&planned.id).filter(|_| state == NodeState::Failed))
            .cloned(),
        digest,
        steps,
        lanes: node.map(|node| node.lanes.iter().map(lane).collect()),
        not_before: None,
        notes: known.cloned().unwrap_or_default(),
        started_at: None,
        finished_at: None,
    }
}
