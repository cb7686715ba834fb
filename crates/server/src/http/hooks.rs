//! Webhooks in: a forge reports that a repository moved. Its proof makes it a principal that may have its source polled, no
//! more: the payload is ignored, so a forged or replayed one costs a poll at most.
//!
//! | path | proof |
//! |---|---|
//! | `/hooks/github/SOURCE` | `X-Hub-Signature-256: sha256=HEX`, HMAC-SHA256 of the body |
//! | `/hooks/gitea/SOURCE` | `X-Gitea-Signature` or `X-Forgejo-Signature: HEX`, or as GitHub |
//! | `/hooks/gitlab/SOURCE` | `X-Gitlab-Token`, the secret itself |
//! | `/hooks/generic/SOURCE` | as GitHub, or `Authorization: Bearer SECRET` |

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use edgewright_api::ApiError;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use futures::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::Refusal;
use crate::settings::Secret;

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

/// What to do about a webhook that is refused.
pub(super) const PROOF_HINT: &str =
    "is `hook_secret_file` of this source set, and the secret the same on both sides?";

impl Bound {
    /// The source whose secret a webhook proves to know; none where the proof is missing or wrong.
    ///
    /// Unknown sources, sources without a secret and wrong proofs are the same to whoever asks.
    pub(super) async fn prove(
        &self,
        path: &str,
        secrets: &BTreeMap<SourceName, Secret>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Option<SourceName>, Refusal> {
        let mut segments = path.trim_start_matches('/').split('/').skip(1);
        let (forge, source) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let Some(forge) = Forge::parse(forge) else {
            let hint = "want /hooks/github|gitlab|gitea|generic/SOURCE";
            return Err(ApiError::not_found("there are no webhooks of this kind", hint).into());
        };
        let source: SourceName = super::parsed(source)?;
        let Ok(_permit) = self.0.try_acquire() else {
            let message = "too many webhooks at once".to_owned();
            return Err(ApiError { code: ErrorClass::Unavailable, message, hint: None }.into());
        };
        let (Some(secret), Some(proof)) = (secrets.get(&source), forge.proof(headers)) else {
            return Ok(None);
        };
        match tokio::time::timeout(WITHIN, verify(secret, &proof, body)).await {
            Ok(Ok(is_proven)) => Ok(is_proven.then_some(source)),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(ApiError::user_fault("the body did not come in time").into()),
        }
    }
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

    /// 202 where the webhook is proven, 401 where it is not, else the status of the refusal.
    async fn status(forge: &str, header: Option<(&'static str, String)>, body: Body, known: bool) -> u16 {
        let headers: HeaderMap = header
            .map(|(name, value)| (name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect();
        let source: SourceName = "plants".parse().unwrap();
        let secrets: BTreeMap<_, _> =
            known.then(|| (source.clone(), Secret::new(SECRET.to_owned()))).into_iter().collect();
        match Bound::default().prove(&format!("/hooks/{forge}/plants"), &secrets, &headers, body).await {
            Ok(Some(proven)) => {
                assert_eq!(proven, source);
                202
            }
            Ok(None) => 401,
            Err(refusal) => axum::response::IntoResponse::into_response(refusal).status().as_u16(),
        }
    }

    #[tokio::test]
    async fn only_what_is_signed_wakes() {
        let hub = |hex: &str| Some(("x-hub-signature-256", format!("sha256={hex}")));
        let wrong = SIGNATURE.replace('7', "8");
        let cases = [
            ("github", hub(SIGNATURE), 202),
            ("github", hub(&wrong), 401),
            ("github", hub("zz"), 401),
            ("github", hub(""), 401),
            ("github", None, 401),
            // The old SHA-1 header alone is not enough.
            ("github", Some(("x-hub-signature", format!("sha1={SIGNATURE}"))), 401),
            ("gitea", Some(("x-gitea-signature", SIGNATURE.to_owned())), 202),
            ("gitea", Some(("x-forgejo-signature", SIGNATURE.to_owned())), 202),
            ("gitea", hub(SIGNATURE), 202),
            ("gitea", Some(("x-gitea-signature", wrong.clone())), 401),
            ("gitlab", Some(("x-gitlab-token", SECRET.to_owned())), 202),
            ("gitlab", Some(("x-gitlab-token", "It's a Secret to Everybodx".to_owned())), 401),
            ("gitlab", Some(("x-gitlab-token", String::new())), 401),
            ("gitlab", hub(SIGNATURE), 401),
            ("generic", hub(SIGNATURE), 202),
            ("generic", Some(("authorization", format!("Bearer {SECRET}"))), 202),
            ("generic", Some(("authorization", "Bearer guess".to_owned())), 401),
            ("bitbucket", hub(SIGNATURE), 404),
        ];
        for (forge, header, expected) in cases {
            let shown = format!("{forge} {header:?}");
            assert_eq!(status(forge, header, Body::from(BODY), true).await, expected, "{shown}");
        }
        assert_eq!(status("github", hub(SIGNATURE), Body::from("another body"), true).await, 401);
        assert_eq!(status("github", hub(SIGNATURE), Body::from(BODY), false).await, 401);
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
