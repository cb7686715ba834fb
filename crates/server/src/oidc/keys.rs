//! The provider's public keys: found by discovery, cached, and fetched again when a token names an unknown
//! one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgewright_process::Clock;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::settings::is_trustworthy;

/// How long the provider may take for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest document of a provider, in bytes: key sets have a few KiB.
const DOCUMENT_LIMIT: usize = 1 << 20;
/// How often keys are fetched at most, in seconds: tokens with invented keys must not load the provider.
const FETCH_INTERVAL: i64 = 10;
/// How long keys are used before they are fetched again, in seconds: a key that was withdrawn is invalid
/// then.
const LIFETIME: i64 = 600;

/// Why the provider's keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The file with its authority.
    #[error("cannot read {path}")]
    Authority {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A client cannot be made, or a document cannot be read.
    #[error("cannot read {url}")]
    Http {
        /// The document.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Not the expected document.
    #[error("malformed response of {url}: {fault}")]
    Malformed {
        /// The document.
        url: String,
        /// What is wrong.
        fault: String,
    },
}

/// A key, or none.
#[derive(Debug)]
pub(super) enum FoundKey {
    Key(Arc<DecodingKey>),
    Unknown,
    Failed(Arc<ProviderError>),
}

/// The keys of one provider.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: String,
    http: reqwest::Client,
    // Held while they are fetched: requests that need the same key wait for one fetch.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<Key>,
    /// When they were fetched; none before the first time.
    fetched: Option<Timestamp>,
    /// When that was tried last, and why it failed.
    tried: Option<Timestamp>,
    failure: Option<Arc<ProviderError>>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    decoding: Arc<DecodingKey>,
}

/// The part of a discovery document that is used.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// A key set. Keys of unknown kinds are left out.
#[derive(Debug, Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    pub(super) fn new(issuer: &str, authority: Option<&Path>) -> Result<Self, ProviderError> {
        let failed = |source| ProviderError::Http { url: issuer.to_owned(), source };
        // A redirect could lead to an address without TLS.
        let mut http = reqwest::Client::builder().timeout(RESPONSE_TIMEOUT).redirect(Policy::none());
        if let Some(path) = authority {
            let read = |source| ProviderError::Authority { path: path.display().to_string(), source };
            let text = std::fs::read(path).map_err(read)?;
            http = http.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&text).map_err(failed)?);
        }
        let http = http.build().map_err(failed)?;
        Ok(Self { issuer: issuer.to_owned(), http, state: Mutex::default() })
    }

    /// The key that a token names; without a name the only one for the algorithm.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm, clock: &Clock) -> FoundKey {
        let mut state = self.state.lock().await;
        let now = clock.now();
        let is_older = |time: Option<Timestamp>, seconds| {
            time.is_none_or(|time| now.duration_since(time).abs() >= SignedDuration::from_secs(seconds))
        };
        let is_known = state.find(id, algorithm).is_some() && !is_older(state.fetched, LIFETIME);
        if !is_known && is_older(state.tried, FETCH_INTERVAL) {
            state.tried = Some(now);
            match self.fetch().await {
                Ok(keys) => {
                    tracing::info!(
                        issuer = self.issuer,
                        keys = keys.len(),
                        "keys of the login provider read"
                    );
                    (state.keys, state.fetched, state.failure) = (keys, Some(now), None);
                }
                Err(error) => {
                    let chain = edgewright_model::error::Chain(&error).to_string();
                    tracing::warn!(
                        issuer = self.issuer,
                        error = chain,
                        "cannot read keys of the login provider"
                    );
                    state.failure = Some(Arc::new(error));
                }
            }
        }
        // While the provider is down, its known keys stay valid: users keep their access.
        match (state.find(id, algorithm), &state.failure) {
            (Some(key), _) => FoundKey::Key(key),
            (None, Some(error)) => FoundKey::Failed(Arc::clone(error)),
            (None, None) => FoundKey::Unknown,
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, ProviderError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let Discovery { issuer, jwks_uri } = self.get(&url).await?;
        if issuer != self.issuer {
            let fault = format!("it is that of `{issuer}`, the settings name `{}`", self.issuer);
            return Err(ProviderError::Malformed { url, fault });
        }
        if !is_trustworthy(&jwks_uri) {
            let fault = format!("`jwks_uri` is {jwks_uri}: expected https://");
            return Err(ProviderError::Malformed { url, fault });
        }
        let set: KeySet = self.get(&jwks_uri).await?;
        Ok(set.keys.into_iter().filter_map(|key| Key::new(&serde_json::from_value(key).ok()?)).collect())
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, ProviderError> {
        let failed = |source| ProviderError::Http { url: url.to_owned(), source };
        let malformed = |fault| ProviderError::Malformed { url: url.to_owned(), fault };
        let mut response =
            self.http.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > DOCUMENT_LIMIT {
                return Err(malformed(format!("more than {DOCUMENT_LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))
    }
}

impl Key {
    /// A key for signatures.
    fn new(key: &Jwk) -> Option<Self> {
        let is_for_signatures =
            key.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(key).ok().filter(|_| is_for_signatures)?;
        let algorithm = key.common.key_algorithm.map(|algorithm| algorithm.to_string());
        Some(Self { id: key.common.key_id.clone(), algorithm, decoding: Arc::new(decoding) })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.decoding.family().algorithms().contains(&algorithm)
            && self.algorithm.as_ref().is_none_or(|own| *own == format!("{algorithm:?}"))
    }
}

impl State {
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let mut matching = self.keys.iter().filter(|key| key.is_for(algorithm));
        let found = match id {
            Some(id) => matching.find(|key| key.id.as_deref() == Some(id)),
            None => matching.next().filter(|_| matching.next().is_none()),
        };
        found.map(|key| Arc::clone(&key.decoding))
    }
}
