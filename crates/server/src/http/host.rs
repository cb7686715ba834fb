//! The `Host` of requests over loopback.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use edgewright_api::ApiError;
use edgewright_model::error::ErrorClass;

use super::error::HttpError;

/// Rejects requests over loopback whose `Host` is a public DNS name other than `own`. Otherwise a web page of
/// that host could read from this server through a browser on this machine (DNS rebinding).
pub(super) fn check(request: &Request, own: &str) -> Result<(), HttpError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
    let Some(host) = edgewright_registry::host(request.uri(), request.headers()) else { return Ok(()) };
    if !peer.is_some_and(|peer| peer.is_loopback()) || host == own || is_local_name(host) {
        return Ok(());
    }
    let error = ApiError {
        code: ErrorClass::Denied,
        message: format!("`{host}` is not an address of this server"),
        hint: Some("set `[server] address` to this name".to_owned()),
    };
    Err(HttpError { status: Some(StatusCode::MISDIRECTED_REQUEST), error })
}

/// Whether a host is an IP address or a local name, not a public DNS name.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    name.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || [".localhost", ".local", ".internal", ".test"].iter().any(|ending| name.ends_with(ending))
}
