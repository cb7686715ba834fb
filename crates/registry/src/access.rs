//! The two authorizers that come with the registry: open, and one token for writing.

use std::fmt;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use crate::ports::{Action, Authorizer, Decision};

const CHALLENGE: &str = "Basic realm=\"Edgewright registry\"";

/// A secret token, kept as its hash. Sent as `Authorization: Bearer TOKEN`, or as the password of `Basic` (any user).
#[derive(Clone)]
pub struct AccessToken(Digest);

impl AccessToken {
    /// Takes the hash of a token.
    pub fn new(token: &str) -> Self {
        Self(Digest::of(token))
    }

    /// `None`: no credentials; else whether they are the token. Hashes are compared, so time tells nothing of the token.
    pub fn matches(&self, headers: &HeaderMap) -> Option<bool> {
        let value = headers.get(header::AUTHORIZATION)?;
        Some(presented(value.as_bytes()).is_some_and(|token| Digest::of(token) == self.0))
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

fn presented(value: &[u8]) -> Option<Vec<u8>> {
    let space = value.iter().position(|&b| b == b' ')?;
    let (scheme, rest) = (&value[..space], value[space + 1..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|&b| b == b':')?;
    Some(pair[colon + 1..].to_vec())
}

fn unauthenticated() -> Decision {
    Decision::Unauthenticated { challenge: CHALLENGE.to_owned() }
}

/// Anybody may pull, push and delete; only the holder of the control token may write what is Edgewright's own.
#[derive(Debug, Clone)]
pub struct Open {
    control: Option<AccessToken>,
}

impl Open {
    /// Without a control token nobody can write Edgewright's own artifacts over HTTP.
    pub const fn new(control: Option<AccessToken>) -> Self {
        Self { control }
    }

    fn decide(&self, headers: &HeaderMap, action: Action) -> Decision {
        if action != Action::PushReserved {
            return Decision::Allow;
        }
        match self.control.as_ref().and_then(|token| token.matches(headers)) {
            Some(true) => Decision::Allow,
            Some(false) | None if headers.contains_key(header::AUTHORIZATION) => reserved(),
            _ => unauthenticated(),
        }
    }
}

fn reserved() -> Decision {
    let reason = "verdicts and other vnd.edgewright artifacts are published by Edgewright alone; \
                  post external results with `edgewright verdict post`";
    Decision::Denied { reason: reason.to_owned() }
}

impl Authorizer for Open {
    fn authorize<'a>(
        &'a self,
        headers: &'a HeaderMap,
        action: Action,
        _: Option<&'a RepoName>,
    ) -> BoxFuture<'a, Decision> {
        ready(self.decide(headers, action)).boxed()
    }
}

/// Anybody may pull; writing and deleting need the write token, Edgewright's own artifacts the control token, which may
/// do everything.
#[derive(Debug, Clone)]
pub struct TokenForWrites {
    write: AccessToken,
    control: AccessToken,
}

impl TokenForWrites {
    /// Takes both tokens.
    pub const fn new(write: AccessToken, control: AccessToken) -> Self {
        Self { write, control }
    }

    fn decide(&self, headers: &HeaderMap, action: Action) -> Decision {
        let is_read = matches!(action, Action::Ping | Action::Catalog | Action::Pull);
        let has_control = self.control.matches(headers) == Some(true);
        let has_write = self.write.matches(headers) == Some(true);
        match action {
            _ if has_control => Decision::Allow,
            Action::PushReserved if has_write => reserved(),
            _ if has_write => Decision::Allow,
            // Wrong credentials are told so even where none are needed: `podman login` asks by pinging.
            _ if is_read && !headers.contains_key(header::AUTHORIZATION) => Decision::Allow,
            _ => unauthenticated(),
        }
    }
}

impl Authorizer for TokenForWrites {
    fn authorize<'a>(
        &'a self,
        headers: &'a HeaderMap,
        action: Action,
        _: Option<&'a RepoName>,
    ) -> BoxFuture<'a, Decision> {
        ready(self.decide(headers, action)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: Option<&str>) -> HeaderMap {
        value.map(|value| (header::AUTHORIZATION, value.parse().unwrap())).into_iter().collect()
    }

    #[test]
    fn tokens_decide_who_writes() {
        let open = Open::new(Some(AccessToken::new("control")));
        let tokens = TokenForWrites::new(AccessToken::new("write"), AccessToken::new("control"));
        let basic = format!("Basic {}", BASE64_STANDARD.encode("any:write"));
        // (credentials, action, open, token for writes): 200, 401 or 403
        let cases = [
            (None, Action::Pull, 200, 200),
            (None, Action::Push, 200, 401),
            (None, Action::PushReserved, 401, 401),
            (Some("Bearer wrong"), Action::Pull, 200, 401),
            (Some("Bearer write"), Action::Push, 200, 200),
            (Some(basic.as_str()), Action::Delete, 200, 200),
            (Some("Bearer write"), Action::PushReserved, 403, 403),
            (Some("bearer control"), Action::PushReserved, 200, 200),
            (Some("nonsense"), Action::Push, 200, 401),
        ];
        let status = |decision| match decision {
            Decision::Allow => 200,
            Decision::Unauthenticated { .. } => 401,
            Decision::Denied { .. } => 403,
        };
        for (credentials, action, by_open, by_tokens) in cases {
            let headers = headers(credentials);
            assert_eq!(status(open.decide(&headers, action)), by_open, "open {credentials:?} {action:?}");
            assert_eq!(
                status(tokens.decide(&headers, action)),
                by_tokens,
                "tokens {credentials:?} {action:?}"
            );
        }
        assert_eq!(format!("{open:?}"), "Open { control: Some(AccessToken(…)) }");
    }
}
