//! The objects of jobs.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use edgewright_api::{ApiError, ExportPost, ExportView};
use edgewright_control::context::OperationContext;
use edgewright_control::rebuilds::Export;

use super::ApiState;
use super::error::JsonResult;

pub(super) async fn export(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    body: Result<Json<ExportPost>, JsonRejection>,
) -> JsonResult<ExportView> {
    let Json(post) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let exported = state.control.export(&context, &post.digest, post.token).await?;
    let Export { objects, notes, expires } = exported;
    Ok(Json(ExportView { objects, notes, expires }))
}
