//! Users, their tokens, and the login.

use edgewright_model::duration::Span;
use edgewright_model::names::UserName;
use edgewright_model::principal::PrincipalId;
use edgewright_model::role::Grant;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A local user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Name.
    #[schema(value_type = String)]
    pub name: UserName,
    /// Roles with their scopes, such as `viewer`, `operator:source=plants`.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<Grant>,
    /// Time at which the user was added.
    pub created: Timestamp,
    /// Tokens that are valid, oldest first.
    pub tokens: Vec<TokenView>,
}

/// A token of a user. The token itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Id, by which it is revoked.
    pub id: i64,
    /// Time at which it was issued.
    pub created: Timestamp,
    /// Time at which it expires.
    pub expires: Timestamp,
}

/// A user to add, or to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserPost {
    /// Name.
    #[schema(value_type = String)]
    pub name: UserName,
    /// Roles with their scopes; they replace those that the user has.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<Grant>,
}

/// A token to issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenPost {
    /// How long it is valid, such as `90d`.
    #[schema(value_type = String)]
    pub valid: Span,
}

/// A token that was issued. It is shown only here.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenResponse {
    /// Id, by which it is revoked.
    pub id: i64,
    /// The token.
    pub token: String,
    /// Time at which it expires.
    pub expires: Timestamp,
}

impl std::fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenResponse").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Who a client is to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// Principal, such as `user:anna`, or `anonymous`.
    #[schema(value_type = String)]
    pub principal: PrincipalId,
    /// Roles with their scopes; none for principals that are no users.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<Grant>,
}

/// How users log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginView {
    /// The provider (OpenID Connect).
    pub issuer: String,
    /// Id of the command at the provider.
    pub client_id: String,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// Which token of the provider the server accepts: `id_token` or `access_token`.
    pub token: LoginToken,
    /// The audience to ask for an access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// A token of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginToken {
    /// The ID token, whose audience is the client.
    IdToken,
    /// The access token, for an audience of its own.
    AccessToken,
}
