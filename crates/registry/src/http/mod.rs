//! The distribution API over HTTP (distribution-spec 1.1): parse, authorize, one call into the registry,
//! respond.

mod blobs;
mod error;
mod lists;
mod manifests;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use edgewright_model::principal::Principal;
use serde_json::json;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::credentials::{challenge, token_for};
use crate::drain::{Drained, IsDrained};
use crate::pace::{CLIENT_RATE_LIMIT, Pace, paced};
use crate::ports::{AccessRequest, Action, Decision};
use crate::registry::Inner;
use crate::request::{Endpoint, PathError, Query, parse_path};
use error::HttpError;

pub use error::error_response;

/// On every response of the registry itself.
pub const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The lifetime of a bearer token on the client side, in seconds.
const TOKEN_SECONDS: u32 = 3600;

type HttpResult = Result<Response, HttpError>;

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*rest}", any(handle))
        .layer(SetResponseHeaderLayer::overriding(API_VERSION, HeaderValue::from_static("registry/2.0")))
        .with_state(inner)
}

async fn handle(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    if !body.is_end_stream() && parts.extensions.get::<IsDrained>().is_none() {
        let pace = Pace::new(inner.settings.idle_limit, CLIENT_RATE_LIMIT);
        let expects_continue = parts.headers.contains_key(header::EXPECT);
        body = Drained::body(paced(body, pace), expects_continue, inner.drains());
    }
    respond(&inner, &parts, body).await.unwrap_or_else(HttpError::into_response)
}

async fn respond(inner: &Arc<Inner>, parts: &Parts, body: Body) -> HttpResult {
    let path = parts.uri.path();
    let path = path.strip_prefix("/v2").unwrap_or(path);
    let endpoint = parse_path(path.strip_prefix('/').unwrap_or(path));
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    let endpoint = endpoint.map_err(|error| match error {
        // An invalid tag is a manifest that does not exist.
        PathError::Reference(_) if is_read => HttpError::unknown_manifest(&error),
        error => HttpError::of_path(&error),
    })?;
    let Some(action) = action(&endpoint, &parts.method) else {
        return Err(HttpError::unsupported(allowed(&endpoint)));
    };
    let principal = authorize(inner, parts, action).await?;
    Call { inner, parts, query: &query, principal: &principal }.dispatch(endpoint, body).await
}

/// The action of a request; none if the endpoint does not support the method.
fn action<'a>(endpoint: &'a Endpoint, method: &Method) -> Option<Action<'a>> {
    Some(match (endpoint, method) {
        (Endpoint::Ping, &Method::GET | &Method::HEAD) => Action::Ping,
        (Endpoint::Token, &Method::GET) => Action::Token,
        (Endpoint::Catalog, &Method::GET) => Action::Catalog,
        (Endpoint::Tags(name), &Method::GET) => Action::ListTags(name),
        (Endpoint::Referrers(name, _), &Method::GET) => Action::ListReferrers(name),
        (Endpoint::Manifest(name, reference), &Method::GET | &Method::HEAD) => {
            Action::PullManifest(name, reference)
        }
        (Endpoint::Manifest(name, _), &Method::PUT) => Action::PushManifest(name),
        (Endpoint::Manifest(name, _), &Method::DELETE) => Action::DeleteManifest(name),
        (Endpoint::Blob(name, digest), &Method::GET) => Action::PullBlob(name, digest),
        (Endpoint::Blob(name, digest), &Method::HEAD) => Action::LookForBlob(name, digest),
        (Endpoint::Blob(name, _), &Method::DELETE) => Action::DeleteBlob(name),
        (Endpoint::Uploads(name), &Method::POST)
        | (Endpoint::Upload(name, _), &Method::GET | &Method::PATCH | &Method::PUT | &Method::DELETE) => {
            Action::PushBlob(name)
        }
        _ => return None,
    })
}

async fn authorize(inner: &Inner, parts: &Parts, action: Action<'_>) -> Result<Principal, HttpError> {
    let request =
        AccessRequest { headers: &parts.headers, extensions: &parts.extensions, action, contents: inner };
    match inner.authorizer.authorize(request).await {
        Decision::Allow(principal) => Ok(principal),
        Decision::Unauthenticated { reason } => {
            let challenge = challenge(&parts.uri, &parts.headers, &parts.extensions, action);
            Err(HttpError::unauthenticated(reason, &challenge))
        }
        Decision::Denied { reason } => Err(HttpError::denied(reason)),
    }
}

const fn allowed(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Ping => "GET, HEAD",
        Endpoint::Token | Endpoint::Catalog | Endpoint::Tags(_) | Endpoint::Referrers(..) => "GET",
        Endpoint::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Endpoint::Blob(..) => "GET, HEAD, DELETE",
        Endpoint::Uploads(_) => "POST",
        Endpoint::Upload(..) => "GET, PATCH, PUT, DELETE",
    }
}

/// One parsed and authorized request.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    inner: &'a Arc<Inner>,
    parts: &'a Parts,
    query: &'a Query,
    principal: &'a Principal,
}

impl Call<'_> {
    /// Dispatches a request with a supported method to its handler.
    async fn dispatch(self, endpoint: Endpoint, body: Body) -> HttpResult {
        let method = &self.parts.method;
        match endpoint {
            Endpoint::Ping => Ok(([(header::CONTENT_TYPE, "application/json")], "{}").into_response()),
            Endpoint::Token => Ok(self.token()),
            Endpoint::Catalog => self.catalog().await,
            Endpoint::Tags(name) => self.tags(&name).await,
            Endpoint::Referrers(name, digest) => self.referrers(&name, &digest).await,
            Endpoint::Manifest(name, reference) => match *method {
                Method::PUT => self.put_manifest(&name, reference, body).await,
                Method::DELETE => self.delete_manifest(&name, &reference).await,
                _ => self.manifest(&name, &reference).await,
            },
            Endpoint::Blob(name, digest) => match *method {
                Method::DELETE => self.delete_blob(&name, &digest).await,
                _ => self.blob(&name, &digest).await,
            },
            Endpoint::Uploads(name) => self.begin_upload(&name, body).await,
            Endpoint::Upload(name, id) => match *method {
                Method::PATCH => self.append_upload(&name, &id, body).await,
                Method::PUT => self.finish_upload(&name, &id, body).await,
                Method::DELETE => self.cancel_upload(&name, &id).await,
                _ => self.upload_status(&name, &id).await,
            },
        }
    }

    /// The bearer token for the client's credentials, which have been verified.
    fn token(self) -> Response {
        let token = token_for(&self.parts.headers);
        let body = json!({"token": token, "access_token": token, "expires_in": TOKEN_SECONDS});
        ([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
    }

    /// Authorizes a further action that the request needs.
    async fn authorize(&self, action: Action<'_>) -> Result<(), HttpError> {
        authorize(self.inner, self.parts, action).await.map(drop)
    }

    fn wants_body(&self) -> bool {
        self.parts.method != Method::HEAD
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// Whether the client has the entity `etag` (`If-None-Match`).
    fn has_current(&self, etag: &str) -> bool {
        let strong = |text: &str| text.trim().trim_start_matches("W/") == etag;
        self.header(header::IF_NONE_MATCH)
            .is_some_and(|list| list.trim() == "*" || list.split(',').any(strong))
    }
}

/// A header's value from text that consists of parsed names, digests and numbers.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn empty(status: StatusCode, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Response {
    let mut response = status.into_response();
    response.headers_mut().extend(headers);
    response
}
