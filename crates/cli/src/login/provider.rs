//! Requests to the provider: discovery, and the token endpoint (RFC 6749, RFC 8414).

use std::path::PathBuf;
use std::time::Duration;

use edgewright_api::{LoginToken, LoginView};
use edgewright_model::error::ErrorClass;
use edgewright_process::Clock;
use jiff::{SignedDuration, Timestamp};
use reqwest::redirect::Policy;
use serde::Deserialize;

use super::Login;
use crate::exit::Failure;

/// How long the provider may take for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a token is used if the provider does not state it, in seconds.
const DEFAULT_LIFETIME: i64 = 300;

/// A provider, found by discovery.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(super) view: LoginView,
    pub(super) endpoints: Endpoints,
    http: reqwest::Client,
    ca_file: Option<PathBuf>,
}

/// The part of a discovery document that is used.
#[derive(Debug, Deserialize)]
pub(super) struct Endpoints {
    issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    #[serde(default)]
    pub(super) device_authorization_endpoint: Option<String>,
}

/// The response of the token endpoint.
#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<i64>,
}

/// An error of a provider (RFC 6749, section 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Rejected {
    pub(super) error: String,
    #[serde(default)]
    pub(super) error_description: Option<String>,
}

impl Rejected {
    pub(super) fn failure(&self) -> Failure {
        let why = self.error_description.as_ref().unwrap_or(&self.error);
        Failure::new(ErrorClass::Denied, format!("login rejected by the provider: {why}"))
    }
}

/// A response that was expected, or the provider's error.
pub(super) enum Reply<T> {
    Given(T),
    Rejected(Rejected),
}

impl Provider {
    /// Reads the provider's discovery document.
    pub(crate) async fn open(view: LoginView, ca_file: Option<PathBuf>) -> Result<Self, Failure> {
        let failed = |error: &reqwest::Error| Failure::unavailable("cannot make an HTTP client", error);
        let mut http = reqwest::Client::builder().timeout(RESPONSE_TIMEOUT).redirect(Policy::none());
        if let Some(path) = &ca_file {
            let text = tokio::fs::read(path).await;
            let text = text.map_err(|error| Failure::file("cannot read the authorities in", path, &error))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&text).map_err(|error| failed(&error))?;
            http = http.tls_certs_merge(authorities);
        }
        let http = http.build().map_err(|error| failed(&error))?;
        let url = format!("{}/.well-known/openid-configuration", view.issuer.trim_end_matches('/'));
        let unreachable = |error: &reqwest::Error| {
            Failure::unavailable("cannot read the login provider's description", error)
        };
        let response = http.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        let endpoints: Endpoints = response
            .map_err(|error| unreachable(&error))?
            .json()
            .await
            .map_err(|error| unreachable(&error))?;
        if endpoints.issuer != view.issuer {
            let message = format!("{url} describes the provider {}, not {}", endpoints.issuer, view.issuer);
            return Err(Failure::new(ErrorClass::Denied, message));
        }
        Ok(Self { view, endpoints, http, ca_file })
    }

    /// Sends a form, and reads JSON.
    pub(super) async fn post<T: serde::de::DeserializeOwned>(
        &self,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Reply<T>, Failure> {
        let failed =
            |error: &reqwest::Error| Failure::unavailable("the login provider does not respond", error);
        let request = self.http.post(url).header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(form(fields)).send().await.map_err(|error| failed(&error))?;
        let is_success = response.status().is_success();
        let body = response.bytes().await.map_err(|error| failed(&error))?;
        let malformed = |error| Failure::unavailable("unexpected response of the login provider", &error);
        if is_success {
            return Ok(Reply::Given(serde_json::from_slice(&body).map_err(malformed)?));
        }
        Ok(Reply::Rejected(serde_json::from_slice(&body).map_err(malformed)?))
    }

    /// Asks for tokens.
    pub(super) async fn tokens(&self, fields: &[(&str, &str)]) -> Result<Reply<Login>, Failure> {
        let mut fields = fields.to_vec();
        fields.push(("client_id", &self.view.client_id));
        if let Some(resource) = &self.view.resource {
            fields.push(("resource", resource));
        }
        let asked = Clock::system().now();
        match self.post::<Tokens>(&self.endpoints.token_endpoint, &fields).await? {
            Reply::Given(tokens) => Ok(Reply::Given(self.login(tokens, asked)?)),
            Reply::Rejected(rejected) => Ok(Reply::Rejected(rejected)),
        }
    }

    /// A login from a response.
    fn login(&self, tokens: Tokens, asked: Timestamp) -> Result<Login, Failure> {
        let (token, name) = match self.view.token {
            LoginToken::IdToken => (tokens.id_token, "id_token"),
            LoginToken::AccessToken => (tokens.access_token, "access_token"),
        };
        let token = token.ok_or_else(|| {
            Failure::unavailable(
                "unexpected response of the login provider",
                &std::io::Error::other(format!("no `{name}`")),
            )
        })?;
        let lifetime = SignedDuration::from_secs(tokens.expires_in.unwrap_or(DEFAULT_LIFETIME));
        Ok(Login {
            issuer: self.view.issuer.clone(),
            client_id: self.view.client_id.clone(),
            kind: self.view.token,
            resource: self.view.resource.clone(),
            token,
            refresh_token: tokens.refresh_token,
            expires: asked.checked_add(lifetime).unwrap_or(Timestamp::MAX),
            ca_file: self.ca_file.clone(),
        })
    }

    /// Replaces the tokens of a login.
    pub(crate) async fn refresh(&self, login: &Login) -> Result<Login, Failure> {
        let token = login.refresh_token.as_deref().unwrap_or_default();
        match self.tokens(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await? {
            // A provider that keeps the refresh token does not send it again.
            Reply::Given(new) => {
                Ok(Login { refresh_token: new.refresh_token.or_else(|| login.refresh_token.clone()), ..new })
            }
            Reply::Rejected(rejected) => Err(rejected.failure()),
        }
    }
}

/// Fields of a form, as `application/x-www-form-urlencoded`.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join("&")
}
