//! Images, releases and targets.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use edgewright_api::routes;
use edgewright_model::names::VariantName;
use serde::Serialize;

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::{SelectionQuery, parsed, query};

pub(super) async fn list(
    State(state): State<ApiState>,
    selection: SelectionQuery,
) -> Result<Response, HttpError> {
    let selection = query(selection)?;
    let page = selection.page(routes::LARGEST_LIMIT);
    let page = state.views.image_page(selection.source()?.as_ref(), &page).await?;
    Ok(selection.respond(routes::IMAGES, &page))
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
) -> Result<Response, HttpError> {
    let selection = query(selection)?;
    let page = selection.page(routes::DEFAULT_LIMIT);
    let (source, number) = (selection.source()?, selection.number());
    let page = state.views.release_page(source.as_ref(), number, &page).await?;
    Ok(selection.respond(routes::RELEASES, &page))
}

pub(super) async fn targets(State(state): State<ApiState>) -> JsonResult<impl Serialize> {
    Ok(Json(state.views.targets().await?))
}
