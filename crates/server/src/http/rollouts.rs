//! Rollouts and the quarantine.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::{Extension, Json};
use edgewright_api::{
    ApiError, QuarantinePost, QuarantineView, RolloutDeviceView, RolloutPost, RolloutView, routes,
};
use edgewright_control::context::OperationContext;
use edgewright_control::rollouts::{RolloutChoice, RolloutOrder};
use edgewright_model::names::DeviceId;
use edgewright_model::run::RolloutNumber;
use serde::Deserialize;

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::{Selection, SelectionQuery, parsed, query};
use crate::views::{rollout, rollout_device};

/// The query of a rollout's devices.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Devices {
    source: Option<String>,
    device: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    selection: SelectionQuery,
) -> Result<Response, HttpError> {
    let selection = query(selection)?;
    let page = selection.page(routes::DEFAULT_LIMIT);
    let page = state.views.rollout_page(selection.source()?.as_ref(), &page).await?;
    Ok(selection.respond(routes::ROLLOUTS, &page))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    selection: SelectionQuery,
) -> JsonResult<RolloutView> {
    let choice = choice(&name, &query(selection)?)?;
    Ok(Json(rollout(state.control.rollouts().state(&choice).await?)))
}

pub(super) async fn order(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
    selection: SelectionQuery,
    body: Result<Json<RolloutPost>, JsonRejection>,
) -> JsonResult<RolloutView> {
    let choice = choice(&name, &query(selection)?)?;
    let Json(post) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let order = match post {
        RolloutPost::Pause => RolloutOrder::Pause,
        RolloutPost::Resume => RolloutOrder::Resume,
        RolloutPost::Abort => RolloutOrder::Abort,
        RolloutPost::Approve { stage } => RolloutOrder::Approve(stage),
        RolloutPost::Urgent => RolloutOrder::Urgent,
    };
    Ok(Json(rollout(state.control.rollouts().order(&context, &choice, &order).await?)))
}

pub(super) async fn devices(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    wanted: Result<Query<Devices>, QueryRejection>,
) -> JsonResult<Vec<RolloutDeviceView>> {
    let Devices { source, device } = query(wanted)?;
    let source = source.as_deref().map(parsed).transpose()?;
    let device: Option<DeviceId> = device.as_deref().map(parsed).transpose()?;
    let choice = chosen(&name, source)?;
    let devices = state.control.rollouts().devices(&choice, device.as_ref()).await?;
    Ok(Json(devices.into_iter().map(rollout_device).collect()))
}

pub(super) async fn quarantine(State(state): State<ApiState>) -> JsonResult<Vec<QuarantineView>> {
    Ok(Json(state.views.quarantine().await?))
}

pub(super) async fn clear(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    body: Result<Json<QuarantinePost>, JsonRejection>,
) -> JsonResult<Vec<QuarantineView>> {
    let Json(QuarantinePost { clear }) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    state.control.clear_quarantine(&context, &clear).await?;
    Ok(Json(state.views.quarantine().await?))
}

fn choice(name: &str, selection: &Selection) -> Result<RolloutChoice, HttpError> {
    chosen(name, selection.source()?)
}

/// A number, or the name of a channel.
fn chosen(
    name: &str,
    source: Option<edgewright_model::names::SourceName>,
) -> Result<RolloutChoice, HttpError> {
    Ok(match name.parse::<RolloutNumber>() {
        Ok(number) => RolloutChoice::Number(number),
        Err(_) => RolloutChoice::Channel(source, parsed(name)?),
    })
}
