//! The device code, for machines without a browser (RFC 8628).

use std::time::Duration;

use edgewright_model::error::ErrorClass;
use serde::Deserialize;

use super::Login;
use super::provider::{Provider, Reply};
use crate::exit::Failure;
use crate::output;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Seconds between questions if the provider does not state it (RFC 8628, section 3.2).
const DEFAULT_INTERVAL: u64 = 5;
/// Seconds that each `slow_down` adds (RFC 8628, section 3.5).
const SLOWER: u64 = 5;

/// What the provider gives to show to the user.
#[derive(Deserialize)]
struct Started {
    device_code: String,
    user_code: String,
    verification_uri: String,
    #[serde(default)]
    verification_uri_complete: Option<String>,
    #[serde(default)]
    interval: Option<u64>,
}

/// Logs in with a browser on any machine.
pub(crate) async fn log_in(provider: &Provider) -> Result<Login, Failure> {
    let endpoint = provider.endpoints.device_authorization_endpoint.as_deref().ok_or_else(|| {
        Failure::new(ErrorClass::NotFound, "the login provider has no device login")
            .hint("log in without --device, on a machine with a browser")
    })?;
    let scopes = provider.view.scopes.join(" ");
    let mut fields = vec![("client_id", provider.view.client_id.as_str()), ("scope", &scopes)];
    if let Some(resource) = &provider.view.resource {
        fields.push(("resource", resource));
    }
    let started: Started = match provider.post(endpoint, &fields).await? {
        Reply::Given(started) => started,
        Reply::Rejected(rejected) => return Err(rejected.failure()),
    };
    output::note(&format!(
        "open {} in a browser, and enter the code {}; or open:",
        started.verification_uri, started.user_code
    ));
    output::print(&format!("{}\n", started.verification_uri_complete.unwrap_or(started.verification_uri)))?;
    let mut interval = started.interval.unwrap_or(DEFAULT_INTERVAL);
    loop {
        tokio::time::sleep(Duration::from_secs(interval)).await;
        let fields = [("grant_type", GRANT), ("device_code", started.device_code.as_str())];
        match provider.tokens(&fields).await? {
            Reply::Given(login) => return Ok(login),
            Reply::Rejected(rejected) => match rejected.error.as_str() {
                "authorization_pending" => {}
                "slow_down" => interval += SLOWER,
                // Expired codes, too: the provider ends the wait.
                _ => return Err(rejected.failure()),
            },
        }
    }
}
