//! From a commit to what a channel answers, with simulated jobs and everything else real.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use common::{OPERATOR, World};
use edgewright_control::ControlError;
use edgewright_job::Behaviour;
use edgewright_model::outcome::FailureKind;
use edgewright_model::reference::Reference;
use edgewright_model::run::{NodeState, RunState};

const FIRST: [&str; 7] = [
    "build base: files images/base/files",
    "build gateway/plant-a: files sites/plant-a/files",
    "build gateway/plant-b: files sites/plant-b/files",
    "build gateway~: files images/gateway/files",
    "build hmi/plant-a: files sites/plant-a/files",
    "build hmi/plant-b: files sites/plant-b/files",
    "build hmi~: files images/hmi/files",
];

async fn answer(world: &World, repository: &str, tag: &str) -> Option<String> {
    let reference = Reference::Tag(tag.parse().unwrap());
    world
        .registry
        .manifest(&repository.parse().unwrap(), &reference)
        .await
        .ok()
        .map(|found| found.digest.to_string())
}

#[tokio::test]
async fn a_commit_becomes_a_release_and_one_sites_change_rebuilds_that_site_only() {
    let world = World::new().await;
    let (_, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(world.orders(0), FIRST);
    let before = answer(&world, "plant-os/hmi/plant-a", "stable").await.unwrap();
    assert_eq!(world.entries().await.len(), 5);
    assert_eq!(world.poll().await, None, "nothing moved");

    world.write("sites/plant-a/files/etc/site", "another");
    world.commit("plant-a").await;
    let (_, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(
        world.orders(7),
        ["build gateway/plant-a: files sites/plant-a/files", "build hmi/plant-a: files sites/plant-a/files"]
    );
    let release = world.release().await;
    assert!(release[1].starts_with("gateway/plant-a new: "), "{release:?}");
    assert_eq!(release[2], "gateway/plant-b carried: unchanged");
    let after = answer(&world, "plant-os/hmi/plant-a", "stable").await;
    assert_ne!(after.as_ref(), Some(&before));

    // With another name, the same images are in repositories of that name, and nothing is built.
    let jobs = world.executor.ran().len();
    world.rename("other-os");
    world.commit("a new name").await;
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!(world.orders(jobs), [""; 0]);
    assert_eq!(answer(&world, "other-os/hmi/plant-a", "stable").await, after);
}

#[tokio::test]
async fn a_commit_that_changes_no_image_makes_no_release() {
    let world = World::new().await;
    world.run().await;
    world.write("README.md", "hello");
    world.commit("words").await;
    let (run, state) = world.run().await;
    assert_eq!((state, world.orders(7).len()), (RunState::Passed, 0));
    assert_eq!(world.store.run(run).await.unwrap().unwrap().release, None);
    assert_eq!(world.store.releases(world.source, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_fails_keeps_its_old_digest_and_stops_only_its_descendants() {
    let world = World::new().await;
    world.run().await;
    let before = world.entries().await;
    world.executor.script("hmi/plant-a", [Behaviour::FailLanes { kind: FailureKind::Image }]);
    world.write("images/hmi/files/etc/role", "broken");
    world.write("images/gateway/files/etc/role", "fine");
    world.commit("roles").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let after = world.entries().await;
    assert_eq!(after[3].digest, before[3].digest, "hmi/plant-a is unchanged");
    assert!(after[3].reason.starts_with("failed: "), "{}", after[3].reason);
    assert!(after.iter().zip(&before).filter(|(a, b)| a.digest != b.digest).count() == 3);
    assert!(world.store.run(run).await.unwrap().unwrap().release.is_some());

    // Equal input fails equally: the next commit does not test the known bad digest again, a retry does.
    let jobs = world.executor.ran().len();
    world.write("README.md", "hello");
    world.commit("words").await;
    let (newest, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    assert_eq!(world.orders(jobs), [""; 0]);
    world.executor.script("hmi/plant-a", [Behaviour::Succeed]);
    let outdated = world.control.retry(&OPERATOR, run).await.unwrap_err();
    assert!(matches!(outdated, ControlError::Outdated { .. }), "the branch has moved on: {outdated}");
    let retried = world.control.retry(&OPERATOR, newest).await.unwrap();
    assert_eq!(world.control.drive(retried).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(jobs), ["test hmi/plant-a"]);
}

#[tokio::test]
async fn a_bad_base_blocks_all_and_a_first_run_of_nothing_good_makes_no_release() {
    let world = World::new().await;
    world.executor.script("base", [Behaviour::FailBuild { kind: FailureKind::Image }]);
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let states: Vec<NodeState> =
        world.store.nodes(run).await.unwrap().iter().map(|node| node.state).collect();
    assert_eq!(states.iter().filter(|state| **state == NodeState::Blocked).count(), 6);
    assert_eq!(world.orders(0), ["build base: files images/base/files"]);
    assert_eq!(answer(&world, "plant-os/base", "stable").await, None);
}

#[tokio::test]
async fn infrastructure_failures_are_tried_again_image_failures_are_not() {
    let world = World::new().await;
    let broken = Behaviour::FailLanes { kind: FailureKind::Infrastructure };
    world.executor.script("base", [broken, Behaviour::Crash, Behaviour::Succeed]);
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    let nodes = world.store.nodes(run).await.unwrap();
    let base = nodes.iter().find(|node| node.node == "base").unwrap();
    assert_eq!(base.attempts, 3);
    // The first try built it; the others only had to test.
    let orders = world.orders(0);
    assert_eq!(orders.iter().filter(|order| *order == "test base").count(), 2, "{orders:?}");
}

#[tokio::test]
async fn a_context_that_cannot_be_packed_is_a_failure_of_its_node() {
    let world = World::new().await;
    // Too large to travel in an order.
    world.write("images/hmi/files/opt/large", &"x".repeat(1 << 17));
    world.commit("large").await;
    let packs = world.folder.path().join("data/work/packs");
    std::fs::remove_dir(&packs).unwrap();
    std::fs::write(&packs, "no folder").unwrap();
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let nodes = world.store.nodes(run).await.unwrap();
    let failed: Vec<_> = nodes.iter().filter(|node| node.state == NodeState::Failed).collect();
    let [failed] = &failed[..] else { panic!("one node failed: {nodes:#?}") };
    let failure = failed.failure.as_ref().unwrap();
    assert_eq!((failure.kind, failed.attempts), (FailureKind::Infrastructure, 3), "{failure:?}");
    assert!(failure.hint.as_ref().unwrap().contains("data folder"), "{failure:?}");
    assert!(nodes.iter().all(|node| node.state.is_terminal()), "{nodes:#?}");
    assert_eq!(world.entries().await.len(), 3, "what does not stand on it is released");

    std::fs::remove_file(&packs).unwrap();
    std::fs::create_dir(&packs).unwrap();
    let retried = world.control.retry(&OPERATOR, run).await.unwrap();
    assert_eq!(world.control.drive(retried).await.unwrap(), RunState::Passed);
    assert_eq!(world.entries().await.len(), 5);
}

#[tokio::test]
async fn a_killed_server_resumes_and_repeats_nothing_that_was_recorded() {
    let mut world = World::new().await;
    world.executor.script("gateway/plant-b", [Behaviour::Hang, Behaviour::Succeed]);
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    let hung = async {
        while world.executor.ran().len() < FIRST.len() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), hung).await.unwrap();
    // All others end while one hangs.
    let settled = async {
        loop {
            let nodes = world.store.nodes(run).await.unwrap();
            if nodes.iter().filter(|node| node.state == NodeState::Passed).count() == FIRST.len() - 1 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), settled).await.unwrap();
    driving.abort();
    drop(driving.await);
    world.crash().await;
    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(FIRST.len()), ["build gateway/plant-b: files sites/plant-b/files"]);
    assert_eq!(world.entries().await.len(), 5);
}

#[tokio::test]
async fn changed_checks_test_the_current_digest_without_building() {
    let world = World::new().await;
    world.run().await;
    let before = world.entries().await;
    let image =
        std::fs::read_to_string(world.folder.path().join("repository/images/hmi/image.yaml")).unwrap();
    world.write("images/hmi/image.yaml", &format!("{image}  - {{id: more, unit: y.service, timeout: 5s}}\n"));
    world.commit("checks").await;
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!(world.orders(7), ["test hmi/plant-a", "test hmi/plant-b"]);
    assert_eq!(world.entries().await, before);
}

#[tokio::test]
async fn a_broken_site_keeps_what_it_has_and_a_broken_source_changes_nothing() {
    let world = World::new().await;
    world.run().await;
    world.write("sites/plant-b/site.yaml", "id: [");
    world.write("sites/plant-a/files/etc/site", "another");
    world.commit("broken site").await;
    assert_eq!(world.run().await.1, RunState::Failed);
    let release = world.release().await;
    assert_eq!(release[2], "gateway/plant-b carried: blocked: site plant-b has errors");
    assert!(release[1].starts_with("gateway/plant-a new: "));

    world.write("edgewright.yaml", "edgewright: 1\nname: [");
    world.commit("broken source").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    assert!(
        world.store.run(run).await.unwrap().unwrap().failure.unwrap().contains("edgewright.yaml")
            || !world.store.run(run).await.unwrap().unwrap().diagnostics.is_empty()
    );
    assert_eq!(world.release().await, release);
}

#[tokio::test]
async fn a_cancelled_run_ends_and_the_next_one_uses_what_it_built() {
    let world = World::new().await;
    world.executor.script("hmi/plant-a", [Behaviour::Hang, Behaviour::Succeed]);
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    let hung = async {
        while world.orders(0).len() < FIRST.len() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), hung).await.unwrap();
    world.control.cancel(&OPERATOR, run).await.unwrap();
    assert_eq!(driving.await.unwrap().unwrap(), RunState::Cancelled);
    let nodes = world.store.nodes(run).await.unwrap();
    assert!(nodes.iter().all(|node| node.state.is_terminal()));
    let retried = world.control.retry(&OPERATOR, run).await.unwrap();
    assert_eq!(world.control.drive(retried).await.unwrap(), RunState::Passed);
    assert!(!world.orders(FIRST.len()).contains(&FIRST[0].to_owned()), "base is not built again");
}

#[tokio::test]
async fn two_sources_cannot_write_to_the_same_repositories() {
    let world = World::new().await;
    assert_eq!(world.run().await.1, RunState::Passed);
    let entries = world.entries().await;
    let copy = world.folder.path().join("copy");
    let from = world.folder.path().join("repository");
    edgewright_process::Command::new("cp").arg("-r").arg(&from).arg(&copy).run().await.unwrap();
    let settings = edgewright_control::SourceSettings {
        name: "copy".parse().unwrap(),
        remote: edgewright_source::Remote::from_path(&copy).unwrap(),
        ..world.control.handle(world.source).unwrap().settings().clone()
    };
    let second = world.control.add_source(settings).await.unwrap();
    let handle = world.control.handle(second).unwrap();
    let run = world.control.poll_once(&handle).await.unwrap().pop().unwrap();
    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Failed);
    let failure = world.store.run(run).await.unwrap().unwrap().failure.unwrap();
    assert!(failure.contains("is the name of source `plants` already"), "{failure}");
    assert_eq!(world.entries().await, entries);
}

#[tokio::test]
async fn a_clone_that_ran_and_the_followed_remote_are_one_source() {
    let mut world = World::new().await;
    world.run().await;
    let (entries, jobs) = (world.entries().await, world.executor.ran().len());
    let clone = world.folder.path().join("clone");
    let from = world.folder.path().join("repository");
    edgewright_process::Command::new("cp").arg("-r").arg(&from).arg(&clone).run().await.unwrap();
    let settings = edgewright_control::SourceSettings {
        name: "served".parse().unwrap(),
        remote: edgewright_source::Remote::from_path(&clone).unwrap(),
        ..world.control.handle(world.source).unwrap().settings().clone()
    };
    assert!(world.control.remove_source(&"plants".parse().unwrap()));
    let second = world.control.add_source(settings).await.unwrap();
    assert_ne!(second, world.source);
    world.source = second;
    let (_, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(world.executor.ran().len(), jobs, "nothing is built or tested again");
    assert_eq!(world.entries().await, entries, "releases and channels came along");
    assert_eq!(world.store.sources().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_kill_after_a_default_branch_was_renamed_back_loses_no_run() {
    let world = World::new().await;
    world.run().await;
    let first = answer(&world, "plant-os/hmi/plant-a", "stable").await;
    world.git(&["checkout", "--quiet", "-b", "next"]).await;
    world.write("sites/plant-a/files/etc/site", "another");
    world.commit("next").await;
    world.run().await;
    assert_ne!(answer(&world, "plant-os/hmi/plant-a", "stable").await, first);
    // Back to `main`, whose commit was decided already: the poll is noted, and the process killed before it
    // queued a run.
    world.git(&["checkout", "--quiet", "main"]).await;
    let now = jiff::Timestamp::from_second(1_900_000_000).unwrap();
    world.store.note_poll(world.source, Some("main"), None, now).await.unwrap();
    let (_, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(answer(&world, "plant-os/hmi/plant-a", "stable").await, first);
    assert_eq!(world.poll().await, None);
}

#[tokio::test]
async fn a_branch_of_the_settings_that_is_chosen_again_is_released_again() {
    let world = World::new().await;
    world.git(&["branch", "a"]).await;
    world.run().await;
    let on_main = answer(&world, "plant-os/hmi/plant-a", "stable").await;
    world.git(&["checkout", "--quiet", "a"]).await;
    world.write("sites/plant-a/files/etc/site", "of a");
    world.commit("of a").await;
    let choose = async |branch: Option<&str>| {
        let settings = world.control.handle(world.source).unwrap().settings().clone();
        let settings = edgewright_control::SourceSettings { branch: branch.map(str::to_owned), ..settings };
        world.control.add_source(settings).await.unwrap();
        world.run().await;
        answer(&world, "plant-os/hmi/plant-a", "stable").await
    };
    let on_a = choose(Some("a")).await;
    assert_ne!(on_a, on_main);
    assert_eq!(choose(Some("main")).await, on_main);
    assert_eq!(choose(Some("a")).await, on_a, "its commit was decided long ago");
    assert_eq!(choose(Some("main")).await, on_main);
    // Without a branch, the remote's default one counts, which is `a` now.
    assert_eq!(choose(None).await, on_a);
    assert_eq!(world.poll().await, None);
}
