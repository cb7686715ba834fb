//! From a run's commit to its plan: read, parse, lock, graph, plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::error::Chain;
use edgewright_model::format::{self, Diagnostic};
use edgewright_model::names::{ImageName, SourceName};
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::run::{RunState, Trigger};
use edgewright_model::spec::{Definition, Step};
use edgewright_model::tools::ToolVersions;
use edgewright_model::tree::Tree;
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::graph::Node;
use edgewright_plan::{Graph, Locks as Chosen, Plan, graph, lock_request, plan};
use edgewright_process::Clock;
use edgewright_source::SourceError;
use edgewright_store::Store;
use edgewright_store::heads::Head;
use edgewright_store::nodes::{FixedPlan, NodeRow};

use super::PlannedGraphs;
use super::history::Loaded;
use super::judge::Findings;
use super::rows::{overlay_number, row};
use super::scope::Scope;
use crate::ControlError;
use crate::events::{Events, RunEventKind};
use crate::inventory::Inventory;
use crate::jobs::Jobs;
use crate::locks::{Locks, Overlays, Resolving, fixed_locks};
use crate::releases::Releases;
use crate::releases::newest::Released;
use crate::sources::{ReadCommit, Sources};

/// Makes plans of commits.
#[derive(Debug, Clone)]
pub(crate) struct Planner {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    pub(crate) sources: Arc<Sources>,
    pub(crate) inventory: Inventory,
    pub(crate) releases: Releases,
    pub(crate) locks: Locks,
    pub(crate) jobs: Jobs,
    /// How long variants that are no longer declared are shown.
    pub(crate) retired_for: Duration,
    pub(crate) planned: Arc<PlannedGraphs>,
}

/// A run that is ready for its jobs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) definition: Definition,
    pub(crate) graph: Arc<Graph>,
    pub(crate) plan: Plan,
    /// Images whose lock could not be resolved.
    pub(crate) unlocked: BTreeMap<ImageName, JobFailure>,
    /// What is known about variants that need no job.
    pub(crate) findings: Findings,
    /// What the branch released last.
    pub(crate) released: Arc<Released>,
    /// The nodes that are as they were, where the plan was fixed just now.
    pub(crate) unchanged: Option<Vec<NodeRow>>,
}

impl Prepared {
    /// The name that the definition declares.
    pub(crate) const fn name(&self) -> &SourceName {
        &self.definition.source.name
    }

    /// The last good manifest of a node's variant.
    pub(crate) fn last_good(&self, node: &Node) -> Option<&ManifestRef> {
        self.released.good.get(&(node.variant()?.clone(), node.id.platform.clone()))
    }
}

/// What came of a commit.
#[derive(Debug)]
pub(crate) enum Preparation {
    /// It has a plan.
    Ready(Box<Prepared>),
    /// The run ends here.
    Refused(Invalid),
}

/// Why a commit is not planned.
#[derive(Debug)]
pub(crate) struct Invalid {
    pub(crate) why: String,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Invalid {
    /// Of a source whose `edgewright.yaml` is broken or missing.
    pub(crate) fn of(diagnostics: Vec<Diagnostic>) -> Self {
        let first = diagnostics.first().map_or("edgewright.yaml is missing", |first| first.message.as_str());
        let why = format!("the source has errors ({} in all): {first}", diagnostics.len().max(1));
        Self { why, diagnostics }
    }

    /// Of a commit that exceeds a limit, or whose submodules are wrong.
    fn unreadable(error: &SourceError) -> Self {
        let (message, hint) = (Chain(error).to_string(), error.hint().map(str::to_owned));
        let diagnostics = vec![Diagnostic { file: None, place: None, message: message.clone(), hint }];
        Self { why: message, diagnostics }
    }
}

/// A commit with the locks that it is planned with.
struct Locked {
    locks: Chosen,
    graph: Graph,
    /// Images whose lock could not be resolved.
    unlocked: BTreeMap<ImageName, JobFailure>,
    overlays: Overlays,
}

impl Planner {
    /// Reads the commit, chooses its locks and plans.
    ///
    /// # Errors
    /// The commit cannot be read; the database; [`ControlError::Stopped`] where the run is stopped.
    pub(crate) async fn prepare(&self, scope: &Scope) -> Result<Preparation, ControlError> {
        let run = &scope.run;
        let ReadCommit { tree, parsed, .. } = match scope.handle.read_commit(&run.commit).await {
            Ok(read) => read,
            Err(error) if error.is_of_commit() => {
                return Ok(Preparation::Refused(Invalid::unreadable(&error)));
            }
            Err(error) => return Err(error.into()),
        };
        let Some(mut definition) = parsed.definition else {
            return Ok(Preparation::Refused(Invalid::of(parsed.diagnostics)));
        };
        let name = &definition.source.name;
        if let Some(why) = self.inventory.name_fault(run.source, name, &self.sources.ids()).await? {
            return Ok(Preparation::Refused(Invalid { why, diagnostics: Vec::new() }));
        }
        let named = definition.name_sites(&self.store.site_names(run.source).await?);
        let Locked { mut graph, mut unlocked, overlays, .. } = self.lock(scope, &definition, &tree).await?;
        for image in graph.unresolved.keys() {
            unlocked.entry(image.clone()).or_insert_with(|| no_lock(image));
        }
        let mut diagnostics = parsed.diagnostics;
        diagnostics.extend(named.into_iter().chain(graph.diagnostics.iter().cloned()));
        self.store.note_diagnostics(run.number, &diagnostics).await?;

        let Loaded { mut history, findings, heads, released } =
            self.load_history(scope, &mut graph, &definition.exceptions).await?;
        if let Some(selection) = &scope.selection {
            selection.narrow(&mut graph, &mut history);
        }
        let mut plan = plan(&graph, &history, None);
        if plan.nodes.values().any(|node| node.action.is_work()) {
            // Only now is it worth knowing what changed.
            let previous = self.previous(scope, &overlays).await;
            plan = edgewright_plan::plan(&graph, &history, previous.as_deref());
        }
        if let Some(selection) = &scope.selection {
            selection.keep_declared(&mut plan);
        }
        let graph = Arc::new(graph);
        if scope.selection.is_none() {
            self.planned.keep(run.domain(), run.number, &graph);
        }
        let mut prepared =
            Prepared { definition, graph, plan, unlocked, findings, released, unchanged: None };
        if run.state == RunState::Preparing {
            prepared.unchanged = Some(self.fix(scope, &prepared, &heads).await?);
        }
        Ok(Preparation::Ready(Box::new(prepared)))
    }

    /// Chooses the locks of a commit; resolves those that are missing, due or asked for, unless the plan is
    /// fixed already, or is to be that of an earlier run.
    async fn lock(
        &self,
        scope: &Scope,
        definition: &Definition,
        tree: &Tree,
    ) -> Result<Locked, ControlError> {
        let run = &scope.run;
        let overlays = self.locks.overlays(run.domain()).await?;
        let built = match scope.update() {
            Some(update) => self.store.run(update.built).await?,
            None => None,
        };
        if built.is_some() || run.state != RunState::Preparing {
            let locks = fixed_locks(definition, &overlays, built.as_ref().unwrap_or(run));
            let graph = graph(definition, tree, &locks);
            return Ok(Locked { locks, graph, unlocked: BTreeMap::new(), overlays });
        }
        let resolving = scope.jobs(&definition.source.name, &scope.cancel);
        let tools =
            if uses_tools(definition) { self.jobs.tools(&resolving).await? } else { ToolVersions::default() };
        let choose = |overlays: &Overlays| {
            Chosen::choose(definition, overlays, COMPRESSOR_VERSION).with_tools(tools.clone())
        };
        let locks = choose(&overlays);
        let planned = graph(definition, tree, &locks);
        let mut chosen = Locked { locks, graph: planned, unlocked: BTreeMap::new(), overlays };
        let wanted = self.wanted(scope, definition, &chosen).await?;
        if wanted.is_empty() {
            return Ok(chosen);
        }
        let resolving =
            Resolving { scope: resolving, definition, tree, effective: &chosen.locks, proposes: false };
        let resolved = self.locks.resolve(resolving, wanted.iter()).await?;
        chosen.overlays = self.locks.overlays(run.domain()).await?;
        chosen.locks = choose(&chosen.overlays);
        chosen.graph = graph(definition, tree, &chosen.locks);
        // A lock that could not be resolved again stays in effect.
        let unresolved = &chosen.graph.unresolved;
        chosen.unlocked =
            resolved.failures.into_iter().filter(|(image, _)| unresolved.contains_key(image)).collect();
        Ok(chosen)
    }

    /// The images whose locks are resolved before the plan.
    async fn wanted(
        &self,
        scope: &Scope,
        definition: &Definition,
        chosen: &Locked,
    ) -> Result<BTreeSet<ImageName>, ControlError> {
        let mut wanted: BTreeSet<ImageName> = chosen.graph.unresolved.keys().cloned().collect();
        // What is older than its `refresh` is fetched again, whatever triggered the run.
        let now = self.clock.now();
        wanted.extend(chosen.locks.images.iter().filter_map(|(image, lock)| {
            let request = lock_request(definition.images.get(image)?, &definition.source);
            request.is_due(lock.lock.epoch, now).then(|| image.clone())
        }));
        if scope.run.trigger == Trigger::Lock {
            let asked = self.store.run_images(scope.run.number).await?;
            let locked = chosen.locks.images.keys();
            wanted.extend(locked.filter(|image| asked.is_empty() || asked.contains(*image)).cloned());
        }
        Ok(wanted)
    }

    /// The graph of the source's last planned commit, so that reasons can say what changed. Only words depend
    /// on it.
    async fn previous(&self, scope: &Scope, overlays: &Overlays) -> Option<Arc<Graph>> {
        let run = &scope.run;
        let before = self.store.planned_before(run.number, run.domain()).await.ok()??;
        if let Some(graph) = self.planned.graph(run.domain(), before.number) {
            return Some(graph);
        }
        let tree = scope.handle.mirror.read_tree(&before.commit).await.ok()?;
        let mut definition = format::parse(&tree).definition?;
        definition.name_sites(&self.store.site_names(run.source).await.ok()?);
        let locks = fixed_locks(&definition, overlays, &before);
        Some(Arc::new(graph(&definition, &tree, &locks)))
    }

    async fn fix(
        &self,
        scope: &Scope,
        prepared: &Prepared,
        heads: &[Head],
    ) -> Result<Vec<NodeRow>, ControlError> {
        let run = scope.run.number;
        let locks: BTreeMap<ImageName, Option<u32>> =
            prepared.graph.locks.iter().map(|(image, lock)| (image.clone(), overlay_number(lock))).collect();
        let jobs = prepared.plan.order();
        let others = prepared.plan.nodes.values().filter(|node| !node.action.is_work());
        let rows: Vec<NodeRow> = jobs.iter().copied().chain(others).map(|node| row(prepared, node)).collect();
        let summary = prepared.plan.summary().to_string();
        let plan =
            FixedPlan { locks: &locks, tools: &prepared.graph.tools, summary: &summary, nodes: rows, heads };
        let unchanged = self.store.fix_plan(run, plan, self.clock.now()).await?;
        self.events.send(run, RunEventKind::Planned { summary, jobs: jobs.len() });
        self.events.send(run, RunEventKind::State(RunState::Running));
        Ok(unchanged)
    }
}

/// Whether a step of the definition is executed by programs.
fn uses_tools(definition: &Definition) -> bool {
    let mut steps = definition.images.values().flat_map(|image| &image.steps);
    steps.any(|step| !matches!(step, Step::Files(_)))
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
