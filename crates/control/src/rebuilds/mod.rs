//! Building again what was built: from the same commit, locks and kept packages, without the mirror. Equal bytes prove
//! that the keys tell all that went in; other bytes refute it. The recorded digest stands either way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edgewright_job::Demand;
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::format;
use edgewright_model::order::{Base, JobId, StepAction};
use edgewright_model::run::{NodeState, RebuildNumber, RunNumber};
use edgewright_plan::graph::Node;
use edgewright_plan::{History, graph, plan};
use edgewright_store::nodes::NodeRow;
use edgewright_store::proofs::ProofResult;
pub use edgewright_store::rebuilds::{Rebuilt, RebuiltStep};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::access::Operation;
use crate::context::OperationContext;
use crate::events::{RunEvent, RunEventKind};
use crate::reconcile::{Outcome, Reconciler};
use crate::runs::Driver;
use crate::runs::admit::kinds;
use crate::runs::job::made_nothing;
use crate::runs::lanes::Standing;
use crate::runs::order::image_task;
use crate::runs::prepare::{Prepared, fixed_locks};
use crate::{Control, ControlError};

/// How the jobs are called that build a node again: they are no nodes of the run.
pub const REBUILD_PREFIX: &str = "rebuild ";
/// How often open rebuilds are looked for at least.
const PERIOD: Duration = Duration::from_mins(1);

impl Driver<'_> {
    /// The run's commit as it was planned, read again.
    async fn reread(&self) -> Result<Option<Prepared>, ControlError> {
        let tree = self.watched.mirror.read_tree(&self.run.commit).await?;
        let Some(definition) = format::parse(&tree).definition else { return Ok(None) };
        let locks = fixed_locks(&definition, &self.overlays().await?, &self.run);
        let graph = graph(&definition, &tree, &locks);
        let plan = plan(&graph, &History::default(), None);
        Ok(Some(Prepared {
            definition,
            graph: Arc::new(graph),
            plan,
            unlocked: BTreeMap::new(),
            standing: Standing::default(),
            settled: None,
        }))
    }

    /// Builds a node again from a step on, and notes what that proves.
    async fn rebuild(&self, prepared: &Prepared, node: &Node, from: usize) -> Result<Rebuilt, ControlError> {
        let base = match from.checked_sub(1).and_then(|below| node.path.get(below)) {
            None => node.base.order().unwrap_or(Base::Scratch),
            Some(below) => {
                let build = self.store.build(&below.key).await?.ok_or(ControlError::NotBuilt)?;
                Base::Manifest(build.manifest)
            }
        };
        let mut steps = Vec::new();
        for step in node.path.iter().skip(from) {
            let mut order = self.step(prepared, node, step).await?;
            if let StepAction::Bootstrap { kept, .. } = &mut order.action {
                *kept = self.store.kept_packages(&step.key).await?;
            }
            steps.push(order);
        }
        let task = image_task(node, base, steps, Vec::new());
        let name = format!("{REBUILD_PREFIX}{}", node.id.name);
        let log = self.logs.open(self.run.number, &name, Some(&node.id.platform)).await.ok();
        let request = self.job(JobId(uuid::Uuid::now_v7()), task);
        let demand = Demand { steps: kinds(&node.path[from..]), ..Demand::default() };
        let outcome = match self.admit(demand).await? {
            Ok(permit) => self.perform(&name, (request, permit), log, None).await?,
            Err(failure) => made_nothing(Some(failure)),
        };
        self.hosting.unpin(&self.contexts_pin()).await?;
        let mut rebuilt = Rebuilt {
            run: self.run.number,
            node: node.id.name.to_string(),
            platform: node.id.platform.clone(),
            steps: Vec::new(),
            failure: outcome.failure,
        };
        for build in outcome.builds {
            let title = node.path.iter().find(|step| step.key == build.key).map(|step| step.title.clone());
            let was = self.store.build(&build.key).await?.map(|row| row.manifest.digest);
            let now = build.manifest.digest;
            let step = RebuiltStep { title: title.unwrap_or_default(), key: build.key, was, now };
            let proved = step.is_proved();
            if step.was.is_some() {
                let result = if proved { ProofResult::Proved } else { ProofResult::Refuted };
                self.store.note_proof(&step.key, result, &step.now, self.clock.now()).await?;
            }
            rebuilt.steps.push(step);
            if !proved {
                // What stands on other bytes differs for that reason alone.
                break;
            }
        }
        Ok(rebuilt)
    }
}

impl Control {
    /// Builds a digest again, of an index all its platforms, from the first step on.
    ///
    /// # Errors
    /// No run made the digest, its source is not configured, or its commit is gone; the database or the registry fails.
    pub async fn rebuild(&self, digest: &Digest) -> Result<Vec<Rebuilt>, ControlError> {
        let mut rebuilt = Vec::new();
        for (run, row) in self.0.store.nodes_of(digest).await? {
            let (driver, prepared) = self.reread(run).await?;
            let node = node(&prepared, &row).ok_or(ControlError::OtherKeys { run })?;
            rebuilt.push(driver.rebuild(&prepared, node, 0).await?);
        }
        if rebuilt.is_empty() { Err(ControlError::NotBuilt) } else { Ok(rebuilt) }
    }

    /// Builds again what a run built, each step once.
    ///
    /// # Errors
    /// As for [`Control::rebuild`].
    pub async fn verify(&self, run: RunNumber) -> Result<Vec<Rebuilt>, ControlError> {
        let (driver, prepared) = self.reread(run).await?;
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
        let mut rebuilt = Vec::new();
        for row in self.0.store.own_nodes(run).await? {
            if row.state != NodeState::Passed {
                continue;
            }
            let Some(node) = node(&prepared, &row) else { return Err(ControlError::OtherKeys { run }) };
            let mut from = None;
            for (position, step) in node.path.iter().enumerate() {
                let build = self.0.store.build(&step.key).await?;
                if build.is_some_and(|build| build.run == run) && seen.insert(step.key.clone()) {
                    from = from.or(Some(position));
                }
            }
            if let Some(from) = from {
                rebuilt.push(driver.rebuild(&prepared, node, from).await?);
            }
        }
        Ok(rebuilt)
    }

    /// Queues the rebuild of a digest. One that is open already is the same.
    ///
    /// # Errors
    /// No run made the digest, or the database cannot be written.
    pub async fn queue_rebuild(
        &self,
        context: &OperationContext,
        digest: &Digest,
    ) -> Result<RebuildNumber, ControlError> {
        context.permit(Operation::Rebuild, None)?;
        if self.0.store.nodes_of(digest).await?.is_empty() {
            return Err(ControlError::NotBuilt);
        }
        let after = Some(serde_json::json!({ "digest": digest }));
        let entry = context.entry(Operation::Rebuild, "rebuilds/", None, after);
        let number = self.0.store.queue_rebuild(digest, (&entry, self.0.clock.now())).await?;
        self.0.rebuilds_wake.wake("a rebuild was queued");
        Ok(number)
    }

    /// Does a queued rebuild and keeps what came of it, also why it could not be done.
    ///
    /// # Errors
    /// Control shuts down (the rebuild waits for the next start), or the database cannot be written.
    pub async fn drive_rebuild(&self, number: RebuildNumber) -> Result<(), ControlError> {
        let inner = &*self.0;
        let Some(row) = inner.store.rebuild(number).await? else { return Ok(()) };
        inner.store.note_rebuild(number, "reading the commit").await?;
        let mut events = inner.events.subscribe();
        let building = self.rebuild(&row.digest);
        tokio::pin!(building);
        let result = loop {
            tokio::select! {
                result = &mut building => break result,
                Ok(event) = events.recv() => {
                    if let Some(doing) = doing(&event) {
                        inner.store.note_rebuild(number, &doing).await?;
                    }
                }
            }
        };
        let now = inner.clock.now();
        match result {
            Ok(builds) => inner.store.end_rebuild(number, Ok(&builds), now).await?,
            Err(error @ ControlError::Stopped) => return Err(error),
            Err(error) => {
                let why = Chain(&error).to_string();
                inner.store.end_rebuild(number, Err(&why), now).await?;
            }
        }
        Ok(())
    }

    async fn reread(&self, run: RunNumber) -> Result<(Driver<'_>, Prepared), ControlError> {
        let row = self.0.store.run(run).await?.ok_or(ControlError::NoRun { run })?;
        let driver = self.driver(row, self.0.shutdown.clone())?;
        let prepared = driver.reread().await?.ok_or(ControlError::OtherKeys { run })?;
        Ok((driver, prepared))
    }
}

/// Does what is queued, one after the other.
pub(crate) struct RebuildReconciler(pub(crate) Control);

impl Reconciler for RebuildReconciler {
    fn name(&self) -> String {
        "rebuilds".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let Some(number) = self.0.0.store.open_rebuild().await? else { return Ok(Outcome::idle()) };
            self.0.drive_rebuild(number).await?;
            Ok(Outcome::done(format!("did rebuild {number}")).then(Duration::ZERO))
        }
        .boxed()
    }
}

/// A run's node in its graph, if it still has the same key there.
fn node<'p>(prepared: &'p Prepared, row: &NodeRow) -> Option<&'p Node> {
    let mut nodes = prepared.graph.nodes.values();
    nodes.find(|node| {
        node.id.platform == row.platform
            && node.id.name.to_string() == row.node
            && Some(&node.key) == row.key.as_ref()
    })
}

/// What an event says about a rebuild, in words; nothing where it is about something else.
fn doing(event: &RunEvent) -> Option<String> {
    let RunEventKind::Phase { node, phase, title } = &event.kind else { return None };
    let node = node.strip_prefix(REBUILD_PREFIX)?;
    Some(format!("{node} {} {title}", crate::runs::job::phase_name(*phase)))
}
