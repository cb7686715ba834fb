//! Images, releases and targets.

use axum::Json;
use axum::extract::{Path, State};
use edgewright_model::names::VariantName;
use serde::Serialize;

use super::ApiState;
use super::error::JsonResult;
use super::query::{SelectionQuery, parsed, query};

pub(super) async fn list(
    State(state): State<ApiState>,
    selection: SelectionQuery,
) -> JsonResult<impl Serialize> {
    Ok(Json(state.views.images(query(selection)?.source()?.as_ref()).await?))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(variant): Path<String>,
    selection: SelectionQuery,
) -> JsonResult<impl Serialize> {
    let variant: VariantName = parsed(&variant)?;
    Ok(Json(state.views.image(&variant, query(selection)?.source()?.as_ref()).await?))
}

pub(super) async fn releases(
    State(state): State<ApiState>,
    selection: SelectionQuery,
) -> JsonResult<impl Serialize> {
    let selection = query(selection)?;
    Ok(Json(state.views.releases(selection.source()?.as_ref(), selection.limit()).await?))
}

pub(super) async fn targets(State(state): State<ApiState>) -> JsonResult<impl Serialize> {
    Ok(Json(state.views.targets().await?))
}
