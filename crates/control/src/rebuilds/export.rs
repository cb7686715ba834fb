//! The objects that build and test an image again, for people who create them by hand.

use std::time::Duration;

use edgewright_job::{Exported, JobCredential};
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::{Base, JobRequest, LaneOrder};
use edgewright_model::run::RunNumber;
use edgewright_model::spec::Lane;
use edgewright_plan::graph::Node;
use edgewright_store::nodes::NodeRow;
use jiff::Timestamp;

use super::{Rebuilds, Reread};
use crate::access::Operation;
use crate::context::OperationContext;
use crate::jobs::{image_task, new_job};
use crate::{ControlError, pins};

/// How long a token is valid beyond the time limit of its job: until the objects are created and have a node.
const MARGIN: Duration = Duration::from_hours(1);

/// Objects that build and test a digest.
#[derive(Debug)]
pub struct Export {
    /// Objects, each after those that it needs.
    pub objects: Vec<serde_json::Value>,
    /// What is left out, each on one line.
    pub notes: Vec<String>,
    /// When tokens and contexts end.
    pub expires: Timestamp,
}

impl Rebuilds {
    /// The objects that build a digest again, of an index all its platforms, and test it. With `with_token`
    /// they hold tokens that permit what the job needs in the registry.
    ///
    /// # Errors
    /// No run made the digest, its source is not configured, its commit is gone, or the executor's jobs are
    /// no objects; the database or the registry fails.
    pub async fn export(
        &self,
        context: &OperationContext,
        digest: &Digest,
        with_token: bool,
    ) -> Result<Export, ControlError> {
        context.permit_in(Operation::ExportJob, &self.jobs.store.sources_with(digest).await?)?;
        let (mut all, mut pinned) = (Exported::default(), Vec::new());
        for (run, row) in self.jobs.store.nodes_of(digest).await? {
            let reread = self.reread(run).await?;
            let exported = self.export_node(&reread, (reread.node(&row)?, &row), with_token).await;
            pinned.push(run);
            match exported {
                Ok(exported) => all.add(exported),
                Err(error) => {
                    self.unpin(&pinned).await;
                    return Err(error);
                }
            }
        }
        if pinned.is_empty() {
            return Err(ControlError::NotBuilt);
        }
        let now = self.jobs.clock.now();
        let valid = self.jobs.settings.within.get() + MARGIN;
        let after = Some(serde_json::json!({ "digest": digest, "token": with_token }));
        let entry = context.entry(Operation::ExportJob, digest.to_string(), None, after);
        self.jobs.store.note_audit(&entry, now).await?;
        self.hold(valid, pinned, all.credentials);
        let expires = now.checked_add(valid).unwrap_or(Timestamp::MAX);
        Ok(Export { objects: all.objects, notes: all.notes, expires })
    }

    async fn export_node(
        &self,
        reread: &Reread,
        (node, row): (&Node, &NodeRow),
        with_token: bool,
    ) -> Result<Exported, ControlError> {
        let scope = self.scope(reread);
        let key = row.key.as_ref().ok_or(ControlError::NotBuilt)?;
        let build = self.jobs.store.build(key, reread.domain).await?.ok_or(ControlError::NotBuilt)?;
        let steps = self.kept_steps(&scope, node, 0).await?;
        let base = node.base.order().unwrap_or(Base::Scratch);
        let task = image_task(reread.domain, node, base, steps, self.lanes(node))?;
        let request: JobRequest = self.jobs.request(&scope, new_job(), task);
        let exported = self.jobs.executor.export(request, &build.manifest, with_token).await;
        exported.map_err(|error| ControlError::Export { why: Chain(&error).to_string() })
    }

    /// The lanes that a job runs. Those that need a release need the state of a channel, too.
    fn lanes(&self, node: &Node) -> Vec<LaneOrder> {
        let is_of_job = |lane: Lane| lane != Lane::External && !lane.needs_release();
        let lanes = node.lanes.iter().filter(|lane| is_of_job(lane.lane));
        lanes.map(|lane| self.jobs.lane(lane, false)).collect()
    }

    /// Keeps tokens and contexts for a time.
    fn hold(&self, time: Duration, pinned: Vec<RunNumber>, credentials: Vec<JobCredential>) {
        let (held, stop) = (self.clone(), self.shutdown.clone());
        self.tasks.spawn("hold what an exported job needs", async move {
            tokio::select! {
                () = tokio::time::sleep(time) => held.unpin(&pinned).await,
                () = stop.cancelled() => {}
            }
            drop(credentials);
        });
    }

    async fn unpin(&self, runs: &[RunNumber]) {
        for run in runs {
            if let Err(error) = self.jobs.hosting.unpin(&pins::contexts(*run)).await {
                tracing::warn!(run.number = run.0, error = %Chain(&error), "cannot unpin the contexts of a run");
            }
        }
    }
}
