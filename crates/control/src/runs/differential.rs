//! What is new: a lane that fails through the image is run on the last good digest, too, in the same place with the same
//! checks, once. The verdict found there is recorded like any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgewright_job::Demand;
use edgewright_model::Digest;
use edgewright_model::names::VariantName;
use edgewright_model::order::{Base, ImageTask, JobId, ManifestRef, Task};
use edgewright_model::outcome::FailureKind;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneResult, Verdict};
use edgewright_plan::graph::{LaneChecks, Node};

use super::Driver;
use crate::ControlError;
use crate::logs::LogFile;
use crate::verdicts::Evaluation;

impl Driver<'_> {
    /// Compares a failure with what the last good digest does in the same place, which is tried where nobody knows.
    pub(crate) async fn compare(
        &self,
        node: &Node,
        variant: &VariantName,
        lane: &LaneChecks,
        evaluation: Evaluation,
        log: Option<&mut LogFile>,
    ) -> Result<Evaluation, ControlError> {
        let released = self.released(&self.run.branch).await?;
        let Some(good) = released.good.get(&(variant.clone(), node.id.platform.clone())).cloned() else {
            return Ok(evaluation);
        };
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
            base_key: None,
            epoch: node.epoch,
            labels: (*node.labels).clone(),
            lanes: vec![self.lane(lane)],
        });
        let request = self.job(JobId(uuid::Uuid::now_v7()), task);
        let demand = Demand { lanes: vec![lane.lane], ..Demand::default() };
        let Ok(permit) = self.admit(demand).await? else { return Ok(None) };
        let log = match log {
            Some(_) => self.logs.open(self.run.number, &name, Some(&node.id.platform)).await.ok(),
            None => None,
        };
        let outcome = self.perform(&name, (request, permit), log, Some(&node.id)).await?;
        let check_sets = [(lane.check_set.clone(), lane.checks.to_vec())];
        self.store.add_verdicts(self.run.number, &outcome.verdicts, &check_sets, self.clock.now()).await?;
        Ok(outcome.verdicts.into_iter().next())
    }
}

/// One try of the last good digest at a time for each lane and check set: who comes second finds the first one's verdict.
#[derive(Debug, Default)]
pub(crate) struct Differential {
    tries: std::sync::Mutex<BTreeMap<Place, Arc<tokio::sync::Mutex<()>>>>,
}

/// Digest, lane, check set.
type Place = (Digest, Lane, Digest);

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
