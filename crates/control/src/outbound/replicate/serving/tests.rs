//! A registry whose responses change.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::any;
use edgewright_oci::client::Credentials;

use super::super::Names;
use super::*;

/// A registry that responds with a status, and counts requests.
#[derive(Default)]
struct Registry {
    status: AtomicU16,
    requests: AtomicU32,
}

async fn serve() -> (String, Arc<Registry>) {
    let registry = Arc::new(Registry::default());
    let answer = async |State(registry): State<Arc<Registry>>| {
        registry.requests.fetch_add(1, Ordering::Relaxed);
        StatusCode::from_u16(registry.status.load(Ordering::Relaxed)).unwrap()
    };
    let router = Router::new().route("/v2/{*rest}", any(answer)).with_state(Arc::clone(&registry));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, registry)
}

fn target(name: &str, url: &str, devices: Option<DeviceReads>) -> Target {
    Target {
        name: name.to_owned(),
        url: url.to_owned(),
        names: Names::parse("{source}/{variant}", "{channel}").unwrap(),
        sources: Vec::new(),
        channels: Vec::new(),
        referrers: true,
        devices,
        credentials: Credentials::Anonymous,
        authority: None,
    }
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn devices_are_redirected_while_strangers_can_read_there() {
    let (url, registry) = serve().await;
    let (image, blob) = (Digest::of("image"), Digest::of("blob"));
    let images = [Digest::of("older"), image.clone()];
    let repository: RepoName = "plants/hmi".parse().unwrap();
    let target = target("hub", &url, Some(DeviceReads::Redirect));
    let copies = Copies::default();
    assert!(!copies.is_used());
    copies.replace(std::slice::from_ref(&target)).unwrap();
    let requests = || registry.requests.swap(0, Ordering::Relaxed);
    let set = |status| registry.status.store(status, Ordering::Relaxed);
    let ask = async || copies.redirect(&images, &blob).await;
    let there = Redirection::To(format!("{url}/v2/plants/hmi/blobs/{blob}"));

    assert_eq!((ask().await, requests()), (Redirection::None, 0), "it was not copied");
    copies.add(&target, [(repository, image)]);
    set(200);
    assert_eq!((ask().await, ask().await, requests()), (there.clone(), there.clone(), 1));
    // What is known remains over a reload.
    copies.replace(std::slice::from_ref(&target)).unwrap();
    assert_eq!((ask().await, requests()), (there.clone(), 1));
    // A target that did not respond for a while is asked again, and left alone when it fails.
    set(503);
    pass(PRESENT).await;
    assert_eq!((ask().await, requests()), (Redirection::Unavailable, 1));
    set(307);
    assert_eq!((ask().await, requests()), (Redirection::Unavailable, 0));
    pass(AWAY).await;
    assert_eq!((ask().await, requests()), (there, 1));
    // It wants credentials.
    set(401);
    pass(KNOWN).await;
    assert_eq!(
        (ask().await, ask().await, requests()),
        (Redirection::Unavailable, Redirection::Unavailable, 1)
    );
    assert!(copies.copies(&images).is_empty(), "not through the server");
}

#[tokio::test]
async fn each_target_serves_as_its_setting_permits() {
    let (url, registry) = serve().await;
    let (image, blob) = (Digest::of("image"), Digest::of("blob"));
    let proxy = target("proxy", &url, Some(DeviceReads::Proxy));
    let none = target("none", &url, None);
    let copies = Copies::default();
    copies.replace(&[none.clone(), proxy.clone()]).unwrap();
    for target in [&none, &proxy] {
        copies.add(target, [("plants/hmi".parse().unwrap(), image.clone())]);
    }
    let images = std::slice::from_ref(&image);
    assert_eq!(copies.redirect(images, &blob).await, Redirection::None);
    let found = copies.copies(images);
    assert_eq!((found.len(), copies.copies(std::slice::from_ref(&blob)).len()), (1, 0));
    for (status, expected) in [(404, true), (500, false), (401, false)] {
        registry.status.store(status, Ordering::Relaxed);
        let error = found[0].open(&blob, 0..1).await.err().unwrap();
        assert_eq!(error == CopyError::Missing, expected, "{status}: {error:?}");
    }
}
