//! Locks that move, and builds that are made again, with simulated jobs and everything else real.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{OPERATOR, World};
use edgewright_control::sources::SourceHandle;
use edgewright_control::{CommitLocks, LockPolicy, SourceSettings};
use edgewright_job::Behaviour;
use edgewright_model::lock::{Lock, LockRequest};
use edgewright_model::names::CommitId;
use edgewright_model::outcome::{FailureKind, KeptPackages};
use edgewright_model::run::{NodeState, RebuildState, RunNumber, RunState};
use edgewright_process::Command;
use edgewright_source::{NewCommit, Pushed, Remote};
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
    let run = world.control.update(&OPERATOR, world.source, &images).await.unwrap();
    (run, world.control.drive(run).await.unwrap())
}

/// What a run found, as `IMAGE: WORDS`.
async fn looks(world: &World, run: RunNumber) -> Vec<String> {
    let looks = world.store.update_checks(run).await.unwrap();
    looks.iter().map(|look| format!("{}: {look}", look.image)).collect()
}

async fn commit_of(world: &World, run: RunNumber) -> CommitId {
    world.store.run(run).await.unwrap().unwrap().commit
}

#[tokio::test]
async fn an_update_reports_what_moved_and_builds_it_and_never_goes_back() {
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
    assert_eq!(world.orders(jobs + 2).len(), 7, "everything depends on the base");
    assert!(world.store.run(run).await.unwrap().unwrap().release.is_some());

    world.executor.offer("1.0-1");
    let (run, state) = update(&world, &[]).await;
    assert_eq!(state, RunState::Passed);
    let found = looks(&world, run).await;
    assert_eq!(found, ["base: the lock is kept: the mirror lags behind (systemd 1.1-1 → 1.0-1)"]);
    assert_eq!(world.store.locks(world.source.domain(true)).await.unwrap().len(), 2);

    // An unreachable mirror leaves all as it is, too.
    world.executor.script("base", [Behaviour::FailBuild { kind: FailureKind::Infrastructure }]);
    let (run, state) = update(&world, &[]).await;
    assert_eq!(state, RunState::Passed);
    assert!(looks(&world, run).await[0].starts_with("base: the lock is kept: "));
}

#[tokio::test]
async fn a_look_keeps_the_lock_and_builds_nothing() {
    let world = world().await;
    let (first, _) = world.run().await;
    let jobs = world.executor.ran().len();
    world.executor.offer("2.0-1");
    let commit = commit_of(&world, first).await;
    let number = world
        .control
        .queue_update_check(&OPERATOR, world.source, "main", &commit, &BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(world.control.check_updates(number).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(jobs), ["lock base"]);
    assert_eq!(looks(&world, number).await, ["base: systemd 1.0-1 → 2.0-1"]);
    let overlays = world.control.overlays(number).await.unwrap();
    assert_eq!(overlays.len(), 1);
    assert_eq!(overlays.values().next().unwrap().packages.values().next().unwrap()[0][0].version, "2.0-1");
    // The next run builds from it.
    let next = world.control.retry(&OPERATOR, first).await.unwrap();
    assert_eq!(world.control.drive(next).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(jobs + 1).len(), 7);
}

#[tokio::test]
async fn only_what_has_outside_inputs_is_watched() {
    let world = World::new().await;
    world.run().await;
    assert_eq!(world.store.last_update_check(world.source, "main").await.unwrap(), None);
    assert_eq!(world.control.check_updates_if_due(world.source).await.unwrap(), None);
    world.write("images/base/image.yaml", BASE);
    world.commit("an operating system").await;
    let (run, _) = world.run().await;
    let created = world.store.run(run).await.unwrap().unwrap().created_at;
    assert_eq!(world.store.last_update_check(world.source, "main").await.unwrap(), Some(created));
    assert_eq!(world.control.check_updates_if_due(world.source).await.unwrap(), None, "not yet");
    let (_, state) = update(&world, &["base"]).await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(
        world.store.last_update_check(world.source, "main").await.unwrap(),
        Some(created),
        "not of all"
    );
    update(&world, &[]).await;
    assert!(world.store.last_update_check(world.source, "main").await.unwrap() > Some(created));
}

#[tokio::test]
async fn what_is_built_again_is_proved_or_refuted() {
    let world = world().await;
    let (run, _) = world.run().await;
    let verified = world.control.verify(run).await.unwrap();
    assert_eq!(verified.len(), 7);
    assert!(verified.iter().all(edgewright_control::rebuilds::Rebuilt::is_proved), "{verified:?}");
    // Each step once.
    assert_eq!(verified.iter().map(|rebuilt| rebuilt.steps.len()).sum::<usize>(), 7);

    let entry =
        world.entries().await.into_iter().find(|entry| entry.variant.to_string() == "hmi/plant-a").unwrap();
    let rebuilt = world.control.rebuild(&entry.digest).await.unwrap();
    assert_eq!((rebuilt.len(), rebuilt[0].steps.len(), rebuilt[0].is_proved()), (1, 3, true));
    let keys: Vec<_> = rebuilt[0].steps.iter().map(|step| step.key.clone()).collect();
    let proofs = world.store.proofs(&keys, world.source.domain(true)).await.unwrap();
    assert!(keys.iter().all(|key| proofs[key].result == ProofResult::Proved));
    // The nodes are as they were.
    let nodes = world.store.nodes(run).await.unwrap();
    assert!(nodes.iter().all(|node| node.state == NodeState::Passed));
    let nothing = edgewright_model::Digest::of("nothing");
    assert!(world.control.rebuild(&nothing).await.is_err());
}

#[tokio::test]
async fn what_is_older_than_its_refresh_is_rebuilt_at_the_next_run() {
    let world = World::new().await;
    let role = "from: base\nper: site\nsteps:\n  - containerfile: {file: Containerfile, refresh: 7d}\n";
    world.write("images/hmi/image.yaml", role);
    world.write("images/hmi/Containerfile", "ARG BASE\nFROM ${BASE}\nRUN apt-get upgrade\n");
    let request = LockRequest {
        base: None,
        bootstrap: Vec::new(),
        platforms: vec!["linux/amd64".parse().unwrap()],
        images: Vec::new(),
        refresh: Some("7d".parse().unwrap()),
    };
    let old = Lock {
        version: 1,
        request: request.digest(),
        epoch: "2026-01-01T00:00:00Z".parse().unwrap(),
        epochs: BTreeMap::new(),
        base: None,
        bases: BTreeMap::new(),
        archives: Vec::new(),
        images: Vec::new(),
        packages: BTreeMap::new(),
    };
    world.write("images/hmi/edgewright.lock", &serde_json::to_string(&old).unwrap());
    world.commit("upgrade").await;
    let (run, state) = world.run().await;
    assert_eq!((state, looks(&world, run).await), (RunState::Passed, vec!["hmi: refreshed".to_owned()]));
    let jobs = world.executor.ran().len();
    let again = world.control.retry(&OPERATOR, run).await.unwrap();
    assert_eq!(world.control.drive(again).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(jobs), [""; 0], "young enough");
}

#[tokio::test]
async fn packages_are_kept_as_long_as_a_release_contains_them() {
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
        world.store.keep_packages((key, world.source.domain(true)), &kept, long_ago).await.unwrap();
    }
    assert_eq!(world.store.unneeded_packages(long_ago, &BTreeSet::new()).await.unwrap(), [], "too young");
    assert_eq!(world.control.tidy().await.unwrap().packages, 1);
    assert_eq!(world.store.kept_packages(&orphan, world.source.domain(true)).await.unwrap(), None);
    assert_eq!(world.store.kept_packages(&needed, world.source.domain(true)).await.unwrap(), Some(kept));
}

/// The sample in a bare repository, with locks that go there as commits to a branch, or to the followed one.
async fn committing(branch: Option<&str>) -> (World, Arc<SourceHandle>) {
    let world = world().await;
    let (bare, own) = (world.folder.path().join("bare.git"), world.folder.path().join("repository"));
    let clone = Command::new("git").args(["clone", "--quiet", "--bare"]).arg(&own).arg(&bare);
    clone.run().await.unwrap();
    let policy = CommitLocks {
        branch: branch.map(str::to_owned),
        author: "Locks <locks@plants.example>".to_owned(),
        message: "chore: locks".to_owned(),
        user: "edgewright".to_owned(),
        token_file: None,
    };
    let settings = SourceSettings {
        remote: Remote::from_path(&bare).unwrap(),
        locks: LockPolicy::Commit(policy),
        ..world.control.handle(world.source).unwrap().settings().clone()
    };
    let source = world.control.add_source(settings).await.unwrap();
    assert_eq!(source, world.source);
    let handle = world.control.handle(source).unwrap();
    (world, handle)
}

/// Output of git in the bare repository.
async fn git(world: &World, arguments: &[&str]) -> String {
    let bare = world.folder.path().join("bare.git");
    let command = Command::new("git").arg("--git-dir").arg(bare).args(arguments.iter().copied());
    command.run().await.unwrap().text()
}

async fn moves(world: &World, run: RunNumber) -> String {
    world.store.run(run).await.unwrap().unwrap().failure.unwrap_or_default()
}

#[tokio::test]
async fn what_moved_is_pushed_as_a_commit_and_built_from_there() {
    let (world, handle) = committing(None).await;
    let (_, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    let jobs = world.executor.ran().len();

    world.executor.offer("1.1-1");
    let (run, state) = update(&world, &[]).await;
    assert_eq!(state, RunState::Passed);
    let words = moves(&world, run).await;
    assert!(
        words.starts_with("pushed ") && words.contains("to `main`: base: locked for the first time"),
        "{words}"
    );
    assert_eq!(world.orders(jobs), ["lock base"], "building is the commit's matter");
    assert_eq!(
        world.store.locks(world.source.domain(true)).await.unwrap().len(),
        1,
        "no overlay of what moved"
    );
    let log = git(&world, &["log", "-1", "--format=%an <%ae>|%s|%b", "main"]).await;
    assert_eq!(log, "Locks <locks@plants.example>|chore: locks|base: locked for the first time");
    let lock = git(&world, &["show", "main:images/base/edgewright.lock"]).await;
    assert_eq!(
        serde_json::from_str::<Lock>(&lock).unwrap().packages.values().next().unwrap()[0][0].version,
        "1.1-1"
    );

    let (built, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(world.orders(jobs + 1).len(), 7);
    assert!(world.store.run(built).await.unwrap().unwrap().release.is_some());

    // Nothing moved, and what would go back: nothing is pushed.
    let head = git(&world, &["rev-parse", "main"]).await;
    for version in ["1.1-1", "1.0-1"] {
        world.executor.offer(version);
        let (run, state) = update(&world, &[]).await;
        assert_eq!((state, moves(&world, run).await.as_str()), (RunState::Passed, ""));
    }
    assert_eq!(git(&world, &["rev-parse", "main"]).await, head);

    // A push in the meantime wins; the commit is made again on top of it.
    let parent: CommitId = git(&world, &["rev-parse", "main~1"]).await.parse().unwrap();
    let files = BTreeMap::from([("README.md".parse().unwrap(), b"mine".to_vec())]);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let late = NewCommit { parent: &parent, files: &files, author: "A <a@b>", message: "late", at };
    let commit = handle.mirror().commit(&late).await.unwrap();
    let pushed = handle.mirror().push(handle.mirror().remote(), &commit, "main").await.unwrap();
    assert_eq!(pushed, Pushed::Moved);
    assert_eq!(git(&world, &["rev-parse", "main"]).await, head);
    world.executor.offer("1.2-1");
    let (run, _) = update(&world, &["base"]).await;
    assert!(moves(&world, run).await.contains("base: systemd 1.1-1 → 1.2-1"));
    assert_eq!(git(&world, &["rev-parse", "main~1"]).await, head);
}

#[tokio::test]
async fn locks_may_be_proposed_on_a_branch_of_their_own() {
    let (world, _) = committing(Some("locks")).await;
    world.run().await;
    let head = git(&world, &["rev-parse", "main"]).await;
    world.executor.offer("1.1-1");
    update(&world, &[]).await;
    assert_eq!(git(&world, &["rev-parse", "locks~1"]).await, head);
    assert_eq!(git(&world, &["rev-parse", "main"]).await, head);
    assert_eq!(world.poll().await, None, "it is not followed");
    // Proposed already.
    let (run, state) = update(&world, &[]).await;
    assert_eq!((state, moves(&world, run).await.as_str()), (RunState::Passed, ""));
    assert_eq!(git(&world, &["rev-parse", "locks~1"]).await, head);
    // What is built is the state of main.
    let jobs = world.executor.ran().len();
    let again = world.control.retry(&OPERATOR, RunNumber(1)).await.unwrap();
    assert_eq!(world.control.drive(again).await.unwrap(), RunState::Passed);
    assert_eq!(world.orders(jobs), [""; 0]);

    // A hook of the forge declines: the run fails and reports it.
    let hook = world.folder.path().join("bare.git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let bare = world.folder.path().join("bare.git");
    let config = Command::new("git").arg("--git-dir").arg(&bare).args(["config", "core.hooksPath", "hooks"]);
    config.run().await.unwrap();
    world.executor.offer("1.3-1");
    let (run, state) = update(&world, &[]).await;
    assert_eq!(state, RunState::Failed);
    let words = moves(&world, run).await;
    assert!(words.contains("the locks were not pushed to `locks`") && words.contains("declined"), "{words}");
}

#[tokio::test]
async fn a_rebuild_is_kept_and_resumes_after_a_crash() {
    let mut world = world().await;
    world.run().await;
    let entry = world.entries().await.into_iter().find(|entry| entry.variant.to_string() == "base").unwrap();
    let number = world.control.queue_rebuild(&OPERATOR, &entry.digest).await.unwrap();
    assert_eq!(
        world.control.queue_rebuild(&OPERATOR, &entry.digest).await.unwrap(),
        number,
        "under way already"
    );
    world.store.note_rebuild(number, "base build").await.unwrap();
    world.crash().await;
    assert_eq!(world.store.open_rebuild().await.unwrap(), Some(number));
    world.control.drive_rebuild(number).await.unwrap();
    let row = world.store.rebuild(number).await.unwrap().unwrap();
    assert_eq!((row.state, row.doing, row.failure), (RebuildState::Done, None, None));
    assert!(row.builds.len() == 1 && row.builds[0].is_proved(), "{:?}", row.builds);
    assert_eq!(world.store.open_rebuild().await.unwrap(), None);
    let nothing = edgewright_model::Digest::of("nothing");
    assert!(world.control.queue_rebuild(&OPERATOR, &nothing).await.is_err());
}
