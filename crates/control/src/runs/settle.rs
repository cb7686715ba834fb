//! Judging what is known of a node, and recording where that leaves it.

use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneResult, Note, Verdict};
use edgewright_plan::graph::Node;
use edgewright_plan::history::VerdictKey;
use edgewright_plan::{NodeId, NodeName};
use edgewright_store::nodes::NodeChange;
use edgewright_store::results::NodeResult;
use jiff::Timestamp;

use super::engine::Engine;
use super::facts::{Facts, needed, released_checks};
use super::inherit::inherit;
use super::judge::{Case, Judged, judge};
use super::prepare::Prepared;
use super::schedule::End;
use super::scope::Scope;
use super::work::{Pending, Work};
use crate::ControlError;
use crate::jobs::repository_in;

impl Engine {
    /// What the lanes of a built node come to: after its job, or again once more is known.
    pub(crate) async fn judge(
        &self,
        scope: &Scope,
        prepared: &Prepared,
        node: &Node,
        (work, compared): (Option<Work>, &BTreeSet<VerdictKey>),
    ) -> Result<Pending, ControlError> {
        let manifest = match &work {
            Some(work) => work.manifest.clone(),
            None => Some(self.built(scope, node).await?),
        };
        let Some(manifest) = manifest else { return Ok(Pending { work, ..Pending::default() }) };
        let fresh: &[Verdict] = work.as_ref().map_or(&[], |work| &work.outcome.verdicts);
        let last_good = prepared.last_good(node);
        let digests = needed(node, &manifest, last_good, fresh);
        let Facts { mut known, representatives } = Facts::load(
            (&self.store, scope.run.domain()),
            &prepared.graph,
            node,
            &self.jobs.lane_inputs(),
            digests,
        )
        .await?;
        // A node that is judged again has recorded what it inherits.
        let inherited = match &work {
            Some(_) => inherit(node, &manifest, fresh, &known, &representatives),
            None => Vec::new(),
        };
        for verdict in fresh.iter().chain(&inherited) {
            known.add(scope.run.number, verdict.clone());
        }
        let failed = fresh.iter().any(|verdict| verdict.result != LaneResult::Passed) || work.is_none();
        let released =
            released_checks(&self.store, last_good.filter(|_| failed).map(|good| &good.digest)).await?;
        let judged = judge(&Case {
            run: scope.run.number,
            node,
            manifest: &manifest,
            rules: self.rules(prepared),
            known: &known,
            last_good,
            released: last_good.and_then(|good| released.get(&good.digest)),
            compared,
            external_within: self.external_within,
        });
        Ok(Pending { work, manifest: Some(manifest.digest), judged, inherited })
    }

    /// The manifest of a node that was built before.
    async fn built(&self, scope: &Scope, node: &Node) -> Result<ManifestRef, ControlError> {
        let build = self.store.build(&node.key, scope.run.domain()).await?;
        let build =
            build.ok_or(ControlError::Broken { what: "a node was tested, and its build is not recorded" })?;
        Ok(ManifestRef {
            repository: repository_in(scope.run.domain(), &node.repository)?,
            digest: build.manifest.digest,
        })
    }

    /// Records where a node is, with what its job made and found: all or nothing.
    pub(crate) async fn settle(
        &self,
        scope: &Scope,
        node: &Node,
        pending: &Pending,
        end: End,
    ) -> Result<(), ControlError> {
        let (run, name, now) = (scope.run.number, node.id.name.to_string(), self.clock.now());
        let state = end.state();
        let failure = failure(run, pending, &end)?;
        let notes = notes(&pending.judged, &end);
        let work = pending.work.as_ref();
        let change = NodeChange {
            failure: failure.as_ref(),
            digest: work.and_then(|work| work.manifest.as_ref()).map(|manifest| &manifest.digest),
            not_before: if let End::Retry { at } = end { Some(at) } else { None },
            notes: notes.as_deref(),
        };
        if let Some(Work { job, outcome, .. }) = work {
            let verdicts: Vec<Verdict> = outcome.verdicts.iter().chain(&pending.inherited).cloned().collect();
            let check_sets: Vec<_> =
                node.lanes.iter().map(|lane| (lane.check_set.clone(), lane.checks.to_vec())).collect();
            let result = NodeResult {
                run,
                node: &name,
                platform: &node.id.platform,
                job: *job,
                builds: &outcome.builds,
                verdicts: &verdicts,
                check_sets: &check_sets,
                state,
                change,
            };
            self.store.record(result, now).await?;
        } else {
            let key = (name.as_str(), &node.id.platform);
            self.store.move_node(run, key, (NodeState::Waiting, state), change, now).await?;
        }
        self.tell(scope, &node.id, state, failure);
        Ok(())
    }
}

/// Why a node is where it is.
fn failure(run: RunNumber, pending: &Pending, end: &End) -> Result<Option<JobFailure>, ControlError> {
    let digest =
        || pending.manifest.as_ref().ok_or(ControlError::Broken { what: "a node waits and is not built" });
    let broken = pending.work.as_ref().and_then(|work| work.outcome.failure.clone());
    Ok(match end {
        End::Passed | End::Compare | End::Await { .. } => None,
        End::Failed | End::Retry { .. } => broken.or_else(|| pending.judged.failure.clone()),
        End::Blocked { cause } => Some(blocked_by(run, cause)),
        End::Unanswered { until } => Some(unanswered(digest()?, *until)),
        End::Superseded { by } => Some(superseded(digest()?, *by)),
    })
}

/// The notes of the node's row; none: they stay as they are.
fn notes(judged: &Judged, end: &End) -> Option<Vec<Note>> {
    let mut notes = judged.notes.clone();
    match (end, &judged.awaits) {
        // A verdict that comes too late must still be able to name its check set.
        (End::Unanswered { .. } | End::Superseded { .. } | End::Blocked { .. }, _) => return None,
        (End::Await { until }, Some(awaited)) => {
            let (lane, check_set, until) = (Lane::External, awaited.check_set.clone(), *until);
            notes.push(Note::Awaiting { lane, check_set, until });
        }
        (End::Compare, _) => notes.extend(
            judged
                .wanted
                .iter()
                .map(|verdict| Note::Comparing { lane: verdict.lane, digest: verdict.manifest.clone() }),
        ),
        _ => {}
    }
    Some(notes)
}

fn blocked_by(run: RunNumber, cause: &NodeId) -> JobFailure {
    let what = match &cause.name {
        NodeName::Variant(variant) => format!("`{variant}`"),
        NodeName::Prefix { .. } => format!("the shared steps `{}`", cause.name),
    };
    JobFailure {
        kind: FailureKind::Image,
        phase: Phase::Build,
        message: format!("not built: its parent image {what} did not pass"),
        hint: Some(format!("see why with `edgewright logs {run} {}`", cause.name)),
        output: Vec::new(),
    }
}

fn unanswered(digest: &Digest, until: Timestamp) -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Test,
        message: format!("external lane: no verdict about {digest} was posted by {until}"),
        hint: Some(format!(
            "see to the system that should have; `edgewright verdict post {digest} --passed` counts at the next run"
        )),
        output: Vec::new(),
    }
}

fn superseded(digest: &Digest, by: RunNumber) -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Test,
        message: format!(
            "external lane: not waited for any longer, because run {by} of the same source is next"
        ),
        hint: Some(format!(
            "a verdict about {digest} that is posted later still counts, where that run has the same digest"
        )),
        output: Vec::new(),
    }
}
