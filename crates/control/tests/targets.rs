//! What channels hold in another registry of ours, which knows referrers; jobs are simulated, everything else
//! is real.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it saw"
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::World;
use edgewright_control::outbound::replicate::{Credentials, Names, Target};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_oci::Client;
use edgewright_registry::{AccessToken, NoReservedTags, Open, Registry, RegistrySettings};
use edgewright_store::targets::CopyRow;

const TOKEN: &str = "the other registry's token";

/// Another registry, and a client that may do everything there.
async fn other(world: &World) -> (String, Client) {
    let settings = RegistrySettings::new(world.folder.path().join("other"));
    let authorizer = Arc::new(Open::new(Some(AccessToken::new(TOKEN))));
    let registry = Registry::open(settings, Arc::new(NoReservedTags), authorizer).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = registry.router();
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::with_url(&url, Credentials::Bearer(TOKEN.to_owned())).unwrap();
    (url, client)
}

fn target(url: &str, names: (&str, &str)) -> Target {
    Target {
        name: "hub".to_owned(),
        url: url.to_owned(),
        names: Names::parse(names.0, names.1).unwrap(),
        sources: Vec::new(),
        channels: Vec::new(),
        referrers: true,
        devices: None,
        credentials: Credentials::Bearer(TOKEN.to_owned()),
        authority: None,
    }
}

/// Waits for the copy of a release.
async fn copied(world: &World, release: u32) -> CopyRow {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let copies = world.store.copies().await.unwrap();
        if let Some(row) = copies.iter().find(|row| row.key.release.0 == release && row.state == "copied") {
            return row.clone();
        }
        assert!(Instant::now() < deadline, "{copies:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn digest(client: &Client, repository: &str, tag: &str) -> Option<String> {
    let reference = Reference::Tag(tag.parse().unwrap());
    let head = client.head_manifest(&repository.parse().unwrap(), &reference).await.unwrap();
    head.map(|head| head.digest.unwrap().to_string())
}

#[tokio::test]
async fn a_registry_with_referrers_gets_images_and_what_is_known_of_them() {
    let mut world = World::new().await;
    world.run().await;
    let (url, client) = other(&world).await;
    let names = ("team/{source}-{image}-{site}", "{channel}");
    world.control.deliver(&[target(&url, names)]).unwrap();
    let row = copied(&world, 1).await;
    assert_eq!((row.failures, row.error), (0, None));
    let entries = world.entries().await;
    assert_eq!(entries.len(), 5);
    let there: RepoName = "team/plant-os-base".parse().unwrap();
    let base = &entries[0];
    assert_eq!(digest(&client, there.as_str(), "stable").await, Some(base.digest.to_string()));
    // The referrers API has the provenance of the index; there is no tag for it.
    let kind = Some("application/vnd.edgewright.provenance.v1+json");
    assert_eq!(client.referrers(&there, &base.digest, kind).await.unwrap().len(), 1);
    let index = world.store.index(&base.digest).await.unwrap().unwrap();
    let manifest = index.values().next().unwrap();
    let kinds: Vec<_> = client.referrers(&there, manifest, None).await.unwrap();
    assert_eq!(kinds.len(), 2, "a verdict and its check set: {kinds:?}");
    assert_eq!(client.tags(&there).await.unwrap().len(), 1);

    // No control runs while things change; a new one catches up.
    world.crash().await;
    world.write("sites/plant-a/files/etc/site", "another");
    world.commit("plant-a").await;
    world.run().await;
    world.control.deliver(&[target(&url, names)]).unwrap();
    copied(&world, 2).await;
    let changed = &world.entries().await[1];
    assert_eq!(
        digest(&client, "team/plant-os-gateway-plant-a", "stable").await,
        Some(changed.digest.to_string())
    );

    // Other names are another place: everything is copied again, nothing is deleted.
    world.control.deliver(&[target(&url, ("{source}", "{image}-{site}-{channel}-{release}"))]).unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while digest(&client, "plant-os", "gateway-plant-a-stable-2").await != Some(changed.digest.to_string()) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(digest(&client, there.as_str(), "stable").await.is_some());
}

#[tokio::test]
async fn a_source_that_is_not_published_is_built_and_tested_only() {
    let world = World::new().await;
    let settings = world.control.handle(world.source).unwrap().settings().clone();
    let settings = edgewright_control::SourceSettings { publish: false, ..settings };
    assert_eq!(world.control.add_source(settings).await.unwrap(), world.source);
    let (url, client) = other(&world).await;
    world.control.deliver(&[target(&url, ("{source}/{variant}", "{channel}"))]).unwrap();
    let (run, state) = world.run().await;
    let row = world.store.run(run).await.unwrap().unwrap();
    assert_eq!((state, row.release), (edgewright_model::run::RunState::Passed, None));
    assert!(row.failure.unwrap().contains("`publish` is off"));
    assert!(world.store.copies().await.unwrap().is_empty());
    assert_eq!(digest(&client, "plant-os/base", "stable").await, None);
}
