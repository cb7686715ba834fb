//! Reserved tags, authorization and pins.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::sync::Arc;

use common::{Server, code, descriptor, header, image};
use edgewright_model::Digest;
use edgewright_model::reference::{RepoName, Tag};
use edgewright_registry::{
    AccessToken, NoReservedTags, Open, RegistryError, Resolution, TagResolver, TokenForWrites,
};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// `stable` is a channel that points to one digest.
#[derive(Debug)]
struct Channels(Option<Digest>);

impl TagResolver for Channels {
    fn resolve<'a>(&'a self, _: &'a RepoName, tag: &'a Tag) -> BoxFuture<'a, Resolution> {
        let resolution = match tag.as_str() {
            "stable" => Resolution::Reserved(self.0.clone()),
            "broken" => Resolution::Unavailable,
            _ => Resolution::Ordinary,
        };
        ready(resolution).boxed()
    }

    fn tags<'a>(&'a self, _: &'a RepoName) -> BoxFuture<'a, Vec<Tag>> {
        ready(self.0.iter().map(|_| "stable".parse().unwrap()).collect()).boxed()
    }
}

#[tokio::test]
async fn reserved_tags_are_answered_and_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Digest::of(image("layer").to_string());
    let channels = Arc::new(Channels(Some(digest.clone())));
    let server = Server::with(folder.path(), channels, Arc::new(Open::new(None))).await;
    assert_eq!(server.get("/v2/a/manifests/stable").await.status(), StatusCode::NOT_FOUND, "not pushed yet");
    server.push_image("a", "v1", "layer").await;
    let answer = server.get("/v2/a/manifests/stable").await;
    assert_eq!(header(&answer, "docker-content-digest"), digest.to_string());
    let tags: Value = server.get("/v2/a/tags/list").await.json().await.unwrap();
    assert_eq!(tags["tags"], serde_json::json!(["stable", "v1"]));

    let refused = server.put_manifest("a", "stable", &image("layer")).await;
    assert_eq!((refused.status(), code(refused).await.as_str()), (StatusCode::CONFLICT, "DENIED"));
    let by_query = server.put_manifest("a", &format!("{digest}?tag=stable"), &image("layer")).await;
    assert_eq!(by_query.status(), StatusCode::CONFLICT);
    let deleted = server.request(Method::DELETE, "/v2/a/manifests/stable").send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::CONFLICT);
    assert!(deleted.text().await.unwrap().contains("channels are moved by Edgewright"));
    assert_eq!(server.get("/v2/a/manifests/broken").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    server.close().await;
}

#[tokio::test]
async fn credentials_decide_who_writes_what() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = TokenForWrites::new(AccessToken::new("write"), AccessToken::new("control"));
    let server = Server::with(folder.path(), Arc::new(NoReservedTags), Arc::new(tokens)).await;
    let upload = "/v2/a/blobs/uploads/";
    let refused = server.request(Method::POST, upload).send().await.unwrap();
    assert!(header(&refused, "www-authenticate").starts_with("Basic realm="));
    assert_eq!((refused.status(), code(refused).await.as_str()), (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"));
    for content in ["{}", "layer"] {
        let push = format!("{upload}?digest={}", Digest::of(content));
        let pushed = server.request(Method::POST, &push).bearer_auth("write").body(content);
        assert_eq!(pushed.send().await.unwrap().status(), StatusCode::CREATED);
    }
    let mut verdict = image("layer");
    verdict["artifactType"] = "application/vnd.edgewright.verdict.v1+json".into();
    let mut by_config = image("layer");
    by_config["config"] = descriptor("application/vnd.edgewright.check-set.v1+json", "{}");
    for (document, token, expected) in [
        (image("layer"), "write", StatusCode::CREATED),
        (verdict.clone(), "write", StatusCode::FORBIDDEN),
        (by_config, "write", StatusCode::FORBIDDEN),
        (verdict.clone(), "control", StatusCode::CREATED),
    ] {
        let put = server.request(Method::PUT, "/v2/a/manifests/t").basic_auth("any", Some(token));
        let put = put.header("content-type", common::IMAGE).body(document.to_string());
        assert_eq!(put.send().await.unwrap().status(), expected);
    }
    let path = format!("/v2/a/manifests/{}", Digest::of(verdict.to_string()));
    assert_eq!(server.get(&path).await.status(), StatusCode::OK, "anybody may pull");
    let deleted = server.request(Method::DELETE, &path).bearer_auth("write").send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::FORBIDDEN);
    server.close().await;
}

#[tokio::test]
async fn what_a_pin_holds_is_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (document, image) = server.push_image("a", "v1", "layer").await;
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": common::INDEX, "manifests": [
        {"mediaType": common::IMAGE, "digest": image, "size": document.to_string().len()}]});
    server.put_manifest("a", "all", &index).await;
    let index = Digest::of(index.to_string());
    let loose = server.push_blob("a/contexts", "tar").await;
    let (name, contexts): (RepoName, RepoName) = ("a".parse().unwrap(), "a/contexts".parse().unwrap());
    let registry = &server.registry;

    let missing =
        registry.pin("p", &[(name.clone(), index.clone()), (name.clone(), Digest::of("none"))]).await;
    assert!(matches!(missing, Err(RegistryError::ReferenceUnknown { .. })));
    assert_eq!(registry.pins().await.unwrap(), [], "all or nothing");
    registry.pin("p", &[(name.clone(), index.clone())]).await.unwrap();
    registry.pin("p", &[(name.clone(), index.clone()), (contexts.clone(), loose.clone())]).await.unwrap();
    assert_eq!(
        registry.pins().await.unwrap()[0].held,
        [(name.clone(), index.clone()), (contexts.clone(), loose.clone())]
    );

    for held in [
        format!("/v2/a/manifests/{index}"),
        format!("/v2/a/manifests/{image}"),
        format!("/v2/a/contexts/blobs/{loose}"),
    ] {
        let refused = server.request(Method::DELETE, &held).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::CONFLICT, "{held}");
        assert!(refused.text().await.unwrap().contains("pin `p`"));
    }
    registry.unpin("p").await.unwrap();
    registry.unpin("p").await.unwrap();
    registry.delete_manifest(&name, &index).await.unwrap();
    registry.delete_blob(&contexts, &loose).await.unwrap();
    server.close().await;
}

#[tokio::test]
async fn the_owner_in_the_process_uses_it_without_http() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let registry = &server.registry;
    let (name, tag): (RepoName, Tag) = ("plant-os/hmi".parse().unwrap(), "t".parse().unwrap());
    for content in ["{}", "layer"] {
        let digest = registry.put_blob(&name, content.into()).await.unwrap();
        assert!(registry.has_blob(&name, &digest).await.unwrap());
        assert_eq!(registry.blob(&name, &digest, 5).await.unwrap(), content);
    }
    assert!(registry.blob(&name, &Digest::of("layer"), 4).await.is_err(), "larger than the limit");
    let document = image("layer").to_string();
    let put = registry.put_manifest(&name, Some(&tag), common::IMAGE, document.clone().into());
    let digest = put.await.unwrap();
    assert!(registry.has_manifest(&name, &digest).await.unwrap());
    let manifest = registry.manifest(&name, &"t".parse().unwrap()).await.unwrap();
    assert_eq!((manifest.digest, manifest.bytes), (digest, document.clone().into()));
    let usage = registry.usage(&name).await.unwrap();
    assert_eq!((usage.manifests, usage.blobs, usage.bytes), (1, 2, 7 + document.len() as u64));
    assert_eq!(registry.repositories().await.unwrap(), std::slice::from_ref(&name));
    assert_eq!(registry.tags(&name).await.unwrap(), std::slice::from_ref(&tag));
    registry.delete_tag(&name, &tag).await.unwrap();
    assert_eq!(registry.tags(&name).await.unwrap(), []);
    assert!(registry.disk_usage().await.unwrap().available > 0);
    let closed = server.registry.clone();
    server.close().await;
    assert!(matches!(closed.unpin("p").await, Err(RegistryError::Closed)));
}
