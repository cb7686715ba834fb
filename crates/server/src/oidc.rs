//! Tokens of an OpenID Connect provider: which user they identify.
//!
//! ```text
//!  JWT ─▶ algorithm allowed? ─▶ key of its `kid` ─▶ signature ─▶ iss, aud, exp, nbf ─▶ name, groups
//!                                  │ unknown: the keys are fetched again, at most every 10 s
//! ```
//!
//! Invariants: only signatures with a public key are accepted, never `none` or a shared secret; keys come
//! from the issuer's discovery document, over https or from this machine; a token that cannot be verified is
//! an invalid token, whatever the reason.

mod claims;
mod keys;

use std::sync::Arc;

use edgewright_api::{LoginToken, LoginView};
use edgewright_model::principal::Principal;
use edgewright_process::Clock;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};

use crate::settings::OidcOptions;
use claims::identify;
pub use keys::ProviderError;
use keys::{FoundKey, Keys};

/// The accepted signature algorithms: with a public key, and none that is considered weak.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// The longest token, in bytes: those with many groups have a few KiB.
const LONGEST_TOKEN: usize = 16 << 10;
/// How far the clocks of the provider and this server may differ, in seconds.
const LEEWAY: i64 = 60;

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum InvalidToken {
    /// Not a JWT.
    #[error("not a signed token")]
    Malformed,
    /// An algorithm that is not accepted.
    #[error("signature algorithm {0:?} is not accepted")]
    Algorithm(Algorithm),
    /// No key of the provider.
    #[error("the provider has no such key")]
    UnknownKey,
    /// The provider's keys cannot be read.
    #[error("cannot read the provider's keys")]
    Provider(#[from] Arc<ProviderError>),
    /// Signature, issuer or audience.
    #[error("the token cannot be verified")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// Too late.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// Too early.
    #[error("the token is not valid before {0}")]
    Early(Timestamp),
    /// A claim is missing or has another form.
    #[error("claim `{claim}` {fault}")]
    Claim {
        /// Its name.
        claim: String,
        /// What is wrong.
        fault: &'static str,
    },
}

/// A provider that the server trusts. Clones share its keys.
#[derive(Debug, Clone)]
pub struct Provider {
    options: Arc<OidcOptions>,
    keys: Arc<Keys>,
}

impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        self.options == other.options
    }
}

impl Provider {
    /// Reads the provider's authority. The provider itself is asked when the first token comes.
    ///
    /// # Errors
    /// The file with the authority cannot be read.
    pub fn new(options: OidcOptions) -> Result<Self, ProviderError> {
        let keys = Keys::new(&options.issuer, options.ca_file.as_deref())?;
        Ok(Self { options: Arc::new(options), keys: Arc::new(keys) })
    }

    /// How users log in.
    pub fn login(&self) -> LoginView {
        let OidcOptions { issuer, client_id, audience, .. } = &*self.options;
        let resource = audience.clone().filter(|audience| audience != client_id);
        let token = if resource.is_some() { LoginToken::AccessToken } else { LoginToken::IdToken };
        let scopes = self.options.scopes();
        LoginView { issuer: issuer.clone(), client_id: client_id.clone(), scopes, token, resource }
    }

    /// The user whose token it is.
    ///
    /// # Errors
    /// The token is not valid here and now.
    pub async fn principal(&self, token: &str, clock: &Clock) -> Result<Principal, InvalidToken> {
        if token.len() > LONGEST_TOKEN || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Err(InvalidToken::Malformed);
        }
        // `none` is not among the algorithms that are known at all.
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken::Malformed)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(InvalidToken::Algorithm(header.alg));
        }
        let key = match self.keys.find(header.kid.as_deref(), header.alg, clock).await {
            FoundKey::Key(key) => key,
            FoundKey::Unknown => return Err(InvalidToken::UnknownKey),
            FoundKey::Failed(error) => return Err(error.into()),
        };
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&[self.options.audience()]);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        // Below, with the clock that the server has.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)?.claims;
        is_current(&claims, clock.now())?;
        identify(&claims, &self.options)
    }
}

/// Whether claims are valid at a time.
fn is_current(claims: &Map<String, Value>, now: Timestamp) -> Result<(), InvalidToken> {
    let time = |claim: &str| -> Result<Option<Timestamp>, InvalidToken> {
        let Some(value) = claims.get(claim) else { return Ok(None) };
        // Seconds, of which some providers write fractions.
        #[expect(clippy::cast_possible_truncation, reason = "seconds; it saturates")]
        let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
        let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let fault = "is not a time";
        time.map(Some).ok_or_else(|| InvalidToken::Claim { claim: claim.to_owned(), fault })
    };
    let leeway = jiff::SignedDuration::from_secs(LEEWAY);
    let missing = || InvalidToken::Claim { claim: "exp".to_owned(), fault: "is missing" };
    let expires = time("exp")?.ok_or_else(missing)?;
    if now.checked_sub(leeway).unwrap_or(Timestamp::MIN) >= expires {
        return Err(InvalidToken::Expired(expires));
    }
    match time("nbf")? {
        Some(begins) if now.checked_add(leeway).unwrap_or(Timestamp::MAX) < begins => {
            Err(InvalidToken::Early(begins))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_are_valid_between_their_times_with_a_leeway() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (claims, expected) in [
            (json!({"exp": 1_000_300}), true),
            (json!({"exp": 1_000_300.5}), true),
            (json!({"exp": 999_941}), true),
            (json!({"exp": 999_940}), false),
            (json!({"exp": 1_000_300, "nbf": 1_000_060}), true),
            (json!({"exp": 1_000_300, "nbf": 1_000_061}), false),
            (json!({}), false),
            (json!({"exp": "tomorrow"}), false),
            (json!({"exp": null}), false),
        ] {
            let claims = claims.as_object().unwrap();
            assert_eq!(is_current(claims, now).is_ok(), expected, "{claims:?}");
        }
    }
}
