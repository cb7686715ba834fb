//! Who may write: the holder of the token; without a configured token, clients on the server's own machine.
//!
//! The same rule holds for the API and for pushes to the registry. A machine counts as the server's own where the
//! connection comes from loopback or from the address that it came to. A reverse proxy on the same machine makes every
//! client look local: behind one, configure a token. Requests of browsers (they carry `Origin`) never count as local,
//! so that no web page writes through its reader's browser.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use edgewright_api::ApiError;
use edgewright_model::error::ErrorClass;
use edgewright_model::reference::RepoName;
use edgewright_registry::{AccessToken, Action, Authorizer, Decision, Open, TokenForWrites};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::Refusal;
use crate::live::Shared;

/// What the guard knows.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The token, as it is now.
    pub live: Shared,
    /// Where the server listens.
    pub local: SocketAddr,
}

/// Lets reading through, and writing where it is permitted. Webhooks and the registry's tokens are checked by their own.
pub async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    match guard.decide(request.method(), request.uri().path(), request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

impl Guard {
    fn decide(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        let is_registry = path == "/v2" || path.starts_with("/v2/");
        if method.is_safe() || path.starts_with("/hooks/") {
            return Ok(());
        }
        match &self.live.now().token {
            // The registry asks its authorizer, who answers as the distribution protocol wants it.
            Some(_) if is_registry => Ok(()),
            Some(token) => match token.matches(headers) {
                Some(true) => Ok(()),
                Some(false) => Err(denied("the token is wrong")),
                None => Err(denied("this needs the server's token")),
            },
            None if self.is_same_machine(peer) && !headers.contains_key(header::ORIGIN) => Ok(()),
            None => {
                let hint = "without a token only the server's own machine may write: \
                            name one in the server's settings, `[access] token_file`";
                Err(refusal("this client may not write", hint))
            }
        }
    }

    fn is_same_machine(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_some_and(|peer| {
            let address = peer.ip().to_canonical();
            address.is_loopback() || address == self.local.ip().to_canonical()
        })
    }
}

fn denied(message: &str) -> Refusal {
    refusal(
        message,
        "name its file with --token-file or EDGEWRIGHT_TOKEN_FILE; HTTP: `Authorization: Bearer …`",
    )
}

fn refusal(message: &str, hint: &str) -> Refusal {
    ApiError { code: ErrorClass::Denied, message: message.to_owned(), hint: Some(hint.to_owned()) }.into()
}

/// The registry's authorizer: as [`Open`] without a token, as [`TokenForWrites`] with one.
#[derive(Debug, Clone)]
pub struct RegistryGuard {
    live: Shared,
    control: AccessToken,
}

impl RegistryGuard {
    /// `control` is the token of control and its jobs.
    pub const fn new(live: Shared, control: AccessToken) -> Self {
        Self { live, control }
    }
}

impl Authorizer for RegistryGuard {
    fn authorize<'a>(
        &'a self,
        headers: &'a HeaderMap,
        action: Action,
        repository: Option<&'a RepoName>,
    ) -> BoxFuture<'a, Decision> {
        let write = self.live.now().token.clone();
        async move {
            match write {
                None => Open::new(Some(self.control.clone())).authorize(headers, action, repository).await,
                Some(write) => {
                    let tokens = TokenForWrites::new(write, self.control.clone());
                    tokens.authorize(headers, action, repository).await
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Live;

    const TOKEN: &str = "0123456789abcdef";

    fn allowed(token: bool, method: &Method, path: &str, peer: &str, header: Option<(&str, &str)>) -> bool {
        let token = token.then(|| AccessToken::new(TOKEN));
        let live = Shared::new(Live { token, ..Live::default() });
        let guard = Guard { live, local: "10.0.0.1:5080".parse().unwrap() };
        let headers = header
            .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect();
        guard.decide(method, path, &headers, peer.parse().ok()).is_ok()
    }

    #[test]
    fn who_may_write() {
        let (get, post, put) = (&Method::GET, &Method::POST, &Method::PUT);
        let (cancel, push, hook) = ("/api/v1/runs/7/cancel", "/v2/a/manifests/x", "/hooks/github/a");
        let bearer = format!("Bearer {TOKEN}");
        let cases = [
            // (token configured, method, path, peer, header, allowed)
            (false, get, "/api/v1/runs", "192.0.2.1:1", None, true),
            (false, post, cancel, "127.0.0.1:1", None, true),
            (false, post, cancel, "[::1]:1", None, true),
            (false, post, cancel, "[::ffff:127.0.0.1]:1", None, true),
            (false, post, cancel, "10.0.0.1:1", None, true),
            (false, post, cancel, "192.0.2.1:1", None, false),
            (false, post, cancel, "nowhere", None, false),
            (false, post, cancel, "127.0.0.1:1", Some(("origin", "http://evil.example")), false),
            (false, put, push, "192.0.2.1:1", None, false),
            (false, post, hook, "192.0.2.1:1", None, true),
            (true, get, "/metrics", "192.0.2.1:1", None, true),
            (true, post, cancel, "127.0.0.1:1", None, false),
            (true, post, cancel, "192.0.2.1:1", Some(("authorization", bearer.as_str())), true),
            (true, post, cancel, "127.0.0.1:1", Some(("authorization", "Bearer wrong")), false),
            (true, put, push, "192.0.2.1:1", None, true),
        ];
        for (token, method, path, peer, header, expected) in cases {
            assert_eq!(
                allowed(token, method, path, peer, header),
                expected,
                "{token} {method} {path} {peer}"
            );
        }
    }
}
