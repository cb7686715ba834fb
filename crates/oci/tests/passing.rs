//! Blobs that are passed on: parts, redirects to storage on another host, and what a stranger may read.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use edgewright_model::Digest;
use edgewright_oci::client::BlobPart;
use edgewright_oci::{Client, ClientError, Credentials};

const CONTENT: &[u8] = b"0123456789";

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(
        clippy::let_underscore_future,
        clippy::disallowed_methods,
        reason = "ends with the test's runtime"
    )]
    let _ = tokio::task::spawn(async move { axum::serve(listener, router).await });
    address
}

/// What the storage was sent as `Authorization`, by request.
type Seen = Arc<Mutex<Vec<Option<String>>>>;

/// A part as RFC 9110 defines it.
async fn stored(State(seen): State<Seen>, headers: HeaderMap) -> Response {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    seen.lock().unwrap().push(text(header::AUTHORIZATION));
    let range = text(header::RANGE).unwrap();
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let range = format!("bytes {first}-{last}/{}", CONTENT.len());
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], &CONTENT[first..=last]).into_response()
}

/// A registry that needs a password, with its blobs in a storage on another host.
async fn registry() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let storage = Router::new().route("/stored", get(stored)).with_state(Arc::clone(&seen));
    let storage = format!("http://localhost:{}/stored", serve(storage).await.port());
    let blob = move |Path((name, _)): Path<(String, String)>, headers: HeaderMap| async move {
        if !headers.contains_key(header::AUTHORIZATION) && name != "public" {
            return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"a\"")]).into_response();
        }
        match name.as_str() {
            "whole" => CONTENT.into_response(),
            "short" => CONTENT[..5].into_response(),
            "lost" => StatusCode::NOT_FOUND.into_response(),
            "broken" => StatusCode::BAD_GATEWAY.into_response(),
            "loop" => Redirect::temporary("loop").into_response(),
            "other" => (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, "bytes 0-3/10")], "0123")
                .into_response(),
            _ => Redirect::temporary(&storage).into_response(),
        }
    };
    // The digest is the same in each repository.
    (serve(Router::new().route("/v2/{name}/blobs/{digest}", get(blob))).await, seen)
}

async fn read(mut part: BlobPart) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn parts_follow_redirects_without_credentials_for_another_host() {
    let (address, seen) = registry().await;
    let credentials = Credentials::Basic { user: "a".to_owned(), password: "secret".to_owned() };
    let client = Client::for_passing(&format!("http://{address}"), credentials, None).unwrap();
    let digest = Digest::of(CONTENT);
    let part =
        async |name: &str, range| read(client.pull_part(&name.parse().unwrap(), &digest, range).await?).await;
    assert_eq!(part("stored", 2..6).await.unwrap(), b"2345");
    assert_eq!(part("stored", 0..10).await.unwrap(), CONTENT);
    assert_eq!(*seen.lock().unwrap(), [None, None]);
    // One that ignores `Range`.
    assert_eq!(part("whole", 2..6).await.unwrap(), b"2345");
    for (name, expected) in [
        ("short", "it ended 1 bytes too early"),
        ("other", "another part than bytes=2-5"),
        ("lost", "has no blob"),
        ("broken", "responded with 502"),
        ("loop", "cannot reach the registry"),
    ] {
        let error = part(name, 2..6).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("secret"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_stranger_sees_only_what_is_public() {
    let (address, seen) = registry().await;
    let client = Client::for_probing(&format!("http://{address}"), None).unwrap();
    let digest = Digest::of(CONTENT);
    let is_public = async |name: &str| client.is_blob_public(&name.parse().unwrap(), &digest).await.unwrap();
    assert!(is_public("public").await);
    assert!(!is_public("stored").await);
    assert!(seen.lock().unwrap().is_empty(), "a redirect is not followed");
    let url = client.blob_url(&"a/b".parse().unwrap(), &digest).unwrap();
    assert_eq!(url, format!("http://{address}/v2/a/b/blobs/{digest}"));
}
