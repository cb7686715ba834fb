//! The suite that every executor must pass: admission, results, failures, cancellation.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::lock::LockRequest;
use edgewright_model::names::InvalidName;
use edgewright_model::order::{
    Base, BlobRef, Context, ImageTask, JobId, JobOrder, JobRequest, LaneOrder, LockTask, ORDER_VERSION,
    RegistryAccess, StepAction, StepOrder, Task, TrustDomain, check_set_digest,
};
use edgewright_model::outcome::{FailureKind, JobEvent, JobOutcome};
use edgewright_model::spec::{BootstrapStep, Lane};
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::LaneResult;
use edgewright_process::CancellationToken;
use futures::poll;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::executor::{Admission, Capacity, Demand, EVENTS, Executor, Permit, StepKind};
use crate::simulated::Behaviour;
use crate::worker::Worker;

/// The limit for an executor to clean up a job that does nothing.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many jobs the executors of the suite run at the same time.
pub const SLOTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

fn request(number: u128, task: Task) -> JobRequest {
    let domain = TrustDomain { source: 1, trusted: true };
    JobRequest { job: JobId(uuid::Uuid::from_u128(number)), domain, task, within: Span::from_secs(120) }
}

/// The order of [`image_request`], for a worker.
pub fn image_order(number: u128, node: &str) -> Result<JobOrder, InvalidName> {
    let registry = RegistryAccess { url: "http://127.0.0.1:1".to_owned(), token: None };
    Ok(JobOrder::new(image_request(number, node)?, registry))
}

/// A request for a node with two `files` steps and a container lane without checks.
pub fn image_request(number: u128, node: &str) -> Result<JobRequest, InvalidName> {
    let repository: edgewright_model::reference::RepoName = "plant-os/hmi".parse()?;
    let step = |title: &str| StepOrder {
        tools: ToolVersions::default(),
        key: Digest::of(format!("{node} {title}")),
        title: title.to_owned(),
        action: StepAction::Files {
            entries: Context::Blob(BlobRef {
                repository: repository.clone(),
                digest: Digest::of("entries"),
                size: 7,
            }),
            delete: Vec::new(),
        },
    };
    let steps = vec![step("files a"), step("files b")];
    let lane = LaneOrder {
        vm: None,
        lane: Lane::Container,
        checks: Vec::new(),
        check_set: check_set_digest(&[]),
        within: Span::from_secs(60),
        keep: false,
        from: None,
    };
    let task = ImageTask {
        node: node.to_owned(),
        variant: None,
        platform: "linux/amd64".parse()?,
        repository,
        base: Base::Scratch,
        steps,
        epoch: Timestamp::UNIX_EPOCH,
        base_key: None,
        labels: BTreeMap::new(),
        lanes: vec![lane],
    };
    Ok(request(number, Task::Image(task)))
}

/// A request for the lock of an image with one bootstrap step.
pub fn lock_request(number: u128, image: &str) -> Result<JobRequest, InvalidName> {
    let bootstrap = BootstrapStep {
        suite: "trixie".to_owned(),
        packages: vec!["systemd".to_owned()],
        mirror: None,
        components: Vec::new(),
        sources: Vec::new(),
        keys: Vec::new(),
    };
    let lock = LockRequest {
        base: None,
        bootstrap: vec![bootstrap],
        platforms: vec!["linux/amd64".parse()?],
        images: Vec::new(),
        refresh: None,
    };
    let now = Timestamp::UNIX_EPOCH;
    let task = LockTask { image: image.parse()?, request: lock, keys: BTreeMap::new(), now };
    Ok(request(number, Task::Lock(task)))
}

/// A demand that every executor can meet.
fn small() -> Demand {
    Demand { steps: vec![StepKind::Files], ..Demand::default() }
}

/// Admits a small job.
///
/// # Panics
/// If the executor does not admit it.
pub async fn admitted(executor: &dyn Executor) -> Permit {
    match executor.admit(small()).await {
        Admission::Now(permit) => permit,
        other => panic!("a small job may start: {other:?}"),
    }
}

/// Runs a request through an executor, and collects its events.
pub async fn run(
    executor: &dyn Executor,
    request: JobRequest,
    cancel: CancellationToken,
) -> (Result<JobOutcome, ExecutorError>, Vec<JobEvent>) {
    let permit = admitted(executor).await;
    let (sender, receiver) = mpsc::channel(EVENTS);
    tokio::join!(executor.run(request, permit, sender, cancel), collect(receiver))
}

/// Runs an order on a worker, and collects its events.
pub async fn work(
    worker: &dyn Worker,
    order: JobOrder,
    cancel: CancellationToken,
) -> (Result<JobOutcome, ExecutorError>, Vec<JobEvent>) {
    let (sender, receiver) = mpsc::channel(EVENTS);
    tokio::join!(worker.work(order, sender, cancel), collect(receiver))
}

async fn collect(mut receiver: mpsc::Receiver<JobEvent>) -> Vec<JobEvent> {
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    events
}

fn image(number: u128) -> JobRequest {
    image_request(number, "hmi/plant-a").unwrap_or_else(|error| panic!("{error}"))
}

/// Tests executors with [`SLOTS`] slots for everything that control relies on. The argument makes an executor
/// whose jobs all behave in a given way.
///
/// # Panics
/// If one does not conform.
pub async fn suite(make: impl Fn(Behaviour) -> Arc<dyn Executor>) {
    let good = make(Behaviour::Succeed);
    results(&*good).await;
    lock(&*good).await;
    failures(&make).await;
    disturbances(&make).await;
    cancellation(&make).await;
    queue(&*good).await;
    permits(&make).await;
}

/// Equal requests have equal digests, keys come in step order, every lane has its verdict, events hold no
/// outcome.
async fn results(good: &dyn Executor) {
    let (first, events) = run(good, image(1), CancellationToken::new()).await;
    let (second, _) = run(good, image(2), CancellationToken::new()).await;
    let (Ok(first), Ok(second)) = (first, second) else { panic!("a good job has an outcome") };
    let Task::Image(task) = image(1).task else { panic!("it is an image request") };
    assert_eq!(first, second, "results do not depend on the job");
    assert_eq!((first.version, &first.failure), (ORDER_VERSION, &None));
    let keys: Vec<_> = first.builds.iter().map(|build| &build.key).collect();
    assert_eq!(keys, task.steps.iter().map(|step| &step.key).collect::<Vec<_>>());
    let digests: BTreeSet<_> = first.builds.iter().map(|build| &build.manifest.digest).collect();
    assert_eq!(digests.len(), task.steps.len(), "every prefix has its own manifest");
    assert_eq!(first.verdicts.len(), 1);
    let verdict = &first.verdicts[0];
    assert_eq!(Some(&verdict.manifest), first.builds.last().map(|build| &build.manifest));
    assert_eq!((verdict.lane, &verdict.check_set), (Lane::Container, &task.lanes[0].check_set));
    assert_eq!(verdict.result, LaneResult::Passed);
    let profile = good.lane_profile(Lane::Container).expect("the lane is run here");
    assert_eq!(verdict.inputs, profile.inputs(None), "verdicts have the inputs that the executor announces");
    assert!(events.iter().any(|event| matches!(event, JobEvent::Phase { .. })));
    assert!(!events.iter().any(|event| matches!(event, JobEvent::Outcome(_))));
}

/// A lock matches its request.
async fn lock(good: &dyn Executor) {
    let request = lock_request(3, "base").unwrap_or_else(|error| panic!("{error}"));
    let Task::Lock(task) = request.task.clone() else { panic!("it is a lock request") };
    let (outcome, _) = run(good, request, CancellationToken::new()).await;
    let Ok(JobOutcome { lock: Some(lock), failure: None, .. }) = outcome else {
        panic!("no lock: {outcome:?}")
    };
    assert_eq!((lock.request, lock.epoch), (task.request.digest(), task.now));
}

/// A failure that the job reports is an outcome, with the builds before it.
async fn failures(make: &impl Fn(Behaviour) -> Arc<dyn Executor>) {
    let fresh = CancellationToken::new;
    let (failed, _) = run(&*make(Behaviour::FailBuild { kind: FailureKind::Image }), image(4), fresh()).await;
    let Ok(JobOutcome { builds, verdicts, failure: Some(failure), .. }) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!((builds.len(), verdicts.len(), failure.kind), (1, 0, FailureKind::Image));
    let (red, _) = run(&*make(Behaviour::FailLanes { kind: FailureKind::Check }), image(5), fresh()).await;
    let Ok(JobOutcome { verdicts, failure: None, .. }) = red else { panic!("{red:?}") };
    assert!(matches!(&verdicts[0].result, LaneResult::Failed { kind: FailureKind::Check, .. }));
}

/// A flood of log lines neither blocks the job nor is passed on in full; a job without an outcome is a
/// failure of the infrastructure.
async fn disturbances(make: &impl Fn(Behaviour) -> Arc<dyn Executor>) {
    let fresh = CancellationToken::new;
    let (flooded, events) = run(&*make(Behaviour::Flood { lines: 100_000 }), image(6), fresh()).await;
    assert!(flooded.is_ok_and(|outcome| outcome.failure.is_none()));
    assert!(events.len() < 20_000, "{} events", events.len());

    let (crashed, _) = run(&*make(Behaviour::Crash), image(7), fresh()).await;
    let Err(error) = crashed else { panic!("a crash has no outcome: {crashed:?}") };
    assert!(matches!(error, ExecutorError::NoOutcome { .. }), "{error:?}");
    assert_eq!(error.failure().kind, FailureKind::Infrastructure);
    let mut short = image(8);
    short.within = Span::from_secs(1);
    let (late, _) = run(&*make(Behaviour::Hang), short, fresh()).await;
    let kind = match late {
        Ok(JobOutcome { failure: Some(failure), .. }) => failure.kind,
        Err(ExecutorError::TimeLimit { .. }) => FailureKind::Infrastructure,
        other => panic!("the job should have timed out: {other:?}"),
    };
    assert_eq!(kind, FailureKind::Infrastructure);
}

/// Jobs end when they are cancelled, before they start and while they run.
async fn cancellation(make: &impl Fn(Behaviour) -> Arc<dyn Executor>) {
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let (never, _) = run(&*make(Behaviour::Succeed), image(9), cancelled).await;
    assert!(matches!(never, Err(ExecutorError::Cancelled)), "{never:?}");
    let token = CancellationToken::new();
    let hanging = make(Behaviour::Hang);
    let cancel = async {
        tokio::task::yield_now().await;
        token.cancel();
    };
    let work = tokio::time::timeout(PATIENCE, run(&*hanging, image(10), token.clone()));
    let (stopped, ()) = tokio::join!(work, cancel);
    assert!(matches!(stopped, Ok((Err(ExecutorError::Cancelled), _))), "{stopped:?}");
}

/// No more jobs than slots are admitted; slots are given first come, first served; a dropped request holds
/// nothing.
async fn queue(executor: &dyn Executor) {
    let capacity = |in_use| Capacity { slots: SLOTS.get(), in_use };
    assert_eq!(executor.capacity(), capacity(0));
    let mut permits = Vec::new();
    for _ in 0..SLOTS.get() {
        permits.push(admitted(executor).await);
    }
    assert_eq!(executor.capacity(), capacity(SLOTS.get()));
    let (mut first, mut second) = (executor.admit(small()), executor.admit(small()));
    let mut impatient = executor.admit(small());
    assert!(poll!(&mut first).is_pending(), "there is no slot");
    assert!(poll!(&mut impatient).is_pending(), "there is no slot");
    assert!(poll!(&mut second).is_pending(), "there is no slot");
    permits.pop();
    assert!(poll!(&mut second).is_pending(), "the slot is for the first");
    let Poll::Ready(Admission::Now(permit)) = poll!(&mut first) else { panic!("a slot is free") };
    drop(impatient);
    drop(permit);
    let Poll::Ready(Admission::Now(permit)) = poll!(&mut second) else { panic!("a slot is free") };
    drop((permit, permits));
    assert_eq!(executor.capacity(), capacity(0));
}

/// A job's permit is freed however the job ends: passed, failed, cancelled, or dropped.
async fn permits(make: &impl Fn(Behaviour) -> Arc<dyn Executor>) {
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    for (behaviour, cancel) in [
        (Behaviour::Succeed, CancellationToken::new()),
        (Behaviour::Crash, CancellationToken::new()),
        (Behaviour::Hang, cancelled),
    ] {
        let executor = make(behaviour);
        let (result, _) = run(&*executor, image(11), cancel).await;
        assert_eq!(executor.capacity().in_use, 0, "{result:?}");
    }
    let executor = make(Behaviour::Hang);
    let permit = admitted(&*executor).await;
    let (sender, _receiver) = mpsc::channel(EVENTS);
    let mut hanging = executor.run(image(12), permit, sender, CancellationToken::new());
    assert!(poll!(&mut hanging).is_pending(), "it hangs");
    assert_eq!(executor.capacity().in_use, 1);
    drop(hanging);
    assert_eq!(executor.capacity().in_use, 0);
}
