//! Locks that move, and builds that are made again, with simulated jobs and everything else real.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    reason = "a test fails by panicking, and says what it saw; not every test file needs all of the world"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::World;
use edgewright_job::Behaviour;
use edgewright_model::lock::{Lock, LockRequest};
use edgewright_model::names::CommitId;
use edgewright_model::outcome::{FailureKind, KeptPackages};
use edgewright_model::run::{NodeState, RunNumber, RunState};
use edgewright_store::proofs::ProofResult;

const BASE: &str = "from: scratch\nsteps:\n  - bootstrap: {suite: trixie, packages: [systemd]}\n";

/// The sample, with a base that is bootstrapped.
async fn world() -> World {
    let world = World::new().await;
    world.write("images/base/image.yaml", BASE);
    world.commit("an operating system").await;
    world
}

/// Updates some images, or all, and drives the run to its end.
async fn update(world: &World, images: &[&str]) -> (RunNumber, RunState) {
    let images = images.iter().map(|image| image.parse().unwrap()).collect();
    let run = world.control.update(world.source, &images).await.unwrap();
    (run, world.control.drive(run).await.unwrap())
}

/// What a run found, as `IMAGE: WORDS`.
async fn looks(world: &World, run: RunNumber) -> Vec<String> {
    let looks = world.store.looks(run).await.unwrap();
    looks.iter().map(|look| format!("{}: {look}", look.image)).collect()
}

async fn commit_of(world: &World, run: RunNumber) -> CommitId {
    world.store.run(run).await.unwrap().unwrap().commit
}

#[tokio::test]
async fn an_update_says_what_moved_and_builds_it_and_never_goes_back() {
    let world = world().await;
    let (first, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(looks(&world, first).await, ["base: locked for the first time"]);
    let jobs = world.executor.ran().len();

    let (run, state) = update(&world, &[]).await;
    assert_eq!((state, looks(&world, run).await), (RunState::Passed, vec!["base: nothing moved".to_owned()]));
    assert_eq!(world.orders(jobs), ["lock base"], "nothing is built");

    world.executor.offer("1.1-1");
    let (run, state) = update(&world, &["base"]).await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(looks(&world, run).await, ["base: systemd 1.0-1 → 1.1-1"]);
    assert_eq!(world.orders(jobs + 2).len(), 7, "all stands on the base");
    assert!(world.store.run(run).await.unwrap().unwrap().release.is_some());

    world.executor.offer("1.0-1");
    let (run, state) = update(&world, &[]).await;
    assert_eq!(state, RunState::Passed);
    let found = looks(&world, run).await;
    assert_eq!(found, ["base: the lock stays: the mirror lags behind (systemd 1.1-1 → 1.0-1)"]);
    assert_eq!(world.store.locks(world.source).await.unwrap().len(), 2);

    // An unreachable mirror leaves all as it is, too.
    world.executor.script("base", [Behaviour::FailBuild { kind: FailureKind::Infrastructure }]);
    let (run, state) = update(&world, &[]).await;
    assert_eq!(state, RunState::Passed);
    assert!(looks(&world, run).await[0].starts_with("base: the lock stays: "));
}

#[tokio::test]
async fn a_look_keeps_the_lock_and_builds_nothing() {
    let world = world().await;
    let (first, _) = world.run().await;
    let jobs = world.executor.ran().len();
    world.executor.offer("2.0-1");
    let commit = commit_of(&world, first).await;
    let number = world.control.queue_look(world.source, "main", &commit, &BTreeSet::new()).await.unwrap();
    assert_eq!(world.control.look_at_locks(number).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(jobs), ["lock base"]);
    assert_eq!(looks(&world, number).await, ["base: systemd 1.0-1 → 2.0-1"]);
    let overlays = world.control.overlays(number).await.unwrap();
    assert_eq!(overlays.len(), 1);
    assert_eq!(overlays.values().next().unwrap().packages.values().next().unwrap()[0][0].version, "2.0-1");
    // The next run builds from it.
    let next = world.control.retry(first).await.unwrap();
    assert_eq!(world.control.drive(next).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(jobs + 1).len(), 7);
}

#[tokio::test]
async fn only_what_has_outside_inputs_is_watched() {
    let world = World::new().await;
    world.run().await;
    assert_eq!(world.store.last_look(world.source, "main").await.unwrap(), None);
    assert_eq!(world.control.look_if_due(world.source).await.unwrap(), None);
    world.write("images/base/image.yaml", BASE);
    world.commit("an operating system").await;
    let (run, _) = world.run().await;
    let created = world.store.run(run).await.unwrap().unwrap().created_at;
    assert_eq!(world.store.last_look(world.source, "main").await.unwrap(), Some(created));
    assert_eq!(world.control.look_if_due(world.source).await.unwrap(), None, "not yet");
    let (_, state) = update(&world, &["base"]).await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(world.store.last_look(world.source, "main").await.unwrap(), Some(created), "not of all");
    update(&world, &[]).await;
    assert!(world.store.last_look(world.source, "main").await.unwrap() > Some(created));
}

#[tokio::test]
async fn what_is_built_again_is_proved_or_refuted() {
    let world = world().await;
    let (run, _) = world.run().await;
    let verified = world.control.verify(run).await.unwrap();
    assert_eq!(verified.len(), 7);
    assert!(verified.iter().all(edgewright_control::runs::Rebuilt::is_proved), "{verified:?}");
    // Each step once.
    assert_eq!(verified.iter().map(|rebuilt| rebuilt.steps.len()).sum::<usize>(), 7);

    let entry =
        world.entries().await.into_iter().find(|entry| entry.variant.to_string() == "hmi/plant-a").unwrap();
    let rebuilt = world.control.rebuild(&entry.digest).await.unwrap();
    assert_eq!((rebuilt.len(), rebuilt[0].steps.len(), rebuilt[0].is_proved()), (1, 3, true));
    let keys: Vec<_> = rebuilt[0].steps.iter().map(|step| step.key.clone()).collect();
    let proofs = world.store.proofs(&keys).await.unwrap();
    assert!(keys.iter().all(|key| proofs[key].result == ProofResult::Proved));
    // The nodes are as they were.
    let nodes = world.store.nodes(run).await.unwrap();
    assert!(nodes.iter().all(|node| node.state == NodeState::Passed));
    let nothing = edgewright_model::Digest::of("nothing");
    assert!(world.control.rebuild(&nothing).await.is_err());
}

#[tokio::test]
async fn what_refresh_says_is_too_old_is_built_anew_at_the_next_run() {
    let world = World::new().await;
    let role = "from: base\nper: site\nsteps:\n  - containerfile: {file: Containerfile, refresh: 7d}\n";
    world.write("images/hmi/image.yaml", role);
    world.write("images/hmi/Containerfile", "ARG BASE\nFROM ${BASE}\nRUN apt-get upgrade\n");
    let request = LockRequest {
        base: None,
        bootstrap: Vec::new(),
        platforms: vec!["linux/amd64".parse().unwrap()],
        refresh: Some("7d".parse().unwrap()),
    };
    let old = Lock {
        version: 1,
        request: request.digest(),
        epoch: "2026-01-01T00:00:00Z".parse().unwrap(),
        base: None,
        packages: BTreeMap::new(),
    };
    world.write("images/hmi/edgewright.lock", &serde_json::to_string(&old).unwrap());
    world.commit("upgrade").await;
    let (run, state) = world.run().await;
    assert_eq!((state, looks(&world, run).await), (RunState::Passed, vec!["hmi: refreshed".to_owned()]));
    let jobs = world.executor.ran().len();
    let again = world.control.retry(run).await.unwrap();
    assert_eq!(world.control.drive(again).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(jobs), [""; 0], "young enough");
}

#[tokio::test]
async fn packages_are_held_as_long_as_a_release_stands_on_them() {
    let world = world().await;
    world.run().await;
    let entry = world.entries().await.into_iter().find(|entry| entry.variant.to_string() == "base").unwrap();
    let needed = world.store.nodes_of(&entry.digest).await.unwrap()[0].1.steps[0].key.clone();
    let orphan = edgewright_model::Digest::of("a key that nothing was released from");
    let kept = KeptPackages {
        repository: "plant-os/packages".parse().unwrap(),
        sources: "deb http://mirror trixie main\n".to_owned(),
        packages: Vec::new(),
    };
    let long_ago = "2020-01-01T00:00:00Z".parse().unwrap();
    for key in [&needed, &orphan] {
        world.store.keep_packages(key, &kept, long_ago).await.unwrap();
    }
    assert_eq!(world.store.unneeded_packages(long_ago).await.unwrap(), [], "too young");
    assert_eq!(world.control.tidy().await.unwrap().packages, 1);
    assert_eq!(world.store.kept_packages(&orphan).await.unwrap(), None);
    assert_eq!(world.store.kept_packages(&needed).await.unwrap(), Some(kept));
}
