//! One node's job, from its order to its recorded result.

use std::sync::Arc;
use std::time::Duration;

use edgewright_job::Permit;
use edgewright_model::error::Chain;
use edgewright_model::order::{JobId, JobRequest, ORDER_VERSION};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_model::run::NodeState;
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneResult, Note, Verdict};
use edgewright_plan::NodeId;
use edgewright_source::PackError;
use edgewright_store::nodes::NodeChange;
use edgewright_store::results::NodeResult;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Driver;
use super::execute::NodeEnd;
use super::lanes::Judged;
use super::prepare::Prepared;
use crate::ControlError;
use crate::events::RunEventKind;
use crate::hosting::packages_pin;
use crate::logs::LogFile;

/// Events of one job that wait to be handled.
const BACKLOG: usize = 256;
/// A phase is for people to see: one that is over sooner is not worth a commit.
const PHASE_LASTS: Duration = Duration::from_millis(200);

impl Driver<'_> {
    /// Runs the job of a waiting node and records what it made and found.
    pub(crate) async fn run_node(
        &self,
        prepared: Arc<Prepared>,
        id: NodeId,
        attempt: u32,
    ) -> Result<NodeEnd, ControlError> {
        let Some(node) = prepared.graph.nodes.get(&id) else { return Err(ControlError::Stopped) };
        let admitted = self.admit(self.demand(&prepared, &id, node).await?).await?;
        let name = id.name.to_string();
        let job = JobId(uuid::Uuid::now_v7());
        self.store.start_node(self.run.number, &name, &id.platform, job, self.clock.now()).await?;
        self.tell(&id, NodeState::Running, None);
        let work = match self.order(&prepared, node, job).await {
            Ok(work) => Ok(work),
            // The disk or the registry failed while its contexts were packed: as if its job had broken.
            Err(error @ (ControlError::Pack(_) | ControlError::File { .. } | ControlError::Hosting(_))) => {
                Err(unpacked(&error))
            }
            Err(error) => return Err(error),
        };
        let check_sets: Vec<_> =
            node.lanes.iter().map(|lane| (lane.check_set.clone(), lane.checks.to_vec())).collect();
        let (outcome, known) = match (work, admitted) {
            (Err(failure), _) => (made_nothing(Some(failure)), None),
            // Killed after the last job was recorded, or another run built and tested the same in between.
            (Ok(work), _) if work.is_done() => (made_nothing(None), work.known),
            (Ok(work), Err(failure)) => (made_nothing(Some(failure)), work.known),
            (Ok(work), Ok(permit)) => {
                let log = self.logs.open(self.run.number, &name, Some(&id.platform)).await;
                (self.perform(&name, (work.request, permit), log.ok(), Some(&id)).await?, work.known)
            }
        };

        let builds = outcome
            .builds
            .iter()
            .map(|build| (build.manifest.repository.clone(), build.manifest.digest.clone()));
        // Evidence has no manifest before its verdict is published, at the run's end.
        let evidence = outcome.verdicts.iter().flat_map(|verdict| &verdict.evidence);
        let evidence = evidence.map(|piece| (piece.blob.repository.clone(), piece.blob.digest.clone()));
        let held: Vec<_> = builds.chain(evidence).collect();
        self.hosting.pin(&self.results_pin(), &held).await?;
        self.keep_packages(&outcome).await?;
        let manifest = outcome.builds.last().map(|build| build.manifest.clone()).or(known);
        let digest = manifest.as_ref().map(|manifest| manifest.digest.clone());
        let mut result = NodeResult {
            run: self.run.number,
            node: &name,
            platform: &id.platform,
            job,
            builds: &outcome.builds,
            verdicts: &outcome.verdicts,
            check_sets: &check_sets,
            state: NodeState::Running,
            change: NodeChange { digest: digest.as_ref(), ..NodeChange::default() },
        };
        let is_good = |verdict: &Verdict| verdict.result == LaneResult::Passed;
        let is_recorded = !outcome.verdicts.iter().all(is_good);
        if is_recorded {
            // What follows may take another job: this one's result shall not be lost meanwhile.
            self.store.record(result, self.clock.now()).await?;
            result = NodeResult { builds: &[], verdicts: &[], ..result };
        }
        let (inherited, judged) = match manifest.as_ref().filter(|_| outcome.failure.is_none()) {
            Some(manifest) => {
                let inherited = self.inherit(&prepared, node, manifest, &outcome.verdicts).await?;
                let fresh: Vec<Verdict> = outcome.verdicts.iter().chain(&inherited).cloned().collect();
                let mut log = self.logs.open(self.run.number, &name, Some(&id.platform)).await.ok();
                let judged = self.judge(&prepared, node, manifest, &fresh, log.as_mut()).await?;
                (inherited, judged)
            }
            None => (Vec::new(), Judged::default()),
        };
        let failure = outcome.failure.clone().or(judged.failure);
        let mut notes = judged.notes;
        let (state, not_before, awaits) = match (&failure, judged.awaits) {
            (None, None) => (NodeState::Passed, None, None),
            (None, Some(awaited)) => {
                let until = self.clock.now().checked_add(awaited.within).unwrap_or(Timestamp::MAX);
                let (lane, check_set) = (Lane::External, awaited.check_set);
                notes.push(Note::Awaiting { lane, check_set, until });
                (NodeState::Waiting, None, Some(until))
            }
            (Some(failure), _)
                if failure.kind == FailureKind::Infrastructure && attempt < self.settings.attempts =>
            {
                (NodeState::Waiting, Some(self.retry_at(attempt)), None)
            }
            (Some(_), _) => (NodeState::Failed, None, None),
        };
        let verdicts: Vec<Verdict> = result.verdicts.iter().chain(&inherited).cloned().collect();
        let change =
            NodeChange { failure: failure.as_ref(), not_before, notes: Some(&notes), ..result.change };
        let result = NodeResult { verdicts: &verdicts, state, change, ..result };
        self.store.record(result, self.clock.now()).await?;
        self.tell(&id, state, failure);
        Ok(NodeEnd { id, state, not_before, awaits })
    }

    /// Holds the packages that steps were made of, until housekeeping finds that no release needs them.
    async fn keep_packages(&self, outcome: &JobOutcome) -> Result<(), ControlError> {
        for build in &outcome.builds {
            let Some(kept) = &build.kept else { continue };
            let held: Vec<_> = kept
                .packages
                .iter()
                .map(|kept_one| (kept.repository.clone(), kept_one.digest.clone()))
                .collect();
            self.hosting.pin(&packages_pin(&build.key), &held).await?;
            self.store.keep_packages(&build.key, kept, self.clock.now()).await?;
        }
        Ok(())
    }

    fn retry_at(&self, attempt: u32) -> Timestamp {
        let pause = self.settings.retry_after * 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.clock.now().checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    /// Has the executor do an admitted request, passing its events on; what goes wrong outside of the job is an
    /// infrastructure failure of it.
    pub(crate) async fn perform(
        &self,
        name: &str,
        (request, permit): (JobRequest, Permit),
        mut log: Option<LogFile>,
        id: Option<&NodeId>,
    ) -> Result<JobOutcome, ControlError> {
        let (sender, mut receiver) = mpsc::channel(BACKLOG);
        let work = self.executor.run(request, permit, sender, self.cancel.clone());
        let listen = async {
            let mut lasting = Lasting::default();
            loop {
                tokio::select! {
                    event = receiver.recv() => {
                        let Some(event) = event else { break };
                        if let JobEvent::Phase { phase, .. } = &event {
                            lasting.begins(*phase);
                        }
                        self.pass_on(name, event, log.as_mut()).await;
                    }
                    phase = lasting.lasts() => self.note_phase(name, id, phase).await,
                }
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
                Ok(made_nothing(Some(failure)))
            }
        }
    }

    async fn note_phase(&self, name: &str, id: Option<&NodeId>, phase: Phase) {
        if let Some(id) = id
            && let Err(error) = self.store.note_phase(self.run.number, name, &id.platform, phase).await
        {
            tracing::warn!(error = %Chain(&error), node = name, "a phase was not noted");
        }
    }

    async fn pass_on(&self, name: &str, event: JobEvent, log: Option<&mut LogFile>) {
        let node = name.to_owned();
        let (kind, line) = match event {
            JobEvent::Phase { phase, title } => {
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

/// The phase that a job is in, until it lasts long enough to be noted.
#[derive(Default)]
struct Lasting(Option<(Phase, tokio::time::Instant)>);

impl Lasting {
    fn begins(&mut self, phase: Phase) {
        let since = self.0.map_or_else(tokio::time::Instant::now, |(_, since)| since);
        self.0 = Some((phase, since));
    }

    /// Waits until there is a phase to note; it is given once.
    async fn lasts(&mut self) -> Phase {
        let Some((phase, since)) = self.0 else { return std::future::pending().await };
        tokio::time::sleep_until(since + PHASE_LASTS).await;
        self.0 = None;
        phase
    }
}

/// The outcome of a job that made nothing.
pub(crate) const fn made_nothing(failure: Option<JobFailure>) -> JobOutcome {
    JobOutcome { version: ORDER_VERSION, builds: Vec::new(), verdicts: Vec::new(), lock: None, failure }
}

/// Why an order could not be cut.
fn unpacked(error: &ControlError) -> JobFailure {
    let (kind, hint) = match error {
        ControlError::Pack(PackError::Pointer { .. }) => {
            (FailureKind::Image, "commit the file without Git LFS, or let a Containerfile fetch it by digest")
        }
        ControlError::Pack(PackError::Entry { .. }) => (FailureKind::Image, "rename or remove it"),
        _ => (FailureKind::Infrastructure, "look at the room and the permissions of the data folder"),
    };
    JobFailure {
        kind,
        phase: Phase::Fetch,
        message: Chain(error).to_string(),
        hint: Some(hint.to_owned()),
        output: Vec::new(),
    }
}

pub(crate) const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Lock => "lock",
        Phase::Fetch => "fetch",
        Phase::Build => "build",
        Phase::Push => "push",
        Phase::Test => "test",
    }
}
