//! A registry in memory: enough of the distribution API for podman to pull and for the client to push blobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use edgewright_model::Digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BLOB: &str = "application/octet-stream";
/// Longest upload, in bytes.
const UPLOAD: usize = 64 * 1024 * 1024;

/// Contents by digest, with their media type.
#[derive(Clone, Default)]
pub(crate) struct Contents(Arc<Mutex<HashMap<String, (&'static str, Bytes)>>>);

impl Contents {
    pub(crate) fn blob(&self, bytes: impl Into<Bytes>) -> (Digest, usize) {
        self.put(BLOB, bytes.into())
    }

    pub(crate) fn manifest(&self, bytes: impl Into<Bytes>) -> Digest {
        self.put(MANIFEST, bytes.into()).0
    }

    pub(crate) fn get(&self, digest: &str) -> Option<(&'static str, Bytes)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn put(&self, media_type: &'static str, bytes: Bytes) -> (Digest, usize) {
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        let mut contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contents.insert(digest.to_string(), (media_type, bytes));
        (digest, size)
    }
}

/// Serves the contents on a free port of the loopback; gives the base address.
pub(crate) async fn serve(contents: Contents) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let router = Router::new().fallback(answer).with_state(contents);
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn answer(State(contents): State<Contents>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let last = path.rsplit('/').next().unwrap_or_default();
    match parts.method {
        Method::GET | Method::HEAD if path == "/v2/" => StatusCode::OK.into_response(),
        Method::GET | Method::HEAD => match contents.get(last) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some((media_type, bytes)) => {
                let headers = [
                    (header::CONTENT_TYPE, media_type),
                    (header::HeaderName::from_static("docker-content-digest"), last),
                ];
                (headers, bytes).into_response()
            }
        },
        Method::POST => (StatusCode::ACCEPTED, [(header::LOCATION, format!("{path}upload"))]).into_response(),
        Method::PUT => match axum::body::to_bytes(body, UPLOAD).await {
            Ok(bytes) => {
                contents.blob(bytes);
                StatusCode::CREATED.into_response()
            }
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}
