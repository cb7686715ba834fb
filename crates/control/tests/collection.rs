//! What is not needed any longer leaves the database, the registry and the disk; what may be needed stays.
//! The clock is fixed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::path::Path;

use common::World;
use edgewright_control::retention::Tidied;
use edgewright_model::reference::Reference;
use edgewright_model::run::RunState;
use edgewright_store::releases::EntryRow;

const DAY: i64 = 24;
const SLOTS: &str = "id: plant-b\nslots:\n  - {id: one, image: hmi}\n";

/// The sample, released, and then without `gateway/plant-b`; gives what that was.
async fn retired() -> (World, EntryRow) {
    let world = World::new().await;
    world.run().await;
    let entries = world.entries().await;
    let gone = entries.into_iter().find(|entry| entry.variant.to_string() == "gateway/plant-b").unwrap();
    world.write("sites/plant-b/site.yaml", SLOTS);
    world.commit("no gateway in plant-b").await;
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!(world.entries().await.len(), 4);
    (world, gone)
}

async fn bring_back(world: &World) -> RunState {
    world.write("sites/plant-b/site.yaml", &format!("{SLOTS}  - {{id: two, image: gateway}}\n"));
    world.commit("a gateway again").await;
    world.run().await.1
}

async fn has(world: &World, entry: &EntryRow) -> bool {
    world.registry.has_manifest(&entry.repository, &entry.digest).await.unwrap()
}

fn blobs(world: &World) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    count(&world.folder.path().join("data/registry/blobs"))
}

#[tokio::test]
async fn a_retired_variant_is_kept_for_its_grace_and_then_leaves_the_disk() {
    let (mut world, gone) = retired().await;
    let kept = world.entries().await;
    world.later(29 * DAY).await;
    let tidied = world.control.tidy().await.unwrap();
    assert_eq!((tidied.builds, tidied.variants), (0, 0), "{tidied:?}");
    assert!(has(&world, &gone).await);

    world.later(31 * DAY).await;
    let tidied = world.control.tidy().await.unwrap();
    assert_eq!((tidied.builds, tidied.variants), (1, 1), "{tidied:?}");
    assert!(tidied.manifests >= 2, "its index and its manifest: {tidied:?}");
    assert!(!has(&world, &gone).await);
    let before = blobs(&world);
    // A client that reads a blob at this moment reads it to its end: files are removed a cycle later.
    world.later(31 * DAY + 1).await;
    let tidied = world.control.tidy().await.unwrap();
    assert!(tidied.blobs >= 2, "its layer and its config: {tidied:?}");
    assert_eq!(u64::try_from(before - blobs(&world)).unwrap(), tidied.blobs);
    world.later(31 * DAY + 2).await;
    assert_eq!(world.control.tidy().await.unwrap(), Tidied::default());

    for entry in &kept {
        assert!(has(&world, entry).await, "{}", entry.variant);
        let stable: Reference = "stable".parse().unwrap();
        let answer = world.registry.manifest(&entry.repository, &stable).await.unwrap();
        assert_eq!(answer.digest, entry.digest);
    }
    // It comes back after all: it is rebuilt, the shared steps below it are not.
    let jobs = world.executor.ran().len();
    assert_eq!(bring_back(&world).await, RunState::Passed);
    assert_eq!(world.orders(jobs), ["build gateway/plant-b: files sites/plant-b/files"]);
    assert!(has(&world, &gone).await, "equal input, equal image");
}

#[tokio::test]
async fn a_variant_that_comes_back_within_its_grace_is_kept() {
    let (mut world, gone) = retired().await;
    world.later(20 * DAY).await;
    world.control.tidy().await.unwrap();
    let jobs = world.executor.ran().len();
    assert_eq!(bring_back(&world).await, RunState::Passed);
    assert_eq!(world.orders(jobs), [""; 0], "reused");
    for hours in [60 * DAY, 60 * DAY + 1, 400 * DAY, 400 * DAY + 1] {
        world.later(hours).await;
        assert_eq!(world.control.tidy().await.unwrap().variants, 0);
    }
    assert!(has(&world, &gone).await);
}

#[tokio::test]
async fn old_releases_go_and_what_channels_answer_stays() {
    let mut world = World::new().await;
    world.run().await;
    let first = world.entries().await;
    world.write("sites/plant-a/files/etc/site", "another");
    world.commit("plant-a").await;
    world.run().await;
    let second = world.entries().await;
    for hours in [89 * DAY, 91 * DAY, 91 * DAY + 1] {
        world.later(hours).await;
        world.control.tidy().await.unwrap();
        let old = &first[1];
        assert_eq!(old.variant.to_string(), "gateway/plant-a");
        assert_eq!(has(&world, old).await, hours < 90 * DAY, "after {hours} hours");
        for entry in &second {
            assert!(has(&world, entry).await, "{}", entry.variant);
        }
    }
    // What changes next is built on what is there.
    let jobs = world.executor.ran().len();
    world.write("sites/plant-a/files/etc/site", "a third");
    world.commit("plant-a again").await;
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!(world.orders(jobs).len(), 2);
}

#[tokio::test]
async fn a_renamed_source_keeps_its_mirror_and_leaves_no_other() {
    let world = World::new().await;
    world.run().await;
    let sources = world.folder.path().join("data/sources");
    let settings = world.control.handle(world.source).unwrap().settings().clone();
    let renamed = edgewright_control::SourceSettings { name: "renamed".parse().unwrap(), ..settings };
    let source = world.control.add_source(renamed).await.unwrap();
    assert_eq!(source, world.source);
    assert!(sources.join("renamed.git/objects").is_dir() && !sources.join("plants.git").exists());
    std::fs::create_dir_all(sources.join("forgotten.git/objects")).unwrap();
    assert_eq!(world.control.tidy().await.unwrap().mirrors, 1);
    assert!(sources.join("renamed.git").exists() && !sources.join("forgotten.git").exists());
}

#[tokio::test]
async fn a_clock_that_jumps_deletes_nothing() {
    const YEARS: i64 = 365 * DAY;
    let (mut world, gone) = retired().await;
    assert_eq!(world.control.tidy().await.unwrap(), Tidied::default());
    for hours in [10 * YEARS, 10 * YEARS + 1, 0, -10 * YEARS, -10 * YEARS + 1, 0, 2 * YEARS] {
        world.jump(hours).await;
        for _ in 0..3 {
            assert_eq!(world.control.tidy().await.unwrap(), Tidied::default(), "after {hours} hours");
        }
        assert!(has(&world, &gone).await);
    }
    // Time that passes removes what it did before.
    world.later(31 * DAY).await;
    assert_eq!(world.control.tidy().await.unwrap().variants, 1);
    assert!(!has(&world, &gone).await);
}

#[tokio::test]
async fn what_a_rebuild_needs_is_kept_until_it_ends() {
    let (mut world, gone) = retired().await;
    let number = world.control.queue_rebuild(&common::OPERATOR, &gone.digest).await.unwrap();
    world.later(400 * DAY).await;
    let tidied = world.control.tidy().await.unwrap();
    assert_eq!(tidied.builds, 0, "{tidied:?}");
    let manifests = world.store.index(&gone.digest).await.unwrap().unwrap();
    for digest in manifests.values() {
        assert!(world.registry.has_manifest(&gone.repository, digest).await.unwrap());
        assert!(!world.store.builds_of(digest).await.unwrap().is_empty());
    }
    let now = edgewright_process::Clock::system().now();
    world.store.end_rebuild(number, Err("stopped"), now).await.unwrap();
    world.later(400 * DAY + 1).await;
    assert_eq!(world.control.tidy().await.unwrap().builds, 1);
}
