//! Sources: the list, polls, update checks and webhooks.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use edgewright_api::{ApiError, PollResponse, RunResponse};
use edgewright_control::context::OperationContext;
use edgewright_model::names::{ImageName, SourceName};
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::{parsed, query};

pub(super) async fn list(State(state): State<ApiState>) -> JsonResult<impl Serialize> {
    Ok(Json(state.views.sources().await?))
}

pub(super) async fn poll(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
) -> JsonResult<PollResponse> {
    let source: SourceName = parsed(&name)?;
    if state.control.wake_named(&context, &source)? {
        return Ok(Json(PollResponse { source }));
    }
    Err(no_source(&source))
}

/// The images to check for updates; all if empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Images {
    images: String,
}

pub(super) async fn update(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
    images: Result<Query<Images>, QueryRejection>,
) -> JsonResult<RunResponse> {
    let source: SourceName = parsed(&name)?;
    let Images { images } = query(images)?;
    let names = images.split(',').filter(|name| !name.is_empty());
    let images = names.map(parsed::<ImageName>).collect::<Result<_, _>>()?;
    let run = state.control.update_named(&context, &source, &images).await?;
    tracing::info!(run.number = run.0, source.name = %source, "update check queued");
    Ok(Json(RunResponse { run }))
}

/// A webhook whose signature [`super::access::Gate`] has verified.
pub(super) async fn hook(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path((_, source)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    let source: SourceName = parsed(&source)?;
    if !state.control.wake_named(&context, &source)? {
        return Err(no_source(&source));
    }
    tracing::info!(source.name = %source, "poll requested by webhook");
    Ok((StatusCode::ACCEPTED, "the source is polled now\n").into_response())
}

fn no_source(source: &SourceName) -> HttpError {
    let message = format!("source `{source}` is not configured");
    ApiError::not_found(message, "`edgewright status` lists the sources").into()
}
