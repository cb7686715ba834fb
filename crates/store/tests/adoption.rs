//! One source under two addresses: the history of the one that is no longer followed moves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::names::{ChannelName, CommitId, SourceName};
use edgewright_model::run::Trigger;
use edgewright_model::spec::{ChannelSpec, Follows};
use edgewright_store::Store;
use edgewright_store::audit::NewAuditEntry;
use edgewright_store::inventory::Declaration;
use edgewright_store::sources::{NewRun, SourceId};
use jiff::Timestamp;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

struct World {
    _folder: tempfile::TempDir,
    store: Store,
    name: SourceName,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).await.unwrap();
        Self { _folder: folder, store, name: "plant-os".parse().unwrap() }
    }

    async fn source(&self, name: &str, url: &str) -> SourceId {
        self.store.upsert_source(&name.parse().unwrap(), url, NOW).await.unwrap().id
    }

    async fn declare(&self, source: SourceId) {
        let stable = ChannelSpec::following(Follows::DefaultBranch);
        let channels: BTreeMap<ChannelName, ChannelSpec> = [("stable".parse().unwrap(), stable)].into();
        let declared = Declaration {
            commit: &commit(),
            name: &self.name,
            channels: &channels,
            policies: &BTreeMap::new(),
            sites: &[],
            broken: &BTreeSet::new(),
        };
        self.store.declare_inventory(source, &declared, NOW).await.unwrap();
    }

    async fn run(&self, source: SourceId) {
        let new = NewRun {
            branch: "main".to_owned(),
            commit: commit(),
            subject: "Add plants".to_owned(),
            author: "a <a@example.org>".to_owned(),
            trigger: Trigger::Manual,
            trusted: true,
        };
        self.store.queue_run(source, &new, &BTreeSet::new(), (&entry(), NOW)).await.unwrap();
    }

    async fn adopt(&self, into: SourceId, followed: &[SourceId]) -> Option<String> {
        let followed = followed.iter().copied().collect();
        let adopted = self.store.adopt_source(into, &self.name, &followed).await.unwrap();
        adopted.map(|name| name.to_string())
    }

    /// The sources that runs belong to.
    async fn owners(&self) -> Vec<SourceId> {
        let runs = self.store.runs(None, 10).await.unwrap();
        runs.iter().map(|run| run.source).collect()
    }
}

fn entry() -> NewAuditEntry {
    NewAuditEntry {
        actor: "operator:local".parse().unwrap(),
        operation: "run.queue".to_owned(),
        object: String::new(),
        before: None,
        after: None,
        request: None,
    }
}

fn commit() -> CommitId {
    "1".repeat(40).parse().unwrap()
}

#[tokio::test]
async fn a_new_source_adopts_the_history_of_the_same_name() {
    let world = World::new().await;
    let clone = world.source("plant-os", "file:///home/me/plants").await;
    world.declare(clone).await;
    world.run(clone).await;
    let served = world.source("plants", "https://git.example.org/plants.git").await;
    assert_eq!(world.adopt(served, &[served]).await.as_deref(), Some("plant-os"));
    assert_eq!(world.owners().await, [served]);
    let channels = world.store.channels(served).await.unwrap();
    assert_eq!(channels.iter().map(|channel| channel.name.as_str()).collect::<Vec<_>>(), ["stable"]);
    let sources = world.store.sources().await.unwrap();
    assert_eq!(sources.iter().map(|source| source.id).collect::<Vec<_>>(), [served]);
    world.declare(served).await;
    assert_eq!(world.adopt(served, &[served]).await, None, "there is nothing left to adopt");
}

#[tokio::test]
async fn followed_sources_and_sources_with_runs_of_their_own_keep_their_history() {
    let world = World::new().await;
    let first = world.source("plant-os", "file:///home/me/plants").await;
    world.declare(first).await;
    world.run(first).await;
    let second = world.source("plants", "https://git.example.org/plants.git").await;
    assert_eq!(world.adopt(second, &[first, second]).await, None, "the first one is followed");
    world.run(second).await;
    assert_eq!(world.adopt(second, &[second]).await, None, "the second one has a history");
    let mut owners = world.owners().await;
    owners.sort();
    assert_eq!(owners, [first, second]);
}
