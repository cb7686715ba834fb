//! What every executor must do, as a suite that its tests run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::lock::LockRequest;
use edgewright_model::names::InvalidName;
use edgewright_model::order::{
    Base, BlobRef, Context, ImageTask, JobId, JobOrder, LaneOrder, LockTask, ORDER_VERSION, RegistryAccess,
    StepAction, StepOrder, Task, check_set_digest,
};
use edgewright_model::outcome::{FailureKind, JobEvent, JobOutcome};
use edgewright_model::spec::{BootstrapStep, Lane};
use edgewright_model::verdict::LaneResult;
use edgewright_process::CancellationToken;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::error::ExecutorError;
use crate::executor::{EVENTS, Executor};
use crate::simulated::Behaviour;

/// No executor needs longer to clear away a job that does nothing.
const PATIENCE: Duration = Duration::from_mins(1);

fn order(number: u128, task: Task) -> JobOrder {
    JobOrder {
        version: ORDER_VERSION,
        job: JobId(uuid::Uuid::from_u128(number)),
        task,
        registry: RegistryAccess { url: "http://127.0.0.1:1".to_owned(), token: None },
        within: Span::from_secs(120),
    }
}

/// An order for a node with two `files` steps and a container lane without checks.
pub fn image_order(number: u128, node: &str) -> Result<JobOrder, InvalidName> {
    let repository: edgewright_model::reference::RepoName = "plant-os/hmi".parse()?;
    let step = |title: &str| StepOrder {
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
        lane: Lane::Container,
        checks: Vec::new(),
        check_set: check_set_digest(&[]),
        within: Span::from_secs(60),
        keep: false,
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
    Ok(order(number, Task::Image(task)))
}

/// An order for the lock of an image with one bootstrap step.
pub fn lock_order(number: u128, image: &str) -> Result<JobOrder, InvalidName> {
    let bootstrap = BootstrapStep {
        suite: "trixie".to_owned(),
        packages: vec!["systemd".to_owned()],
        mirror: None,
        components: Vec::new(),
        sources: Vec::new(),
        keys: Vec::new(),
    };
    let request = LockRequest {
        base: None,
        bootstrap: vec![bootstrap],
        platforms: vec!["linux/amd64".parse()?],
        refresh: None,
    };
    let now = Timestamp::UNIX_EPOCH;
    Ok(order(number, Task::Lock(LockTask { image: image.parse()?, request, keys: BTreeMap::new(), now })))
}

/// Runs an order and collects its events.
pub async fn run(
    executor: &dyn Executor,
    order: JobOrder,
    cancel: CancellationToken,
) -> (Result<JobOutcome, ExecutorError>, Vec<JobEvent>) {
    let (sender, mut receiver) = mpsc::channel(EVENTS);
    let collect = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    tokio::join!(executor.run(order, sender, cancel), collect)
}

/// Puts executors, made so that all their jobs behave in a given way, through all that control relies on.
///
/// # Panics
/// Where one does not conform.
pub async fn suite(make: impl Fn(Behaviour) -> Arc<dyn Executor>) {
    let image = |number| image_order(number, "hmi/plant-a").unwrap_or_else(|error| panic!("{error}"));
    let fresh = CancellationToken::new;

    // Equal orders have equal digests, keys come in step order, every lane has its verdict, events hold no outcome.
    let good = make(Behaviour::Succeed);
    let (first, events) = run(&*good, image(1), fresh()).await;
    let (second, _) = run(&*good, image(2), fresh()).await;
    let (Ok(first), Ok(second)) = (first, second) else { panic!("a good job has an outcome") };
    let Task::Image(task) = image(1).task else { panic!("it is an image order") };
    assert_eq!(first, second, "jobs have no influence on results");
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
    assert!(events.iter().any(|event| matches!(event, JobEvent::Phase { .. })));
    assert!(!events.iter().any(|event| matches!(event, JobEvent::Outcome(_))));

    // A lock answers its request.
    let order = lock_order(3, "base").unwrap_or_else(|error| panic!("{error}"));
    let Task::Lock(task) = order.task.clone() else { panic!("it is a lock order") };
    let (outcome, _) = run(&*good, order, fresh()).await;
    let Ok(JobOutcome { lock: Some(lock), failure: None, .. }) = outcome else {
        panic!("no lock: {outcome:?}")
    };
    assert_eq!((lock.request, lock.epoch), (task.request.digest(), task.now));

    // What the job says of itself is an outcome, with what was built before.
    let (failed, _) = run(&*make(Behaviour::FailBuild { kind: FailureKind::Image }), image(4), fresh()).await;
    let Ok(JobOutcome { builds, verdicts, failure: Some(failure), .. }) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!((builds.len(), verdicts.len(), failure.kind), (1, 0, FailureKind::Image));
    let (red, _) = run(&*make(Behaviour::FailLanes { kind: FailureKind::Check }), image(5), fresh()).await;
    let Ok(JobOutcome { verdicts, failure: None, .. }) = red else { panic!("{red:?}") };
    assert!(matches!(&verdicts[0].result, LaneResult::Failed { kind: FailureKind::Check, .. }));

    // A flood of log lines neither blocks the job nor comes through whole.
    let (flooded, events) = run(&*make(Behaviour::Flood { lines: 100_000 }), image(6), fresh()).await;
    assert!(flooded.is_ok_and(|outcome| outcome.failure.is_none()));
    assert!(events.len() < 20_000, "{} events", events.len());

    // All that keeps a job from speaking is infrastructure.
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
        other => panic!("a limit is a limit: {other:?}"),
    };
    assert_eq!(kind, FailureKind::Infrastructure);

    // Cancelled before and during.
    let cancelled = fresh();
    cancelled.cancel();
    let (never, _) = run(&*good, image(9), cancelled).await;
    assert!(matches!(never, Err(ExecutorError::Cancelled)), "{never:?}");
    let token = fresh();
    let hanging = make(Behaviour::Hang);
    let cancel = async {
        tokio::task::yield_now().await;
        token.cancel();
    };
    let work = tokio::time::timeout(PATIENCE, run(&*hanging, image(10), token.clone()));
    let (stopped, ()) = tokio::join!(work, cancel);
    assert!(matches!(stopped, Ok((Err(ExecutorError::Cancelled), _))), "{stopped:?}");
}
