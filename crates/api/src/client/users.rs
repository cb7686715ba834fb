//! Users, and who the client is.

use edgewright_model::names::UserName;
use reqwest::Method;

use super::{Client, ClientError, RESPONSE_LIMIT, decode};
use crate::{Identity, LoginView, TokenPost, TokenResponse, UserPost, UserView, routes};

impl Client {
    /// The local users.
    pub async fn users(&self) -> Result<Vec<UserView>, ClientError> {
        self.get(routes::USERS, &[]).await
    }

    /// Adds a user, or replaces the roles of one.
    pub async fn set_user(&self, user: &UserPost) -> Result<UserView, ClientError> {
        let request = self.request(Method::POST, routes::USERS, &[]).json(user);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// Removes a user.
    pub async fn remove_user(&self, name: &UserName) -> Result<UserView, ClientError> {
        let request = self.request(Method::DELETE, &routes::user(name.as_str()), &[]);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// Issues a token of a user.
    pub async fn issue_token(&self, name: &UserName, post: &TokenPost) -> Result<TokenResponse, ClientError> {
        let request = self.request(Method::POST, &routes::user_tokens(name.as_str()), &[]).json(post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// Revokes a token of a user.
    pub async fn revoke_token(&self, name: &UserName, id: i64) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &routes::user_token(name.as_str(), id), &[]);
        self.send(request.timeout(RESPONSE_LIMIT)).await.map(drop)
    }

    /// Who this client is to the server.
    pub async fn whoami(&self) -> Result<Identity, ClientError> {
        self.get(routes::WHOAMI, &[]).await
    }

    /// How users log in.
    pub async fn login(&self) -> Result<LoginView, ClientError> {
        self.get(routes::LOGIN, &[]).await
    }
}
