//! Verdicts of external systems.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use edgewright_api::{ApiError, VerdictPost, VerdictResponse};
use edgewright_control::context::OperationContext;

use super::ApiState;
use super::error::JsonResult;

pub(super) async fn post(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    body: Result<Json<VerdictPost>, JsonRejection>,
) -> JsonResult<VerdictResponse> {
    let Json(body) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let VerdictPost { digest, check_set, passed, message, url } = body;
    let post =
        edgewright_control::posting::VerdictPost { digest: digest.clone(), check_set, passed, message, url };
    let posted = state.control.post_verdict(&context, post).await?;
    tracing::info!(run.number = posted.run.0, image.digest = %digest, passed, "verdict received");
    Ok(Json(VerdictResponse {
        digest,
        check_set: posted.check_set,
        run: posted.run,
        awaited_by: posted.awaited_by,
    }))
}
