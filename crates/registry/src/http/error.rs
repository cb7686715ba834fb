//! Error responses (distribution-spec, "Error Codes"): the only place that maps errors to a status and a
//! code.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use edgewright_model::error::Chain;
use serde_json::json;

use super::value;
use crate::error::RegistryError;
use crate::request::PathError;

/// When clients that get 429, or 503 because of an external registry, try again, in seconds. Meanwhile idle
/// uploads and slow downloads end.
const RETRY_AFTER_SECONDS: &str = "30";

/// An error response.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl HttpError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn with(self, name: HeaderName, text: &str) -> Self {
        self.with_value((name, value(text)))
    }

    pub(super) fn with_value(mut self, header: (HeaderName, HeaderValue)) -> Self {
        self.headers.push(header);
        self
    }

    /// No part of a blob of `size` bytes is requested.
    pub(super) fn range_not_satisfiable(size: u64) -> Self {
        let message = format!("no requested range is inside of the blob, which has {size} bytes");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message)
            .with(header::CONTENT_RANGE, &format!("bytes */{size}"))
    }

    pub(super) fn unauthenticated(reason: String, challenge: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", reason).with(header::WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn denied(reason: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", reason)
    }

    pub(super) fn unsupported(allowed: &'static str) -> Self {
        let message = format!("method not allowed: this endpoint supports {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message).with(header::ALLOW, allowed)
    }

    pub(super) fn unknown_manifest(error: &PathError) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", error.to_string())
    }

    pub(super) fn of_path(error: &PathError) -> Self {
        let (status, code) = match error {
            PathError::NotFound => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            PathError::Name(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            PathError::Digest(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            PathError::Reference(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            PathError::Upload => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        };
        Self::new(status, code, error.to_string())
    }

    pub(super) fn digest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(super) fn upload_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn name_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message)
    }

    pub(super) fn tag_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", message)
    }

    pub(super) fn page_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message)
    }

    pub(super) fn into_response(self) -> Response {
        let body = json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]});
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

/// An error response of a program around the registry, for requests that it rejects itself.
pub fn error_response(status: StatusCode, message: impl Into<String>) -> Response {
    let code = match status {
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => "DENIED",
        StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
        StatusCode::NOT_FOUND => "NAME_UNKNOWN",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => "UNAVAILABLE",
        status if status.is_client_error() => "UNSUPPORTED",
        _ => "UNKNOWN",
    };
    HttpError::new(status, code, message).into_response()
}

impl From<RegistryError> for HttpError {
    fn from(error: RegistryError) -> Self {
        let (status, code) = match &error {
            RegistryError::NameUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            RegistryError::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            RegistryError::BlobUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            RegistryError::ReferenceUnknown { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            RegistryError::UploadUnknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            RegistryError::UploadInUse => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
            RegistryError::ChunkOutOfOrder { .. } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID")
            }
            RegistryError::BodyIncomplete => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            RegistryError::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            RegistryError::SizeMismatch { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            RegistryError::ManifestInvalid(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            RegistryError::ManifestTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID"),
            RegistryError::Reserved { .. } | RegistryError::Pinned { .. } => (StatusCode::CONFLICT, "DENIED"),
            RegistryError::Referenced { .. } => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            RegistryError::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            RegistryError::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE"),
            RegistryError::ResolverUnavailable
            | RegistryError::ExternalUnavailable(_)
            | RegistryError::Closed
            | RegistryError::Writer(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            RegistryError::NewerSchema(_)
            | RegistryError::Metadata(_)
            | RegistryError::Migrate(_)
            | RegistryError::Corrupt(_)
            | RegistryError::Store(_)
            | RegistryError::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        };
        if status.is_server_error() {
            tracing::error!(error = %Chain(&error), "request failed");
        }
        let response = Self::new(status, code, error.to_string());
        match error {
            RegistryError::Referenced { .. } => response.with(header::ALLOW, "GET, HEAD"),
            RegistryError::Busy(_) | RegistryError::ExternalUnavailable(_) => {
                response.with(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
            }
            _ => response,
        }
    }
}
