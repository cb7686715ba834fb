//! Admission of jobs: what a job will need, and waiting until the executor lets it start.

use edgewright_job::{Admission, Demand, Permit, StepKind};
use edgewright_model::outcome::JobFailure;
use edgewright_model::spec::Lane;
use edgewright_plan::NodeId;
use edgewright_plan::graph::Node;
use edgewright_plan::plan::{Action, Planned};
use edgewright_plan::step::{GraphStep, PlannedStep};

use super::Driver;
use super::prepare::Prepared;
use crate::ControlError;

impl Driver<'_> {
    /// Waits until a job may start. The failure is the executor's reason why it never will.
    pub(crate) async fn admit(&self, demand: Demand) -> Result<Result<Permit, JobFailure>, ControlError> {
        let admitted = async {
            let mut told = None;
            loop {
                match self.executor.admit(demand.clone()).await {
                    Admission::Now(permit) => return Ok(permit),
                    Admission::Never(failure) => return Err(failure),
                    Admission::Later { reason, retry_after } => {
                        if told.as_ref() != Some(&reason) {
                            tracing::info!(run.number = self.run.number.0, reason, "a job has to wait");
                            told = Some(reason);
                        }
                        tokio::time::sleep(retry_after).await;
                    }
                }
            }
        };
        tokio::select! {
            admitted = admitted => Ok(admitted),
            () = self.cancel.cancelled() => Err(ControlError::Stopped),
        }
    }

    /// What a node's job will need, according to the plan.
    pub(crate) async fn demand(
        &self,
        prepared: &Prepared,
        id: &NodeId,
        node: &Node,
    ) -> Result<Demand, ControlError> {
        let mut image_bytes = None;
        if let Some(variant) = id.name.variant() {
            for digest in self.store.head_digests(self.run.source, variant).await? {
                let sizes = self.store.builds_of(&digest).await?.into_iter().map(|build| build.image_size);
                image_bytes = image_bytes.max(sizes.max());
            }
        }
        Ok(Demand { image_bytes, ..planned(prepared.plan.nodes.get(id), node) })
    }
}

fn planned(planned: Option<&Planned>, node: &Node) -> Demand {
    let own_lanes = || node.lanes.iter().filter(|lane| lane.inherit.is_none()).map(|lane| lane.lane);
    let (steps, lanes) = match planned.map(|planned| &planned.action) {
        Some(Action::Build { steps, .. }) => (kinds(steps), own_lanes().collect()),
        Some(Action::Test { lanes, .. }) => (Vec::new(), lanes.clone()),
        // After a restart the plan may take a node for done whose job was not recorded.
        _ => (Vec::new(), own_lanes().collect()),
    };
    let lanes = lanes.into_iter().filter(|lane| *lane != Lane::External).collect();
    Demand { steps, lanes, image_bytes: None }
}

/// What kind of work steps are.
pub(crate) fn kinds<'s>(steps: impl IntoIterator<Item = &'s std::sync::Arc<GraphStep>>) -> Vec<StepKind> {
    let kind = |step: &std::sync::Arc<GraphStep>| match &*step.work {
        PlannedStep::Bootstrap { .. } => StepKind::Bootstrap,
        PlannedStep::Containerfile { .. } => StepKind::Containerfile,
        PlannedStep::Files { .. } => StepKind::Files,
    };
    steps.into_iter().map(kind).collect()
}
