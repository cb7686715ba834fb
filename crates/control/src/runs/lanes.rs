//! What the lanes of a node say, from wherever their verdicts come: the node's job, an earlier run, the representative,
//! somebody else's system. All this is looked at after the job's own result is recorded, so that a killed server repeats
//! none of it.

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::names::VariantName;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{FailureKind, JobFailure};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneResult, Note, Verdict, VerdictOrigin};
use edgewright_plan::graph::{LaneChecks, Node};
use edgewright_plan::history::{Judgement, VerdictKey};
use edgewright_plan::{Graph, History, NodeId};
use edgewright_store::results::VerdictRow;

use super::Driver;
use super::prepare::Prepared;
use crate::ControlError;
use crate::logs::LogFile;
use crate::releases::newest::LastGood;
use crate::verdicts::{Blame, day, evaluate, failure};

/// What all lanes of a node come to.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// The first lane that fails, in running order.
    pub(crate) failure: Option<JobFailure>,
    /// What the state does not say.
    pub(crate) notes: Vec<Note>,
    /// Whether a verdict of somebody else is missing, and nothing failed.
    pub(crate) awaits: Option<Awaited>,
}

/// A verdict that is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Awaited {
    pub(crate) check_set: Digest,
    pub(crate) within: jiff::SignedDuration,
}

/// What recorded verdicts mean for the variants of a graph.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Notes on variants whose digest is known.
    pub(crate) notes: BTreeMap<NodeId, Vec<Note>>,
    /// Why known digests fail.
    pub(crate) failures: BTreeMap<NodeId, JobFailure>,
}

impl Driver<'_> {
    fn today(&self) -> jiff::civil::Date {
        day(self.clock.now())
    }

    /// Fills in what verdicts mean for each variant: exceptions have a scope, and what is not new blocks nothing for good.
    pub(crate) fn judge_known(
        &self,
        prepared: (&Graph, &[edgewright_model::spec::Exception]),
        rows: &[VerdictRow],
        last_good: &LastGood,
        history: &mut History,
    ) -> Standing {
        let (graph, exceptions) = prepared;
        let newest: BTreeMap<(&Digest, Lane, &Digest), &VerdictRow> = rows
            .iter()
            .map(|row| ((&row.verdict.manifest.digest, row.verdict.lane, &row.verdict.check_set), row))
            .collect();
        let today = self.today();
        let mut standing = Standing::default();
        for node in graph.nodes.values() {
            let (Some(variant), Some(known)) = (node.variant(), history.builds.get(&node.key)) else {
                continue;
            };
            for lane in &node.lanes {
                let Some(row) = newest.get(&(&known.digest, lane.lane, &lane.check_set)) else { continue };
                let verdict = &row.verdict;
                let notes = standing.notes.entry(node.id.clone()).or_default();
                notes.extend(inherited(verdict));
                if verdict.result == LaneResult::Passed {
                    continue;
                }
                let mut evaluation = evaluate(verdict, exceptions, variant, today);
                let before = last_good
                    .get(&(variant.clone(), node.id.platform.clone()))
                    .and_then(|good| newest.get(&(&good.digest, lane.lane, &lane.check_set)));
                if let Some(before) = before {
                    evaluation = evaluation.against(&before.verdict);
                }
                notes.extend(evaluation.notes.iter().cloned());
                let judgement = match evaluation.kind() {
                    None => Judgement::Passed,
                    // The raw verdict is in the history already.
                    Some(FailureKind::Image) => {
                        let blame = Blame { run: row.run, variant, exceptions, today };
                        let why = failure(verdict, &evaluation, blame);
                        standing.failures.extend(why.map(|why| (node.id.clone(), why)));
                        continue;
                    }
                    Some(FailureKind::Check | FailureKind::Infrastructure) => Judgement::Open,
                };
                let key = VerdictKey {
                    manifest: known.digest.clone(),
                    lane: lane.lane,
                    check_set: lane.check_set.clone(),
                };
                history.judged.insert((variant.clone(), key), judgement);
            }
        }
        standing
    }

    /// Whether a lane has an answer that this run need not ask for again: it counts as passed, or failed in this very run.
    pub(crate) async fn is_answered(
        &self,
        prepared: &Prepared,
        node: &Node,
        known: Option<&ManifestRef>,
        lane: &LaneChecks,
    ) -> Result<bool, ControlError> {
        if lane.lane == Lane::External {
            return Ok(true);
        }
        if let (Some(known), Some(variant)) = (known, node.variant())
            && let Some(row) = self.store.verdict(&known.digest, lane.lane, &lane.check_set).await?
        {
            let evaluation = evaluate(&row.verdict, &prepared.definition.exceptions, variant, self.today());
            let is_found_now = row.run == self.run.number && evaluation.kind() == Some(FailureKind::Image);
            if evaluation.passed() || is_found_now {
                return Ok(true);
            }
        }
        Ok(self.representative(prepared, lane).await?.is_some())
    }

    /// The verdict to inherit: only one that passed as it is. A representative that failed, or passed by an exception, may
    /// have done so for reasons of its own.
    async fn representative(
        &self,
        prepared: &Prepared,
        lane: &LaneChecks,
    ) -> Result<Option<(VariantName, Verdict)>, ControlError> {
        let Some(node) = lane.inherit.as_ref().and_then(|id| prepared.graph.nodes.get(id)) else {
            return Ok(None);
        };
        let (Some(variant), Some(build)) = (node.variant(), self.store.build(&node.key).await?) else {
            return Ok(None);
        };
        let row = self.store.verdict(&build.manifest.digest, lane.lane, &lane.check_set).await?;
        let passed = row.filter(|row| row.verdict.result == LaneResult::Passed);
        Ok(passed.map(|row| (variant.clone(), row.verdict)))
    }

    /// The verdicts that a node takes over for lanes in which it has none of its own that counts.
    pub(crate) async fn inherit(
        &self,
        prepared: &Prepared,
        node: &Node,
        manifest: &ManifestRef,
        fresh: &[Verdict],
    ) -> Result<Vec<Verdict>, ControlError> {
        let mut verdicts = Vec::new();
        for lane in node.lanes.iter().filter(|lane| lane.inherit.is_some()) {
            if fresh.iter().any(|verdict| verdict.lane == lane.lane) {
                continue;
            }
            let own = self.store.verdict(&manifest.digest, lane.lane, &lane.check_set).await?;
            if own.is_some_and(|row| row.verdict.result == LaneResult::Passed) {
                continue;
            }
            if let Some((variant, source)) = self.representative(prepared, lane).await? {
                verdicts.push(take_over(lane, manifest, variant, source));
            }
        }
        Ok(verdicts)
    }

    /// What a built node's lanes come to, given the verdicts that are not recorded yet.
    pub(crate) async fn judge(
        &self,
        prepared: &Prepared,
        node: &Node,
        manifest: &ManifestRef,
        fresh: &[Verdict],
        log: Option<&mut LogFile>,
    ) -> Result<Judged, ControlError> {
        let mut judged = Judged::default();
        let Some(variant) = node.variant() else { return Ok(judged) };
        let mut log = log;
        for lane in &node.lanes {
            let recorded;
            let verdict = if let Some(verdict) = fresh.iter().find(|verdict| verdict.lane == lane.lane) {
                verdict
            } else {
                recorded = self.store.verdict(&manifest.digest, lane.lane, &lane.check_set).await?;
                match &recorded {
                    Some(row) => &row.verdict,
                    None if lane.lane == Lane::External => {
                        judged.awaits = Some(self.awaited(lane));
                        continue;
                    }
                    // The job ended before this lane: what ended it is the failure.
                    None => continue,
                }
            };
            judged.notes.extend(inherited(verdict));
            let exceptions = &prepared.definition.exceptions;
            let today = self.today();
            let mut evaluation = evaluate(verdict, exceptions, variant, today);
            if evaluation.kind() == Some(FailureKind::Image) {
                evaluation = self.compare(node, variant, lane, evaluation, log.as_deref_mut()).await?;
            }
            judged.notes.extend(evaluation.notes.iter().cloned());
            if judged.failure.is_none() {
                let blame = Blame { run: self.run.number, variant, exceptions, today };
                judged.failure = failure(verdict, &evaluation, blame);
            }
        }
        if judged.failure.is_some() {
            judged.awaits = None;
        }
        Ok(judged)
    }

    fn awaited(&self, lane: &LaneChecks) -> Awaited {
        let within = lane.within.unwrap_or(self.settings.external_within).get();
        let within = within.try_into().unwrap_or(jiff::SignedDuration::MAX);
        Awaited { check_set: lane.check_set.clone(), within }
    }
}

fn inherited(verdict: &Verdict) -> Option<Note> {
    match &verdict.origin {
        VerdictOrigin::Inherited { variant, from, .. } => Some(Note::Inherited {
            lane: verdict.lane,
            variant: variant.clone(),
            digest: from.digest.clone(),
        }),
        VerdictOrigin::Ran | VerdictOrigin::External { .. } => None,
    }
}

/// The representative's verdict as another variant's: nothing ran here, and the evidence stays where it is.
fn take_over(lane: &LaneChecks, manifest: &ManifestRef, variant: VariantName, source: Verdict) -> Verdict {
    let skipped = |check: CheckResult| CheckResult {
        outcome: CheckOutcome::Skipped { reason: format!("inherited from {variant}") },
        duration_ms: 0,
        tries: 0,
        ..check
    };
    let checks = source.checks.into_iter().map(skipped).collect();
    Verdict {
        lane: lane.lane,
        manifest: manifest.clone(),
        check_set: lane.check_set.clone(),
        inputs: source.inputs,
        result: source.result,
        checks,
        evidence: Vec::new(),
        duration_ms: 0,
        origin: VerdictOrigin::Inherited {
            rule: "differs from the representative in files steps only".to_owned(),
            variant,
            from: source.manifest,
        },
    }
}
