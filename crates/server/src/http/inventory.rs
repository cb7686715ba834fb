//! Sites and channels.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use edgewright_api::{ApiError, ChannelPost, ChannelView, SiteSummary, SiteView};
use edgewright_control::context::OperationContext;
use edgewright_model::names::{ChannelName, SiteName};
use edgewright_store::channels::{ChannelChange, Pin};

use super::{Answer, ApiState, Refusal, SelectionQuery, parsed, selection};
use crate::views::channel;

/// The longest reason, in characters.
const REASON_LIMIT: usize = 500;

pub(super) async fn sites(State(state): State<ApiState>, query: SelectionQuery) -> Answer<Vec<SiteSummary>> {
    Ok(Json(state.views.sites(selection(query)?.source()?.as_ref()).await?))
}

pub(super) async fn site(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    query: SelectionQuery,
) -> Answer<SiteView> {
    let name: SiteName = parsed(&name)?;
    Ok(Json(state.views.site(&name, selection(query)?.source()?.as_ref()).await?))
}

pub(super) async fn change_channel(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
    query: SelectionQuery,
    body: Result<Json<ChannelPost>, JsonRejection>,
) -> Answer<ChannelView> {
    let name: ChannelName = parsed(&name)?;
    let Json(post) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let (source, change) = (selection(query)?.source()?, change(post)?);
    let (source, row) = state.control.change_channel(&context, source.as_ref(), &name, &change).await?;
    Ok(Json(channel(source, row)))
}

fn change(post: ChannelPost) -> Result<ChannelChange, Refusal> {
    Ok(match post {
        ChannelPost::Hold { reason } => ChannelChange::Hold { reason: checked(reason)? },
        ChannelPost::Resume => ChannelChange::Resume,
        ChannelPost::Pin { release, reason } => ChannelChange::Pin(Pin { release, reason: checked(reason)? }),
        ChannelPost::Unpin => ChannelChange::Unpin,
    })
}

/// A reason that says something, on one line.
fn checked(reason: String) -> Result<String, Refusal> {
    let is_fine = !reason.trim().is_empty()
        && reason.chars().count() <= REASON_LIMIT
        && !reason.contains(char::is_control);
    if is_fine {
        return Ok(reason);
    }
    let message = format!("invalid reason: want one line of 1 to {REASON_LIMIT} characters");
    Err(ApiError::user_fault(message).into())
}
