//! Verdicts of other systems.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use edgewright_api::{ApiError, VerdictPost, VerdictResponse};
use edgewright_control::context::OperationContext;
use edgewright_control::posting::PostError;
use edgewright_model::error::Chain;

use super::{Answer, ApiState, Refusal};

impl From<PostError> for Refusal {
    fn from(error: PostError) -> Self {
        let hint = error.hint().map(str::to_owned);
        ApiError { code: error.class(), message: Chain(&error).to_string(), hint }.into()
    }
}

pub(super) async fn post(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    body: Result<Json<VerdictPost>, JsonRejection>,
) -> Answer<VerdictResponse> {
    let Json(body) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let VerdictPost { digest, check_set, passed, message, url } = body;
    let post =
        edgewright_control::posting::VerdictPost { digest: digest.clone(), check_set, passed, message, url };
    let posted = state.control.post_verdict(&context, post).await?;
    tracing::info!(run.number = posted.run.0, passed, "a verdict about {digest} was posted");
    Ok(Json(VerdictResponse {
        digest,
        check_set: posted.check_set,
        run: posted.run,
        awaited_by: posted.awaited_by,
    }))
}
