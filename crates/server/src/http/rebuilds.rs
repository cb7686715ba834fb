//! Rebuilds of digests.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use edgewright_api::{ApiError, RebuildPost, RebuildStatus};
use edgewright_control::context::OperationContext;
use edgewright_model::run::RebuildNumber;

use super::ApiState;
use super::error::JsonResult;
use super::query::parsed;

pub(super) async fn start(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    body: Result<Json<RebuildPost>, JsonRejection>,
) -> JsonResult<RebuildStatus> {
    let Json(RebuildPost { digest }) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let number = state.control.queue_rebuild(&context, &digest).await?;
    tracing::info!(rebuild.number = number.0, image.digest = %digest, "rebuild queued");
    Ok(Json(state.views.rebuild(number).await?))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(number): Path<String>,
) -> JsonResult<RebuildStatus> {
    Ok(Json(state.views.rebuild(parsed::<RebuildNumber>(&number)?).await?))
}
