//! A simulated executor: scripted behaviour, deterministic digests, no real work.

mod behaviour;
mod results;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgewright_model::order::{Base, ImageTask, JobOrder, JobRequest, ManifestRef, RegistryAccess, Task};
use edgewright_model::outcome::{FailureKind, JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::LaneProfile;
use edgewright_process::{CancellationToken, Ended};
use results::{Machine, Tiny, failure, verdict};
use tokio::sync::{Semaphore, mpsc};

use crate::credentials::JobRegistry;
use crate::error::ExecutorError;
use crate::executor::{Admission, BoxFuture, Capacity, Demand, Executor, Permit};
use crate::gate::{Turns, capacity, slot};
use crate::worker::Worker;

pub use behaviour::{Behaviour, Rejection};

/// The default number of jobs that run at the same time.
const SLOTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);
/// The address of no registry: only jobs that push use it.
const NOWHERE: &str = "http://127.0.0.1:1";

/// An executor with scripts by node (or, for locks, image): each job of a node takes the node's next
/// behaviour, the last one stays. Clones share slots and scripts.
#[derive(Debug, Clone)]
pub struct SimulatedExecutor {
    pushes: bool,
    registry: JobRegistry,
    all: NonZeroUsize,
    slots: Arc<Semaphore>,
    untrusted: Arc<Turns>,
    state: Arc<Mutex<State>>,
}

impl Default for SimulatedExecutor {
    fn default() -> Self {
        Self {
            pushes: false,
            registry: JobRegistry::anonymous(NOWHERE),
            all: SLOTS,
            slots: Arc::new(Semaphore::new(SLOTS.get())),
            untrusted: Arc::new(Turns::new(NonZeroUsize::MIN)),
            state: Arc::default(),
        }
    }
}

#[derive(Debug)]
struct State {
    default: Behaviour,
    scripts: BTreeMap<String, VecDeque<Behaviour>>,
    version: Option<String>,
    salt: String,
    semantics: u32,
    tools: ToolVersions,
    host: String,
    rejections: VecDeque<Rejection>,
    demands: Vec<Demand>,
    ran: Vec<JobOrder>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            default: Behaviour::default(),
            scripts: BTreeMap::new(),
            version: None,
            salt: String::new(),
            semantics: 1,
            tools: [("buildah", "1.39.3"), ("mmdebstrap", "1.5.6")].into_iter().collect(),
            host: "simulated".to_owned(),
            rejections: VecDeque::new(),
            demands: Vec::new(),
            ran: Vec::new(),
        }
    }
}

/// The profile of simulated lanes, with a semantic version of the checks.
pub fn simulated_profile(semantics: u32) -> LaneProfile {
    LaneProfile { name: "simulated".to_owned(), semantics }
}

impl SimulatedExecutor {
    /// All jobs pass; nothing is pushed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pushes a tiny real manifest for each step to a registry, with the same digests as without.
    #[must_use]
    pub fn pushing(mut self, registry: JobRegistry) -> Self {
        self.pushes = true;
        self.registry = registry;
        self
    }

    /// Runs this many jobs at the same time.
    #[must_use]
    pub fn with_slots(mut self, slots: NonZeroUsize) -> Self {
        self.all = slots;
        self.slots = Arc::new(Semaphore::new(slots.get()));
        self
    }

    /// Rejects the next demands, one after the other; those that follow are admitted.
    pub fn reject(&self, rejections: impl IntoIterator<Item = Rejection>) {
        self.lock().rejections = rejections.into_iter().collect();
    }

    /// The demands so far, in the order in which jobs got a slot.
    pub fn demands(&self) -> Vec<Demand> {
        self.lock().demands.clone()
    }

    /// Sets the behaviour of jobs without a script.
    pub fn set_default(&self, behaviour: Behaviour) {
        self.lock().default = behaviour;
    }

    /// Sets the behaviour of the next jobs of a node, one after the other; the last one stays.
    pub fn script(&self, node: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.lock().scripts.insert(node.to_owned(), behaviours.into_iter().collect());
    }

    /// Sets the version of every package that locks find from now on; `1.0-1` before.
    pub fn offer(&self, version: &str) {
        self.lock().version = Some(version.to_owned());
    }

    /// Every build gives other bytes from now on, as if it drew a random number.
    pub fn salt(&self, salt: &str) {
        salt.clone_into(&mut self.lock().salt);
    }

    /// Runs checks with this semantic version from now on; 1 before.
    pub fn upgrade(&self, semantics: u32) {
        self.lock().semantics = semantics;
    }

    /// Jobs from now on find another version of a tool.
    pub fn update_tool(&self, name: &str, version: &str) {
        self.lock().tools.0.insert(name.to_owned(), version.to_owned());
    }

    /// Runs jobs on another host from now on, with other bytes of the check runner.
    pub fn move_to(&self, host: &str) {
        host.clone_into(&mut self.lock().host);
    }

    /// The orders so far, in order of arrival.
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

    async fn perform(
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
                results::lock(task, behaviour, &version)
            }
            Task::Image(task) => self.image(task, &order.registry, behaviour, events).await,
        })
    }

    fn machine(&self) -> Machine {
        let state = self.lock();
        Machine { profile: simulated_profile(state.semantics), host: state.host.clone() }
    }

    async fn image(
        &self,
        task: &ImageTask,
        registry: &RegistryAccess,
        behaviour: &Behaviour,
        events: &mpsc::Sender<JobEvent>,
    ) -> JobOutcome {
        let mut outcome = JobOutcome::empty();
        for (index, step) in task.steps.iter().enumerate() {
            let _ = events.try_send(JobEvent::Phase { phase: Phase::Build, title: step.title.clone() });
            let last = index + 1 == task.steps.len();
            if let (true, Behaviour::FailBuild { kind }) = (last, behaviour) {
                outcome.failure = Some(failure(*kind, Phase::Build));
                return outcome;
            }
            let salt = self.lock().salt.clone();
            let tiny = Tiny::of(step, task, &salt);
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
                outcome.verdicts.push(verdict(lane, &manifest, behaviour, &self.machine()));
            }
        }
        outcome
    }
}

impl Executor for SimulatedExecutor {
    fn admit(&self, demand: Demand) -> BoxFuture<'_, Admission> {
        Box::pin(async move {
            let slot = match demand.untrusted {
                None => slot(&self.slots).await,
                Some(source) => self.untrusted.slot(source).await,
            };
            let mut state = self.lock();
            state.demands.push(demand);
            match state.rejections.pop_front() {
                None => Admission::Now(Permit::new(slot)),
                Some(Rejection::Later) => {
                    let reason = "simulated: running jobs hold the disk".to_owned();
                    Admission::Later { reason, retry_after: Duration::ZERO }
                }
                Some(Rejection::Never(failure)) => Admission::Never(failure),
            }
        })
    }

    fn run(
        &self,
        request: JobRequest,
        permit: Permit,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>> {
        Box::pin(async move {
            let _permit = permit;
            let (order, _credential) = self.registry.order(request);
            self.work(order, events, cancel).await
        })
    }

    fn lane_profile(&self, lane: Lane) -> Option<LaneProfile> {
        (lane != Lane::External).then(|| simulated_profile(self.lock().semantics))
    }

    fn tools<'a>(
        &'a self,
        _events: mpsc::Sender<JobEvent>,
        _cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, ToolVersions> {
        Box::pin(std::future::ready(self.lock().tools.clone()))
    }

    fn capacity(&self) -> Capacity {
        capacity(self.all, &self.slots)
    }
}

/// As in a job's process: uses the registry of the order.
impl Worker for SimulatedExecutor {
    fn work(
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
                outcome = self.perform(&order, &behaviour, &events) => outcome,
                () = tokio::time::sleep(within.get()) => Err(ExecutorError::TimeLimit { within, phase: None }),
            }
        })
    }
}
