//! A simulated executor: scripted behaviour, deterministic digests, nothing done.

mod answers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use answers::{Tiny, empty, failure, verdict};
use edgewright_model::names::CheckId;
use edgewright_model::order::{Base, ImageTask, JobOrder, ManifestRef, RegistryAccess, Task};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_process::{CancellationToken, Ended};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::executor::{BoxFuture, Executor};

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
    /// All is built; these checks fail wherever they run.
    FailChecks {
        /// Whose fault.
        kind: FailureKind,
        /// Which.
        checks: Vec<CheckId>,
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
    version: Option<String>,
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

    /// The version of every package that locks find from now on; `1.0-1` before.
    pub fn offer(&self, version: &str) {
        self.lock().version = Some(version.to_owned());
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
            Behaviour::Succeed
            | Behaviour::FailBuild { .. }
            | Behaviour::FailLanes { .. }
            | Behaviour::FailChecks { .. } => {}
        }
        Ok(match &order.task {
            Task::Lock(task) => {
                let version = self.lock().version.clone().unwrap_or_else(|| "1.0-1".to_owned());
                answers::lock(task, behaviour, &version)
            }
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
    fn run(
        &self,
        order: JobOrder,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>> {
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
