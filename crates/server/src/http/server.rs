//! The server itself: the start page, readiness, status and metrics.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use edgewright_api::{ApiError, routes};
use edgewright_model::error::ErrorClass;
use serde::Serialize;

use super::ApiState;
use super::error::{HttpError, JsonResult};
use crate::metrics;
use crate::views::reconciler;

/// A text for people who open the server's address in a browser.
pub(super) async fn index() -> String {
    format!(
        "Edgewright {}\n\n\
         This server builds, tests and hosts operating-system images.\n\n\
         status    {} (or: edgewright status --server URL)\n\
         API       {}\n\
         metrics   {}\n\
         registry  /v2/ (podman pull HOST:PORT/SOURCE/IMAGE:CHANNEL)\n",
        env!("CARGO_PKG_VERSION"),
        routes::STATUS,
        routes::OPENAPI,
        routes::METRICS,
    )
}

pub(super) async fn ready(State(state): State<ApiState>) -> Response {
    if state.ready.load(Ordering::Acquire) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

pub(super) async fn status(State(state): State<ApiState>) -> JsonResult<impl Serialize> {
    let mut status = state.views.status().await?;
    status.reconcilers = state.control.reconcilers().into_iter().map(reconciler).collect();
    Ok(Json(status))
}

pub(super) async fn scrape(State(state): State<ApiState>) -> Result<Response, HttpError> {
    let mut snapshot = state.views.snapshot(&state.live.now().sinks).await?;
    snapshot.reconcilers = state.control.reconcilers();
    (snapshot.storage_bytes, snapshot.external) = (state.storage)().await;
    let text = state.metrics.text(&snapshot).map_err(|error| ApiError {
        code: ErrorClass::Bug,
        message: format!("cannot encode metrics: {error}"),
        hint: None,
    })?;
    Ok(([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}
