//! Credentials of requests: parsing of `Authorization`, and the challenge.
//!
//! ```text
//!  client                                            registry
//!    │ GET /v2/                                          │
//!    │◀── 401 Bearer realm="http://HOST/v2/token" ───────│
//!    │ GET /v2/token?scope=…  [Basic USER:TOKEN]         │  without credentials: the anonymous token
//!    │◀── {"token": …} ──────────────────────────────────│
//!    │ PUT /v2/…/manifests/…  [Bearer …]                 │
//! ```
//!
//! This is the token scheme of the distribution project, which podman, skopeo, oras and docker support. A
//! Basic challenge would not work: oras and docker do not respond to it without credentials, so nothing could
//! be pulled anonymously. The issued token is the presented one: it grants the same rights, and needs no
//! signing key. Clients that know their token send it at once, as `Bearer TOKEN` or as the password of
//! `Basic` with any user.

use std::fmt::{self, Write as _};

use axum::http::{Extensions, HeaderMap, Uri, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use edgewright_model::Digest;

use crate::ports::Action;

/// The bearer token of clients without credentials. It grants nothing, so it need not be secret.
const ANONYMOUS: &str = "anonymous";
/// The path of the token endpoint.
const TOKEN_PATH: &str = "/v2/token";

/// A secret token, kept as its hash.
///
/// Tokens are looked up and compared by their SHA-256, so the duration of a comparison reveals nothing about
/// them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessToken(Digest);

impl AccessToken {
    /// The hash of a token.
    pub fn new(token: &str) -> Self {
        Self(Digest::of(token))
    }

    /// A token of which only the hash is known.
    pub const fn of_hash(hash: Digest) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// The credentials of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// No `Authorization` header.
    Missing,
    /// Explicitly none: the anonymous token, or `Basic` with neither user nor password.
    Anonymous,
    /// A token.
    Token(AccessToken),
    /// A header without a token.
    Unusable,
}

impl Credentials {
    /// Reads the credentials of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Self::Missing };
        match presented(value.as_bytes()) {
            None => Self::Unusable,
            Some(token) if token.is_empty() || token == ANONYMOUS => Self::Anonymous,
            Some(token) => Self::Token(AccessToken::new(&token)),
        }
    }
}

/// The token that a request presents, for an authorizer that verifies its signature.
pub fn presented_token(headers: &HeaderMap) -> Option<String> {
    presented(headers.get(header::AUTHORIZATION)?.as_bytes())
}

/// The presented token; empty if a client sends empty credentials.
pub(crate) fn presented(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return (!rest.is_empty()).then(|| rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    (user.is_empty() || !password.is_empty()).then(|| password.to_owned())
}

/// The token that is issued for presented credentials. Ask the authorizer first.
pub(crate) fn token_for(headers: &HeaderMap) -> String {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| presented(value.as_bytes()));
    token.filter(|token| !token.is_empty()).unwrap_or_else(|| ANONYMOUS.to_owned())
}

/// `SCHEME://HOST[:PORT]` under which the client reaches the server: an extension of the request, set by a
/// program that knows it. The default is `http://` and the request's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(pub String);

impl BaseUrl {
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap, extensions: &Extensions) -> String {
        if let Some(Self(known)) = extensions.get::<Self>() {
            return known.clone();
        }
        format!("http://{}", host(uri, headers).unwrap_or("localhost"))
    }
}

/// The host that a request was sent to: HTTP/2 has it in the URI, HTTP/1 in a header.
pub fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let header = || headers.get(header::HOST)?.to_str().ok();
    let is_host = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    uri.authority().map(axum::http::uri::Authority::as_str).or_else(header).filter(is_host)
}

/// Whether clients that are redirected from one URL to another send their credentials there: Go's HTTP
/// client, which container tools use, does so for the same host with any port, and for hosts below it. What
/// is no URL counts as if they did.
pub(crate) fn credentials_follow(from: &str, to: &str) -> bool {
    let host = |url: &str| Some(url.parse::<Uri>().ok()?.host()?.to_ascii_lowercase());
    match (host(from), host(to)) {
        (Some(from), Some(to)) => to == from || to.ends_with(&format!(".{from}")),
        _ => true,
    }
}

/// The value of `WWW-Authenticate` for an action.
pub(crate) fn challenge(
    uri: &Uri,
    headers: &HeaderMap,
    extensions: &Extensions,
    action: Action<'_>,
) -> String {
    let base = BaseUrl::of(uri, headers, extensions);
    let service = base.split_once("://").map_or(base.as_str(), |(_, host)| host);
    let mut challenge = format!("Bearer realm=\"{base}{TOKEN_PATH}\",service=\"{service}\"");
    if let Some(repository) = action.repository() {
        let rights = match action {
            Action::DeleteManifest(_) | Action::DeleteBlob(_) => "delete",
            action if action.is_read() => "pull",
            _ => "pull,push",
        };
        // Writing to a string cannot fail.
        let _ = write!(challenge, ",scope=\"repository:{repository}:{rights}\"");
    }
    challenge
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    fn headers(value: Option<&str>) -> HeaderMap {
        let value = value.map(|value| HeaderValue::from_str(value).unwrap());
        value.map(|value| (header::AUTHORIZATION, value)).into_iter().collect()
    }

    #[test]
    fn credentials_are_a_token_or_none() {
        let token = || Credentials::Token(AccessToken::new("secret"));
        // (header, credentials, the issued token)
        let cases = [
            (None, Credentials::Missing, "anonymous"),
            (Some("Bearer secret".to_owned()), token(), "secret"),
            (Some("bearer  secret ".to_owned()), token(), "secret"),
            (Some(basic("any:secret")), token(), "secret"),
            (Some(basic(":secret")), token(), "secret"),
            (Some(basic(":")), Credentials::Anonymous, "anonymous"),
            (Some("Bearer anonymous".to_owned()), Credentials::Anonymous, "anonymous"),
            (Some(basic("any:")), Credentials::Unusable, "anonymous"),
            (Some(basic("nocolon")), Credentials::Unusable, "anonymous"),
            (Some("Basic !".to_owned()), Credentials::Unusable, "anonymous"),
            (Some("Bearer ".to_owned()), Credentials::Unusable, "anonymous"),
            (Some("Digest x".to_owned()), Credentials::Unusable, "anonymous"),
            (Some("nonsense".to_owned()), Credentials::Unusable, "anonymous"),
        ];
        for (value, expected, handed) in cases {
            let headers = headers(value.as_deref());
            assert_eq!(Credentials::of(&headers), expected, "{value:?}");
            assert_eq!(token_for(&headers), handed, "{value:?}");
        }
        assert_eq!(format!("{:?}", AccessToken::new("secret")), "AccessToken(…)");
    }

    #[test]
    fn challenges_name_the_address_that_the_client_used() {
        let (uri, extensions) = (Uri::from_static("/v2/"), Extensions::new());
        let host: HeaderMap =
            [(header::HOST, HeaderValue::from_static("10.0.0.1:5080"))].into_iter().collect();
        let repository = "plants/hmi".parse().unwrap();
        assert_eq!(
            challenge(&uri, &host, &extensions, Action::Ping),
            "Bearer realm=\"http://10.0.0.1:5080/v2/token\",service=\"10.0.0.1:5080\""
        );
        assert_eq!(
            challenge(&uri, &host, &extensions, Action::PushBlob(&repository)),
            "Bearer realm=\"http://10.0.0.1:5080/v2/token\",service=\"10.0.0.1:5080\",scope=\"repository:plants/hmi:pull,push\""
        );
        let mut known = Extensions::new();
        known.insert(BaseUrl("https://images.example.org".to_owned()));
        assert!(
            challenge(&uri, &host, &known, Action::Ping)
                .contains("realm=\"https://images.example.org/v2/token\"")
        );
        let forged: HeaderMap =
            [(header::HOST, HeaderValue::from_static("a\",scope=\"x"))].into_iter().collect();
        assert!(
            challenge(&uri, &forged, &extensions, Action::Ping).contains("\"http://localhost/v2/token\"")
        );
        let second = Uri::from_static("https://images.example.org/v2/");
        assert_eq!(super::host(&second, &HeaderMap::new()), Some("images.example.org"));
    }

    #[test]
    fn credentials_follow_redirects_to_the_same_host_and_below() {
        for (from, to, expected) in [
            ("https://a.example", "https://b.example/v2/x", false),
            ("https://a.example:5080", "https://A.example/v2/x", true),
            ("https://a.example", "http://hub.a.example:80/v2/x", true),
            ("https://a.example", "https://aa.example/x.a.example", false),
            ("https://hub.a.example", "https://a.example/", false),
            ("http://127.0.0.1:1", "http://127.0.0.1:2/", true),
            ("http://127.0.0.1:1", "http://localhost:2/", false),
            ("http://[::1]:1", "http://[::1]/", true),
            ("http://[::1]:1", "http://[::2]:1/", false),
        ] {
            assert_eq!(credentials_follow(from, to), expected, "{from} {to}");
        }
    }
}
