//! The client with a faulty registry: broken connections, tokens, no referrers, wrong bytes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::reference::{Reference, RepoName};
use edgewright_oci::client::QUIET;
use edgewright_oci::image::Artifact;
use edgewright_oci::{Client, ClientError, Credentials, Descriptor, media};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Number of bytes of a response before its connection breaks.
const BREAK_AFTER: usize = 70_000;

#[derive(Default)]
struct Fake {
    /// Number of responses with a blob that break.
    breaks: AtomicU32,
    ignores_range: bool,
    damages: bool,
    /// The required token, if set.
    token: Option<&'static str>,
    manifests: Mutex<std::collections::HashMap<String, (String, Bytes)>>,
}

fn content() -> Bytes {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into()
}

async fn start(fake: Fake) -> (Client, Arc<Fake>) {
    let fake = Arc::new(fake);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let realm = format!("http://{address}/token");
    let with_realm = Arc::clone(&fake);
    let router = axum::Router::new()
        .route("/token", get(token))
        .route("/v2/a/b/blobs/{digest}", get(blob))
        .route("/v2/a/b/manifests/{reference}", any(manifest))
        .route(
            "/v2/a/b/tags/list",
            get(move |headers: HeaderMap, Query(query): Query<Vec<(String, String)>>| async move {
                if with_realm.token.is_some_and(|token| !authorized(&headers, token)) {
                    let challenge =
                        format!(r#"Bearer realm="{realm}",service="fake",scope="repository:a/b:pull""#);
                    return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
                }
                if query.is_empty() {
                    let link = r#"</v2/a/b/tags/list?last=one>; rel="next""#;
                    ([("link", link)], r#"{"tags":["one"]}"#).into_response()
                } else {
                    r#"{"tags":["two"]}"#.into_response()
                }
            }),
        )
        .with_state(Arc::clone(&fake));
    #[expect(
        clippy::let_underscore_future,
        clippy::disallowed_methods,
        reason = "ends with the test's runtime"
    )]
    let _ = tokio::task::spawn(async move { axum::serve(listener, router).await });
    (Client::with_url(&format!("http://{address}"), Credentials::Anonymous).unwrap(), fake)
}

fn authorized(headers: &HeaderMap, token: &str) -> bool {
    headers.get("authorization").is_some_and(|value| value == &format!("Bearer {token}"))
}

async fn token(Query(query): Query<Vec<(String, String)>>) -> String {
    assert!(query.contains(&("scope".to_owned(), "repository:a/b:pull".to_owned())));
    r#"{"access_token":"secret"}"#.to_owned()
}

async fn blob(State(fake): State<Arc<Fake>>, headers: HeaderMap) -> Response {
    let mut bytes = content().to_vec();
    if fake.damages {
        bytes[500_000] ^= 1;
    }
    let range = headers.get("range").filter(|_| !fake.ignores_range).map(|value| {
        let text = value.to_str().unwrap();
        text.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap()
    });
    let rest = bytes.split_off(range.unwrap_or(0));
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let length = rest.len();
    let breaks = fake.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    let body = if breaks.is_ok() {
        let first = Bytes::copy_from_slice(&rest[..BREAK_AFTER.min(length)]);
        let broken = std::io::Error::other("the connection breaks");
        Body::from_stream(futures::stream::iter([Ok(first), Err(broken)]))
    } else {
        Body::from(rest)
    };
    (status, [("content-length", length.to_string())], body).into_response()
}

async fn manifest(
    State(fake): State<Arc<Fake>>,
    method: axum::http::Method,
    Path(reference): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut manifests = fake.manifests.lock().unwrap();
    if method == "PUT" {
        let media_type = headers["content-type"].to_str().unwrap().to_owned();
        manifests.insert(reference, (media_type, body));
        return StatusCode::CREATED.into_response();
    }
    match manifests.get(&reference) {
        Some((media_type, bytes)) => ([("content-type", media_type.clone())], bytes.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn repository() -> RepoName {
    "a/b".parse().unwrap()
}

async fn pull(fake: Fake) -> Result<Bytes, ClientError> {
    let (client, _) = start(fake).await;
    client.pull_blob_bytes(&repository(), &Digest::of(content()), 1 << 20).await
}

#[tokio::test]
async fn broken_pulls_are_resumed() {
    for ignores_range in [false, true] {
        let fake = Fake { breaks: 3.into(), ignores_range, ..Fake::default() };
        assert_eq!(pull(fake).await.unwrap(), content(), "{ignores_range}");
    }
}

#[tokio::test]
async fn damaged_blobs_never_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (client, _) = start(Fake { damages: true, ..Fake::default() }).await;
    let path = folder.path().join("blob");
    let error = client.pull_blob_file(&repository(), &Digest::of(content()), &path, QUIET).await.unwrap_err();
    assert!(matches!(error, ClientError::Corrupt { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(!path.exists());
    let error = client.pull_blob_bytes(&repository(), &Digest::of(content()), 10).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn tokens_are_fetched_from_the_realm_and_pages_followed() {
    let (client, _) = start(Fake { token: Some("secret"), ..Fake::default() }).await;
    let tags: Vec<String> =
        client.tags(&repository()).await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(tags, ["one", "two"]);
    let (client, _) = start(Fake { token: Some("another"), ..Fake::default() }).await;
    let error = client.tags(&repository()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
}

#[tokio::test]
async fn referrers_fall_back_to_a_tag() {
    let (client, fake) = start(Fake::default()).await;
    let subject = Descriptor::of(media::MANIFEST, b"subject");
    for name in ["application/one", "application/two", "application/two"] {
        let artifact = Artifact {
            artifact_type: name.to_owned(),
            subject: Some(subject.clone()),
            layers: Vec::new(),
            annotations: [("k".to_owned(), name.to_owned())].into(),
        };
        let bytes = artifact.manifest();
        let reference = Reference::Digest(Digest::of(&bytes));
        client.push_manifest(&repository(), &reference, media::MANIFEST, bytes).await.unwrap();
    }
    let all = client.referrers(&repository(), &subject.digest, None).await.unwrap();
    assert_eq!(all.len(), 2, "the same artifact again is one");
    let one = client.referrers(&repository(), &subject.digest, Some("application/one")).await.unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].annotations["k"], "application/one");
    assert!(client.referrers(&repository(), &Digest::of("other"), None).await.unwrap().is_empty());

    // Wrong bytes for a digest are detected.
    let digest = one[0].digest.clone();
    fake.manifests.lock().unwrap().get_mut(&digest.to_string()).unwrap().1 = "{}".into();
    let error = client.pull_manifest(&repository(), &Reference::Digest(digest)).await.unwrap_err();
    assert!(matches!(error, ClientError::Corrupt { .. }), "{error:?}");
    let missing = Reference::Digest(Digest::of("missing"));
    assert!(client.head_manifest(&repository(), &missing).await.unwrap().is_none());
    let error = client.pull_manifest(&repository(), &missing).await.unwrap_err();
    assert!(error.is_not_found() && error.hint().is_some());
}

#[tokio::test]
async fn a_missing_registry_is_unavailable() {
    let client = Client::with_url("http://127.0.0.1:9", Credentials::Anonymous).unwrap();
    let error = client.has_blob(&repository(), &Digest::of("")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
}

/// A registry that takes one blob and closes a connection instead of the response to one of its requests.
#[expect(clippy::disallowed_methods, reason = "tasks that end with the test's runtime")]
async fn closes_at(closed: u32) -> (Client, Arc<AtomicU32>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stored = Arc::new(AtomicU32::new(0));
    let (counter, requests) = (Arc::clone(&stored), Arc::new(AtomicU32::new(0)));
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_until(closed, connection, Arc::clone(&requests), Arc::clone(&counter)));
        }
    });
    (Client::with_url(&url, Credentials::Anonymous).unwrap(), stored)
}

async fn answer_until(
    closed: u32,
    mut connection: tokio::net::TcpStream,
    requests: Arc<AtomicU32>,
    stored: Arc<AtomicU32>,
) {
    let mut request = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = connection.read(&mut request).await {
        let response = match String::from_utf8_lossy(&request[..length]).split(' ').next().unwrap() {
            "POST" => "202 Accepted\r\nLocation: /v2/a/b/blobs/uploads/1",
            "PUT" => {
                stored.fetch_add(1, Ordering::Relaxed);
                "201 Created"
            }
            _ if stored.load(Ordering::Relaxed) > 0 => "200 OK",
            _ => "404 Not Found",
        };
        if requests.fetch_add(1, Ordering::Relaxed) + 1 == closed {
            return;
        }
        let response = format!("HTTP/1.1 {response}\r\nContent-Length: 0\r\n\r\n");
        connection.write_all(response.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn closed_connections_do_not_end_a_push() {
    // Whether the blob exists, the upload, its bytes.
    for closed in 1..=3 {
        let (client, stored) = closes_at(closed).await;
        client.push_blob_bytes(&repository(), "").await.unwrap_or_else(|error| panic!("{closed}: {error}"));
        assert_eq!(stored.load(Ordering::Relaxed), 1, "{closed}");
    }
}
