//! Whether a verdict stops a variant: exceptions, what is not new, what is inherited, what others say.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::time::Duration;

use common::{OPERATOR, World};
use edgewright_control::ControlError;
use edgewright_control::context::OperationContext;
use edgewright_control::posting::{PostError, PostedVerdict, VerdictPost};
use edgewright_job::Behaviour;
use edgewright_model::Digest;
use edgewright_model::outcome::FailureKind;
use edgewright_model::principal::Principal;
use edgewright_model::run::{NodeState, RunNumber, RunState};
use edgewright_model::spec::Lane;
use edgewright_model::verdict::{LaneResult, Note, VerdictOrigin};
use edgewright_store::nodes::NodeRow;

const FIRST: usize = 7;

fn fails(checks: &[&str]) -> Behaviour {
    let checks = checks.iter().map(|check| check.parse().unwrap()).collect();
    Behaviour::FailChecks { kind: FailureKind::Image, checks }
}

async fn node(world: &World, run: RunNumber, name: &str) -> NodeRow {
    world.store.nodes(run).await.unwrap().into_iter().find(|node| node.node == name).unwrap()
}

fn except(world: &World, until: &str) {
    let text =
        format!("check: unit\nvariants: [\"hmi/*\"]\nreason: no GPU here\nowner: platform\nuntil: {until}\n");
    world.write("exceptions/unit.yaml", &text);
}

/// Changes both sites' hmi, so that it is built and tested again.
async fn change_hmi(world: &World, text: &str) {
    world.write("images/hmi/files/etc/role", text);
    world.commit("hmi").await;
}

#[tokio::test]
async fn an_exception_covers_a_failed_check_with_a_note_until_it_ends() {
    let world = World::new().await;
    world.run().await;
    for variant in ["hmi/plant-a", "hmi/plant-b"] {
        world.executor.script(variant, [fails(&["unit"])]);
    }
    except(&world, "2999-12-31");
    change_hmi(&world, "without a GPU").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    let passed = node(&world, run, "hmi/plant-a").await;
    let note = passed.notes[0].to_string();
    assert!(
        note.contains(
            "`unit` in the lane container failed, but is excepted until 2999-12-31 by platform: no GPU here"
        ),
        "{note}"
    );
    // The verdict stays what it was.
    let verdicts = world.store.verdicts_of(passed.digest.as_ref().unwrap()).await.unwrap();
    assert!(matches!(verdicts[0].verdict.result, LaneResult::Failed { kind: FailureKind::Image, .. }));

    // It is reused as it is, and still carries the note.
    let jobs = world.executor.ran().len();
    world.write("README.md", "hello");
    world.commit("words").await;
    let (run, state) = world.run().await;
    assert_eq!((state, world.orders(jobs).len()), (RunState::Passed, 0));
    let reused = node(&world, run, "hmi/plant-a").await;
    assert_eq!((reused.state, reused.notes.len()), (NodeState::Reused, 1));

    // Over: it fails at the next run; the exception changed no key, so nothing is built.
    except(&world, "2020-01-31");
    world.commit("an exception that is over").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    assert!(world.orders(jobs).iter().all(|order| order.starts_with("test ")), "{:?}", world.orders(jobs));
    let failure = node(&world, run, "hmi/plant-a").await.failure.unwrap();
    assert!(failure.output.iter().any(|line| line.contains("ended on 2020-01-31")), "{failure:?}");
}

#[tokio::test]
async fn a_new_failure_blocks_and_the_last_good_digest_is_tried_once() {
    let world = World::new().await;
    world.run().await;
    world.executor.script("hmi/plant-a", [fails(&["unit"])]);
    change_hmi(&world, "broken").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let failed = node(&world, run, "hmi/plant-a").await;
    let failure = failed.failure.unwrap();
    assert_eq!((failure.kind, failed.notes.len()), (FailureKind::Image, 0));
    assert_eq!(failure.message, "container lane: check `unit`: simulated failure of a check");
    assert!(failure.hint.unwrap().contains(&format!("`edgewright logs {run} hmi/plant-a`")));
    // The check set did not change: the last good digest's verdict was known.
    let tries = |world: &World| {
        world.orders(FIRST).into_iter().filter(|order| order.contains("last good")).collect::<Vec<_>>()
    };
    assert_eq!(tries(&world), [""; 0]);

    // With other checks it is not known, and found out once.
    let image =
        std::fs::read_to_string(world.folder.path().join("repository/images/hmi/image.yaml")).unwrap();
    world.write("images/hmi/image.yaml", &format!("{image}  - {{id: more, unit: y.service, timeout: 5s}}\n"));
    change_hmi(&world, "broken otherwise").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    assert_eq!(tries(&world), ["test hmi/plant-a (last good)"]);
    let run = world.control.retry(&OPERATOR, run).await.unwrap();
    world.control.drive(run).await.unwrap();
    change_hmi(&world, "broken in a third way").await;
    world.run().await;
    assert_eq!(tries(&world).len(), 1);
}

#[tokio::test]
async fn a_check_that_the_last_good_digest_fails_too_is_at_fault_and_blocks_nothing_for_good() {
    let world = World::new().await;
    world.run().await;
    let before = world.entries().await;
    let image =
        std::fs::read_to_string(world.folder.path().join("repository/images/hmi/image.yaml")).unwrap();
    world.write("images/hmi/image.yaml", &format!("{image}  - {{id: more, unit: y.service, timeout: 5s}}\n"));
    for node in ["hmi/plant-a", "hmi/plant-a (last good)"] {
        world.executor.script(node, [fails(&["more"])]);
    }
    change_hmi(&world, "fine, but the check is not").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed, "a failure of a check still fails the variant");
    let failed = node(&world, run, "hmi/plant-a").await;
    let failure = failed.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Check);
    assert!(failure.message.contains("the checks changed: the last good digest"), "{}", failure.message);
    assert!(failure.hint.unwrap().contains("the check was added or changed"));
    assert!(failed.notes.is_empty(), "a check of this commit is not called `not new`: {:?}", failed.notes);
    assert_eq!(world.entries().await[3].digest, before[3].digest, "the old digest stays");

    // Neither a retry nor a later commit makes the check older: the last release does not have it.
    for what in ["a retry", "another commit"] {
        world.executor.script("hmi/plant-a", [fails(&["more"])]);
        let run = if what == "a retry" {
            let retried = world.control.retry(&OPERATOR, run).await.unwrap();
            world.control.drive(retried).await.unwrap();
            retried
        } else {
            change_hmi(&world, "still fine").await;
            world.run().await.0
        };
        let failed = node(&world, run, "hmi/plant-a").await;
        let message = failed.failure.unwrap().message;
        assert!(message.contains("the checks changed"), "{what}: {message}");
        assert!(failed.notes.is_empty(), "{what}: {:?}", failed.notes);
    }

    // The next run asks again.
    let jobs = world.executor.ran().len();
    world.executor.script("hmi/plant-a", [Behaviour::Succeed]);
    world.write("README.md", "hello");
    world.commit("words").await;
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!(world.orders(jobs), ["test hmi/plant-a"]);
}

#[tokio::test]
async fn the_representative_runs_a_lane_for_all_that_differ_in_files_only() {
    let world = World::new().await;
    let image =
        std::fs::read_to_string(world.folder.path().join("repository/images/hmi/image.yaml")).unwrap();
    world.write(
        "images/hmi/image.yaml",
        &format!("{image}test:\n  lanes: [container]\n  inherit: {{lanes: [container], when: files-only, from: representative}}\n"),
    );
    world.commit("inherit").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    let lanes = |node: &str| {
        let orders = world.executor.ran();
        let task = orders.iter().find_map(|order| match &order.task {
            edgewright_model::order::Task::Image(task) if task.node == node => Some(task.clone()),
            _ => None,
        });
        task.unwrap().lanes.len()
    };
    assert_eq!((lanes("hmi/plant-a"), lanes("hmi/plant-b")), (1, 0));
    let (from, heir) = (node(&world, run, "hmi/plant-a").await, node(&world, run, "hmi/plant-b").await);
    let rows = world.store.verdicts_of(heir.digest.as_ref().unwrap()).await.unwrap();
    assert_eq!((rows.len(), rows[0].origin.as_str()), (1, "inherited"));
    let VerdictOrigin::Inherited { rule, variant, from: source } = &rows[0].verdict.origin else {
        panic!("{rows:?}")
    };
    assert!(rule.contains("files steps only"));
    assert_eq!((variant.to_string(), Some(&source.digest)), ("hmi/plant-a".to_owned(), from.digest.as_ref()));
    assert!(rows[0].published.is_some());
    assert!(matches!(&heir.notes[0], Note::Inherited { lane: Lane::Container, .. }));

    // A representative that fails does not fail the others: they are tested themselves.
    world.executor.script("hmi/plant-a", [fails(&["unit"])]);
    change_hmi(&world, "fails at one site").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let heir = node(&world, run, "hmi/plant-b").await;
    let rows = world.store.verdicts_of(heir.digest.as_ref().unwrap()).await.unwrap();
    assert_eq!((heir.state, rows[0].origin.as_str()), (NodeState::Passed, "ran"));
}

/// A world in which `gateway` has the lane `external`, too.
async fn external(within: &str) -> World {
    let world = World::new().await;
    let image =
        std::fs::read_to_string(world.folder.path().join("repository/images/gateway/image.yaml")).unwrap();
    world.write(
        "images/gateway/image.yaml",
        &format!("{image}test: {{lanes: [container, external]{within}}}\n"),
    );
    world.write("sites/plant-b/site.yaml", "id: plant-b\nslots: [{id: one, image: hmi}]\n");
    world.commit("external").await;
    world
}

async fn awaiting(world: &World, run: RunNumber) -> NodeRow {
    let wait = async {
        loop {
            let nodes = world.store.nodes(run).await.unwrap();
            let waits = |node: &&NodeRow| node.notes.iter().any(|note| matches!(note, Note::Awaiting { .. }));
            if let Some(node) = nodes.iter().find(waits) {
                return node.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.unwrap()
}

fn post(digest: &Digest, passed: bool) -> VerdictPost {
    let url = Some("https://lab.example/7".to_owned());
    VerdictPost { digest: digest.clone(), check_set: None, passed, message: Some("bench\n7".to_owned()), url }
}

#[tokio::test]
async fn a_node_waits_for_an_external_verdict_over_a_restart() {
    let mut world = external("").await;
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    let waits = awaiting(&world, run).await;
    assert_eq!((waits.node.as_str(), waits.state), ("gateway/plant-a", NodeState::Waiting));
    let digest = waits.digest.unwrap();
    let unknown = world.control.post_verdict(&OPERATOR, post(&Digest::of("no build"), true)).await;
    assert!(matches!(unknown, Err(PostError::NoBuild { .. })), "{unknown:?}");
    driving.abort();
    drop(driving.await);
    world.crash().await;
    let jobs = world.executor.ran().len();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    let posted: PostedVerdict = world.control.post_verdict(&OPERATOR, post(&digest, true)).await.unwrap();
    assert_eq!((posted.run, posted.awaited_by), (run, vec!["gateway/plant-a".to_owned()]));
    assert_eq!(driving.await.unwrap().unwrap(), RunState::Passed);
    let again = world.orders(jobs).into_iter().filter(|order| order.contains("gateway")).collect::<Vec<_>>();
    assert_eq!(again, [""; 0], "what waited is not run again");
    let rows = world.store.verdicts_of(&digest).await.unwrap();
    assert_eq!((rows[0].verdict.lane, rows[0].origin.as_str()), (Lane::External, "external"));
    assert!(rows[0].published.is_some());

    // A verdict that changes counts from the next run on, and the current digest is carried.
    world.control.post_verdict(&OPERATOR, post(&digest, false)).await.unwrap();
    world.write("README.md", "hello");
    world.commit("words").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed, "run {run}");
}

#[tokio::test]
async fn verdicts_and_rebuilds_of_a_digest_need_a_role_in_its_source() {
    let world = World::new().await;
    let (run, _) = world.run().await;
    let digest = node(&world, run, "gateway/plant-a").await.digest.unwrap();
    let source = &world.store.sources().await.unwrap()[0].name;
    for (grant, permitted) in [
        ("operator", true),
        (&*format!("operator:source={source}"), true),
        ("operator:source=tools", false),
        (&*format!("operator:source={source},site=plant-a"), false),
        ("approver", false),
    ] {
        let grants = [grant.parse().unwrap()].into();
        let anna = Principal::User { name: "anna".into(), grants };
        let anna = OperationContext::of_request(anna, None);
        let rebuilt = world.control.queue_rebuild(&anna, &digest).await;
        assert_eq!(rebuilt.is_ok(), permitted, "{grant}: {rebuilt:?}");
        let exported = world.control.export(&anna, &digest, false).await;
        // The executor of tests has no objects.
        assert_eq!(
            !matches!(exported, Err(ControlError::NotPermitted(_))),
            permitted,
            "{grant}: {exported:?}"
        );
        let posted = world.control.post_verdict(&anna, post(&digest, true)).await;
        let is_denied = matches!(posted, Err(PostError::Control(ControlError::NotPermitted(_))));
        assert_eq!(!is_denied, permitted, "{grant}: {posted:?}");
        // Of a digest in no source, only a role without a scope may ask.
        let unknown = world.control.queue_rebuild(&anna, &Digest::of("no build")).await.unwrap_err();
        assert_eq!(matches!(unknown, ControlError::NotBuilt), grant == "operator", "{grant}: {unknown}");
    }
}

#[tokio::test]
async fn a_posted_failure_is_of_kind_image_and_names_its_origin() {
    let world = external("").await;
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    let digest = awaiting(&world, run).await.digest.unwrap();
    world.control.post_verdict(&OPERATOR, post(&digest, false)).await.unwrap();
    assert_eq!(driving.await.unwrap().unwrap(), RunState::Failed);
    let failure = node(&world, run, "gateway/plant-a").await.failure.unwrap();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Image, "external lane: bench 7"));
    assert!(failure.output.contains(&"see https://lab.example/7".to_owned()), "{failure:?}");
}

#[tokio::test]
async fn a_verdict_that_is_not_posted_in_time_is_a_failure_of_the_infrastructure() {
    let world = external(", timeout: 1ms").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let failed = node(&world, run, "gateway/plant-a").await;
    let failure = failed.failure.unwrap();
    assert_eq!((failure.kind, failed.attempts), (FailureKind::Infrastructure, 1));
    assert!(failure.message.starts_with("external lane: no verdict about sha256:"), "{failure:?}");
    // Late, but not lost.
    world.control.post_verdict(&OPERATOR, post(failed.digest.as_ref().unwrap(), true)).await.unwrap();
    world.write("README.md", "hello");
    world.commit("words").await;
    assert_eq!(world.run().await.1, RunState::Passed);
}

#[tokio::test]
async fn a_run_that_only_waits_makes_way_for_the_next() {
    let world = external("").await;
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    let digest = awaiting(&world, run).await.digest.unwrap();
    world.write("README.md", "hello");
    world.commit("words").await;
    let next = world.poll().await.unwrap();
    assert_eq!(driving.await.unwrap().unwrap(), RunState::Failed);
    let given_up = node(&world, run, "gateway/plant-a").await;
    assert_eq!(given_up.state, NodeState::Cancelled);
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(next).await });
    assert_eq!(awaiting(&world, next).await.digest.as_ref(), Some(&digest));
    world.control.post_verdict(&OPERATOR, post(&digest, true)).await.unwrap();
    assert_eq!(driving.await.unwrap().unwrap(), RunState::Passed);
}

#[tokio::test]
async fn what_is_not_tested_is_built_and_released() {
    let world = World::new().await;
    let image =
        std::fs::read_to_string(world.folder.path().join("repository/images/gateway/image.yaml")).unwrap();
    world.write("images/gateway/image.yaml", &format!("{image}test: none\n"));
    // No steps of its own: its parent image is hosted under its name, and tested by its own checks.
    world.write(
        "images/kiosk/image.yaml",
        "from: base\nchecks:\n  - {id: unit, unit: x.service, timeout: 60s}\n",
    );
    world.commit("test: none").await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    assert!(world.release().await.iter().all(|entry| entry.contains(" new: ")));
    let untested = node(&world, run, "gateway/plant-a").await;
    assert!(world.store.verdicts_of(untested.digest.as_ref().unwrap()).await.unwrap().is_empty());
    let (base, kiosk) = (node(&world, run, "base").await, node(&world, run, "kiosk").await);
    assert_eq!(base.digest, kiosk.digest);
    let of_kiosk =
        world.entries().await.into_iter().find(|entry| entry.variant.to_string() == "kiosk").unwrap();
    assert_eq!(of_kiosk.repository.as_str(), "plant-os/kiosk");
    let tested: Vec<String> = world.orders(0).into_iter().filter(|order| order == "test kiosk").collect();
    assert_eq!(tested.len(), 1, "its own check set was run on its parent's digest");
}

/// A change of hmi that fails a check which the last good digest was never asked.
async fn needs_a_comparison(world: &World) {
    world.run().await;
    let image =
        std::fs::read_to_string(world.folder.path().join("repository/images/hmi/image.yaml")).unwrap();
    world.write("images/hmi/image.yaml", &format!("{image}  - {{id: more, unit: y.service, timeout: 5s}}\n"));
    world.executor.script("hmi/plant-a", [fails(&["more"])]);
    change_hmi(world, "broken").await;
}

/// Waits until a job with this order was started.
async fn started(world: &World, order: &str) {
    let wait = async {
        while !world.orders(FIRST).iter().any(|ran| ran == order) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.unwrap();
}

#[tokio::test]
async fn a_comparison_takes_a_slot_and_others_work_meanwhile() {
    let world = World::new().await;
    needs_a_comparison(&world).await;
    let demands = world.executor.demands().len();
    world.executor.script("hmi/plant-a (last good)", [Behaviour::Hang]);
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    started(&world, "test hmi/plant-a (last good)").await;
    let compared = node(&world, run, "hmi/plant-a").await;
    assert_eq!(compared.state, NodeState::Waiting);
    assert!(matches!(&compared.notes[..], [Note::Comparing { lane: Lane::Container, .. }]), "{compared:?}");
    let passed = async {
        while node(&world, run, "hmi/plant-b").await.state != NodeState::Passed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), passed).await.unwrap();
    let jobs = world.orders(FIRST).len();
    assert_eq!(world.executor.demands().len() - demands, jobs, "every job was admitted: {jobs}");
    world.control.cancel(&OPERATOR, run).await.unwrap();
    assert_eq!(driving.await.unwrap().unwrap(), RunState::Cancelled);
}

#[tokio::test]
async fn a_killed_comparison_is_made_again_and_nothing_that_was_recorded() {
    let mut world = World::new().await;
    needs_a_comparison(&world).await;
    world.executor.script("hmi/plant-a (last good)", [Behaviour::Hang, Behaviour::Succeed]);
    let run = world.poll().await.unwrap();
    let control = world.control.clone();
    let driving = edgewright_process::OwnedTask::spawn(async move { control.drive(run).await });
    started(&world, "test hmi/plant-a (last good)").await;
    driving.abort();
    drop(driving.await);
    world.crash().await;
    let jobs = world.executor.ran().len();
    assert_eq!(world.control.drive(run).await.unwrap(), RunState::Failed);
    let again: Vec<String> =
        world.orders(jobs).into_iter().filter(|order| order.contains("hmi/plant-a")).collect();
    assert_eq!(again, ["test hmi/plant-a (last good)"]);
    let failed = node(&world, run, "hmi/plant-a").await;
    assert_eq!((failed.attempts, failed.failure.unwrap().kind), (1, FailureKind::Image), "it is new");
}
