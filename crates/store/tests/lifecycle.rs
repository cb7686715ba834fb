//! A run from its commit to its release, as rows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::names::{ChannelName, CommitId, Platform};
use edgewright_model::order::{JobId, ManifestRef};
use edgewright_model::outcome::StepBuild;
use edgewright_model::run::{EntryOrigin, NodeState, RunNumber, RunState, Trigger};
use edgewright_model::spec::{ChannelSpec, Follows, Lane};
use edgewright_model::tools::ToolVersions;
use edgewright_store::audit::NewAuditEntry;
use edgewright_store::inventory::Declaration;
use edgewright_store::nodes::{FixedPlan, NodeChange, NodeLane, NodeRow};
use edgewright_store::releases::{EntryRow, NewRelease, Taking};
use edgewright_store::results::NodeResult;
use edgewright_store::sources::{NewRun, SourceId};
use edgewright_store::{Store, StoreError};
use jiff::Timestamp;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

struct World {
    _folder: tempfile::TempDir,
    store: Store,
    source: SourceId,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("control.db")).await.unwrap();
    let source =
        store.upsert_source(&"plants".parse().unwrap(), "https://git.example/p", NOW).await.unwrap().id;
    let world = World { _folder: folder, store, source };
    world.declare(&BTreeMap::new()).await;
    world
}

impl World {
    /// Declares these channels and nothing else.
    async fn declare(&self, channels: &BTreeMap<ChannelName, ChannelSpec>) {
        let declared = Declaration {
            commit: &commit('0'),
            name: &"plant-os".parse().unwrap(),
            channels,
            policies: &BTreeMap::new(),
            sites: &[],
            broken: &BTreeSet::new(),
        };
        self.store.declare_inventory(self.source, &declared, NOW).await.unwrap();
    }
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn channel() -> ChannelName {
    "stable".parse().unwrap()
}

fn node(name: &str, state: NodeState) -> NodeRow {
    NodeRow {
        node: name.to_owned(),
        platform: platform(),
        variant: name.parse().ok(),
        key: Some(Digest::of(name)),
        action: "build".to_owned(),
        reason: "new variant".to_owned(),
        state,
        job: None,
        attempts: 0,
        phase: None,
        failure: None,
        digest: None,
        steps: Vec::new(),
        lanes: None,
        not_before: None,
        notes: Vec::new(),
        started_at: None,
        finished_at: None,
    }
}

impl World {
    async fn queue(&self, digit: char) -> RunNumber {
        let new = NewRun {
            branch: "main".to_owned(),
            commit: commit(digit),
            subject: "a change".to_owned(),
            author: "A <a@example>".to_owned(),
            trigger: Trigger::Commit,
            trusted: true,
        };
        let entry = NewAuditEntry {
            actor: "system:polling".parse().unwrap(),
            operation: "run.queue".to_owned(),
            object: String::new(),
            before: None,
            after: None,
            request: None,
        };
        self.store.queue_run(self.source, &new, &BTreeSet::new(), (&entry, NOW)).await.unwrap()
    }

    async fn state(&self, run: RunNumber) -> RunState {
        self.store.run(run).await.unwrap().unwrap().state
    }

    async fn running(&self, digit: char, nodes: &[NodeRow]) -> RunNumber {
        let run = self.queue(digit).await;
        self.store.move_run(run, RunState::Queued, RunState::Preparing, NOW).await.unwrap();
        let heads = self.store.heads(self.source.domain(true), "main").await.unwrap();
        let summary = "builds 1 of 1 variant";
        let plan = FixedPlan {
            locks: &BTreeMap::new(),
            tools: &ToolVersions::default(),
            summary,
            nodes: nodes.to_vec(),
            heads: &heads,
        };
        let unchanged = self.store.fix_plan(run, plan, NOW).await.unwrap();
        assert_eq!(self.store.unchanged_nodes(run).await.unwrap(), unchanged);
        run
    }

    async fn release(&self, run: RunNumber, digest: &Digest, generation: u32) -> Result<u32, StoreError> {
        let entry = EntryRow {
            variant: "hmi/plant-a".parse().unwrap(),
            repository: "plant-os/hmi/plant-a".parse().unwrap(),
            digest: digest.clone(),
            origin: EntryOrigin::New,
            reason: "new variant".to_owned(),
        };
        let row = self.store.run(run).await.unwrap().unwrap();
        let new = NewRelease {
            source: self.source,
            run,
            state: RunState::Passed,
            branch: "main",
            commit: &row.commit,
            entries: &[entry],
            channels: &[Taking { channel: channel(), generation, is_staged: false }],
        };
        self.store.release(&new, NOW).await.map(|number| number.0)
    }
}

#[tokio::test]
async fn a_newer_commit_supersedes_only_queued_runs() {
    let world = world().await;
    let first = world.queue('a').await;
    world.store.move_run(first, RunState::Queued, RunState::Preparing, NOW).await.unwrap();
    let second = world.queue('b').await;
    let third = world.queue('c').await;
    assert_eq!(world.state(first).await, RunState::Preparing);
    assert_eq!(world.state(second).await, RunState::Superseded);
    assert_eq!(world.state(third).await, RunState::Queued);
    assert_eq!(world.store.decided(world.source).await.unwrap().get("main"), Some(&commit('c')));
    let open: Vec<RunNumber> = world.store.open_runs().await.unwrap().iter().map(|run| run.number).collect();
    assert_eq!(open, [first, third]);
}

#[tokio::test]
async fn a_state_moves_only_from_the_current_one_and_only_to_a_permitted_one() {
    let world = world().await;
    let run = world.queue('a').await;
    let store = &world.store;
    let skipped = store.move_run(run, RunState::Queued, RunState::Passed, NOW).await;
    assert!(matches!(skipped, Err(StoreError::Conflict { .. })));
    store.move_run(run, RunState::Queued, RunState::Preparing, NOW).await.unwrap();
    let stale = store.move_run(run, RunState::Queued, RunState::Preparing, NOW).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    store.end_run(run, RunState::Preparing, RunState::Failed, Some("broken"), NOW).await.unwrap();
    let row = store.run(run).await.unwrap().unwrap();
    assert_eq!((row.failure.as_deref(), row.finished_at), (Some("broken"), Some(NOW)));
}

#[tokio::test]
async fn the_first_digest_of_a_key_stays_and_interrupted_nodes_wait_again() {
    let world = world().await;
    let nodes = [node("hmi/plant-a", NodeState::Waiting), node("hmi/plant-b", NodeState::Waiting)];
    let run = world.running('a', &nodes).await;
    let job = JobId(uuid::Uuid::from_u128(7));
    for name in ["hmi/plant-a", "hmi/plant-b"] {
        world.store.start_node(run, name, &platform(), job, NOW).await.unwrap();
    }
    let twice = world.store.start_node(run, "hmi/plant-a", &platform(), job, NOW).await;
    assert!(matches!(twice, Err(StoreError::Conflict { .. })));
    for (name, bytes) in [("hmi/plant-a", "first"), ("hmi/plant-b", "second")] {
        let build = StepBuild {
            kept: None,
            tools: [("buildah", "1.39.3")].into_iter().collect(),
            key: Digest::of("key"),
            manifest: ManifestRef { repository: "plant-os/hmi".parse().unwrap(), digest: Digest::of(bytes) },
            manifest_size: 100,
            image_size: 1000,
            duration_ms: 5,
        };
        let result = NodeResult {
            run,
            node: name,
            platform: &platform(),
            job,
            builds: &[build],
            verdicts: &[],
            check_sets: &[],
            state: NodeState::Passed,
            change: NodeChange::default(),
        };
        if name == "hmi/plant-b" {
            assert_eq!(world.store.reset_interrupted(run).await.unwrap(), 1);
            // A result after the reset belongs to an abandoned job: it changes nothing.
            assert!(matches!(world.store.record(result, NOW).await, Err(StoreError::Conflict { .. })));
        } else {
            world.store.record(result, NOW).await.unwrap();
        }
    }
    let build = world.store.build(&Digest::of("key"), world.source.domain(true)).await.unwrap().unwrap();
    assert_eq!(build.manifest.digest, Digest::of("first"));
    assert_eq!(build.tools.to_string(), "buildah 1.39.3");
    let nodes = world.store.nodes(run).await.unwrap();
    let states: Vec<_> = nodes.iter().map(|node| (node.state, node.attempts)).collect();
    // A job that a crash of the server interrupted does not count as an attempt.
    assert_eq!(states, [(NodeState::Passed, 1), (NodeState::Waiting, 0)]);
}

#[tokio::test]
async fn unchanged_nodes_are_stored_once_and_heads_are_the_newest_good_builds() {
    let world = world().await;
    let names = ["hmi/plant-a", "hmi/plant-b"];
    let digest = Digest::of("manifest");
    let reused = |name: &str| NodeRow {
        action: "reuse".to_owned(),
        digest: Some(digest.clone()),
        lanes: Some(vec![NodeLane { lane: Lane::Container, check_set: Digest::of("checks") }]),
        ..node(name, NodeState::Reused)
    };
    let own = async |run| -> Vec<String> {
        world.store.own_nodes(run).await.unwrap().into_iter().map(|node| node.node).collect()
    };
    let end = async |run| {
        world.store.end_run(run, RunState::Running, RunState::Failed, None, NOW).await.unwrap();
    };
    // Built before, but new to this branch: they have rows of their own.
    let first = world.running('a', &names.map(reused)).await;
    assert_eq!(own(first).await, names);
    end(first).await;
    // All unchanged: no row, and still every node.
    let second = world.running('b', &names.map(reused)).await;
    assert_eq!(own(second).await, [""; 0]);
    assert_eq!(world.store.nodes(second).await.unwrap(), names.map(reused));
    assert_eq!(
        world.store.tallies(&[second]).await.unwrap()[&second][0],
        ("reuse".to_owned(), NodeState::Reused, 2)
    );
    end(second).await;

    // One fails: its head stays. The other retires, which is noted once.
    let retired = NodeRow { key: None, action: "retire".to_owned(), ..node(names[1], NodeState::Retired) };
    let nodes = [node(names[0], NodeState::Failed), retired];
    let third = world.running('c', &nodes).await;
    assert_eq!(own(third).await, names);
    end(third).await;
    let fourth = world.running('d', &nodes).await;
    assert_eq!(own(fourth).await, names[..1]);
    end(fourth).await;
    let heads = world.store.heads(world.source.domain(true), "main").await.unwrap();
    let found: Vec<_> = heads.iter().map(|head| (&head.digest, head.retired_at)).collect();
    assert_eq!(found, [(&digest, None), (&digest, Some(NOW))]);

    // It is declared again, with another digest.
    let nodes = [reused(names[0]), node(names[1], NodeState::Waiting)];
    let fifth = world.running('e', &nodes).await;
    let job = JobId(uuid::Uuid::from_u128(7));
    world.store.start_node(fifth, names[1], &platform(), job, NOW).await.unwrap();
    let other = Digest::of("other");
    let change = NodeChange { digest: Some(&other), ..NodeChange::default() };
    let moved = (names[1], &platform());
    world.store.move_node(fifth, moved, (NodeState::Running, NodeState::Passed), change, NOW).await.unwrap();
    let heads = world.store.heads(world.source.domain(true), "main").await.unwrap();
    let found: Vec<_> = heads.iter().map(|head| (&head.digest, head.retired_at)).collect();
    assert_eq!(found, [(&digest, None), (&other, None)]);
    let variant = names[1].parse().unwrap();
    assert_eq!(world.store.head_digests(world.source.domain(true), &variant).await.unwrap(), [other].into());
    assert_eq!(world.store.heads(world.source.domain(true), "else").await.unwrap(), []);
}

#[tokio::test]
async fn a_release_moves_its_channels_and_ends_its_run_or_nothing() {
    let world = world().await;
    let spec =
        ChannelSpec { after: Some(Span::from_secs(60)), ..ChannelSpec::following(Follows::DefaultBranch) };
    let declared = BTreeMap::from([(channel(), spec)]);
    world.declare(&declared).await;
    let run = world.running('a', &[node("hmi/plant-a", NodeState::Waiting)]).await;
    let digest = Digest::of("index");
    let early = world.release(run, &digest, 0).await;
    assert!(matches!(early, Err(StoreError::Conflict { .. })), "the run is not releasing yet");
    world.store.move_run(run, RunState::Running, RunState::Releasing, NOW).await.unwrap();
    assert_eq!(world.store.releases(world.source, 10).await.unwrap(), []);
    assert_eq!(world.release(run, &digest, 0).await.unwrap(), 1);

    assert_eq!(world.state(run).await, RunState::Passed);
    let channels = world.store.channels(world.source).await.unwrap();
    assert_eq!((channels[0].completed.map(|number| number.0), channels[0].generation), (Some(1), 1));
    let newest = world.store.newest_release(world.source, "main").await.unwrap().unwrap();
    let entries = world.store.entries(world.source, newest).await.unwrap();
    assert_eq!(entries[0].digest, digest);
    assert_eq!(world.store.newest_release(world.source, "other").await.unwrap(), None);
    // A channel that holds a release survives its declaration.
    world.declare(&BTreeMap::new()).await;
    assert_eq!(world.store.channels(world.source).await.unwrap()[0].removed_at, Some(NOW));
}

#[tokio::test]
async fn the_same_address_is_the_same_source_under_any_name() {
    let world = world().await;
    let again =
        world.store.upsert_source(&"works".parse().unwrap(), "https://git.example/p", NOW).await.unwrap();
    assert_eq!((again.id, again.name.as_str()), (world.source, "works"));
    let other =
        world.store.upsert_source(&"plants".parse().unwrap(), "https://git.example/q", NOW).await.unwrap();
    assert_ne!(other.id, world.source);
    // A name in use stays with its source: the address of that source changes.
    let moved =
        world.store.upsert_source(&"works".parse().unwrap(), "https://git.example/q", NOW).await.unwrap();
    assert_eq!(moved.id, world.source);
}
