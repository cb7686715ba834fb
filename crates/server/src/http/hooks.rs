//! Incoming webhooks: a forge reports a push. The signature proves that it may request a poll of its source.
//! The payload is ignored, so a replayed webhook causes at most one poll.
//!
//! | path | signature |
//! |---|---|
//! | `/hooks/github/SOURCE` | `X-Hub-Signature-256: sha256=HEX`, HMAC-SHA256 of the body |
//! | `/hooks/gitea/SOURCE` | `X-Gitea-Signature` or `X-Forgejo-Signature: HEX`, or as GitHub |
//! | `/hooks/gitlab/SOURCE` | `X-Gitlab-Token`, the secret itself |
//! | `/hooks/generic/SOURCE` | as GitHub, or `Authorization: Bearer SECRET` |

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use edgewright_api::ApiError;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use futures::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::error::HttpError;
use crate::settings::Secret;

/// The largest body of a webhook: GitHub sends at most 25 MB. It is hashed as it arrives, and never stored.
const BODY_LIMIT: usize = 26 * 1024 * 1024;
/// The largest number of webhooks whose bodies are read at the same time. One more ends the oldest of the
/// address that has most: bodies of forges arrive at once, so the oldest is the one that is held back.
const MAX_WEBHOOKS: usize = 128;
/// The largest number of webhooks of one address whose bodies are read at the same time.
const MAX_WEBHOOKS_PER_PEER: usize = 16;
/// How long a webhook's body may take to arrive.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// The sender of a webhook, which decides how it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forge {
    GitHub,
    GitLab,
    Gitea,
    Generic,
}

/// What proves that the sender has the secret.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    /// HMAC-SHA256 of the body.
    Signature(Vec<u8>),
    /// The secret itself.
    Token(Vec<u8>),
}

/// Bounds the work that clients without credentials can cause.
#[derive(Debug, Clone, Default)]
pub(super) struct WebhookGate(Arc<Mutex<Readings>>);

/// The webhooks whose bodies are read, oldest first.
#[derive(Debug, Default)]
struct Readings {
    next: u64,
    open: Vec<Reading>,
}

#[derive(Debug)]
struct Reading {
    id: u64,
    peer: IpAddr,
    cut: CancellationToken,
}

/// A place among the readings; leaves it when dropped.
#[derive(Debug)]
struct Turn {
    gate: WebhookGate,
    id: u64,
    cut: CancellationToken,
}

impl Readings {
    fn of(&self, peer: IpAddr) -> usize {
        self.open.iter().filter(|reading| reading.peer == peer).count()
    }

    /// Ends the oldest reading of a peer.
    fn cut_oldest(&mut self, peer: IpAddr) {
        if let Some(at) = self.open.iter().position(|reading| reading.peer == peer) {
            self.open.remove(at).cut.cancel();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.gate.lock().open.retain(|reading| reading.id != self.id);
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

/// What to do about a webhook that is rejected.
pub(super) const PROOF_HINT: &str =
    "set `hook_secret_file` of this source, and use the same secret in the forge";

impl WebhookGate {
    fn lock(&self) -> MutexGuard<'_, Readings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, peer: IpAddr) -> Turn {
        let mut readings = self.lock();
        if readings.of(peer) >= MAX_WEBHOOKS_PER_PEER {
            readings.cut_oldest(peer);
        }
        if readings.open.len() >= MAX_WEBHOOKS {
            let peers = readings.open.iter().map(|reading| reading.peer);
            if let Some(most) = peers.max_by_key(|peer| readings.of(*peer)) {
                readings.cut_oldest(most);
            }
        }
        readings.next += 1;
        let (id, cut) = (readings.next, CancellationToken::new());
        readings.open.push(Reading { id, peer, cut: cut.clone() });
        Turn { gate: self.clone(), id, cut }
    }

    /// The source whose secret the sender of a webhook has; none if the proof is missing or wrong.
    ///
    /// Unknown sources, sources without a secret and wrong proofs give the same response.
    pub(super) async fn prove(
        &self,
        parts: &Parts,
        secrets: &BTreeMap<SourceName, Secret>,
        body: Body,
    ) -> Result<Option<SourceName>, HttpError> {
        let mut segments = parts.uri.path().trim_start_matches('/').split('/').skip(1);
        let (forge, source) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let Some(forge) = Forge::parse(forge) else {
            let hint = "use /hooks/github|gitlab|gitea|generic/SOURCE";
            return Err(ApiError::not_found("unknown kind of webhook", hint).into());
        };
        let source: SourceName = super::query::parsed(source)?;
        let (Some(secret), Some(proof)) = (secrets.get(&source), forge.proof(&parts.headers)) else {
            return Ok(None);
        };
        let turn = self.enter(peer(&parts.extensions));
        tokio::select! {
            proven = verify(secret, &proof, body) => Ok(proven?.then_some(source)),
            () = sleep(BODY_TIMEOUT) => Err(ApiError::user_fault("timeout while reading the body").into()),
            () = turn.cut.cancelled() => {
                let message = "too many webhooks at the same time".to_owned();
                Err(ApiError { code: ErrorClass::Unavailable, message, hint: None }.into())
            }
        }
    }
}

/// The client's address; unspecified outside of a listener.
fn peer(extensions: &Extensions) -> IpAddr {
    let info = extensions.get::<ConnectInfo<SocketAddr>>();
    info.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |info| info.0.ip().to_canonical())
}

/// Whether the proof is right, in a time that does not depend on the secret.
async fn verify(secret: &Secret, proof: &Proof, body: Body) -> Result<bool, HttpError> {
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
                let chunk = chunk
                    .map_err(|_| ApiError::user_fault("the connection closed before the end of the body"))?;
                length += chunk.len();
                if length > BODY_LIMIT {
                    return Err(ApiError::user_fault("the body exceeds 26 MiB").into());
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

    fn parts_of(forge: &str, header: Option<(&'static str, String)>) -> Parts {
        let mut request = axum::http::Request::post(format!("/hooks/{forge}/plants"));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// 202 if the webhook is proven, 401 if not, otherwise the status of the error.
    async fn status(forge: &str, header: Option<(&'static str, String)>, body: Body, known: bool) -> u16 {
        let parts = parts_of(forge, header);
        let source: SourceName = "plants".parse().unwrap();
        let secrets: BTreeMap<_, _> =
            known.then(|| (source.clone(), Secret::new(SECRET.to_owned()))).into_iter().collect();
        match WebhookGate::default().prove(&parts, &secrets, body).await {
            Ok(Some(proven)) => {
                assert_eq!(proven, source);
                202
            }
            Ok(None) => 401,
            Err(error) => axum::response::IntoResponse::into_response(error).status().as_u16(),
        }
    }

    #[tokio::test]
    async fn only_signed_webhooks_are_accepted() {
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

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_do_not_shut_out_others_and_end() {
        let gate = WebhookGate::default();
        let source: SourceName = "plants".parse().unwrap();
        let secrets = BTreeMap::from([(source.clone(), Secret::new(SECRET.to_owned()))]);
        let parts = parts_of("github", Some(("x-hub-signature-256", format!("sha256={SIGNATURE}"))));
        let slow = || {
            let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
            Box::pin(gate.prove(&parts, &secrets, Body::from_stream(never)))
        };
        let mut held: Vec<_> = (0..100).map(|_| slow()).collect();
        for reading in &mut held {
            assert!(futures::poll!(reading).is_pending());
        }
        assert_eq!(gate.lock().open.len(), MAX_WEBHOOKS_PER_PEER);
        let right = gate.prove(&parts, &secrets, Body::from(BODY)).await;
        assert_eq!(right.unwrap(), Some(source));
        let ended = tokio::time::timeout(BODY_TIMEOUT * 2, futures::future::join_all(held)).await;
        assert!(ended.unwrap().iter().all(Result::is_err));
        assert!(gate.lock().open.is_empty());
        let turns: Vec<_> =
            (0..200_u32).map(|n| gate.enter(std::net::Ipv4Addr::from_bits(n).into())).collect();
        assert_eq!((gate.lock().open.len(), turns.len()), (MAX_WEBHOOKS, 200));
    }

    fn bytes_of(length: usize) -> Vec<u8> {
        vec![b'x'; length]
    }
}
