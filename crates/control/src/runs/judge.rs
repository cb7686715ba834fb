//! What the lanes of a node come to, from wherever their verdicts come: the node's job, an earlier run, the
//! representative, another system. Judging is pure: [`super::facts`] loads what is known first.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::names::VariantName;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{FailureKind, JobFailure};
use edgewright_model::run::RunNumber;
use edgewright_model::spec::{Exception, Lane};
use edgewright_model::verdict::{LaneInputs, LaneResult, Note, Verdict, VerdictOrigin};
use edgewright_plan::graph::{LaneChecks, Node};
use edgewright_plan::history::{self, VerdictKey};
use edgewright_plan::{Graph, History, NodeId};
use edgewright_store::results::VerdictRow;
use jiff::SignedDuration;
use jiff::civil::Date;

use super::schedule::Judgement;
use crate::releases::newest::LastGood;
use crate::verdicts::{Blame, Evaluation, Novelty, ReleasedChecks, evaluate, failure, joined};

/// A verdict, and the run that recorded it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) verdict: Verdict,
    pub(crate) run: RunNumber,
}

/// The newest verdicts that are known about some manifests, and with which inputs one counts today.
#[derive(Debug, Default)]
pub(crate) struct Known {
    inputs: BTreeMap<Lane, LaneInputs>,
    found: BTreeMap<VerdictKey, Found>,
}

impl Known {
    /// Recorded verdicts, oldest first; `inputs` are those of verdicts that count today.
    pub(crate) fn of(inputs: &BTreeMap<Lane, LaneInputs>, rows: Vec<VerdictRow>) -> Self {
        let mut known = Self { inputs: inputs.clone(), found: BTreeMap::new() };
        for row in rows {
            known.add(row.run, row.verdict);
        }
        known
    }

    /// Adds a verdict that is newer than all others of its key.
    pub(crate) fn add(&mut self, run: RunNumber, verdict: Verdict) {
        self.found.insert(verdict.key(), Found { verdict, run });
    }

    /// What identifies the verdict about a digest that a lane needs today; none where no executor runs the
    /// lane.
    pub(super) fn key(&self, digest: &Digest, lane: &LaneChecks) -> Option<VerdictKey> {
        Some(VerdictKey {
            manifest: digest.clone(),
            lane: lane.lane,
            check_set: lane.check_set.clone(),
            inputs: lane.inputs(self.inputs.get(&lane.lane)?).digest(),
        })
    }

    /// The verdict about a digest that counts in a lane today.
    pub(crate) fn get(&self, digest: &Digest, lane: &LaneChecks) -> Option<&Found> {
        self.found.get(&self.key(digest, lane)?).filter(|found| is_declared(&found.verdict, lane))
    }

    pub(super) fn passed(&self, digest: &Digest, lane: &LaneChecks) -> Option<&Verdict> {
        self.get(digest, lane).map(|found| &found.verdict).filter(|it| it.result == LaneResult::Passed)
    }
}

/// Whether a verdict counts for a variant as its definition is now: an inherited one only while the
/// definition declares the inheritance.
const fn is_declared(verdict: &Verdict, lane: &LaneChecks) -> bool {
    !matches!(verdict.origin, VerdictOrigin::Inherited { .. }) || lane.inherit.is_some()
}

/// By what a commit's verdicts are judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// The commit's exceptions.
    pub(crate) exceptions: &'a [Exception],
    /// The day, in UTC, by which they end.
    pub(crate) today: Date,
}

impl Rules<'_> {
    pub(super) fn evaluate(self, verdict: &Verdict, variant: &VariantName) -> Evaluation {
        evaluate(verdict, self.exceptions, variant, self.today)
    }
}

/// A built node whose lanes are to be judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) run: RunNumber,
    pub(crate) node: &'a Node,
    pub(crate) manifest: &'a ManifestRef,
    pub(crate) rules: Rules<'a>,
    pub(crate) known: &'a Known,
    /// What the branch released last of the same variant.
    pub(crate) last_good: Option<&'a ManifestRef>,
    /// The checks that it was released with, where they are known.
    pub(crate) released: Option<&'a ReleasedChecks>,
    /// Comparisons that were tried: a verdict that none of them found is not to be had now.
    pub(crate) compared: &'a BTreeSet<VerdictKey>,
    /// How long others have for a verdict, where the image does not say.
    pub(crate) external_within: Span,
}

/// What all lanes of a node come to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Judged {
    /// The first lane that fails, in running order, and in its output the others.
    pub(crate) failure: Option<JobFailure>,
    /// What the state does not say.
    pub(crate) notes: Vec<Note>,
    /// The external verdict that is missing, if nothing failed.
    pub(crate) awaits: Option<Awaited>,
    /// The verdicts on the last good digest that failures are to be compared with first.
    pub(crate) wanted: BTreeSet<VerdictKey>,
}

/// A verdict that others are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Awaited {
    pub(crate) check_set: Digest,
    pub(crate) within: SignedDuration,
}

impl Judged {
    /// In short, for the schedule.
    pub(crate) fn judgement(&self) -> Judgement {
        match (&self.failure, &self.awaits) {
            _ if !self.wanted.is_empty() => Judgement::Compare(self.wanted.clone()),
            (Some(failure), _) => Judgement::Failed(failure.kind),
            (None, Some(awaited)) => Judgement::Awaits { within: awaited.within },
            (None, None) => Judgement::Passed,
        }
    }
}

/// Judges all lanes of a built node.
pub(crate) fn judge(case: &Case<'_>) -> Judged {
    let mut judged = Judged::default();
    let Some(variant) = case.node.variant() else { return judged };
    let mut failures = Vec::new();
    for lane in &case.node.lanes {
        let Some(Found { verdict, .. }) = case.known.get(&case.manifest.digest, lane) else {
            // Of other lanes there is none where the job ended before: what ended it is the failure.
            if lane.lane == Lane::External {
                judged.awaits = Some(awaited(lane, case.external_within));
            }
            continue;
        };
        judged.notes.extend(inherited(verdict));
        let mut evaluation = case.rules.evaluate(verdict, variant);
        let mut novelty = Novelty::default();
        if evaluation.kind() == Some(FailureKind::Image) {
            match before(case, lane) {
                Before::Known(last_good) => {
                    novelty = self::novelty(lane, case.released, last_good.run == case.run);
                    evaluation = evaluation.against(&last_good.verdict);
                }
                Before::Missing(key) => drop(judged.wanted.insert(key)),
                Before::Nothing => {}
            }
        }
        judged.notes.extend(notes(&evaluation, &novelty));
        let Rules { exceptions, today } = case.rules;
        let blame = Blame { run: case.run, variant, exceptions, today, novelty: &novelty };
        failures.extend(failure(verdict, &evaluation, blame));
    }
    judged.failure = joined(failures);
    if judged.failure.is_some() {
        judged.awaits = None;
    }
    judged
}

/// What the last good digest does in a lane.
enum Before<'a> {
    Known(&'a Found),
    /// No one knows: this verdict is to be found first.
    Missing(VerdictKey),
    /// There is nothing to compare with.
    Nothing,
}

fn before<'a>(case: &Case<'a>, lane: &LaneChecks) -> Before<'a> {
    // An update from the last good digest to itself is none.
    let Some(good) = case.last_good.filter(|_| !lane.lane.needs_release()) else { return Before::Nothing };
    match case.known.get(&good.digest, lane).filter(|found| is_answer(&found.verdict)) {
        Some(found) => Before::Known(found),
        // Only its owner can run this lane.
        None if lane.lane == Lane::External => Before::Nothing,
        None => match case.known.key(&good.digest, lane) {
            Some(key) if !case.compared.contains(&key) => Before::Missing(key),
            _ => Before::Nothing,
        },
    }
}

/// What is new in a lane. Where no one knows with what the last good digest was released, all of it is new to
/// the run that tested it for comparison.
fn novelty(lane: &LaneChecks, released: Option<&ReleasedChecks>, is_compared_now: bool) -> Novelty {
    match released {
        Some(released) => Novelty::of(lane.lane, &lane.checks, released),
        None if is_compared_now => Novelty::all(&lane.checks),
        None => Novelty::default(),
    }
}

/// The notes of an evaluation. A failure is not called `not new` if its check is.
fn notes(evaluation: &Evaluation, novelty: &Novelty) -> Vec<Note> {
    evaluation.notes.iter().filter(|note| !novelty.contradicts(note)).cloned().collect()
}

/// Whether a verdict is evidence about its digest.
const fn is_answer(verdict: &Verdict) -> bool {
    !matches!(verdict.result, LaneResult::Failed { kind: FailureKind::Infrastructure, .. })
}

fn awaited(lane: &LaneChecks, within: Span) -> Awaited {
    let within = lane.within.unwrap_or(within).get();
    let within = within.try_into().unwrap_or(SignedDuration::MAX);
    Awaited { check_set: lane.check_set.clone(), within }
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

/// What recorded verdicts mean for the variants of a graph whose digest is known.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) notes: BTreeMap<NodeId, Vec<Note>>,
    /// Why known digests fail.
    pub(crate) failures: BTreeMap<NodeId, JobFailure>,
}

/// Fills in what verdicts mean for each variant: exceptions have a scope, and what is not new blocks nothing
/// for good.
pub(crate) fn judge_known(
    graph: &Graph,
    rules: Rules<'_>,
    known: &Known,
    (last_good, released): (&LastGood, &BTreeMap<Digest, ReleasedChecks>),
    history: &mut History,
) -> Findings {
    let mut findings = Findings::default();
    for node in graph.nodes.values() {
        let (Some(variant), Some(build)) = (node.variant(), history.builds.get(&node.key).cloned()) else {
            continue;
        };
        let good = last_good.get(&(variant.clone(), node.id.platform.clone()));
        let mut failures = Vec::new();
        for lane in &node.lanes {
            let Some(key) = known.key(&build.digest, lane) else { continue };
            let Some(Found { verdict, run }) = known.get(&build.digest, lane) else {
                // Whatever else is recorded does not count for this variant.
                history.judged.insert((variant.clone(), key), history::Judgement::Open);
                continue;
            };
            let notes = findings.notes.entry(node.id.clone()).or_default();
            notes.extend(inherited(verdict));
            if verdict.result == LaneResult::Passed {
                continue;
            }
            let mut evaluation = rules.evaluate(verdict, variant);
            let mut novelty = Novelty::default();
            if let Some((good, before)) = good.and_then(|good| Some((good, known.get(&good.digest, lane)?))) {
                novelty = self::novelty(lane, released.get(&good.digest), before.run == *run);
                evaluation = evaluation.against(&before.verdict);
            }
            notes.extend(self::notes(&evaluation, &novelty));
            let judgement = match evaluation.kind() {
                None => history::Judgement::Passed,
                // The raw verdict is in the history already.
                Some(FailureKind::Image) => {
                    let Rules { exceptions, today } = rules;
                    let blame = Blame { run: *run, variant, exceptions, today, novelty: &novelty };
                    failures.extend(failure(verdict, &evaluation, blame));
                    continue;
                }
                Some(FailureKind::Check | FailureKind::Infrastructure) => history::Judgement::Open,
            };
            history.judged.insert((variant.clone(), key), judgement);
        }
        findings.failures.extend(joined(failures).map(|why| (node.id.clone(), why)));
    }
    findings
}

#[cfg(test)]
mod tests;
