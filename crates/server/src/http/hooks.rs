//! Webhooks in: a forge says that a repository moved. Once the signature is verified the source is polled, no more: what
//! the body says is never read, so a forged or replayed one costs a poll at most.
//!
//! | path | proof |
//! |---|---|
//! | `/hooks/github/SOURCE` | `X-Hub-Signature-256: sha256=HEX`, HMAC-SHA256 of the body |
//! | `/hooks/gitea/SOURCE` | `X-Gitea-Signature` or `X-Forgejo-Signature: HEX`, or as GitHub |
//! | `/hooks/gitlab/SOURCE` | `X-Gitlab-Token`, the secret itself |
//! | `/hooks/generic/SOURCE` | as GitHub, or `Authorization: Bearer SECRET` |

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use edgewright_api::ApiError;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use futures::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::Refusal;
use crate::live::Secret;

/// GitHub sends no more than 25 MB. The body is hashed as it comes and kept nowhere.
const BODY_LIMIT: usize = 26 * 1024 * 1024;
/// Webhooks that are read at the same time; more are told to come again.
const AT_ONCE: usize = 8;
/// How long a body may take.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// Who sends webhooks, and so how they are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forge {
    GitHub,
    GitLab,
    Gitea,
    Generic,
}

/// What was presented as proof.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    /// HMAC-SHA256 of the body.
    Signature(Vec<u8>),
    /// The secret itself.
    Token(Vec<u8>),
}

/// Bounds the work that strangers can cause.
#[derive(Debug, Clone)]
pub(super) struct Bound(Arc<Semaphore>);

impl Default for Bound {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Forge {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "github" => Some(Self::GitHub),
            "gitlab" => Some(Self::GitLab),
            "gitea" | "forgejo" => Some(Self::Gitea),
            "generic" => Some(Self::Generic),
            _ => None,
        }
    }

    fn proof(self, headers: &HeaderMap) -> Option<Proof> {
        let signature = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(Proof::Signature(unhex(value.strip_prefix("sha256=").unwrap_or(value))?))
        };
        let hub = || signature("x-hub-signature-256");
        match self {
            Self::GitHub => hub(),
            Self::Gitea => {
                hub().or_else(|| signature("x-gitea-signature")).or_else(|| signature("x-forgejo-signature"))
            }
            Self::GitLab => Some(Proof::Token(headers.get("x-gitlab-token")?.as_bytes().to_vec())),
            Self::Generic => hub().or_else(|| {
                let value = headers.get("authorization")?.as_bytes();
                Some(Proof::Token(value.strip_prefix(b"Bearer ")?.to_vec()))
            }),
        }
    }
}

/// Verifies a webhook and calls `wake`; false of `wake`: there is no such source.
pub(super) async fn receive(
    bound: &Bound,
    forge: &str,
    source: &SourceName,
    secret: Option<&Secret>,
    headers: &HeaderMap,
    body: Body,
    wake: impl FnOnce() -> bool,
) -> Result<Response, Refusal> {
    let Some(forge) = Forge::parse(forge) else {
        let hint = "want /hooks/github|gitlab|gitea|generic/SOURCE";
        return Err(ApiError::not_found("there are no webhooks of this kind", hint).into());
    };
    let Ok(_permit) = bound.0.try_acquire() else {
        let message = "too many webhooks at once".to_owned();
        return Err(ApiError { code: ErrorClass::Unavailable, message, hint: None }.into());
    };
    // Unknown sources, sources without a secret and wrong proofs get the same answer.
    let (Some(secret), Some(proof)) = (secret, forge.proof(headers)) else { return Err(unproven()) };
    let verified = tokio::time::timeout(WITHIN, verify(secret, &proof, body)).await;
    match verified {
        Ok(Ok(true)) if wake() => {
            tracing::info!(source.name = %source, "a webhook asks for a poll");
            Ok((StatusCode::ACCEPTED, "the source is polled now\n").into_response())
        }
        Ok(Ok(_)) => Err(unproven()),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(ApiError::user_fault("the body did not come in time").into()),
    }
}

fn unproven() -> Refusal {
    let message = "the webhook's signature does not fit".to_owned();
    let hint = "is `hook_secret_file` of this source set, and the secret the same on both sides?".to_owned();
    ApiError { code: ErrorClass::Denied, message, hint: Some(hint) }.into()
}

/// Whether the proof fits, in a time that tells nothing of the secret.
async fn verify(secret: &Secret, proof: &Proof, body: Body) -> Result<bool, Refusal> {
    match proof {
        // The MACs of both under the same key are compared, not the secrets themselves.
        Proof::Token(token) => {
            let mut expected = mac(secret);
            expected.update(secret.reveal().as_bytes());
            let mut presented = mac(secret);
            presented.update(token);
            Ok(presented.verify(&expected.finalize().into_bytes()).is_ok())
        }
        Proof::Signature(signature) => {
            let mut mac = mac(secret);
            let mut length = 0_usize;
            let mut stream = body.into_data_stream();
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(|_| ApiError::user_fault("the body ended early"))?;
                length += chunk.len();
                if length > BODY_LIMIT {
                    return Err(ApiError::user_fault("the body is longer than 26 MiB").into());
                }
                mac.update(&chunk);
            }
            Ok(mac.verify_slice(signature).is_ok())
        }
    }
}

fn mac(secret: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.reveal().as_bytes()).expect("HMAC takes keys of any length")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's own test vector: docs.github.com, "Validating webhook deliveries".
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &str = "Hello, World!";
    const SIGNATURE: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    async fn status(forge: &str, header: Option<(&'static str, String)>, body: Body, known: bool) -> u16 {
        let headers: HeaderMap = header
            .map(|(name, value)| (name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect();
        let secret = known.then(|| Secret::new(SECRET.to_owned()));
        let source = "plants".parse().unwrap();
        let mut woken = false;
        let wake = || {
            woken = true;
            true
        };
        let answer = receive(&Bound::default(), forge, &source, secret.as_ref(), &headers, body, wake).await;
        let status = answer.unwrap_or_else(axum::response::IntoResponse::into_response).status().as_u16();
        assert_eq!(woken, status == 202);
        status
    }

    #[tokio::test]
    async fn only_what_is_signed_wakes() {
        let hub = |hex: &str| Some(("x-hub-signature-256", format!("sha256={hex}")));
        let wrong = SIGNATURE.replace('7', "8");
        let cases = [
            ("github", hub(SIGNATURE), 202),
            ("github", hub(&wrong), 403),
            ("github", hub("zz"), 403),
            ("github", hub(""), 403),
            ("github", None, 403),
            // The old SHA-1 header alone is not enough.
            ("github", Some(("x-hub-signature", format!("sha1={SIGNATURE}"))), 403),
            ("gitea", Some(("x-gitea-signature", SIGNATURE.to_owned())), 202),
            ("gitea", Some(("x-forgejo-signature", SIGNATURE.to_owned())), 202),
            ("gitea", hub(SIGNATURE), 202),
            ("gitea", Some(("x-gitea-signature", wrong.clone())), 403),
            ("gitlab", Some(("x-gitlab-token", SECRET.to_owned())), 202),
            ("gitlab", Some(("x-gitlab-token", "It's a Secret to Everybodx".to_owned())), 403),
            ("gitlab", Some(("x-gitlab-token", String::new())), 403),
            ("gitlab", hub(SIGNATURE), 403),
            ("generic", hub(SIGNATURE), 202),
            ("generic", Some(("authorization", format!("Bearer {SECRET}"))), 202),
            ("generic", Some(("authorization", "Bearer guess".to_owned())), 403),
            ("bitbucket", hub(SIGNATURE), 404),
        ];
        for (forge, header, expected) in cases {
            let shown = format!("{forge} {header:?}");
            assert_eq!(status(forge, header, Body::from(BODY), true).await, expected, "{shown}");
        }
        assert_eq!(status("github", hub(SIGNATURE), Body::from("another body"), true).await, 403);
        assert_eq!(status("github", hub(SIGNATURE), Body::from(BODY), false).await, 403);
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let chunk = bytes_of(1024 * 1024);
        let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
        let header = Some(("x-hub-signature-256", format!("sha256={SIGNATURE}")));
        assert_eq!(status("github", header, Body::from_stream(endless), true).await, 400);
    }

    fn bytes_of(length: usize) -> Vec<u8> {
        vec![b'x'; length]
    }
}
