//! Local users and their tokens, and who the client is.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use edgewright_api::{
    ApiError, Identity, LoginView, TokenPost, TokenResponse, TokenView, UserPost, UserView,
};
use edgewright_control::context::OperationContext;
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::UserName;
use edgewright_model::principal::Principal;
use edgewright_store::users::UserRow;
use jiff::SignedDuration;

use super::ApiState;
use super::error::{HttpError, JsonResult};
use super::query::parsed;
use crate::tokens::{self, TokenKind};

pub(super) async fn list(State(state): State<ApiState>) -> JsonResult<Vec<UserView>> {
    let now = state.clock.now();
    Ok(Json(state.users.list().await?.into_iter().map(|row| view(row, now)).collect()))
}

pub(super) async fn set(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    body: Result<Json<UserPost>, JsonRejection>,
) -> JsonResult<UserView> {
    let Json(UserPost { name, grants }) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let row = state.users.set(&context, &name, &grants).await?;
    tracing::info!(user.name = %name, "user set");
    Ok(Json(view(row, state.clock.now())))
}

pub(super) async fn remove(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
) -> JsonResult<UserView> {
    let name: UserName = parsed(&name)?;
    let row = state.users.remove(&context, &name).await?;
    tracing::info!(user.name = %name, "user removed");
    Ok(Json(view(row, state.clock.now())))
}

pub(super) async fn issue(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path(name): Path<String>,
    body: Result<Json<TokenPost>, JsonRejection>,
) -> JsonResult<TokenResponse> {
    let name: UserName = parsed(&name)?;
    let Json(TokenPost { valid }) = body.map_err(|error| ApiError::user_fault(error.body_text()))?;
    let secret = tokens::generate(TokenKind::User).map_err(|error| {
        let message = format!("cannot generate a token: {error}");
        HttpError::from(ApiError { code: ErrorClass::Unavailable, message, hint: None })
    })?;
    let valid = SignedDuration::try_from(valid.get()).unwrap_or(SignedDuration::MAX);
    let hash = Digest::of(secret.reveal());
    let (id, expires) = state.users.issue(&context, &name, (&hash, valid)).await?;
    tracing::info!(user.name = %name, token.id = id, "token issued");
    Ok(Json(TokenResponse { id, token: secret.reveal().to_owned(), expires }))
}

pub(super) async fn revoke(
    State(state): State<ApiState>,
    Extension(context): Extension<OperationContext>,
    Path((name, token)): Path<(String, String)>,
) -> Result<String, HttpError> {
    let (name, id): (UserName, i64) = (parsed(&name)?, parsed(&token)?);
    state.users.revoke(&context, &name, id).await?;
    tracing::info!(user.name = %name, token.id = id, "token revoked");
    Ok(format!("token {id} of {name} is revoked\n"))
}

pub(super) async fn whoami(Extension(context): Extension<OperationContext>) -> Json<Identity> {
    let actor = context.actor();
    let grants = match actor {
        Principal::User { grants, .. } => grants.to_vec(),
        _ => Vec::new(),
    };
    Json(Identity { principal: actor.id(), grants })
}

pub(super) async fn login(State(state): State<ApiState>) -> JsonResult<LoginView> {
    let live = state.live.now();
    let provider = live.provider.as_ref().ok_or_else(|| {
        ApiError::not_found(
            "this server trusts no login provider",
            "set `[access.oidc]` in the server's settings, or use a token: --token-file FILE",
        )
    })?;
    Ok(Json(provider.login()))
}

/// A user without expired tokens.
fn view(row: UserRow, now: jiff::Timestamp) -> UserView {
    let tokens = row.tokens.into_iter().filter(|token| token.expires_at > now);
    UserView {
        name: row.name,
        grants: row.grants,
        created: row.created_at,
        tokens: tokens
            .map(|token| TokenView { id: token.id, created: token.created_at, expires: token.expires_at })
            .collect(),
    }
}
