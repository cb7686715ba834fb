//! Evidence of lanes. Its content is that of an image under test, so a browser must neither render nor guess
//! it.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use edgewright_api::{ApiError, EvidenceQuery};
use edgewright_model::spec::Lane;
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::{parsed, query};

pub(super) async fn list(
    State(state): State<ApiState>,
    Path((number, node)): Path<(String, String)>,
) -> JsonResult<impl Serialize> {
    Ok(Json(state.views.evidence(parsed(&number)?, &node).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PieceQuery {
    lane: Option<String>,
    platform: Option<String>,
}

impl PieceQuery {
    fn read(self) -> Result<EvidenceQuery, HttpError> {
        let lane = |text: String| {
            let found = Lane::ALL.into_iter().find(|lane| lane.name() == text);
            found.ok_or_else(|| ApiError {
                hint: Some(format!("expected one of {}", Lane::ALL.map(Lane::name).join(", "))),
                ..ApiError::user_fault(format!("unknown lane `{text}`"))
            })
        };
        let platform = self.platform.as_deref().map(parsed).transpose()?;
        Ok(EvidenceQuery { lane: self.lane.map(lane).transpose()?, platform })
    }
}

pub(super) async fn piece(
    State(state): State<ApiState>,
    Path((number, name, node)): Path<(String, String, String)>,
    piece_query: Result<Query<PieceQuery>, QueryRejection>,
) -> Result<Response, HttpError> {
    let of = query(piece_query)?.read()?;
    let bytes = state.views.piece(parsed(&number)?, &node, &name, &of).await?;
    Ok((
        [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_DISPOSITION, "attachment; filename=\"evidence.txt\""),
            (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        ],
        bytes,
    )
        .into_response())
}
