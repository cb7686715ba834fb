//! Nodes that wait for somebody else's verdict. They are built, and take no slot; whoever posts a verdict only writes it
//! down, and the run looks from time to time.

use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_model::verdict::Note;
use edgewright_plan::NodeId;
use edgewright_store::nodes::NodeChange;
use jiff::Timestamp;

use super::Driver;
use super::execute::NodeEnd;
use super::prepare::Prepared;
use crate::ControlError;

impl Driver<'_> {
    /// Looks at a node that waits for somebody else's verdict; none while it still has to.
    pub(crate) async fn settle(
        &self,
        prepared: &Arc<Prepared>,
        id: &NodeId,
        until: Timestamp,
    ) -> Result<Option<NodeEnd>, ControlError> {
        let Some(node) = prepared.graph.nodes.get(id) else { return Err(ControlError::Stopped) };
        let name = id.name.to_string();
        let Some(build) = self.store.build(&node.key).await? else { return Err(ControlError::Stopped) };
        let manifest = ManifestRef { repository: node.repository.clone(), digest: build.manifest.digest };
        let judged = self.judge(prepared, node, &manifest, &[], None).await?;
        let (state, failure) = match (judged.failure, &judged.awaits) {
            (None, None) => (NodeState::Passed, None),
            (Some(failure), _) => (NodeState::Failed, Some(failure)),
            (None, Some(_)) if self.clock.now() >= until => {
                (NodeState::Failed, Some(nobody_answered(&manifest.digest, until)))
            }
            (None, Some(_)) => match self.newer_run().await? {
                Some(newer) => (NodeState::Cancelled, Some(given_up(newer, &manifest.digest))),
                None => return Ok(None),
            },
        };
        // Who answers too late must still be able to say which checks are meant.
        let notes = judged.awaits.is_none().then_some(judged.notes.as_slice());
        let change = NodeChange { failure: failure.as_ref(), notes, ..NodeChange::default() };
        let key = (name.as_str(), &id.platform);
        let now = self.clock.now();
        self.store.move_node(self.run.number, key, NodeState::Waiting, state, change, now).await?;
        self.tell(id, state, failure);
        Ok(Some(NodeEnd { id: id.clone(), state, not_before: None, awaits: None }))
    }

    /// A run of the same source that waits for this one to end.
    async fn newer_run(&self) -> Result<Option<RunNumber>, ControlError> {
        let open = self.store.open_runs().await?;
        let newer = open.iter().find(|run| run.source == self.run.source && run.number > self.run.number);
        Ok(newer.map(|run| run.number))
    }
}

/// When a waiting node's time is over, where it waits for a verdict.
pub(crate) fn awaited_until(notes: &[Note]) -> Option<Timestamp> {
    notes.iter().find_map(|note| match note {
        Note::Awaiting { until, .. } => Some(*until),
        _ => None,
    })
}

fn nobody_answered(digest: &Digest, until: Timestamp) -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Test,
        message: format!("external lane: nobody posted a verdict about {digest} by {until}"),
        hint: Some(format!(
            "see to the system that should have; `edgewright verdict post {digest} --passed` counts at the next run"
        )),
        output: Vec::new(),
    }
}

fn given_up(newer: RunNumber, digest: &Digest) -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Test,
        message: format!(
            "external lane: not waited for any longer, because run {newer} of the same source is next"
        ),
        hint: Some(format!(
            "a verdict about {digest} that is posted later still counts, where that run has the same digest"
        )),
        output: Vec::new(),
    }
}
