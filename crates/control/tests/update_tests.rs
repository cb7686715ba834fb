//! Channels that take another step than their branch did wait until that step is tested. Jobs are simulated,
//! everything else is real.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::collections::BTreeSet;

use common::{OPERATOR, World};
use edgewright_control::ControlError;
use edgewright_job::Behaviour;
use edgewright_model::Digest;
use edgewright_model::order::Task;
use edgewright_model::outcome::FailureKind;
use edgewright_model::run::{ReleaseNumber, RunNumber, RunState, Trigger};
use edgewright_model::spec::Lane;
use edgewright_store::channels::ChannelRow;

const SOURCE: &str = "edgewright: 1
name: plant-os
platforms: [linux/amd64]
channels:
  edge: {follows: default-branch}
  plant: {follows: {channel: edge}, after: 24h}
";

/// Release 1 is in both channels; releases 2 and 3 are in `edge`, for long enough.
async fn world() -> World {
    let mut world = World::new().await;
    world.write("edgewright.yaml", SOURCE);
    let path = "images/hmi/image.yaml";
    let image = std::fs::read_to_string(world.folder.path().join("repository").join(path)).unwrap();
    world.write(path, &format!("{image}test: {{lanes: [container, upgrade]}}\n"));
    release(&world, "first").await;
    world.later(25).await;
    world.control.advance_channels().await.unwrap();
    assert_eq!(held(&world).await, 1, "the first release is no update");
    release(&world, "second").await;
    release(&world, "third").await;
    world.later(60).await;
    world
}

async fn release(world: &World, role: &str) {
    world.write("images/hmi/files/etc/role", role);
    world.commit(role).await;
    assert_eq!(world.run().await.1, RunState::Passed);
}

async fn plant(world: &World) -> ChannelRow {
    let channels = world.store.channels(world.source).await.unwrap();
    channels.into_iter().find(|channel| channel.name.as_str() == "plant").unwrap()
}

async fn held(world: &World) -> u32 {
    plant(world).await.completed.unwrap().0
}

/// Compares channels, then runs with what channels wait for.
async fn pass(world: &World) {
    world.control.advance_channels().await.unwrap();
    world.control.advance_update_tests().await.unwrap();
}

fn words(world: &World) -> Option<String> {
    let source = world.control.handle(world.source).unwrap().settings().name.clone();
    world.control.awaited_test(&source, &"plant".parse().unwrap())
}

/// The run that tests an update and is not over.
async fn test_run(world: &World) -> Option<RunNumber> {
    let open = world.store.open_runs().await.unwrap();
    open.iter().find(|run| run.trigger == Trigger::Update).map(|run| run.number)
}

/// What `upgrade` started from, in the orders since `from`.
fn starts(world: &World, from: usize) -> Vec<(String, Option<Digest>)> {
    let mut starts = Vec::new();
    for order in &world.executor.ran()[from..] {
        let Task::Image(task) = &order.task else { continue };
        assert!(task.lanes.iter().all(|lane| lane.lane == Lane::Upgrade), "{task:?}");
        starts.extend(
            task.lanes
                .iter()
                .map(|lane| (task.node.clone(), lane.from.as_ref().map(|from| from.digest.clone()))),
        );
    }
    starts.sort();
    starts
}

/// The platform manifests of `hmi` in a release.
async fn manifests(world: &World, release: u32) -> Vec<(String, Option<Digest>)> {
    let number = ReleaseNumber(release);
    let indexes = world.store.indexes_of(world.source, number).await.unwrap();
    let entries = world.store.entries(world.source, number).await.unwrap().into_iter();
    let hmi = entries.filter(|entry| entry.variant.to_string().starts_with("hmi/"));
    let mut found: Vec<_> = hmi
        .map(|entry| (entry.variant.to_string(), indexes[&entry.digest].values().next().cloned()))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_channel_that_passes_a_release_over_waits_until_that_step_is_tested() {
    let world = world().await;
    let (jobs, heads) = (world.executor.ran().len(), heads(&world).await);
    pass(&world).await;
    assert_eq!(held(&world).await, 1);
    let run = test_run(&world).await.unwrap();
    assert_eq!(
        words(&world),
        Some(format!("waits for run {run}, which tests the update from release 1 to 3"))
    );
    pass(&world).await;
    assert_eq!(world.store.open_runs().await.unwrap().len(), 1, "one run for one update");

    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Passed);
    assert_eq!(starts(&world, jobs), manifests(&world, 1).await, "from what the channel holds");
    let row = world.store.run(run).await.unwrap().unwrap();
    assert_eq!((row.release, row.trusted), (None, true));
    assert_eq!(heads, self::heads(&world).await);
    let newest = world.store.newest_run(world.source, Some("main")).await.unwrap().unwrap();
    assert!(newest.number < run, "the branch is where its last commit is");
    world.control.advance_update_tests().await.unwrap();
    world.control.advance_channels().await.unwrap();
    assert_eq!((held(&world).await, words(&world)), (3, None));

    // What its branch tested is not tested again.
    release(&world, "fourth").await;
    let mut world = world;
    world.later(120).await;
    pass(&world).await;
    assert_eq!((held(&world).await, test_run(&world).await), (4, None));
}

async fn heads(world: &World) -> Vec<edgewright_store::heads::Head> {
    world.store.heads(world.source.domain(true), "main").await.unwrap()
}

#[tokio::test]
async fn a_channel_takes_the_steps_in_between_where_the_whole_one_fails() {
    let world = world().await;
    let fails = Behaviour::FailLanes { kind: FailureKind::Image };
    world.executor.script("hmi/plant-a", [fails, Behaviour::Succeed]);
    pass(&world).await;
    let run = test_run(&world).await.unwrap();
    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Failed);
    pass(&world).await;
    assert_eq!(held(&world).await, 2, "each step was tested by a run of the branch");
    pass(&world).await;
    assert_eq!((held(&world).await, test_run(&world).await, words(&world)), (3, None, None));
}

#[tokio::test]
async fn a_test_that_ends_with_its_server_is_made_again() {
    let mut world = world().await;
    pass(&world).await;
    let lost = test_run(&world).await.unwrap();
    world.later(60).await;
    assert_eq!(world.control.drive(lost).await.unwrap(), RunState::Cancelled);
    pass(&world).await;
    let run = test_run(&world).await.unwrap();
    assert_ne!(run, lost);

    // A person cancels it: the update is not called bad, and the steps in between are there.
    world.control.cancel(&OPERATOR, run).await.unwrap();
    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Cancelled);
    pass(&world).await;
    assert_eq!(held(&world).await, 1);
    assert!(words(&world).unwrap().starts_with(&format!("run {run} has no result")), "{:?}", words(&world));
    world.control.advance_channels().await.unwrap();
    assert_eq!(held(&world).await, 2);
}

#[tokio::test]
async fn what_a_person_promotes_is_tested_first_and_commits_do_not_wait_in_vain() {
    let world = world().await;
    let plant = "plant".parse().unwrap();
    let promote = || async {
        world.control.promote(&OPERATOR, (None, &plant), (ReleaseNumber(3), "now")).await.map(|_| ())
    };
    let error = promote().await.unwrap_err();
    assert!(matches!(error, ControlError::NotTested { failed: None, .. }), "{error}");
    world.write("images/hmi/files/etc/role", "fourth");
    world.commit("fourth").await;
    let commit = world.poll().await.unwrap();
    world.control.advance_update_tests().await.unwrap();
    let run = test_run(&world).await.unwrap();
    let open: BTreeSet<RunNumber> =
        world.store.open_runs().await.unwrap().iter().map(|row| row.number).collect();
    assert_eq!(open, BTreeSet::from([commit, run]), "the run of the commit is not superseded");
    assert_eq!(world.control.drive(commit).await.unwrap(), RunState::Passed);
    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Passed);
    promote().await.unwrap();
    assert_eq!(held(&world).await, 3);
}
