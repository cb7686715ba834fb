//! Jobs start when the executor admits them: now, later, or never.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use common::World;
use edgewright_job::{Rejection, StepKind};
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::run::RunState;
use edgewright_model::spec::Lane;

fn full() -> JobFailure {
    JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Build,
        message: "not started: the disk is full".to_owned(),
        hint: None,
        output: Vec::new(),
    }
}

#[tokio::test]
async fn a_job_that_has_to_wait_starts_later() {
    let world = World::new().await;
    world.executor.reject([Rejection::Later, Rejection::Later]);
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    // Waiting is no attempt.
    let nodes = world.store.own_nodes(run).await.unwrap();
    assert!(nodes.iter().all(|node| node.attempts == 1), "{nodes:?}");
    let demands = world.executor.demands();
    assert_eq!(demands.len(), world.executor.ran().len() + 2);
    assert_eq!(demands[0], demands[1], "the same job asks again");
    assert_eq!(
        (&demands[0].steps[..], &demands[0].lanes[..]),
        (&[StepKind::Files][..], &[Lane::Container][..])
    );
    assert_eq!(demands[0].image_bytes, None);
}

#[tokio::test]
async fn a_job_that_never_may_start_is_an_attempt_that_failed() {
    let world = World::new().await;
    world.executor.reject([Rejection::Never(full())]);
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Passed, "the next attempt is admitted");
    let nodes = world.store.own_nodes(run).await.unwrap();
    assert_eq!(nodes.iter().filter(|node| node.attempts == 2).count(), 1, "{nodes:?}");

    world.write("images/base/files/etc/os", "another");
    world.commit("another base").await;
    world.executor.reject(vec![Rejection::Never(full()); 3]);
    let jobs = world.executor.ran().len();
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let nodes = world.store.own_nodes(run).await.unwrap();
    let failed: Vec<_> = nodes.iter().filter_map(|node| node.failure.as_ref()).collect();
    assert!(failed.iter().any(|failure| failure.message == full().message), "{nodes:?}");
    assert_eq!(world.executor.ran().len(), jobs, "nothing runs without a permit");
}
