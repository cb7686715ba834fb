//! Errors as responses: [`ApiError`] documents with their status.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use edgewright_api::ApiError;
use edgewright_api::error::status_of;
use edgewright_control::ControlError;
use edgewright_control::posting::PostError;
use edgewright_model::error::{Chain, ErrorClass};

use super::access;
use crate::views::ViewError;

/// Where developers of clients find the operations.
const SEE_ROUTES: &str = "`/api/v1/openapi.json` lists the operations";

/// An error with its status.
#[derive(Debug)]
pub(super) struct HttpError {
    pub(super) error: ApiError,
    /// If it differs from the status of the error's class.
    pub(super) status: Option<StatusCode>,
}

/// The response of a handler.
pub(super) type JsonResult<T> = Result<Json<T>, HttpError>;

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let of_class = StatusCode::from_u16(status_of(self.error.code));
        let status = self.status.or(of_class.ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if matches!(self.error.code, ErrorClass::Bug | ErrorClass::Unavailable) {
            tracing::error!(http.status = status.as_u16(), error = self.error.message, "request failed");
        }
        let mut response = (status, Json(self.error)).into_response();
        access::challenge(&mut response);
        response
    }
}

/// The response to a request whose handler panicked. The message of the panic may contain anything, and is
/// only logged.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    let message = "a defect of the server ended this request".to_owned();
    let hint = Some("see the server's log at this time".to_owned());
    HttpError::from(ApiError { code: ErrorClass::Bug, message, hint }).into_response()
}

/// The largest error document that [`oci_errors`] translates, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// The middleware around everything: below `/v2/` errors of the access checks and of defects have an OCI
/// body, too, because registry clients print nothing else.
pub(crate) async fn oci_errors(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_registry = path == "/v2" || path.starts_with("/v2/");
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_registry || !is_error || response.headers().contains_key(edgewright_registry::API_VERSION) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_ERROR_BYTES).await.unwrap_or_default();
    let message = match serde_json::from_slice::<ApiError>(&bytes) {
        Ok(ApiError { message, hint: Some(hint), .. }) => format!("{message}; {hint}"),
        Ok(ApiError { message, .. }) => message,
        Err(_) => status.to_string(),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    let mut translated = edgewright_registry::error_response(status, message);
    translated.headers_mut().extend(parts.headers);
    translated
}

impl From<ApiError> for HttpError {
    fn from(error: ApiError) -> Self {
        Self { error, status: None }
    }
}

impl From<ViewError> for HttpError {
    fn from(error: ViewError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<ControlError> for HttpError {
    fn from(error: ControlError) -> Self {
        let hint = error.hint().map(str::to_owned);
        ApiError { code: error.class(), message: Chain(&error).to_string(), hint }.into()
    }
}

impl From<PostError> for HttpError {
    fn from(error: PostError) -> Self {
        let hint = error.hint().map(str::to_owned);
        ApiError { code: error.class(), message: Chain(&error).to_string(), hint }.into()
    }
}

/// 404 for a path without a route.
pub(super) fn no_route() -> HttpError {
    ApiError::not_found("no such address", "check that client and server have the same version").into()
}

/// 405; `allowed` lists the methods that the route has.
pub(super) fn not_allowed(method: &Method, allowed: &str) -> Response {
    let message = format!("method `{method}` is not supported here");
    let error = ApiError { code: ErrorClass::UserFault, message, hint: Some(SEE_ROUTES.to_owned()) };
    let mut response = (StatusCode::METHOD_NOT_ALLOWED, Json(error)).into_response();
    if let Ok(value) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn every_error_below_v2_has_an_oci_body() {
        let rejecting = || async {
            let error =
                ApiError { code: ErrorClass::Denied, message: "no".to_owned(), hint: Some("ask".to_owned()) };
            HttpError { status: Some(StatusCode::FORBIDDEN), error }
        };
        let app = axum::Router::new()
            .route("/v2/{*rest}", get(rejecting))
            .route("/api", get(rejecting))
            .layer(axum::middleware::from_fn(oci_errors));
        for (path, is_oci) in [("/v2/a/manifests/b", true), ("/api", false)] {
            let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN);
            let bytes = to_bytes(response.into_body(), 4096).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let error = &body["errors"][0];
            assert_eq!(error["code"] == "DENIED" && error["message"] == "no; ask", is_oci, "{body}");
        }
    }

    #[tokio::test]
    async fn the_response_to_a_panic_does_not_contain_its_message() {
        let response = panicked(Box::new("a token: ewop_1234"));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(error.code, ErrorClass::Bug);
        assert!(!error.message.contains("ewop_"), "{}", error.message);
    }
}
