//! Digests that are built again.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use edgewright_api::{ApiError, RebuildPost, RebuildStatus};
use edgewright_model::run::RebuildNumber;

use super::{Answer, ApiState, parsed};

pub(super) async fn start(
    State(state): State<ApiState>,
    body: Result<Json<RebuildPost>, JsonRejection>,
) -> Answer<RebuildStatus> {
    let Json(RebuildPost { digest }) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let number = state.control.queue_rebuild(&digest).await?;
    tracing::info!(rebuild.number = number.0, "{digest} is built again");
    Ok(Json(state.views.rebuild(number).await?))
}

pub(super) async fn show(State(state): State<ApiState>, Path(number): Path<String>) -> Answer<RebuildStatus> {
    Ok(Json(state.views.rebuild(parsed::<RebuildNumber>(&number)?).await?))
}
