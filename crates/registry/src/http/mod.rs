//! The distribution API over HTTP (distribution-spec 1.1): parse, authorise, one call into the registry, answer.

mod blobs;
mod lists;
mod manifests;
mod refusal;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use edgewright_model::reference::RepoName;

use crate::ports::{Action, Decision};
use crate::registry::Inner;
use crate::request::{Endpoint, PathError, Query, parse_path};
use refusal::Refusal;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

type Answer = Result<Response, Refusal>;

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*rest}", any(handle))
        .with_state(inner)
}

async fn handle(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut answer = respond(&inner, &parts, body).await.unwrap_or_else(Refusal::into_response);
    answer.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    answer
}

async fn respond(inner: &Arc<Inner>, parts: &Parts, body: Body) -> Answer {
    let path = parts.uri.path();
    let path = path.strip_prefix("/v2").unwrap_or(path);
    let endpoint = parse_path(path.strip_prefix('/').unwrap_or(path));
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    let endpoint = endpoint.map_err(|error| match error {
        // Whatever cannot be a tag is a manifest that is not there.
        PathError::Reference(_) if is_read => Refusal::unknown_manifest(&error),
        error => Refusal::of_path(&error),
    })?;
    let call = Call { inner, headers: &parts.headers, query: &query };
    match (endpoint, &parts.method) {
        (Endpoint::Ping, &Method::GET | &Method::HEAD) => {
            call.authorize(Action::Ping, None).await?;
            Ok(([(header::CONTENT_TYPE, "application/json")], "{}").into_response())
        }
        (Endpoint::Catalog, &Method::GET) => call.catalog().await,
        (Endpoint::Tags(name), &Method::GET) => call.tags(&name).await,
        (Endpoint::Referrers(name, digest), &Method::GET) => call.referrers(&name, &digest).await,
        (Endpoint::Manifest(name, reference), &Method::GET) => call.manifest(&name, &reference, true).await,
        (Endpoint::Manifest(name, reference), &Method::HEAD) => call.manifest(&name, &reference, false).await,
        (Endpoint::Manifest(name, reference), &Method::PUT) => {
            call.put_manifest(&name, reference, body).await
        }
        (Endpoint::Manifest(name, reference), &Method::DELETE) => {
            call.delete_manifest(&name, &reference).await
        }
        (Endpoint::Blob(name, digest), &Method::GET) => call.blob(&name, &digest, true).await,
        (Endpoint::Blob(name, digest), &Method::HEAD) => call.blob(&name, &digest, false).await,
        (Endpoint::Blob(name, digest), &Method::DELETE) => call.delete_blob(&name, &digest).await,
        (Endpoint::Uploads(name), &Method::POST) => call.begin_upload(&name, body).await,
        (Endpoint::Upload(name, id), &Method::GET) => call.upload_status(&name, &id).await,
        (Endpoint::Upload(name, id), &Method::PATCH) => call.append_upload(&name, &id, body).await,
        (Endpoint::Upload(name, id), &Method::PUT) => call.finish_upload(&name, &id, body).await,
        (Endpoint::Upload(name, id), &Method::DELETE) => call.cancel_upload(&name, &id).await,
        (endpoint, _) => Err(Refusal::unsupported(allowed(&endpoint))),
    }
}

const fn allowed(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Ping => "GET, HEAD",
        Endpoint::Catalog | Endpoint::Tags(_) | Endpoint::Referrers(..) => "GET",
        Endpoint::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Endpoint::Blob(..) => "GET, HEAD, DELETE",
        Endpoint::Uploads(_) => "POST",
        Endpoint::Upload(..) => "GET, PATCH, PUT, DELETE",
    }
}

/// One request, parsed.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    inner: &'a Arc<Inner>,
    headers: &'a HeaderMap,
    query: &'a Query,
}

impl Call<'_> {
    async fn authorize(&self, action: Action, repository: Option<&RepoName>) -> Result<(), Refusal> {
        match self.inner.authorizer.authorize(self.headers, action, repository).await {
            Decision::Allow => Ok(()),
            Decision::Unauthenticated { challenge } => Err(Refusal::unauthenticated(&challenge)),
            Decision::Denied { reason } => Err(Refusal::denied(reason)),
        }
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the client has what `etag` names (`If-None-Match`).
    fn has_current(&self, etag: &str) -> bool {
        let strong = |text: &str| text.trim().trim_start_matches("W/") == etag;
        self.header(header::IF_NONE_MATCH)
            .is_some_and(|list| list.trim() == "*" || list.split(',').any(strong))
    }
}

/// A header's value from text that we made of parsed names, digests and numbers.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn empty(status: StatusCode, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Response {
    let mut answer = status.into_response();
    answer.headers_mut().extend(headers);
    answer
}
