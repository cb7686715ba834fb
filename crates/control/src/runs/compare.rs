//! What is new: a lane that fails through the image is run on the last good digest, too, in the same place
//! with the same checks, once. The verdict found there is recorded like any other.

use edgewright_job::Permit;
use edgewright_model::order::{Base, ImageTask, Task};
use edgewright_plan::graph::Node;
use edgewright_plan::history::VerdictKey;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::prepare::Prepared;
use super::scope::Scope;
use crate::ControlError;
use crate::jobs::{Label, new_job, repository_in};

impl Engine {
    /// Runs one lane on the last good digest of a node, and records the verdict where the job found one.
    ///
    /// # Errors
    /// [`ControlError::Stopped`] where the run is stopped; the database.
    pub(crate) async fn compare(
        &self,
        scope: &Scope,
        prepared: &Prepared,
        (node, verdict, permit): (&Node, &VerdictKey, Permit),
        stop: &CancellationToken,
    ) -> Result<(), ControlError> {
        let good = prepared.last_good(node).filter(|good| good.digest == verdict.manifest);
        let lane = node.lanes.iter().find(|lane| lane.lane == verdict.lane);
        let (Some(good), Some(lane)) = (good, lane) else {
            return Err(ControlError::Broken { what: "a comparison has no last good digest" });
        };
        let run = scope.run.number;
        let name = node.id.name.to_string();
        if let Ok(mut log) = self.jobs.logs.open(run, &name, Some(&node.id.platform)).await {
            let short = good.digest.short();
            log.line(&format!("── the same checks on the last good digest {short}, to see what is new"))
                .await;
        }
        let domain = scope.run.domain();
        let repository = repository_in(domain, &good.repository)?;
        let good = self.jobs.hosting.stand_in(good, &repository).await?;
        let task = Task::Image(ImageTask {
            node: format!("{name} (last good)"),
            variant: node.variant().cloned(),
            platform: node.id.platform.clone(),
            repository,
            base: Base::Manifest(good),
            steps: Vec::new(),
            base_key: None,
            epoch: node.epoch,
            labels: (*node.labels).clone(),
            lanes: vec![self.jobs.lane(lane, false)],
        });
        let label = Label { name: &name, platform: Some(&node.id.platform), is_node: false };
        let jobs = scope.jobs(prepared.name(), stop);
        let request = self.jobs.request(&jobs, new_job(), task);
        let outcome = self.jobs.perform(&jobs, label, request, permit).await?;
        self.jobs.hold(&scope.run, &outcome).await?;
        let check_sets = [(lane.check_set.clone(), lane.checks.to_vec())];
        Ok(self.store.add_verdicts(run, &outcome.verdicts, &check_sets, self.clock.now()).await?)
    }
}
