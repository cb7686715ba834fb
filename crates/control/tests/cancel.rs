//! A cancel is recorded before it is acknowledged, and holds whatever happens next.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::time::Duration;

use common::{OPERATOR, World};
use edgewright_control::ControlError;
use edgewright_control::access::Operation;
use edgewright_job::Behaviour;
use edgewright_model::run::{RunNumber, RunState};
use edgewright_store::audit::NewAuditEntry;

/// What the audit trail gets with a cancel.
fn entry(run: RunNumber) -> NewAuditEntry {
    OPERATOR.entry(Operation::CancelRun, format!("runs/{run}"), None, None)
}

/// Waits until a node's job was started.
async fn started(world: &World, node: &str) {
    let wait = async {
        while !world.orders(0).iter().any(|order| order.contains(node)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.unwrap();
}

#[tokio::test]
async fn a_cancel_outlives_a_kill_right_after_it_and_no_job_starts_again() {
    let mut world = World::new().await;
    world.executor.script("hmi/plant-a", [Behaviour::Hang]);
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    started(&world, "hmi/plant-a").await;
    // What `cancel` records before it returns. Nothing else of the process sees it: it is killed.
    let now = jiff::Timestamp::from_second(1_900_000_000).unwrap();
    assert!(world.store.request_cancel(run, (&entry(run), now)).await.unwrap());
    driving.abort();
    drop(driving.await);
    world.crash().await;
    let jobs = world.executor.ran().len();
    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Cancelled);
    assert_eq!(world.executor.ran().len(), jobs);
    let nodes = world.store.nodes(run).await.unwrap();
    assert!(nodes.iter().all(|node| node.state.is_terminal()), "{nodes:?}");
    assert!(world.entries().await.is_empty(), "nothing is released");
}

#[tokio::test]
async fn a_cancelled_run_starts_no_job_and_releases_nothing_even_if_its_driver_was_not_signalled() {
    let world = World::new().await;
    world.executor.script("base", [Behaviour::Slow { ms: 50 }]);
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    started(&world, "base").await;
    // Recorded, but the process that drives it was never signalled.
    let now = jiff::Timestamp::from_second(1_900_000_000).unwrap();
    assert!(world.store.request_cancel(run, (&entry(run), now)).await.unwrap());
    assert_eq!(driving.await.unwrap().unwrap(), RunState::Cancelled);
    assert_eq!(world.orders(0), ["build base: files images/base/files"]);
    assert!(world.entries().await.is_empty());
}

#[tokio::test]
async fn a_queued_run_is_cancelled_without_waiting_for_its_turn() {
    let world = World::new().await;
    let run = world.poll().await.unwrap();
    world.control.cancel(&OPERATOR, run).await.unwrap();
    world.control.cancel(&OPERATOR, run).await.unwrap();
    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Cancelled);
    assert_eq!(world.orders(0), [""; 0]);
    let over = world.control.cancel(&OPERATOR, run).await.unwrap_err();
    assert!(matches!(over, ControlError::Over { .. }), "{over}");
    let unknown = world.control.cancel(&OPERATOR, RunNumber(99)).await.unwrap_err();
    assert!(matches!(unknown, ControlError::NoRun { .. }), "{unknown}");
}
