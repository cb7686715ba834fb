//! Counting requests to the registry.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::Metrics;
use super::labels::{RequestKind, RequestLabels, RequestMethod};

/// Middleware that counts each request to the registry.
pub async fn count_registry(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let (kind, method) = (kind_of(request.uri().path()), method_of(request.method()));
    let response = next.run(request).await;
    let labels = RequestLabels { kind, method, status: response.status().as_u16() };
    metrics.requests.get_or_create(&labels).inc();
    response
}

/// The kind of object that a path names. Read from the right, because repositories contain `/`.
fn kind_of(path: &str) -> RequestKind {
    let parts: Vec<&str> = path.trim_end_matches('/').rsplit('/').take(3).collect();
    match parts.as_slice() {
        ["v2", ..] => RequestKind::Ping,
        ["_catalog", ..] => RequestKind::Catalog,
        ["list", "tags", ..] => RequestKind::Tags,
        ["uploads", "blobs", ..] | [_, "uploads", "blobs"] => RequestKind::Upload,
        [_, "manifests", ..] => RequestKind::Manifest,
        [_, "blobs", ..] => RequestKind::Blob,
        [_, "referrers", ..] => RequestKind::Referrers,
        _ => RequestKind::Other,
    }
}

fn method_of(method: &Method) -> RequestMethod {
    match *method {
        Method::GET => RequestMethod::Get,
        Method::HEAD => RequestMethod::Head,
        Method::PUT => RequestMethod::Put,
        Method::POST => RequestMethod::Post,
        Method::PATCH => RequestMethod::Patch,
        Method::DELETE => RequestMethod::Delete,
        _ => RequestMethod::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_the_kind_of_object() {
        for (path, kind) in [
            ("/v2/", "ping"),
            ("/v2/_catalog", "catalog"),
            ("/v2/a/b/tags/list", "tags"),
            ("/v2/a/b/blobs/uploads/", "upload"),
            ("/v2/a/b/blobs/uploads/17", "upload"),
            ("/v2/a/b/blobs/sha256:00", "blob"),
            ("/v2/a/b/manifests/stable", "manifest"),
            ("/v2/a/b/referrers/sha256:00", "referrers"),
            ("/v2/a", "other"),
        ] {
            assert_eq!(kind_of(path).value(), kind, "{path}");
        }
    }
}
