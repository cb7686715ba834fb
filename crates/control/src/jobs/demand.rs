//! What a job will need, as far as the plan knows.

use std::sync::Arc;

use edgewright_job::{Demand, StepKind};
use edgewright_model::order::TrustDomain;
use edgewright_model::spec::Lane;
use edgewright_plan::graph::Node;
use edgewright_plan::plan::{Action, Planned};
use edgewright_plan::step::{GraphStep, PlannedStep};

use super::Jobs;
use crate::ControlError;

impl Jobs {
    /// What a node's job will need, according to the plan and to its earlier build.
    pub(crate) async fn demand(
        &self,
        domain: TrustDomain,
        planned: Option<&Planned>,
        node: &Node,
    ) -> Result<Demand, ControlError> {
        let mut image_bytes = None;
        if let Some(variant) = node.variant() {
            for digest in self.store.head_digests(domain, variant).await? {
                let sizes = self.store.builds_of(&digest).await?.into_iter().map(|build| build.image_size);
                image_bytes = image_bytes.max(sizes.max());
            }
        }
        Ok(Demand { image_bytes, ..of_plan(planned, node) })
    }
}

fn of_plan(planned: Option<&Planned>, node: &Node) -> Demand {
    let own_lanes = || node.lanes.iter().filter(|lane| lane.inherit.is_none()).map(|lane| lane.lane);
    let (steps, lanes) = match planned.map(|planned| &planned.action) {
        Some(Action::Build { steps, .. }) => (step_kinds(steps), own_lanes().collect()),
        Some(Action::Test { lanes, .. }) => (Vec::new(), lanes.clone()),
        // After a restart the plan may take a node for done whose job was not recorded.
        _ => (Vec::new(), own_lanes().collect()),
    };
    let lanes = lanes.into_iter().filter(|lane| *lane != Lane::External).collect();
    Demand { steps, lanes, ..Demand::default() }
}

/// What kind of work steps are.
pub(crate) fn step_kinds<'s>(steps: impl IntoIterator<Item = &'s Arc<GraphStep>>) -> Vec<StepKind> {
    let kind = |step: &Arc<GraphStep>| match &*step.work {
        PlannedStep::Bootstrap { .. } => StepKind::Bootstrap,
        PlannedStep::Containerfile { .. } => StepKind::Containerfile,
        PlannedStep::Files { .. } => StepKind::Files,
    };
    steps.into_iter().map(kind).collect()
}
