//! Several executors as one: each lane, and everything else, runs where a rule sends it.
//!
//! ```text
//! JobRequest ─▶ steps, lanes without a rule ─▶ jobs' executor ─▶ builds, verdicts ─┐
//!            └▶ lanes with a rule           ─▶ their executor, on the digest ──────┴▶ JobOutcome
//! ```
//!
//! A part is admitted by its own executor when its turn comes: the slot of a build is free while a lane waits
//! for a slot elsewhere. The time of such a wait is not the job's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::duration::Span;
use edgewright_model::order::{Base, ImageTask, JobRequest, ManifestRef, Task};
use edgewright_model::outcome::{JobEvent, JobFailure, JobOutcome, Phase};
use edgewright_model::spec::Lane;
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::LaneProfile;
use edgewright_process::CancellationToken;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::ExecutorError;
use crate::executor::{Admission, BoxFuture, Capacity, Demand, Executor, Permit};
use crate::export::Exported;

/// The place of the executor of builds, and of all lanes without a rule.
const JOBS: usize = 0;

/// An executor of executors.
#[derive(Debug)]
pub struct MixedExecutor {
    executors: Vec<Arc<dyn Executor>>,
    lanes: BTreeMap<Lane, usize>,
}

/// What one executor runs of a job.
struct Part {
    place: usize,
    request: JobRequest,
}

/// What a part needs besides itself.
struct Running<'a> {
    events: &'a mpsc::Sender<JobEvent>,
    cancel: &'a CancellationToken,
    /// The permit that the job was admitted with, until its part comes.
    held: Option<(usize, Permit)>,
}

impl MixedExecutor {
    /// Everything runs on `jobs`.
    pub fn new(jobs: Arc<dyn Executor>) -> Self {
        Self { executors: vec![jobs], lanes: BTreeMap::new() }
    }

    /// These lanes run on `executor`.
    #[must_use]
    pub fn with(mut self, lanes: impl IntoIterator<Item = Lane>, executor: Arc<dyn Executor>) -> Self {
        self.executors.push(executor);
        let place = self.executors.len() - 1;
        self.lanes.extend(lanes.into_iter().map(|lane| (lane, place)));
        self
    }

    fn place(&self, lane: Lane) -> usize {
        self.lanes.get(&lane).copied().unwrap_or(JOBS)
    }

    fn executor(&self, place: usize) -> &dyn Executor {
        &*self.executors[place]
    }

    /// Where a job with this demand begins.
    fn first(&self, demand: &Demand) -> usize {
        let is_of_jobs = |lane: &Lane| self.place(*lane) == JOBS;
        match demand.lanes.first() {
            Some(lane) if demand.steps.is_empty() && !demand.lanes.iter().any(is_of_jobs) => {
                self.place(*lane)
            }
            _ => JOBS,
        }
    }

    /// The parts of a job, in the order in which they run.
    fn parts(&self, request: &JobRequest) -> Vec<Part> {
        let Task::Image(task) = &request.task else {
            return vec![Part { place: JOBS, request: request.clone() }];
        };
        let of = |place: usize| -> ImageTask {
            let lanes = task.lanes.iter().filter(|lane| self.place(lane.lane) == place).cloned().collect();
            ImageTask { lanes, ..task.clone() }
        };
        let part = |place: usize, task: ImageTask| Part {
            place,
            request: JobRequest { task: Task::Image(task), ..request.clone() },
        };
        let mut parts = Vec::new();
        let job = of(JOBS);
        if !job.only_tests() || !job.lanes.is_empty() || task.lanes.is_empty() {
            parts.push(part(JOBS, job));
        }
        for place in JOBS + 1..self.executors.len() {
            let test = of(place);
            if !test.lanes.is_empty() {
                parts.push(part(place, ImageTask { steps: Vec::new(), base_key: None, ..test }));
            }
        }
        parts
    }

    /// Runs a part once its executor admits it. Adds the time that it took to `busy`.
    async fn part(
        &self,
        part: Part,
        running: &mut Running<'_>,
        busy: &mut Duration,
    ) -> Result<JobOutcome, ExecutorError> {
        let executor = self.executor(part.place);
        let permit = match running.held.take_if(|(place, _)| *place == part.place) {
            Some((_, permit)) => permit,
            None => match admitted(executor, &part.request, running).await? {
                Ok(permit) => permit,
                Err(failure) => return Ok(JobOutcome { failure: Some(failure), ..JobOutcome::empty() }),
            },
        };
        let begun = Instant::now();
        let result = executor.run(part.request, permit, running.events.clone(), running.cancel.clone()).await;
        *busy += begun.elapsed();
        result
    }

    async fn run_parts(
        &self,
        request: &JobRequest,
        mut running: Running<'_>,
    ) -> Result<JobOutcome, ExecutorError> {
        let within = request.within.get();
        let (mut outcome, mut busy) = (JobOutcome::empty(), Duration::ZERO);
        for mut part in self.parts(request) {
            on_what_was_built(&mut part.request, &outcome);
            let left = within.saturating_sub(busy);
            part.request.within = Span::from_secs(left.as_secs().max(1));
            match self.part(part, &mut running, &mut busy).await {
                Ok(done) => add(&mut outcome, done),
                // What was built and pushed counts.
                Err(error) if !outcome.builds.is_empty() || !outcome.verdicts.is_empty() => {
                    outcome.failure = Some(JobFailure { phase: Phase::Test, ..error.failure() });
                }
                Err(error) => return Err(error),
            }
            if outcome.failure.is_some() {
                break;
            }
        }
        if let Task::Image(task) = &request.task {
            outcome
                .verdicts
                .sort_by_key(|verdict| task.lanes.iter().position(|lane| lane.lane == verdict.lane));
        }
        Ok(outcome)
    }
}

impl Executor for MixedExecutor {
    fn admit(&self, demand: Demand) -> BoxFuture<'_, Admission> {
        let place = self.first(&demand);
        let lanes = demand.lanes.iter().copied().filter(|lane| self.place(*lane) == place).collect();
        self.executor(place).admit(Demand { lanes, ..demand })
    }

    fn run(
        &self,
        request: JobRequest,
        permit: Permit,
        events: mpsc::Sender<JobEvent>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<JobOutcome, ExecutorError>> {
        Box::pin(async move {
            let held = Some((self.first(&demand_of(&request)), permit));
            let running = Running { events: &events, cancel: &cancel, held };
            self.run_parts(&request, running).await
        })
    }

    fn lane_profile(&self, lane: Lane) -> Option<LaneProfile> {
        self.executor(self.place(lane)).lane_profile(lane)
    }

    fn tools<'a>(
        &'a self,
        events: mpsc::Sender<JobEvent>,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, ToolVersions> {
        self.executor(JOBS).tools(events, cancel)
    }

    fn export<'a>(
        &'a self,
        request: JobRequest,
        built: &'a ManifestRef,
        with_token: bool,
    ) -> BoxFuture<'a, Result<Exported, ExecutorError>> {
        Box::pin(async move {
            let (mut exported, mut error) = (Exported::default(), None);
            for mut part in self.parts(&request) {
                if let Task::Image(task) = &mut part.request.task
                    && part.place != JOBS
                {
                    task.base = Base::Manifest(built.clone());
                }
                let what = described(&part.request);
                match self.executor(part.place).export(part.request, built, with_token).await {
                    Ok(part) => exported.add(part),
                    Err(reason) => {
                        exported.notes.push(format!("{what} left out: {reason}"));
                        error = error.or(Some(reason));
                    }
                }
            }
            match error {
                Some(error) if exported.objects.is_empty() => Err(error),
                _ => Ok(exported),
            }
        })
    }

    fn capacity(&self) -> Capacity {
        self.executor(JOBS).capacity()
    }
}

/// Waits until an executor admits a part. The inner error: never.
async fn admitted(
    executor: &dyn Executor,
    request: &JobRequest,
    running: &Running<'_>,
) -> Result<Result<Permit, JobFailure>, ExecutorError> {
    let mut shown = None;
    loop {
        let admission = tokio::select! {
            biased;
            () = running.cancel.cancelled() => return Err(ExecutorError::Cancelled),
            admission = executor.admit(demand_of(request)) => admission,
        };
        let (reason, retry_after) = match admission {
            Admission::Now(permit) => return Ok(Ok(permit)),
            Admission::Never(failure) => return Ok(Err(failure)),
            Admission::Later { reason, retry_after } => (reason, retry_after),
        };
        if shown.as_ref() != Some(&reason) {
            // A slow reader misses lines.
            let _ = running.events.try_send(JobEvent::Log { line: format!("[waits: {reason}]") });
            shown = Some(reason);
        }
        tokio::select! {
            () = running.cancel.cancelled() => return Err(ExecutorError::Cancelled),
            () = tokio::time::sleep(retry_after) => {}
        }
    }
}

/// The demand of a request, as far as it decides where a job begins and which lanes it has.
fn demand_of(request: &JobRequest) -> Demand {
    let untrusted = (!request.domain.trusted).then_some(request.domain.source);
    let Task::Image(task) = &request.task else { return Demand { untrusted, ..Demand::default() } };
    Demand {
        steps: task.steps.iter().map(|step| (&step.action).into()).collect(),
        lanes: task.lanes.iter().map(|lane| lane.lane).collect(),
        image_bytes: None,
        untrusted,
    }
}

/// Lets a part begin with the digest that an earlier one has built.
fn on_what_was_built(request: &mut JobRequest, outcome: &JobOutcome) {
    if let (Task::Image(task), Some(build)) = (&mut request.task, outcome.builds.last()) {
        task.base = Base::Manifest(build.manifest.clone());
    }
}

/// A part of a job, for people.
fn described(request: &JobRequest) -> String {
    match &request.task {
        Task::Image(task) if task.only_tests() => {
            let lanes: Vec<&str> = task.lanes.iter().map(|lane| lane.lane.name()).collect();
            format!("lanes {}", lanes.join(", "))
        }
        Task::Image(_) => "steps".to_owned(),
        Task::Lock(_) => "lock".to_owned(),
    }
}

fn add(outcome: &mut JobOutcome, done: JobOutcome) {
    outcome.builds.extend(done.builds);
    outcome.verdicts.extend(done.verdicts);
    outcome.lock = outcome.lock.take().or(done.lock);
    outcome.failure = done.failure;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, SLOTS, admitted, image_request, lock_request};
    use crate::simulated::{Behaviour, Rejection, SimulatedExecutor};

    fn simulated(behaviour: Behaviour) -> SimulatedExecutor {
        let executor = SimulatedExecutor::new().with_slots(SLOTS);
        executor.set_default(behaviour);
        executor
    }

    fn mixed(jobs: &SimulatedExecutor, tests: &SimulatedExecutor) -> MixedExecutor {
        MixedExecutor::new(Arc::new(jobs.clone())).with([Lane::Container], Arc::new(tests.clone()))
    }

    async fn run(executor: &MixedExecutor) -> (Result<JobOutcome, ExecutorError>, Vec<JobEvent>) {
        conformance::run(executor, image_request(1, "hmi").unwrap(), CancellationToken::new()).await
    }

    #[tokio::test]
    async fn it_conforms() {
        conformance::suite(|behaviour| Arc::new(mixed(&simulated(behaviour.clone()), &simulated(behaviour))))
            .await;
    }

    #[tokio::test]
    async fn a_lane_runs_where_its_rule_sends_it_on_what_was_built() {
        let (jobs, tests) = (simulated(Behaviour::Succeed), simulated(Behaviour::Succeed));
        tests.upgrade(7);
        let executor = mixed(&jobs, &tests);
        let (outcome, _) = run(&executor).await;
        let outcome = outcome.unwrap();
        let (Task::Image(built), Task::Image(tested)) = (&jobs.ran()[0].task, &tests.ran()[0].task) else {
            panic!("both are images")
        };
        assert_eq!((built.steps.len(), built.lanes.len()), (2, 0));
        assert_eq!((tested.steps.len(), tested.lanes.len()), (0, 1));
        let last = outcome.builds.last().unwrap().manifest.clone();
        assert_eq!(tested.base, Base::Manifest(last));
        assert_eq!(executor.lane_profile(Lane::Container).unwrap().semantics, 7);
        assert_eq!(executor.lane_profile(Lane::Static).unwrap().semantics, 1);
        // What is there already is only tested, and needs no slot of a build.
        let mut again = image_request(2, "hmi").unwrap();
        let Task::Image(task) = &mut again.task else { panic!("it is an image") };
        task.steps.clear();
        task.base = Base::Manifest(outcome.builds[0].manifest.clone());
        let slots = [admitted(&executor).await, admitted(&executor).await];
        let demand = Demand { lanes: vec![Lane::Container], ..Demand::default() };
        let Admission::Now(permit) = executor.admit(demand).await else { panic!("there is a slot") };
        let (sender, _receiver) = mpsc::channel(100);
        let outcome = executor.run(again, permit, sender, CancellationToken::new()).await.unwrap();
        assert_eq!((outcome.builds.len(), outcome.verdicts.len(), jobs.ran().len()), (0, 1, 1));
        drop(slots);
        let (lock, _) =
            conformance::run(&executor, lock_request(3, "base").unwrap(), CancellationToken::new()).await;
        assert!(lock.unwrap().lock.is_some() && tests.ran().len() == 2);
    }

    #[tokio::test]
    async fn a_lane_that_waits_elsewhere_holds_no_slot_of_builds() {
        let (jobs, tests) = (simulated(Behaviour::Succeed), simulated(Behaviour::Hang));
        tests.reject([Rejection::Later, Rejection::Later]);
        let executor = mixed(&jobs, &tests);
        let permit = admitted(&executor).await;
        let (sender, mut receiver) = mpsc::channel(100);
        let cancel = CancellationToken::new();
        let running = executor.run(image_request(1, "hmi").unwrap(), permit, sender, cancel.clone());
        let watch = async {
            while tests.ran().is_empty() {
                tokio::task::yield_now().await;
            }
            assert_eq!((executor.capacity().in_use, tests.capacity().in_use), (0, 1));
            cancel.cancel();
        };
        let (outcome, ()) = tokio::join!(running, watch);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.builds.len(), outcome.verdicts.len()), (2, 0), "what was built counts");
        assert!(outcome.failure.is_some_and(|failure| failure.message.contains("cancelled")));
        let mut waits = 0;
        while let Ok(event) = receiver.try_recv() {
            waits += u32::from(matches!(event, JobEvent::Log { line } if line.starts_with("[waits: ")));
        }
        assert_eq!(waits, 1, "a reason is shown once");
    }

    #[tokio::test]
    async fn a_lane_that_fails_elsewhere_keeps_what_was_built() {
        let (jobs, tests) = (simulated(Behaviour::Succeed), simulated(Behaviour::Crash));
        let outcome = run(&mixed(&jobs, &tests)).await.0.unwrap();
        let failure = outcome.failure.unwrap();
        assert_eq!((outcome.builds.len(), failure.phase), (2, Phase::Test));
        let never = JobFailure { message: "no KubeVirt".to_owned(), ..failure };
        tests.reject([Rejection::Never(never.clone())]);
        let outcome = run(&mixed(&jobs, &tests)).await.0.unwrap();
        assert_eq!((outcome.builds.len(), outcome.failure), (2, Some(never)));
    }
}
