//! What the lanes of a node say, from wherever their verdicts come: the node's job, an earlier run, the representative,
//! somebody else's system.
//!
//! A lane that fails through the image is run on the last good digest, too, in the same place with the same checks, once:
//! the verdict found there is recorded like any other. All this happens after the job's own result is recorded, so that a
//! killed server repeats none of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::{Base, ImageTask, JobId, ManifestRef, Task};
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneResult, Note, Verdict, VerdictOrigin};
use edgewright_plan::graph::{LaneChecks, Node};
use edgewright_plan::history::{Judgement, VerdictKey};
use edgewright_plan::{Graph, History, NodeId};
use edgewright_store::nodes::NodeChange;
use edgewright_store::results::VerdictRow;
use jiff::Timestamp;

use super::Driver;
use super::execute::NodeEnd;
use super::prepare::Prepared;
use crate::ControlError;
use crate::logs::LogFile;
use crate::verdicts::{Blame, Evaluation, day, evaluate, failure};

/// The last good platform manifests: of the newest release that the run's branch made.
pub(crate) type LastGood = BTreeMap<(VariantName, Platform), ManifestRef>;

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
    /// The last good platform manifest of every variant.
    pub(crate) async fn last_good(&self) -> Result<LastGood, ControlError> {
        let (source, branch) = (self.run.source, &self.run.branch);
        let indexes = self.store.indexes_of(source, branch).await?;
        let mut good = LastGood::new();
        for entry in self.store.newest_entries(source, branch).await? {
            for (platform, digest) in indexes.get(&entry.digest).into_iter().flatten() {
                let manifest = ManifestRef { repository: entry.repository.clone(), digest: digest.clone() };
                good.insert((entry.variant.clone(), platform.clone()), manifest);
            }
        }
        Ok(good)
    }

    fn today(&self) -> jiff::civil::Date {
        day(self.clock.now())
    }

    /// Fills in what verdicts mean for each variant: exceptions have a scope, and what is not new blocks nothing for good.
    pub(crate) async fn judge_known(
        &self,
        prepared: (&Graph, &[edgewright_model::spec::Exception]),
        rows: &[VerdictRow],
        history: &mut History,
    ) -> Result<Standing, ControlError> {
        let (graph, exceptions) = prepared;
        let newest: BTreeMap<(&Digest, Lane, &Digest), &VerdictRow> = rows
            .iter()
            .map(|row| ((&row.verdict.manifest.digest, row.verdict.lane, &row.verdict.check_set), row))
            .collect();
        let last_good = self.last_good().await?;
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
        Ok(standing)
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

    /// Compares a failure with what the last good digest does in the same place, which is tried where nobody knows.
    async fn compare(
        &self,
        node: &Node,
        variant: &VariantName,
        lane: &LaneChecks,
        evaluation: Evaluation,
        log: Option<&mut LogFile>,
    ) -> Result<Evaluation, ControlError> {
        let good = self.last_good().await?.remove(&(variant.clone(), node.id.platform.clone()));
        let Some(good) = good else { return Ok(evaluation) };
        let _one = self.differential.of(&good.digest, lane).await;
        let known = self.store.verdict(&good.digest, lane.lane, &lane.check_set).await?;
        let known = known.filter(|row| {
            !matches!(row.verdict.result, LaneResult::Failed { kind: FailureKind::Infrastructure, .. })
        });
        let before = match known {
            Some(row) => Some(row.verdict),
            // Nobody but its owner can run this lane.
            None if lane.lane == Lane::External => None,
            None => self.try_last_good(node, good, lane, log).await?,
        };
        Ok(match before {
            Some(before) => evaluation.against(&before),
            None => evaluation,
        })
    }

    async fn try_last_good(
        &self,
        node: &Node,
        good: ManifestRef,
        lane: &LaneChecks,
        mut log: Option<&mut LogFile>,
    ) -> Result<Option<Verdict>, ControlError> {
        let name = node.id.name.to_string();
        if let Some(log) = &mut log {
            let short = good.digest.short();
            log.line(&format!("── the same checks on the last good digest {short}, to see what is new"))
                .await;
        }
        let task = Task::Image(ImageTask {
            node: format!("{name} (last good)"),
            variant: node.variant().cloned(),
            platform: node.id.platform.clone(),
            repository: good.repository.clone(),
            base: Base::Manifest(good),
            steps: Vec::new(),
            epoch: node.epoch,
            labels: node.labels.clone(),
            lanes: vec![self.lane(lane)],
        });
        let order = self.job(JobId(uuid::Uuid::now_v7()), task);
        let log = match log {
            Some(_) => self.logs.open(self.run.number, &name, Some(&node.id.platform)).await.ok(),
            None => None,
        };
        let outcome = self.perform(&name, order, log, Some(&node.id)).await?;
        let check_sets = [(lane.check_set.clone(), lane.checks.to_vec())];
        self.store.add_verdicts(self.run.number, &outcome.verdicts, &check_sets, self.clock.now()).await?;
        Ok(outcome.verdicts.into_iter().next())
    }

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

/// One try of the last good digest at a time for each lane and check set: who comes second finds the first one's verdict.
#[derive(Debug, Default)]
pub(crate) struct Differential {
    tries: std::sync::Mutex<BTreeMap<(Digest, Lane, Digest), Arc<tokio::sync::Mutex<()>>>>,
}

impl Differential {
    async fn of(&self, digest: &Digest, lane: &LaneChecks) -> tokio::sync::OwnedMutexGuard<()> {
        let key = (digest.clone(), lane.lane, lane.check_set.clone());
        let one = {
            let mut tries = self.tries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(tries.entry(key).or_default())
        };
        one.lock_owned().await
    }
}
