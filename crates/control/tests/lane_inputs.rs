//! A verdict counts while its lane is run in the same way, and an inherited one while the definition declares
//! that; a build, while the programs that made it have the same versions.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use common::World;
use edgewright_model::order::Task;
use edgewright_model::run::RunState;

const ALL: [&str; 5] =
    ["test base", "test gateway/plant-a", "test gateway/plant-b", "test hmi/plant-a", "test hmi/plant-b"];

/// The orders of a run of an empty commit.
async fn next(world: &World, message: &str) -> Vec<String> {
    let jobs = world.executor.ran().len();
    world.commit(message).await;
    let (_, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    world.orders(jobs)
}

#[tokio::test]
async fn a_new_semantic_version_of_the_runner_runs_lanes_again_and_another_host_does_not() {
    let world = World::new().await;
    world.run().await;
    let nothing: [&str; 0] = [];
    assert_eq!(next(&world, "nothing").await, nothing);

    world.executor.move_to("another host");
    assert_eq!(next(&world, "another host, other bytes of the runner").await, nothing);

    world.executor.upgrade(2);
    assert_eq!(next(&world, "other semantics").await, ALL);
    assert_eq!(next(&world, "once").await, nothing);

    // What was found before still counts for who runs lanes as before.
    world.executor.upgrade(1);
    assert_eq!(next(&world, "a rollback of the server").await, nothing);
}

#[tokio::test]
async fn an_inherited_verdict_counts_while_the_definition_declares_the_inheritance() {
    let world = World::new().await;
    let path = "images/hmi/image.yaml";
    let image = std::fs::read_to_string(world.folder.path().join("repository").join(path)).unwrap();
    let inherits = "inherit: {lanes: [container], when: files-only, from: representative}";
    world.write(path, &format!("{image}test:\n  lanes: [container]\n  {inherits}\n"));
    world.commit("inherit").await;
    world.run().await;
    assert_eq!(next(&world, "nothing").await, [""; 0]);

    world.write(path, &image);
    assert_eq!(next(&world, "every site for itself").await, ["test hmi/plant-b"]);
    assert_eq!(next(&world, "once").await, [""; 0]);
}

#[tokio::test]
async fn a_build_counts_while_the_tools_that_made_it_are_the_same() {
    let world = World::new().await;
    let image = "from: base\nsteps: [containerfile: Containerfile]\ntest: none\n";
    world.write("images/tool/image.yaml", image);
    world.write("images/tool/Containerfile", "ARG BASE\nFROM ${BASE}\nRUN true\n");
    world.commit("a Containerfile").await;
    world.run().await;
    assert_eq!(next(&world, "nothing").await, [""; 0]);

    world.executor.update_tool("podman", "6.0.0");
    assert_eq!(next(&world, "podman changes no bytes").await, [""; 0]);

    world.executor.update_tool("buildah", "1.40.0");
    world.commit("another buildah").await;
    let (run, _) = world.run().await;
    let order = world.executor.ran().pop().unwrap();
    let Task::Image(task) = order.task else { panic!("it builds an image") };
    assert_eq!(task.steps[0].tools.to_string(), "buildah 1.40.0");
    let nodes = world.store.own_nodes(run).await.unwrap();
    let node = nodes.iter().find(|node| node.node == "tool").unwrap();
    assert_eq!(node.reason, "tools changed: buildah 1.39.3 → 1.40.0");
    assert_eq!(next(&world, "once").await, [""; 0]);
}

/// What lanes that need a release start from, in the orders since `from`.
fn starts(world: &World, from: usize) -> Vec<String> {
    let mut starts = Vec::new();
    for order in &world.executor.ran()[from..] {
        let Task::Image(task) = &order.task else { continue };
        for lane in task.lanes.iter().filter(|lane| lane.lane.needs_release()) {
            let start = lane.from.as_ref().map_or("nothing".to_owned(), |from| from.repository.to_string());
            starts.push(format!("{} {} {start}", task.node, lane.lane));
        }
    }
    starts.sort();
    starts
}

#[tokio::test]
async fn lanes_that_update_start_from_what_is_released_and_run_once_for_each_release() {
    let world = World::new().await;
    let path = "images/hmi/image.yaml";
    let image = std::fs::read_to_string(world.folder.path().join("repository").join(path)).unwrap();
    let lanes = "test: {lanes: [upgrade, switch], switch: {from: gateway}}\n";
    world.write(path, &format!("{image}{lanes}"));
    world.commit("lanes").await;
    world.run().await;
    let nothing = [
        "hmi/plant-a switch nothing",
        "hmi/plant-a upgrade nothing",
        "hmi/plant-b switch nothing",
        "hmi/plant-b upgrade nothing",
    ];
    assert_eq!(starts(&world, 0), nothing);

    // By now the other role is released, too. Of itself a variant has no update.
    let jobs = world.executor.ran().len();
    assert_eq!(next(&world, "nothing").await, ["test hmi/plant-a", "test hmi/plant-b"]);
    let switches =
        ["hmi/plant-a switch plant-os/gateway/plant-a", "hmi/plant-b switch plant-os/gateway/plant-b"];
    assert_eq!(starts(&world, jobs), switches);
    assert_eq!(next(&world, "once").await, [""; 0]);

    let released = world.entries().await;
    let jobs = world.executor.ran().len();
    world.write("images/hmi/files/etc/role", "another");
    world.commit("a change").await;
    assert_eq!(world.run().await.1, RunState::Passed);
    let upgrades = [
        "hmi/plant-a switch plant-os/gateway/plant-a",
        "hmi/plant-a upgrade plant-os/hmi/plant-a",
        "hmi/plant-b switch plant-os/gateway/plant-b",
        "hmi/plant-b upgrade plant-os/hmi/plant-b",
    ];
    assert_eq!(starts(&world, jobs), upgrades);
    assert_eq!(next(&world, "nothing").await, [""; 0]);
    let newer = world.entries().await;
    assert_ne!(newer.last().unwrap().digest, released.last().unwrap().digest);
}

#[tokio::test]
async fn an_inherited_update_counts_with_what_each_machine_ran_before() {
    let world = World::new().await;
    let path = "images/hmi/image.yaml";
    let image = std::fs::read_to_string(world.folder.path().join("repository").join(path)).unwrap();
    world.write(path, &format!("{image}test: {{lanes: [upgrade], inherit: {{lanes: [upgrade]}}}}\n"));
    world.commit("inherit").await;
    world.run().await;
    let jobs = world.executor.ran().len();
    world.write("images/hmi/files/etc/role", "another");
    world.commit("a change").await;
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!(starts(&world, jobs), ["hmi/plant-a upgrade plant-os/hmi/plant-a"]);
    assert_eq!(next(&world, "nothing").await, [""; 0]);
}
