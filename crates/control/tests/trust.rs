//! Trust domains: what pull requests build, find and ask for never reaches a channel; jobs are simulated,
//! everything else is real.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{OPERATOR, World};
use edgewright_control::{PullRequestPolicy, SecretGrant, SourceSettings};
use edgewright_job::Behaviour;
use edgewright_model::order::{JobOrder, Task};
use edgewright_model::outcome::FailureKind;
use edgewright_model::run::{NodeState, RunNumber, RunState, Trigger};

impl World {
    /// The source with other settings.
    async fn configure(&self, change: impl FnOnce(SourceSettings) -> SourceSettings) {
        let settings = self.control.handle(self.source).unwrap().settings().clone();
        assert_eq!(self.control.add_source(change(settings)).await.unwrap(), self.source);
    }

    /// A world whose first commit is released, and whose pull requests are run from now on.
    async fn with_pull_requests() -> Self {
        let world = Self::new().await;
        assert_eq!(world.run().await.1, RunState::Passed);
        let all = Some(PullRequestPolicy::default());
        world.configure(|settings| SourceSettings { pull_requests: all, ..settings }).await;
        assert_eq!(world.poll().await, None);
        world
    }

    /// Makes the files as they are the head of a pull request, and `main` what it was before.
    async fn open_pull_request(&self, number: u32) {
        self.git(&["checkout", "--quiet", "-b", &format!("fork-{number}")]).await;
        self.commit("a pull request").await;
        self.git(&["update-ref", &format!("refs/pull/{number}/head"), "HEAD"]).await;
        self.git(&["checkout", "--quiet", "main"]).await;
    }

    async fn merge(&self, number: u32) {
        self.git(&["merge", "--quiet", "--ff-only", &format!("fork-{number}")]).await;
    }

    fn jobs(&self, from: usize) -> Vec<JobOrder> {
        self.executor.ran().split_off(from)
    }

    /// Why a run's node failed: kind and message.
    async fn failure(&self, run: RunNumber, name: &str) -> (FailureKind, String) {
        let nodes = self.store.nodes(run).await.unwrap();
        let node = nodes.into_iter().find(|node| node.node == name).unwrap();
        assert_eq!(node.state, NodeState::Failed, "{node:?}");
        let failure = node.failure.unwrap();
        (failure.kind, failure.message)
    }
}

#[tokio::test]
async fn what_a_fork_built_is_built_again_after_its_merge() {
    let world = World::with_pull_requests().await;
    let before = world.entries().await;
    world.write("images/base/files/etc/os", "changed");
    world.open_pull_request(1).await;

    // Equal keys, other bytes: the fork draws a random number.
    world.executor.salt("the fork's number");
    let from = world.executor.ran().len();
    let (fork, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    let built = world.orders(from);
    assert!(!built.is_empty());
    for order in world.jobs(from) {
        let Task::Image(task) = &order.task else { continue };
        assert!(!order.domain.trusted);
        assert!(task.repository.as_str().starts_with("untrusted__"), "{}", task.repository);
    }
    assert_eq!(world.entries().await, before, "a pull request releases nothing");
    let found = world.store.run(fork).await.unwrap().unwrap();
    assert!(!found.trusted);
    let forged: BTreeSet<_> =
        world.store.nodes(fork).await.unwrap().into_iter().filter_map(|node| node.digest).collect();

    world.merge(1).await;
    world.executor.salt("");
    let from = world.executor.ran().len();
    let (merged, state) = world.run().await;
    assert_eq!(state, RunState::Passed);
    assert_eq!(world.orders(from), built, "everything is built and tested again");
    assert!(world.jobs(from).iter().all(|order| order.domain.trusted));
    for node in world.store.nodes(merged).await.unwrap() {
        let digest = node.digest.unwrap();
        assert!(!forged.contains(&digest), "{} is the fork's", node.node);
        let row = world.store.build_of(&digest, world.source.domain(true)).await.unwrap().unwrap();
        assert!(row.domain.trusted && row.manifest.repository.as_str().starts_with("plant-os/"));
    }
    assert_ne!(world.entries().await, before);

    // The pull request and others of the source use the trusted builds from now on.
    world.git(&["update-ref", "refs/pull/2/head", "main"]).await;
    let from = world.executor.ran().len();
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!(world.orders(from), Vec::<String>::new());
}

#[tokio::test]
async fn untrusted_runs_use_trusted_results_and_those_of_their_own_source() {
    let world = World::with_pull_requests().await;
    world.write("sites/plant-a/files/etc/site", "changed");
    world.open_pull_request(1).await;
    let from = world.executor.ran().len();
    assert_eq!(world.run().await.1, RunState::Passed);
    let orders = world.orders(from);
    assert!(orders.iter().all(|order| order.contains("plant-a")), "the rest is main's: {orders:?}");

    world.git(&["update-ref", "refs/pull/2/head", "fork-1"]).await;
    let from = world.executor.ran().len();
    assert_eq!(world.run().await.1, RunState::Passed);
    assert_eq!(world.orders(from), Vec::<String>::new(), "the same as pull request 1");
}

#[tokio::test]
async fn a_pull_requests_verdicts_say_nothing_about_the_branch() {
    let world = World::with_pull_requests().await;
    world.write("sites/plant-a/files/etc/site", "changed");
    world.open_pull_request(1).await;
    world.executor.set_default(Behaviour::FailLanes { kind: FailureKind::Image });
    assert_eq!(world.run().await.1, RunState::Failed);
    world.merge(1).await;
    world.executor.set_default(Behaviour::Succeed);
    // The digests are equal, and known to be bad in the pull request.
    assert_eq!(world.run().await.1, RunState::Passed);

    // A verdict that passed is not taken over either.
    world.write("sites/plant-a/files/etc/site", "once more");
    world.open_pull_request(2).await;
    assert_eq!(world.run().await.1, RunState::Passed);
    world.merge(2).await;
    world.executor.set_default(Behaviour::FailLanes { kind: FailureKind::Image });
    assert_eq!(world.run().await.1, RunState::Failed);
}

#[tokio::test]
async fn lock_overlays_of_a_pull_request_are_its_own() {
    let world = World::with_pull_requests().await;
    let source = world.source;
    let image = "from: scratch\nsteps:\n  - bootstrap: {suite: trixie, packages: [systemd]}\n";
    world.write("images/fresh/image.yaml", image);
    world.open_pull_request(1).await;
    world.run().await;
    let trusted = world.store.locks(source.domain(true)).await.unwrap();
    let untrusted = world.store.locks(source.domain(false)).await.unwrap();
    assert_eq!((trusted.len(), untrusted.len()), (0, 1));
    world.merge(1).await;
    world.run().await;
    assert_eq!(world.store.locks(source.domain(true)).await.unwrap().len(), 1, "it is resolved again");
}

#[tokio::test]
async fn a_ref_that_no_channel_follows_is_untrusted_whatever_it_is_called() {
    let world = World::with_pull_requests().await;
    // It names itself as followed, in its own definition and as a branch with the name of a pull request's ref.
    let more = "channels: {stable: {follows: {branch: feature}}}\n";
    world.write(
        "edgewright.yaml",
        &format!("edgewright: 1\nname: plant-os\nplatforms: [linux/amd64]\n{more}"),
    );
    world.write("sites/plant-a/files/etc/site", "feature");
    world.open_pull_request(1).await;
    let (run, _) = world.run().await;
    let row = world.store.run(run).await.unwrap().unwrap();
    let before = world.entries().await;
    for branch in ["feature", "refs/pull/1/head", "refs/heads/main"] {
        let queued =
            world.control.queue_run(&OPERATOR, world.source, branch, &row.commit, Trigger::Manual).await;
        let queued = queued.unwrap();
        assert!(!world.store.run(queued).await.unwrap().unwrap().trusted, "{branch}");
        world.control.drive(queued).await.unwrap();
        assert_eq!(world.store.newest_release(world.source, branch).await.unwrap(), None);
    }
    assert_eq!(world.entries().await, before);
    let followed = |row: &edgewright_store::channels::ChannelRow| format!("{:?}", row.spec.follows);
    let channels = world.store.channels(world.source).await.unwrap();
    assert!(channels.iter().all(|row| !followed(row).contains("feature")), "{channels:?}");
}

#[tokio::test]
async fn a_pull_request_changes_neither_name_nor_channels_nor_sites() {
    let world = World::with_pull_requests().await;
    let (before, sites) = (world.entries().await, world.store.sites(world.source).await.unwrap());
    let channels = world.store.channels(world.source).await.unwrap();
    world.write("sites/plant-c/site.yaml", "id: plant-c\nslots:\n  - {id: one, image: hmi}\n");
    world.write("sites/plant-c/files/etc/site", "plant-c");
    world.open_pull_request(1).await;
    assert_eq!(world.run().await.1, RunState::Passed);
    world.rename("other-os");
    world.open_pull_request(2).await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let why = world.store.run(run).await.unwrap().unwrap().failure.unwrap();
    assert!(why.contains("only the default branch can rename a source"), "{why}");
    assert_eq!(world.store.sites(world.source).await.unwrap(), sites);
    assert_eq!(world.store.channels(world.source).await.unwrap(), channels);
    assert_eq!(world.entries().await, before);
}

#[tokio::test]
async fn secrets_are_for_trusted_refs_of_sources_that_have_them() {
    let world = World::with_pull_requests().await;
    let image = "from: base\nper: site\nsteps:\n  - containerfile: {file: Containerfile, secrets: [{id: npm, version: \"1\"}]}\n";
    world.write("images/hmi/image.yaml", image);
    world.write("images/hmi/Containerfile", "ARG BASE\nFROM ${BASE}\nRUN --mount=type=secret,id=npm true\n");
    world.open_pull_request(1).await;
    let from = world.executor.ran().len();
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let nodes = world.store.nodes(run).await.unwrap();
    let failed = nodes.iter().find(|node| node.state == NodeState::Failed).unwrap();
    let (kind, why) = world.failure(run, &failed.node).await;
    assert_eq!(kind, FailureKind::Image);
    assert!(why.contains("`npm`") && why.contains("untrusted refs get no secrets"), "{why}");
    assert_eq!(world.orders(from), Vec::<String>::new(), "no job starts");

    world.merge(1).await;
    let none = SecretGrant::Only(BTreeSet::new());
    world.configure(|settings| SourceSettings { secrets: none, ..settings }).await;
    let (run, state) = world.run().await;
    assert_eq!(state, RunState::Failed);
    let nodes = world.store.nodes(run).await.unwrap();
    let failed = nodes.iter().find(|node| node.state == NodeState::Failed).unwrap();
    let (_, why) = world.failure(run, &failed.node).await;
    assert!(why.contains("do not grant it"), "{why}");

    let npm = SecretGrant::Only(["npm".to_owned()].into());
    world.configure(|settings| SourceSettings { secrets: npm, ..settings }).await;
    let retried = world.control.retry(&OPERATOR, run).await.unwrap();
    assert_eq!(world.control.drive(retried).await.unwrap(), RunState::Passed);
}

#[tokio::test]
async fn a_flood_of_pull_requests_does_not_delay_a_push() {
    let world = World::with_pull_requests().await;
    world.executor.set_default(Behaviour::Hang);
    for number in 1..=30 {
        world.write("sites/plant-a/files/etc/site", &format!("fork {number}"));
        world.open_pull_request(number).await;
        world.git(&["reset", "--quiet", "--hard"]).await;
    }
    while world.poll().await.is_some() {}
    assert_eq!(world.store.open_runs().await.unwrap().len(), 30);
    world.control.start();
    let started = async {
        while !world.executor.ran().iter().any(|order| !order.domain.trusted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), started).await.unwrap();

    world.executor.set_default(Behaviour::Succeed);
    world.write("sites/plant-b/files/etc/site", "changed");
    world.commit("main").await;
    let run = world.poll().await.unwrap();
    let passed = async {
        while world.store.run(run).await.unwrap().unwrap().state != RunState::Passed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), passed).await.unwrap();
    let open = world.store.open_runs().await.unwrap();
    assert!(open.iter().any(|row| !row.trusted && row.state == RunState::Running), "the first one hangs");
}
