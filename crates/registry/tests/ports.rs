//! Reserved tags, authorization and pins.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::sync::Arc;

use common::{Channels, Devices, Server, TwoOperators, code, descriptor, header, image};
use edgewright_model::Digest;
use edgewright_model::reference::{RepoName, Tag};
use edgewright_registry::{AccessToken, NoReservedTags, Open, RegistryError, Target};
use reqwest::{Method, StatusCode};
use serde_json::Value;

#[tokio::test]
async fn reserved_tags_are_resolved_and_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Digest::of(image("layer").to_string());
    let channels = Arc::new(Channels::everywhere(Some(digest.clone())));
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
    assert!(deleted.text().await.unwrap().contains("Edgewright moves channels"));
    assert_eq!(server.get("/v2/a/manifests/broken").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    server.close().await;
}

#[tokio::test]
async fn a_virtual_repository_has_another_target_for_each_principal() {
    let folder = tempfile::tempdir().unwrap();
    let target = |name: &str, layer: &str| Target {
        repository: name.parse().unwrap(),
        digest: Digest::of(image(layer).to_string()),
    };
    let (first, second) = (target("plants/hmi", "first layer"), target("plants/gateway", "second layer"));
    let devices = Devices([("one", first.clone()), ("two", second.clone())].into());
    let server = Server::with(folder.path(), Arc::new(devices), Arc::new(TwoOperators)).await;
    for (target, layer) in [(&first, "first layer"), (&second, "second layer")] {
        server.push_image_as("one", target.repository.as_str(), "v1", layer).await;
    }
    let get = |token: &'static str, path: String| {
        let request = server.request(Method::GET, &path).bearer_auth(token);
        async move { request.send().await.unwrap() }
    };
    let others = [
        ("one", &first, "first layer", &second, "second layer"),
        ("two", &second, "second layer", &first, "first layer"),
    ];
    for (token, own, layer, other, other_layer) in others {
        let manifest = get(token, "/v2/device/self/manifests/current".to_owned()).await;
        assert_eq!(header(&manifest, "docker-content-digest"), own.digest.to_string(), "{token}");
        assert_eq!(Digest::of(manifest.bytes().await.unwrap()), own.digest);
        // The blobs of the manifest are read under the same name.
        for path in [
            format!("manifests/{}", own.digest),
            format!("blobs/{}", Digest::of(layer)),
            format!("referrers/{}", own.digest),
        ] {
            assert_eq!(
                get(token, format!("/v2/device/self/{path}")).await.status(),
                StatusCode::OK,
                "{path}"
            );
        }
        for path in [
            format!("manifests/{}", other.digest),
            format!("blobs/{}", Digest::of(other_layer)),
            "manifests/v1".to_owned(),
        ] {
            assert_eq!(
                get(token, format!("/v2/device/self/{path}")).await.status(),
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
        // No client can write to it.
        let put = server.request(Method::PUT, &format!("/v2/device/self/manifests/{}", own.digest));
        let put = put.bearer_auth(token).header("content-type", common::IMAGE).body(image(layer).to_string());
        assert_eq!(put.send().await.unwrap().status(), StatusCode::CONFLICT);
        let tags: Value = get(token, "/v2/device/self/tags/list".to_owned()).await.json().await.unwrap();
        assert_eq!(tags["tags"], serde_json::json!(["current"]));
    }
    assert_eq!(server.get("/v2/device/self/manifests/current").await.status(), StatusCode::NOT_FOUND);
    server.close().await;
}

#[tokio::test]
async fn clients_are_asked_for_credentials_and_get_a_token_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with(folder.path(), Arc::new(NoReservedTags), Arc::new(TwoOperators)).await;
    let ping = server.get("/v2/").await;
    let realm = format!("http://{}/v2/token", server.address);
    let challenge = format!("Bearer realm=\"{realm}\",service=\"{}\"", server.address);
    assert_eq!((ping.status(), header(&ping, "www-authenticate")), (StatusCode::UNAUTHORIZED, challenge));
    assert_eq!(code(ping).await, "UNAUTHORIZED");

    let token = |credentials: Option<(&'static str, &'static str)>| {
        let request = server.request(Method::GET, "/v2/token?service=x&scope=repository:a:pull,push");
        let request = match credentials {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let body: Value = answer.json().await.unwrap();
            (status, body["token"].as_str().map(str::to_owned))
        }
    };
    let good = |token: &str| (StatusCode::OK, Some(token.to_owned()));
    assert_eq!(token(None).await, good("anonymous"));
    assert_eq!(token(Some(("", ""))).await, good("anonymous"));
    assert_eq!(token(Some(("any", "one"))).await, good("one"));
    assert_eq!(token(Some(("any", "wrong"))).await, (StatusCode::UNAUTHORIZED, None));
    for (token, expected) in [("anonymous", 200), ("one", 200), ("wrong", 401)] {
        let ping = server.request(Method::GET, "/v2/").bearer_auth(token).send().await.unwrap();
        assert_eq!(ping.status().as_u16(), expected, "{token}");
    }
    let refused = server.request(Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap();
    assert!(header(&refused, "www-authenticate").ends_with(",scope=\"repository:a:pull,push\""));
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    server.close().await;
}

#[tokio::test]
async fn reserved_artifacts_are_authorized_in_addition() {
    let folder = tempfile::tempdir().unwrap();
    let open = Open::new(Some(AccessToken::new("control")));
    let server = Server::with(folder.path(), Arc::new(NoReservedTags), Arc::new(open)).await;
    server.push_image("a", "v1", "layer").await;
    let mut verdict = image("layer");
    verdict["artifactType"] = "application/vnd.edgewright.verdict.v1+json".into();
    let mut by_config = image("layer");
    by_config["config"] = descriptor("application/vnd.edgewright.check-set.v1+json", "{}");
    for (document, token, expected) in [
        (image("layer"), "any", StatusCode::CREATED),
        (verdict.clone(), "any", StatusCode::FORBIDDEN),
        (by_config, "any", StatusCode::FORBIDDEN),
        (verdict.clone(), "control", StatusCode::CREATED),
    ] {
        let put = server.request(Method::PUT, "/v2/a/manifests/t").basic_auth("any", Some(token));
        let put = put.header("content-type", common::IMAGE).body(document.to_string());
        assert_eq!(put.send().await.unwrap().status(), expected);
    }
    let path = format!("/v2/a/manifests/{}", Digest::of(verdict.to_string()));
    assert_eq!(server.get(&path).await.status(), StatusCode::OK, "anyone may pull");
    let deleted = server.request(Method::DELETE, &path).bearer_auth("any").send().await.unwrap();
    assert_eq!((deleted.status(), code(deleted).await.as_str()), (StatusCode::FORBIDDEN, "DENIED"));
    server.close().await;
}

#[tokio::test]
async fn pinned_content_is_not_deleted() {
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
async fn the_hosting_program_uses_it_without_http() {
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
