//! Sites and channels.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use edgewright_api::{ApiError, ChannelPost, ChannelView, SiteView, routes};
use edgewright_control::context::OperationContext;
use edgewright_model::names::{ChannelName, SiteName};
use edgewright_store::channels::{ChannelChange, Pin};

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::{SelectionQuery, parsed, query};
use crate::views::channel;

/// The longest reason of a hold, pin, promotion or rollback, in characters.
const REASON_LIMIT: usize = 500;

pub(super) async fn sites(
    State(state): State<ApiState>,
    selection: SelectionQuery,
) -> Result<Response, HttpError> {
    let selection = query(selection)?;
    let page = selection.page(routes::LARGEST_LIMIT);
    let page = state.views.site_page(selection.source()?.as_ref(), &page).await?;
    Ok(selection.respond(routes::SITES, &page))
}

pub(super) async fn site(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    selection: SelectionQuery,
) -> JsonResult<SiteView> {
    let name: SiteName = parsed(&name)?;
    Ok(Json(state.views.site(&name, query(selection)?.source()?.as_ref()).await?))
}

pub(super) async fn channels(
    State(state): State<ApiState>,
    selection: SelectionQuery,
) -> Result<Response, HttpError> {
    let selection = query(selection)?;
    let page = selection.page(routes::LARGEST_LIMIT);
    let mut page = state.views.channel_page(selection.source()?.as_ref(), &page).await?;
    for channel in &mut page.rows {
        channel.awaited_test = state.control.awaited_test(&channel.source, &channel.name);
    }
    Ok(selection.respond(routes::CHANNELS, &page))
}

pub(super) async fn change_channel(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
    selection: SelectionQuery,
    body: Result<Json<ChannelPost>, JsonRejection>,
) -> JsonResult<ChannelView> {
    let name: ChannelName = parsed(&name)?;
    let Json(post) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let source = query(selection)?.source()?;
    let (control, place) = (&state.control, (source.as_ref(), &name));
    let (source, row) = match post {
        ChannelPost::Promote { release, reason } => {
            control.promote(&context, place, (release, &checked(reason)?)).await?
        }
        ChannelPost::RollBack { to, reason } => {
            control.roll_back(&context, place, (to, &checked(reason)?)).await?
        }
        ChannelPost::Hold { reason } => {
            let change = ChannelChange::Hold { reason: checked(reason)? };
            control.change_channel(&context, source.as_ref(), &name, &change).await?
        }
        ChannelPost::Resume => {
            control.change_channel(&context, source.as_ref(), &name, &ChannelChange::Resume).await?
        }
        ChannelPost::Pin { release, reason } => {
            let change = ChannelChange::Pin(Pin { release, reason: checked(reason)? });
            control.change_channel(&context, source.as_ref(), &name, &change).await?
        }
        ChannelPost::Unpin => {
            control.change_channel(&context, source.as_ref(), &name, &ChannelChange::Unpin).await?
        }
    };
    let awaited_test = control.awaited_test(&source, &row.name);
    Ok(Json(ChannelView { awaited_test, ..channel(source, row) }))
}

/// A reason of one line that is not empty.
pub(super) fn checked(reason: String) -> Result<String, HttpError> {
    let is_valid = !reason.trim().is_empty()
        && reason.chars().count() <= REASON_LIMIT
        && !reason.contains(char::is_control);
    if is_valid {
        return Ok(reason);
    }
    let message = format!("invalid reason: expected one line of 1 to {REASON_LIMIT} characters");
    Err(ApiError::user_fault(message).into())
}
