//! Unreferenced content is removed from database and disk; referenced and recent content stays.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{CONFIG, Channels, IMAGE, LAYER, Server, descriptor, image};
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use edgewright_registry::{Collected, Open};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::json;

/// Days from now, when the content of this test is old.
fn after(days: i64) -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_second(i64::try_from(now.as_secs()).unwrap()).unwrap()
        + SignedDuration::from_hours(24 * days)
}

async fn push(server: &Server, name: &str, layer: &str) -> Digest {
    server.push_blob(name, "{}").await;
    server.push_blob(name, layer).await;
    let document = image(layer);
    let digest = Digest::of(document.to_string());
    let answer = server.put_manifest(name, &digest.to_string(), &document).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    digest
}

async fn has(server: &Server, name: &str, digest: &Digest) -> bool {
    server.status(Method::HEAD, &format!("/v2/{name}/manifests/{digest}")).await == StatusCode::OK
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn unreferenced_content_is_removed_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let channel = Digest::of(image("channel").to_string());
    let server = Server::with(
        folder.path(),
        Arc::new(Channels::in_repository("c", channel.clone())),
        Arc::new(Open::new(None)),
    )
    .await;
    let registry = server.registry.clone();
    let loose = push(&server, "a", "loose").await;
    let (_, tagged) = server.push_image("b", "v1", "tagged").await;
    assert_eq!(push(&server, "c", "channel").await, channel);
    let pinned = push(&server, "d", "pinned").await;
    let name: RepoName = "d".parse().unwrap();
    registry.pin("results/run-1", &[(name.clone(), pinned.clone())]).await.unwrap();
    // Its verdict stays, because it is a referrer.
    let verdict = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "artifactType": "x/verdict", "config": descriptor(CONFIG, "{}"),
        "layers": [descriptor(LAYER, "pinned")],
        "subject": {"mediaType": IMAGE, "digest": pinned, "size": image("pinned").to_string().len()},
    });
    let referrer = Digest::of(verdict.to_string());
    server.put_manifest("d", &referrer.to_string(), &verdict).await;
    let blobs = folder.path().join("blobs");
    let before = files(&blobs);

    assert_eq!(registry.collect(after(0)).await.unwrap(), Collected::default(), "all is young");
    assert!(has(&server, "a", &loose).await);
    let gone = registry.collect(after(2)).await.unwrap();
    assert_eq!(gone, Collected { manifests: 1, blobs: 0 }, "the blob may still be in use");
    assert!(!has(&server, "a", &loose).await);
    for (name, digest) in [("b", &tagged), ("c", &channel), ("d", &pinned), ("d", &referrer)] {
        assert!(has(&server, name, digest).await, "{name}");
    }
    assert_eq!(registry.collect(after(3)).await.unwrap(), Collected { manifests: 0, blobs: 1 });
    assert_eq!(files(&blobs), before - 1, "the config is shared");
    assert!(!registry.repositories().await.unwrap().iter().any(|name| name.as_str() == "a"));

    registry.release("results/run-1", &[(name, pinned.clone())]).await.unwrap();
    assert_eq!(registry.collect(after(4)).await.unwrap().manifests, 2);
    assert!(!has(&server, "d", &referrer).await);
    server.close().await;
}

#[tokio::test]
async fn a_condemned_blob_is_restored_by_a_push() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let registry = server.registry.clone();
    let digest = push(&server, "a", "layer").await;
    registry.collect(after(2)).await.unwrap();
    assert!(!has(&server, "a", &digest).await);
    let again = push(&server, "a", "layer").await;
    assert_eq!(again, digest);
    // The new push resets its age.
    assert_eq!(registry.collect(after(0)).await.unwrap(), Collected::default());
    let blob = format!("/v2/a/blobs/{}", Digest::of("layer"));
    assert_eq!(server.status(Method::GET, &blob).await, StatusCode::OK);
    registry.collect(after(2)).await.unwrap();
    registry.collect(after(3)).await.unwrap();
    assert_eq!(server.status(Method::HEAD, &blob).await, StatusCode::NOT_FOUND);
    assert_eq!(registry.stored_bytes().await.unwrap(), 0);
    server.close().await;
}
