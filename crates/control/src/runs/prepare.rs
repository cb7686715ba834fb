//! From a run's commit to its plan: read, parse, lock, graph, plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgewright_model::format::{self, Diagnostic};
use edgewright_model::lock::Lock;
use edgewright_model::names::{ImageName, VariantName};
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::run::{NodeState, RunState, Trigger};
use edgewright_model::spec::{Definition, Exception};
use edgewright_model::verdict::LaneResult;
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::history::{PreviousBuild, VerdictKey};
use edgewright_plan::plan::Planned;
use edgewright_plan::{
    Action, EffectiveLock, Graph, History, LockOrigin, Locks, Plan, graph, lock_request, plan,
};
use edgewright_store::nodes::{NodeRow, PathStep};
use edgewright_store::runs::RunRow;
use edgewright_store::standing::Head;
use jiff::Timestamp;

use super::Driver;
use super::lanes::Standing;
use crate::ControlError;
use crate::events::RunEventKind;
use crate::sources::ReadCommit;

/// A run that is ready for its jobs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) definition: Definition,
    pub(crate) graph: Arc<Graph>,
    pub(crate) plan: Plan,
    /// Images whose lock could not be resolved.
    pub(crate) unlocked: BTreeMap<ImageName, JobFailure>,
    /// What is known about variants that need no job.
    pub(crate) standing: Standing,
    /// The nodes that stand as they stood, where the plan was fixed just now.
    pub(crate) settled: Option<Vec<NodeRow>>,
}

impl Driver<'_> {
    /// Reads the commit. A source whose `edgewright.yaml` is broken ends the run here: none is given.
    pub(crate) async fn prepare(&self) -> Result<Option<Prepared>, ControlError> {
        let run = &self.run;
        let ReadCommit { tree, parsed, .. } = self.watched.read_commit(&run.commit).await?;
        let Some(definition) = parsed.definition else {
            self.refuse(&parsed.diagnostics).await?;
            return Ok(None);
        };
        let name = &definition.source.name;
        if let Some(why) = self.inventory.name_fault(run.source, name, &self.followed).await? {
            self.fail(&why).await?;
            return Ok(None);
        }

        let overlays = self.overlays().await?;
        let fixed = run.state != RunState::Preparing;
        let mut locks = if fixed {
            fixed_locks(&definition, &overlays, run)
        } else {
            Locks::choose(&definition, &overlays, COMPRESSOR_VERSION)
        };
        let mut graph = graph(&definition, &tree, &locks);
        let mut unlocked = BTreeMap::new();
        let mut wanted: BTreeSet<ImageName> = graph.unresolved.keys().cloned().collect();
        // What `refresh` says is too old is fetched again, whoever asked for the run.
        let now = self.clock.now();
        wanted.extend(locks.images.iter().filter_map(|(image, lock)| {
            let request = lock_request(definition.images.get(image)?, &definition.source);
            request.is_due(lock.lock.epoch, now).then(|| image.clone())
        }));
        if run.trigger == Trigger::Lock {
            let asked = self.store.run_images(run.number).await?;
            wanted.extend(
                locks.images.keys().filter(|image| asked.is_empty() || asked.contains(*image)).cloned(),
            );
        }
        if !wanted.is_empty() && !fixed {
            unlocked = self.resolve_locks(&definition, wanted.iter(), &locks, &tree).await?;
            locks = Locks::choose(&definition, &self.overlays().await?, COMPRESSOR_VERSION);
            graph = edgewright_plan::graph(&definition, &tree, &locks);
            // A lock that could not be looked up anew still stands.
            unlocked.retain(|image, _| graph.unresolved.contains_key(image));
        }
        for image in graph.unresolved.keys() {
            unlocked.entry(image.clone()).or_insert_with(|| no_lock(image));
        }
        let mut diagnostics = parsed.diagnostics;
        diagnostics.extend(graph.diagnostics.iter().cloned());
        self.store.note_diagnostics(run.number, &diagnostics).await?;

        let (mut history, standing, heads) = self.history(&graph, &definition.exceptions).await?;
        if let Some(selection) = &self.selection {
            selection.narrow(&mut graph, &mut history);
        }
        let mut plan = plan(&graph, &history, None);
        if plan.nodes.values().any(|node| node.action.is_work()) {
            // Only now is it worth knowing what changed.
            let previous = self.previous(&overlays).await;
            plan = edgewright_plan::plan(&graph, &history, previous.as_deref());
        }
        if let Some(selection) = &self.selection {
            selection.keep_declared(&mut plan);
        }
        let graph = Arc::new(graph);
        if self.selection.is_none() {
            self.planned.keep(run.source, run.number, &graph);
        }
        let mut prepared = Prepared { definition, graph, plan, unlocked, standing, settled: None };
        if !fixed {
            prepared.settled = Some(self.fix(&prepared, &heads).await?);
        }
        Ok(Some(prepared))
    }

    pub(crate) async fn refuse(&self, diagnostics: &[Diagnostic]) -> Result<(), ControlError> {
        let run = &self.run;
        self.store.note_diagnostics(run.number, diagnostics).await?;
        let first = diagnostics.first().map_or("edgewright.yaml is missing", |first| first.message.as_str());
        self.fail(&format!("the source has errors ({} in all): {first}", diagnostics.len().max(1))).await
    }

    /// Ends the run as a whole.
    async fn fail(&self, why: &str) -> Result<(), ControlError> {
        let run = &self.run;
        self.store.end_run(run.number, run.state, RunState::Failed, Some(why), self.clock.now()).await?;
        self.events.send(run.number, RunEventKind::State(RunState::Failed));
        Ok(())
    }

    pub(crate) async fn overlays(&self) -> Result<BTreeMap<ImageName, Vec<(u64, Lock)>>, ControlError> {
        let mut overlays: BTreeMap<ImageName, Vec<(u64, Lock)>> = BTreeMap::new();
        for row in self.store.locks(self.run.source).await? {
            overlays.entry(row.image).or_default().push((u64::from(row.number), row.lock));
        }
        Ok(overlays)
    }

    /// What is known that matters to this graph. A run that somebody asked for forgets failures: it tries again.
    async fn history(
        &self,
        graph: &Graph,
        exceptions: &[Exception],
    ) -> Result<(History, Standing, Vec<Head>), ControlError> {
        let keys = graph.keys();
        let (source, branch) = (self.run.source, &self.run.branch);
        let (builds, heads) = tokio::try_join!(self.store.built(&keys), self.store.heads(source, branch))?;
        let mut history = History { builds, ..History::default() };
        // What was retired is shown for a while, and then forgotten.
        let grace = self.clock.now().checked_sub(self.settings.keep.retired_for).unwrap_or(Timestamp::MIN);
        let declared: BTreeSet<&VariantName> =
            graph.nodes.keys().filter_map(|id| id.name.variant()).collect();
        for head in &heads {
            let is_forgotten = head.retired_at.is_some_and(|at| at < grace);
            if declared.contains(&head.variant) || !is_forgotten {
                let build = PreviousBuild { key: head.key.clone(), manifest: head.digest.clone() };
                let platforms = history.variants.entry(head.variant.clone()).or_default();
                platforms.insert(head.platform.clone(), build);
            }
        }
        // The last good digests are compared with; they may have other keys.
        let released = self.released(&self.run.branch).await?;
        let known = history.builds.values().chain(released.good.values()).map(|build| &build.digest);
        let verdicts = self.store.newest_verdicts(&known.collect()).await?;
        for row in &verdicts {
            let verdict = row.verdict.clone();
            let key = VerdictKey {
                manifest: verdict.manifest.digest,
                lane: verdict.lane,
                check_set: verdict.check_set,
            };
            match verdict.result {
                LaneResult::Passed => {
                    history.failed.remove(&key);
                    history.passed.insert(key);
                }
                LaneResult::Failed { kind: FailureKind::Image, message }
                    if self.run.trigger != Trigger::Manual =>
                {
                    history.passed.remove(&key);
                    history.failed.insert(key, message);
                }
                LaneResult::Failed { .. } => {
                    history.passed.remove(&key);
                    history.failed.remove(&key);
                }
            }
        }
        let standing = self.judge_known((graph, exceptions), &verdicts, &released.good, &mut history);
        Ok((history, standing, heads))
    }

    /// The graph of the source's last planned commit, so that reasons can say what changed. Only words depend on it.
    async fn previous(&self, overlays: &BTreeMap<ImageName, Vec<(u64, Lock)>>) -> Option<Arc<Graph>> {
        let before = self.store.planned_before(self.run.number, self.run.source).await.ok()??;
        if let Some(graph) = self.planned.graph(self.run.source, before.number) {
            return Some(graph);
        }
        let tree = self.watched.mirror.read_tree(&before.commit).await.ok()?;
        let definition = format::parse(&tree).definition?;
        let locks = fixed_locks(&definition, overlays, &before);
        Some(Arc::new(graph(&definition, &tree, &locks)))
    }

    async fn fix(&self, prepared: &Prepared, heads: &[Head]) -> Result<Vec<NodeRow>, ControlError> {
        let run = self.run.number;
        let locks: BTreeMap<ImageName, Option<u32>> =
            prepared.graph.locks.iter().map(|(image, lock)| (image.clone(), overlay_number(lock))).collect();
        let jobs = prepared.plan.order();
        let others = prepared.plan.nodes.values().filter(|node| !node.action.is_work());
        let rows: Vec<NodeRow> = jobs.iter().copied().chain(others).map(|node| row(prepared, node)).collect();
        let summary = prepared.plan.summary().to_string();
        let settled = self.store.fix_plan(run, &locks, &summary, rows, heads, self.clock.now()).await?;
        self.events.send(run, RunEventKind::Planned { summary, jobs: jobs.len() });
        self.events.send(run, RunEventKind::State(RunState::Running));
        Ok(settled)
    }

    /// All nodes of the run: those that it works on as they are now, then those that stand as they stood.
    pub(crate) async fn nodes(&self, prepared: &Prepared) -> Result<Vec<NodeRow>, ControlError> {
        let run = self.run.number;
        let Some(settled) = &prepared.settled else { return Ok(self.store.nodes(run).await?) };
        let mut nodes = self.store.own_nodes(run).await?;
        nodes.extend_from_slice(settled);
        Ok(nodes)
    }
}

fn overlay_number(lock: &EffectiveLock) -> Option<u32> {
    match lock.origin {
        LockOrigin::Committed => None,
        LockOrigin::Overlay(number) => u32::try_from(number).ok(),
    }
}

/// The locks that a run's plan was fixed with.
pub(crate) fn fixed_locks(
    definition: &Definition,
    overlays: &BTreeMap<ImageName, Vec<(u64, Lock)>>,
    run: &RunRow,
) -> Locks {
    let mut images = BTreeMap::new();
    for (image, number) in &run.locks {
        let lock = match number {
            None => definition
                .images
                .get(image)
                .and_then(|spec| spec.lock.clone())
                .map(|lock| (lock, LockOrigin::Committed)),
            Some(number) => overlays
                .get(image)
                .and_then(|locks| locks.iter().find(|(candidate, _)| candidate == &u64::from(*number)))
                .map(|(number, lock)| (lock.clone(), LockOrigin::Overlay(*number))),
        };
        if let Some((lock, origin)) = lock {
            images.insert(image.clone(), EffectiveLock { lock, origin });
        }
    }
    Locks { compressor: COMPRESSOR_VERSION.to_owned(), images }
}

fn no_lock(image: &ImageName) -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Lock,
        message: format!("image `{image}` has no lock for what it asks now"),
        hint: Some("run the commit again to resolve it".to_owned()),
        output: Vec::new(),
    }
}

/// A planned node as a row of the run.
fn row(prepared: &Prepared, planned: &Planned) -> NodeRow {
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
    let known = prepared.standing.notes.get(&planned.id).filter(|_| state.is_terminal());
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
            .or_else(|| prepared.standing.failures.get(&planned.id).filter(|_| state == NodeState::Failed))
            .cloned(),
        digest,
        steps,
        not_before: None,
        notes: known.cloned().unwrap_or_default(),
        started_at: None,
        finished_at: None,
    }
}
