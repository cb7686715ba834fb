use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;

use super::*;

/// Does what the test prescribes, and reports each pass.
struct Scripted {
    results: Mutex<Vec<Result<Outcome, ControlError>>>,
    passes: mpsc::Sender<Instant>,
    is_deaf: bool,
    panics: AtomicU32,
}

impl Reconciler for Scripted {
    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn period(&self) -> Duration {
        Duration::from_mins(1)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(Duration::from_secs(5), Duration::from_secs(20))
    }

    fn wakes_from_backoff(&self) -> bool {
        !self.is_deaf
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            self.passes.send(Instant::now()).await.unwrap();
            let more = |left: u32| left.checked_sub(1);
            assert!(
                self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_err(),
                "as the test wants it"
            );
            self.results.lock().unwrap().pop().unwrap_or(Ok(Outcome::idle()))
        }
        .boxed()
    }
}

struct World {
    reconcilers: Reconcilers,
    wake: Wake,
    stop: CancellationToken,
    tasks: Tasks,
    passes: mpsc::Receiver<Instant>,
    start: Instant,
}

/// Runs a reconciler whose passes end as given, then well.
fn world(mut results: Vec<Result<Outcome, ControlError>>, is_deaf: bool, panics: u32) -> World {
    results.reverse();
    let (sender, passes) = mpsc::channel(64);
    let tasks = Tasks::new();
    let reconcilers = Reconcilers::new(tasks.clone(), Clock::system());
    let (wake, stop) = (Wake::default(), CancellationToken::new());
    let panics = AtomicU32::new(panics);
    let scripted = Scripted { results: Mutex::new(results), passes: sender, is_deaf, panics };
    let start = Instant::now();
    reconcilers.start(Arc::new(scripted), wake.clone(), stop.clone());
    World { reconcilers, wake, stop, tasks, passes, start }
}

impl World {
    /// Seconds from the start to the next pass.
    async fn pass(&mut self) -> u64 {
        (self.passes.recv().await.unwrap() - self.start).as_secs()
    }

    /// The status once the pass that was reported last is over.
    async fn status(&self) -> ReconcilerStatus {
        loop {
            let status = self.reconcilers.statuses().pop().unwrap();
            if !status.is_running {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }
}

const fn failure() -> Result<Outcome, ControlError> {
    Err(ControlError::UnknownSource)
}

#[tokio::test(start_paused = true)]
async fn passes_follow_each_other_after_the_period_or_when_one_asks_for_it_sooner() {
    let sooner = Ok(Outcome::done("half").then(Duration::from_secs(7)));
    let later = Ok(Outcome::idle().then(Duration::from_hours(9)));
    let mut world = world(vec![sooner, later], false, 0);
    assert_eq!(world.pass().await, 0);
    let status = world.status().await;
    assert_eq!((status.cause, status.failures), ("start", 0));
    assert_eq!(status.result, Some(LastResult::Succeeded { done: Some("half".to_owned()) }));
    assert_eq!([world.pass().await, world.pass().await], [7, 67]);
    assert_eq!(world.status().await.cause, "period");
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_after_growing_pauses_and_a_success_ends_that() {
    let mut world = world(vec![failure(), failure(), failure(), failure(), Ok(Outcome::idle())], false, 0);
    let passes =
        [world.pass().await, world.pass().await, world.pass().await, world.pass().await, world.pass().await];
    assert_eq!(passes, [0, 5, 15, 35, 55]);
    let status = world.status().await;
    assert_eq!((status.cause, status.failures), ("retry", 0));
    assert_eq!(world.pass().await, 115);
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_starts_the_next_pass_and_several_are_one() {
    let mut world = world(Vec::new(), false, 0);
    assert_eq!(world.pass().await, 0);
    world.status().await;
    world.wake.wake("a webhook");
    world.wake.wake("another one");
    assert_eq!(world.pass().await, 0);
    assert_eq!(world.status().await.cause, "a webhook");
    assert_eq!(world.pass().await, 60);
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_ends_a_pause_after_a_failure_only_where_that_is_wanted() {
    for (is_deaf, expected) in [(false, 0), (true, 5)] {
        let mut world = world(vec![failure()], is_deaf, 0);
        assert_eq!(world.pass().await, 0);
        assert!(matches!(world.status().await.result, Some(LastResult::Failed { .. })));
        world.wake.wake("news");
        assert_eq!(world.pass().await, expected, "{is_deaf}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_one_pass() {
    let mut world = world(Vec::new(), false, 1);
    assert_eq!([world.pass().await, world.pass().await], [0, 5]);
    assert_eq!(world.status().await.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn stopping_one_or_all_ends_them_and_their_status() {
    let mut first = world(Vec::new(), false, 0);
    first.pass().await;
    first.stop.cancel();
    assert_eq!(first.passes.recv().await, None);
    assert_eq!(first.reconcilers.statuses(), []);
    let mut second = world(Vec::new(), false, 0);
    second.pass().await;
    second.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(second.passes.recv().await, None);
}
