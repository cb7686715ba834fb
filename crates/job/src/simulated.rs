//! A simulated executor: scripted behaviour, deterministic digests, nothing done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::lock::{Lock, LockedPackage};
use edgewright_model::order::{
    Base, ImageTask, JobOrder, LaneOrder, LockTask, ManifestRef, ORDER_VERSION, RegistryAccess, StepOrder,
    Task,
};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase, StepBuild};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_model::verdict::{CheckOutcome, CheckResult, LaneInputs, LaneResult, Verdict};
use edgewright_oci::client::Client;
use edgewright_process::{CancellationToken, Ended};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::executor::{BoxFuture, Executor};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "behaviour", rename_all = "snake_case")]
pub enum Behaviour {
    /// All goes well.
    #[default]
    Succeed,
    /// All goes well, after this time in milliseconds.
    Slow {
        /// The time.
        ms: u64,
    },
    /// The last step fails, earlier ones are built.
    FailBuild {
        /// Whose fault.
        kind: FailureKind,
    },
    /// All is built; the first check of every lane fails.
    FailLanes {
        /// Whose fault.
        kind: FailureKind,
    },
    /// Prints this many log lines, then all goes well.
    Flood {
        /// How many.
        lines: u64,
    },
    /// Ends without an outcome.
    Crash,
    /// Never ends by itself.
    Hang,
}

/// Scripted by node (or, for locks, image): each job of a node takes the node's next behaviour, the last one stays.
#[derive(Debug, Clone, Default)]
pub struct SimulatedExecutor {
    pushes: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    default: Behaviour,
    scripts: BTreeMap<String, VecDeque<Behaviour>>,
    ran: Vec<JobOrder>,
}

impl SimulatedExecutor {
    /// All jobs go well; nothing is pushed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pushes a tiny real manifest for each step to the order's registry: same digests as without.
    #[must_use]
    pub const fn pushing(mut self) -> Self {
        self.pushes = true;
        self
    }

    /// What jobs without a script do.
    pub fn set_default(&self, behaviour: Behaviour) {
        self.lock().default = behaviour;
    }

    /// What the next jobs of a node do, one after the other; the last one stays.
    pub fn script(&self, node: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.lock().scripts.insert(node.to_owned(), behaviours.into_iter().collect());
    }

    /// The orders that were run, in the order in which they came.
    pub fn ran(&self) -> Vec<JobOrder> {
        self.lock().ran.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, order: &JobOrder) -> Behaviour {
        let mut state = self.lock();
        state.ran.push(order.clone());
        let node = match &order.task {
            Task::Image(task) => task.node.as_str(),
            Task::Lock(task) => task.image.as_str(),
        };
        match state.scripts.get_mut(node) {
            Some(script) if script.len() > 1 => script.pop_front().unwrap_or_default(),
            Some(script) => script.front().cloned().unwrap_or_default(),
            None => state.default.clone(),
        }
    }

    async fn work(
        &self,
        order: &JobOrder,
        behaviour: &Behaviour,
        events: &mpsc::Sender<JobEvent>,
    ) -> Result<JobOutcome, ExecutorError> {
        match behaviour {
            Behaviour::Hang => std::future::pending::<()>().await,
            Behaviour::Slow { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Behaviour::Flood { lines } => {
                let reporter = crate::Reporter::new(events.clone());
                for number in 0..*lines {
                    reporter.report(JobEvent::Log { line: format!("line {number}") });
                    if number % 100 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                reporter.finish();
            }
            Behaviour::Crash => {
                let ended = Ended::Signal(9);
                return Err(ExecutorError::NoOutcome { ended, phase: None, garbage: None, log: Vec::new() });
            }
            Behaviour::Succeed | Behaviour::FailBuild { .. } | Behaviour::FailLanes { .. } => {}
        }
        Ok(match &order.task {
            Task::Lock(task) => self::lock(task, behaviour),
            Task::Image(task) => self.image(task, &order.registry, behaviour, events).await,
        })
    }

    async fn image(
        &self,
        task: &ImageTask,
        registry: &RegistryAccess,
        behaviour: &Behaviour,
        events: &mpsc::Sender<JobEvent>,
    ) -> JobOutcome {
        let mut outcome = empty();
        for (index, step) in task.steps.iter().enumerate() {
            let _ = events.try_send(JobEvent::Phase { phase: Phase::Build, title: step.title.clone() });
            let last = index + 1 == task.steps.len();
            if let (true, Behaviour::FailBuild { kind }) = (last, behaviour) {
                outcome.failure = Some(failure(*kind, Phase::Build));
                return outcome;
            }
            let tiny = Tiny::of(step, task);
            if self.pushes
                && let Err(error) = tiny.push(registry, &task.repository).await
            {
                let message = edgewright_model::error::Chain(&error).to_string();
                outcome.failure =
                    Some(JobFailure { message, ..failure(FailureKind::Infrastructure, Phase::Push) });
                return outcome;
            }
            outcome.builds.push(tiny.build(step, &task.repository));
        }
        let base = match &task.base {
            Base::Manifest(manifest) => Some(manifest.clone()),
            Base::External { digest, .. } => {
                Some(ManifestRef { repository: task.repository.clone(), digest: digest.clone() })
            }
            Base::Scratch => None,
        };
        let built = outcome.builds.last().map(|build| build.manifest.clone());
        if let Some(manifest) = built.or(base) {
            for lane in &task.lanes {
                let _ = events.try_send(JobEvent::Phase { phase: Phase::Test, title: lane.lane.to_string() });
                outcome.verdicts.push(verdict(lane, &manifest, behaviour));
            }
        }
        outcome
    }
}

impl Executor for SimulatedExecutor {
    fn run<'a>(
        &'a self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<JobOutcome, ExecutorError>> {
        Box::pin(async move {
            let behaviour = self.take(&order);
            let within = order.within;
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(ExecutorError::Cancelled),
                outcome = self.work(&order, &behaviour, &events) => outcome,
                () = tokio::time::sleep(within.get()) => Err(ExecutorError::TimeLimit { within, phase: None }),
            }
        })
    }
}

const fn empty() -> JobOutcome {
    JobOutcome { version: ORDER_VERSION, builds: Vec::new(), verdicts: Vec::new(), lock: None, failure: None }
}

fn failure(kind: FailureKind, phase: Phase) -> JobFailure {
    let message = format!("simulated failure of the {kind}");
    JobFailure { kind, phase, message, hint: None, output: vec!["simulated output".to_owned()] }
}

fn lock(task: &LockTask, behaviour: &Behaviour) -> JobOutcome {
    if let Behaviour::FailBuild { kind } = behaviour {
        return JobOutcome { failure: Some(failure(*kind, Phase::Lock)), ..empty() };
    }
    let package = |name: &String| LockedPackage {
        name: name.clone(),
        version: "1.0-1".to_owned(),
        architecture: "all".to_owned(),
    };
    let steps: Vec<Vec<LockedPackage>> =
        task.request.bootstrap.iter().map(|step| step.packages.iter().map(package).collect()).collect();
    let lock = Lock {
        version: 1,
        request: task.request.digest(),
        epoch: task.now,
        base: task.request.base.as_ref().map(|base| Digest::of(String::from(base.clone()))),
        packages: if steps.is_empty() {
            BTreeMap::new()
        } else {
            task.request.platforms.iter().map(|platform| (platform.clone(), steps.clone())).collect()
        },
    };
    JobOutcome { lock: Some(lock), ..empty() }
}

/// An image without layers whose bytes are a function of the step's key.
struct Tiny {
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Tiny {
    fn of(step: &StepOrder, task: &ImageTask) -> Self {
        let config = serde_json::json!({
            "architecture": task.platform.architecture,
            "os": task.platform.os,
            "created": task.epoch,
            "config": {"Labels": {"edgewright.simulated": step.key}},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": Digest::of(&config), "size": config.len()},
            "layers": [],
        });
        Self { manifest: manifest.to_string().into_bytes(), config }
    }

    async fn push(
        &self,
        registry: &RegistryAccess,
        repository: &RepoName,
    ) -> Result<(), edgewright_oci::client::ClientError> {
        let client = Client::new(registry)?;
        client.push_blob_bytes(repository, self.config.clone()).await?;
        let reference = Reference::Digest(Digest::of(&self.manifest));
        client.push_manifest(repository, &reference, MANIFEST, self.manifest.clone()).await.map(|_| ())
    }

    fn build(&self, step: &StepOrder, repository: &RepoName) -> StepBuild {
        StepBuild {
            key: step.key.clone(),
            manifest: ManifestRef { repository: repository.clone(), digest: Digest::of(&self.manifest) },
            manifest_size: self.manifest.len() as u64,
            image_size: 0,
            duration_ms: 1,
        }
    }
}

fn verdict(order: &LaneOrder, manifest: &ManifestRef, behaviour: &Behaviour) -> Verdict {
    let fails = match behaviour {
        Behaviour::FailLanes { kind } => Some(*kind),
        _ => None,
    };
    let message = "simulated failure of a check".to_owned();
    let checks = order.checks.iter().enumerate().map(|(index, check)| CheckResult {
        id: check.id.clone(),
        outcome: match fails {
            Some(kind) if index == 0 => {
                CheckOutcome::Failed { kind, message: message.clone(), output: Vec::new() }
            }
            _ => CheckOutcome::Passed,
        },
        duration_ms: 1,
        tries: 1,
    });
    Verdict {
        lane: order.lane,
        manifest: manifest.clone(),
        check_set: order.check_set.clone(),
        inputs: LaneInputs { runner: Digest::of("simulated"), profile: "simulated".to_owned(), from: None },
        checks: checks.collect(),
        result: fails.map_or(LaneResult::Passed, |kind| LaneResult::Failed { kind, message }),
        evidence: Vec::new(),
        duration_ms: 1,
    }
}
