//! One node's job, from its order to its recorded result.

use std::sync::Arc;

use edgewright_model::order::{JobId, JobOrder, Task};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_model::run::NodeState;
use edgewright_model::verdict::LaneResult;
use edgewright_plan::NodeId;
use edgewright_store::nodes::NodeChange;
use edgewright_store::results::NodeResult;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Driver;
use super::execute::NodeEnd;
use super::prepare::Prepared;
use crate::ControlError;
use crate::events::RunEventKind;
use crate::logs::LogFile;

/// Events of one job that wait to be handled.
const BACKLOG: usize = 256;

impl Driver<'_> {
    /// Runs the job of a waiting node and records what it made and found.
    pub(crate) async fn run_node(
        &self,
        prepared: Arc<Prepared>,
        id: NodeId,
        attempt: u32,
    ) -> Result<NodeEnd, ControlError> {
        let Some(node) = prepared.graph.nodes.get(&id) else { return Err(ControlError::Stopped) };
        let _permit = tokio::select! {
            permit = self.slots.acquire() => permit.map_err(|_| ControlError::Stopped)?,
            () = self.cancel.cancelled() => return Err(ControlError::Stopped),
        };
        let name = id.name.to_string();
        let job = JobId(uuid::Uuid::now_v7());
        self.store.start_node(self.run.number, &name, &id.platform, job, self.clock.now()).await?;
        self.tell(&id, NodeState::Running, None);
        let work = self.order(&prepared, node, job).await?;
        let check_sets: Vec<_> =
            node.lanes.iter().map(|lane| (lane.check_set.clone(), lane.checks.to_vec())).collect();
        let nothing_to_do = matches!(&work.order.task, Task::Image(task) if task.steps.is_empty() && task.lanes.is_empty() && work.known.is_some());
        let outcome = if nothing_to_do {
            // Killed after the last job was recorded, or another run built and tested the same in between.
            JobOutcome {
                version: work.order.version,
                builds: Vec::new(),
                verdicts: Vec::new(),
                lock: None,
                failure: None,
            }
        } else {
            let log = self.logs.open(self.run.number, &name, Some(&id.platform)).await;
            self.perform(&name, work.order, log.ok(), Some(&id)).await?
        };

        let held: Vec<_> = outcome
            .builds
            .iter()
            .map(|build| (build.manifest.repository.clone(), build.manifest.digest.clone()))
            .collect();
        self.hosting.pin(&self.results_pin(), &held).await?;
        let digest = outcome
            .builds
            .last()
            .map(|build| build.manifest.digest.clone())
            .or(work.known.map(|known| known.digest));
        let failure = outcome.failure.clone().or_else(|| first_failed_lane(&outcome));
        let (state, not_before) = match &failure {
            None => (NodeState::Passed, None),
            Some(failure)
                if failure.kind == FailureKind::Infrastructure && attempt < self.settings.attempts =>
            {
                (NodeState::Waiting, Some(self.retry_at(attempt)))
            }
            Some(_) => (NodeState::Failed, None),
        };
        let result = NodeResult {
            run: self.run.number,
            node: &name,
            platform: &id.platform,
            job,
            builds: &outcome.builds,
            verdicts: &outcome.verdicts,
            check_sets: &check_sets,
            state,
            change: NodeChange { failure: failure.as_ref(), digest: digest.as_ref(), not_before, notes: None },
        };
        self.store.record(result, self.clock.now()).await?;
        self.tell(&id, state, failure);
        Ok(NodeEnd { id, state, not_before })
    }

    fn retry_at(&self, attempt: u32) -> Timestamp {
        let pause = self.settings.retry_after * 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.clock.now().checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    /// Has the executor perform an order, passing its events on; what goes wrong outside of the job is an
    /// infrastructure failure of it.
    pub(crate) async fn perform(
        &self,
        name: &str,
        order: JobOrder,
        mut log: Option<LogFile>,
        id: Option<&NodeId>,
    ) -> Result<JobOutcome, ControlError> {
        let version = order.version;
        let (sender, mut receiver) = mpsc::channel(BACKLOG);
        let work = self.executor.run(order, sender, self.cancel.clone());
        let listen = async {
            while let Some(event) = receiver.recv().await {
                self.pass_on(name, id, event, log.as_mut()).await;
            }
        };
        let (outcome, ()) = tokio::join!(work, listen);
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(_) if self.cancel.is_cancelled() => Err(ControlError::Stopped),
            Err(error) => {
                let failure = error.failure();
                if let Some(log) = &mut log {
                    log.line(&format!("the job broke: {}", failure.message)).await;
                }
                Ok(JobOutcome {
                    version,
                    builds: Vec::new(),
                    verdicts: Vec::new(),
                    lock: None,
                    failure: Some(failure),
                })
            }
        }
    }

    async fn pass_on(&self, name: &str, id: Option<&NodeId>, event: JobEvent, log: Option<&mut LogFile>) {
        let node = name.to_owned();
        let (kind, line) = match event {
            JobEvent::Phase { phase, title } => {
                if let Some(id) = id
                    && let Err(error) =
                        self.store.note_phase(self.run.number, name, &id.platform, phase).await
                {
                    tracing::warn!(error = %edgewright_model::error::Chain(&error), node = name, "a phase was not noted");
                }
                let line = format!("── {} {title}", phase_name(phase));
                (RunEventKind::Phase { node, phase, title }, Some(line))
            }
            JobEvent::Progress { done, total, unit } => {
                (RunEventKind::Progress { node, done, total, unit }, None)
            }
            JobEvent::Log { line } => (RunEventKind::Log { node, line: line.clone() }, Some(line)),
            JobEvent::Outcome(_) => return,
        };
        if let (Some(log), Some(line)) = (log, line) {
            log.line(&line).await;
        }
        self.events.send(self.run.number, kind);
    }
}

const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Lock => "lock",
        Phase::Fetch => "fetch",
        Phase::Build => "build",
        Phase::Push => "push",
        Phase::Test => "test",
    }
}

fn first_failed_lane(outcome: &JobOutcome) -> Option<JobFailure> {
    outcome.verdicts.iter().find_map(|verdict| match &verdict.result {
        LaneResult::Passed => None,
        LaneResult::Failed { kind, message } => Some(JobFailure {
            kind: *kind,
            phase: Phase::Test,
            message: format!("{} lane: {message}", verdict.lane),
            hint: None,
            output: failed_output(verdict),
        }),
    })
}

fn failed_output(verdict: &edgewright_model::verdict::Verdict) -> Vec<String> {
    use edgewright_model::verdict::CheckOutcome;
    verdict
        .checks
        .iter()
        .filter_map(|check| match &check.outcome {
            CheckOutcome::Failed { message, output, .. } => {
                Some((format!("{}: {message}", check.id), output))
            }
            CheckOutcome::Passed | CheckOutcome::Skipped { .. } => None,
        })
        .flat_map(|(first, output)| {
            std::iter::once(first).chain(output.iter().map(|line| format!("  {line}")))
        })
        .collect()
}
