//! Building again what was built: from the same commit, locks and kept packages, without the mirror. Equal
//! bytes prove that the keys tell all that went in; other bytes refute it. The recorded digest stays either
//! way.

mod export;
mod queue;

use std::collections::BTreeSet;
use std::sync::Arc;

use edgewright_build::compare;
use edgewright_job::Demand;
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::format;
use edgewright_model::order::{Base, ManifestRef, StepAction, StepOrder, TrustDomain};
use edgewright_model::outcome::StepBuild;
use edgewright_model::run::{NodeState, RunNumber};
use edgewright_model::spec::Definition;
use edgewright_plan::graph::Node;
use edgewright_plan::{Graph, graph};
use edgewright_process::Tasks;
use edgewright_store::nodes::NodeRow;
use edgewright_store::proofs::ProofResult;
pub use edgewright_store::rebuilds::{Rebuilt, RebuiltStep};
pub use export::Export;
use tokio_util::sync::CancellationToken;

use crate::jobs::{Jobs, Label, RunScope, image_task, step_kinds};
use crate::locks::{Locks, fixed_locks};
use crate::reconcile::Wake;
use crate::sources::{SourceHandle, Sources};
use crate::{ControlError, pins};

/// How the jobs are called that build a node again: they are no nodes of the run.
pub const REBUILD_PREFIX: &str = "rebuild ";

/// Builds again. Clones share it.
#[derive(Debug, Clone)]
pub struct Rebuilds {
    pub(crate) jobs: Jobs,
    pub(crate) sources: Arc<Sources>,
    pub(crate) locks: Locks,
    /// Wakes the reconciler.
    pub(crate) wake: Wake,
    /// Fires at shutdown.
    pub(crate) shutdown: CancellationToken,
    /// Hold what exported jobs need.
    pub(crate) tasks: Tasks,
}

/// A run's commit as it was planned, read again.
struct Reread {
    run: RunNumber,
    domain: TrustDomain,
    handle: Arc<SourceHandle>,
    definition: Definition,
    graph: Graph,
}

impl Reread {
    /// A run's node in its graph, if it still has the same key there.
    fn node(&self, row: &NodeRow) -> Result<&Node, ControlError> {
        let mut nodes = self.graph.nodes.values();
        let node = nodes.find(|node| {
            node.id.platform == row.platform
                && node.id.name.to_string() == row.node
                && Some(&node.key) == row.key.as_ref()
        });
        node.ok_or(ControlError::OtherKeys { run: self.run })
    }
}

impl Rebuilds {
    /// Builds a digest again, of an index all its platforms, from the first step on.
    ///
    /// # Errors
    /// No run made the digest, its source is not configured, or its commit is gone; the database or the
    /// registry fails.
    pub async fn rebuild(&self, digest: &Digest) -> Result<Vec<Rebuilt>, ControlError> {
        let mut rebuilt = Vec::new();
        for (run, row) in self.jobs.store.nodes_of(digest).await? {
            let reread = self.reread(run).await?;
            let node = reread.node(&row)?;
            rebuilt.push(self.rebuild_node(&reread, node, 0).await?);
        }
        if rebuilt.is_empty() { Err(ControlError::NotBuilt) } else { Ok(rebuilt) }
    }

    /// Builds again what a run built, each step once.
    ///
    /// # Errors
    /// As for [`Rebuilds::rebuild`].
    pub async fn verify(&self, run: RunNumber) -> Result<Vec<Rebuilt>, ControlError> {
        let reread = self.reread(run).await?;
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
        let mut rebuilt = Vec::new();
        for row in self.jobs.store.own_nodes(run).await? {
            if row.state != NodeState::Passed {
                continue;
            }
            let node = reread.node(&row)?;
            let mut from = None;
            for (position, step) in node.path.iter().enumerate() {
                let build = self.jobs.store.build(&step.key, reread.domain).await?;
                if build.is_some_and(|build| build.run == run) && seen.insert(step.key.clone()) {
                    from = from.or(Some(position));
                }
            }
            if let Some(from) = from {
                rebuilt.push(self.rebuild_node(&reread, node, from).await?);
            }
        }
        Ok(rebuilt)
    }

    async fn reread(&self, number: RunNumber) -> Result<Reread, ControlError> {
        let run = self.jobs.store.run(number).await?.ok_or(ControlError::NoRun { run: number })?;
        let handle = self.sources.get(run.source).ok_or(ControlError::NoSource { run: number })?;
        let tree = handle.mirror.read_tree(&run.commit).await?;
        let definition = format::parse(&tree).definition;
        let mut definition = definition.ok_or(ControlError::OtherKeys { run: number })?;
        definition.name_sites(&self.jobs.store.site_names(run.source).await?);
        let locks = fixed_locks(&definition, &self.locks.overlays(run.domain()).await?, &run);
        let graph = graph(&definition, &tree, &locks);
        Ok(Reread { run: number, domain: run.domain(), handle, definition, graph })
    }

    fn scope<'a>(&'a self, reread: &'a Reread) -> RunScope<'a> {
        RunScope {
            run: reread.run,
            domain: reread.domain,
            source: &reread.definition.source.name,
            mirror: &reread.handle.mirror,
            secrets: &reread.handle.settings.secrets,
            cancel: &self.shutdown,
        }
    }

    /// Builds a node again from a step on, and notes what that proves.
    async fn rebuild_node(&self, reread: &Reread, node: &Node, from: usize) -> Result<Rebuilt, ControlError> {
        let scope = self.scope(reread);
        let base = match from.checked_sub(1).and_then(|below| node.path.get(below)) {
            None => node.base.order().unwrap_or(Base::Scratch),
            Some(below) => {
                let build =
                    self.jobs.store.build(&below.key, reread.domain).await?.ok_or(ControlError::NotBuilt)?;
                Base::Manifest(build.manifest)
            }
        };
        let steps = self.kept_steps(&scope, node, from).await?;
        let name = format!("{REBUILD_PREFIX}{}", node.id.name);
        let label = Label { name: &name, platform: Some(&node.id.platform), is_node: false };
        let demand = Demand { steps: step_kinds(&node.path[from..]), ..Demand::default() };
        let task = image_task(reread.domain, node, base, steps, Vec::new())?;
        let outcome = self.jobs.run(&scope, label, demand, task).await?;
        self.jobs.hosting.unpin(&pins::contexts(reread.run)).await?;
        Ok(Rebuilt {
            run: reread.run,
            node: node.id.name.to_string(),
            platform: node.id.platform.clone(),
            steps: self.prove(reread.domain, node, outcome.builds).await?,
            failure: outcome.failure,
        })
    }

    /// The orders of a node's steps, without the mirror: with the packages that were kept.
    async fn kept_steps(
        &self,
        scope: &RunScope<'_>,
        node: &Node,
        from: usize,
    ) -> Result<Vec<StepOrder>, ControlError> {
        let mut steps = self.jobs.steps(scope, node, &node.path[from..]).await?;
        for step in &mut steps {
            if let StepAction::Bootstrap { kept, .. } = &mut step.action {
                *kept = self.jobs.store.kept_packages(&step.key, scope.domain).await?;
            }
        }
        Ok(steps)
    }

    /// Notes what builds prove, up to the first that differs: what is built on other bytes differs for that
    /// reason alone.
    async fn prove(
        &self,
        domain: TrustDomain,
        node: &Node,
        builds: Vec<StepBuild>,
    ) -> Result<Vec<RebuiltStep>, ControlError> {
        let mut steps = Vec::new();
        for build in builds {
            let title = node.path.iter().find(|step| step.key == build.key).map(|step| step.title.clone());
            let recorded = self.jobs.store.build(&build.key, domain).await?.map(|row| row.manifest);
            let differences = self.differences(recorded.as_ref(), &build.manifest).await;
            let (was, now) = (recorded.map(|it| it.digest), build.manifest.digest);
            let title = title.unwrap_or_default();
            let step = RebuiltStep { title, key: build.key, was, now, differences };
            let is_proved = step.is_proved();
            if step.was.is_some() {
                let result = if is_proved { ProofResult::Proved } else { ProofResult::Refuted };
                let at = self.jobs.clock.now();
                self.jobs.store.note_proof((&step.key, domain), result, &step.now, at).await?;
            }
            steps.push(step);
            if !is_proved {
                break;
            }
        }
        Ok(steps)
    }

    /// The files that differ between a recorded and a rebuilt image; none if they are equal or cannot be
    /// compared.
    async fn differences(&self, recorded: Option<&ManifestRef>, rebuilt: &ManifestRef) -> Vec<String> {
        let Some(recorded) = recorded.filter(|recorded| recorded.digest != rebuilt.digest) else {
            return Vec::new();
        };
        match compare::differences(self.jobs.hosting.client(), recorded, rebuilt).await {
            Ok(differences) => differences,
            Err(error) => {
                tracing::warn!(%rebuilt.digest, error = %Chain(&error), "cannot compare a rebuilt image with the recorded one");
                Vec::new()
            }
        }
    }
}
