//! The authorization code with PKCE, on a loopback redirect (RFC 7636, RFC 8252).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use edgewright_model::digest::hex;
use edgewright_model::error::ErrorClass;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Login;
use super::provider::{Provider, Rejected, Reply, form};
use crate::exit::Failure;
use crate::output;

/// How long the user may take at the provider.
const LOGIN_TIMEOUT: Duration = Duration::from_mins(10);
/// The longest request of the browser, in bytes.
const REQUEST_LIMIT: usize = 16 << 10;
/// How long a connection may take for its request: browsers open some that they do not use.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const DONE: &str = "You are logged in. You can close this page.";
const FAILED: &str = "The login failed. The command shows why.";

/// Logs in with a browser on this machine.
pub(crate) async fn log_in(provider: &Provider) -> Result<Login, Failure> {
    let failed = |error| Failure::unavailable("cannot listen on a loopback port", &error);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let redirect = format!("http://127.0.0.1:{port}/callback");
    let (verifier, state) = (random()?, random()?);
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let scopes = provider.view.scopes.join(" ");
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", provider.view.client_id.as_str()),
        ("redirect_uri", &redirect),
        ("scope", &scopes),
        ("state", &state),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    if provider.view.scopes.iter().any(|scope| scope == "offline_access") {
        // Without it, providers give no refresh token.
        fields.push(("prompt", "consent"));
    }
    if let Some(resource) = &provider.view.resource {
        fields.push(("resource", resource));
    }
    let endpoint = &provider.endpoints.authorization_endpoint;
    let separator = if endpoint.contains('?') { '&' } else { '?' };
    output::note("open this address in a browser on this machine; on another machine, use --device:");
    output::print(&format!("{endpoint}{separator}{}\n", form(&fields)))?;
    let code = tokio::time::timeout(LOGIN_TIMEOUT, code(&listener, &state, &provider.view.issuer));
    let code = code.await.map_err(|_| {
        Failure::new(ErrorClass::Denied, "the login was not completed within 10 minutes")
            .hint("run the command again")
    })??;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", &redirect),
        ("code_verifier", &verifier),
    ];
    match provider.tokens(&fields).await? {
        Reply::Given(login) => Ok(login),
        Reply::Rejected(rejected) => Err(rejected.failure()),
    }
}

/// 256 random bits as text.
fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(ErrorClass::Unavailable, format!("no random bytes: {error}")))?;
    Ok(hex(&bytes))
}

/// The code with which the provider sends the browser back.
async fn code(listener: &TcpListener, state: &str, issuer: &str) -> Result<String, Failure> {
    loop {
        let accepted = listener.accept().await;
        let (mut stream, _) =
            accepted.map_err(|error| Failure::unavailable("cannot accept the browser", &error))?;
        let Some(target) = target(&mut stream).await else { continue };
        match callback(&target, state, issuer) {
            Callback::Code(code) => {
                respond(&mut stream, "200 OK", DONE).await;
                return Ok(code);
            }
            Callback::Rejected(rejected) => {
                respond(&mut stream, "200 OK", FAILED).await;
                return Err(rejected.failure());
            }
            // Another page of the browser, or another program.
            Callback::Other => respond(&mut stream, "404 Not Found", "Not found.").await,
        }
    }
}

/// What a request to the redirect address means.
#[derive(Debug, PartialEq, Eq)]
enum Callback {
    Code(String),
    Rejected(Rejected),
    Other,
}

/// Reads a callback. One with another state is not of this login, and is left alone.
fn callback(target: &str, state: &str, issuer: &str) -> Callback {
    let Ok(url) = reqwest::Url::parse(&format!("http://127.0.0.1{target}")) else { return Callback::Other };
    let value = |name: &str| {
        let mut found = url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        found.next().filter(|_| found.next().is_none())
    };
    let is_other_issuer = value("iss").is_some_and(|named| named != issuer);
    if url.path() != "/callback" || value("state").as_deref() != Some(state) || is_other_issuer {
        return Callback::Other;
    }
    match (value("code"), value("error")) {
        (Some(code), None) => Callback::Code(code),
        (None, Some(error)) => {
            Callback::Rejected(Rejected { error, error_description: value("error_description") })
        }
        _ => Callback::Other,
    }
}

/// The target of a request; none if there is no valid one.
async fn target(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let read = async {
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut chunk = [0; 1024];
            let count = stream.read(&mut chunk).await.ok()?;
            if count == 0 || head.len() + count > REQUEST_LIMIT {
                return None;
            }
            head.extend_from_slice(&chunk[..count]);
        }
        Some(())
    };
    tokio::time::timeout(REQUEST_TIMEOUT, read).await.ok()??;
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    (method == "GET" && target.starts_with('/')).then(|| target.to_owned())
}

async fn respond(stream: &mut TcpStream, status: &str, text: &str) {
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    // The browser may be gone: the login does not depend on its page.
    if let Err(error) = stream.write_all(response.as_bytes()).await {
        tracing::debug!(%error, "cannot respond to the browser");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_callback_of_this_login_counts() {
        let issuer = "https://id.example.org";
        let code = |code: &str| Callback::Code(code.to_owned());
        let rejected = Rejected { error: "access_denied".to_owned(), error_description: None };
        for (target, expected) in [
            ("/callback?code=a%2Fb&state=s", code("a/b")),
            ("/callback?code=c&state=s&iss=https%3A%2F%2Fid.example.org", code("c")),
            ("/callback?error=access_denied&state=s", Callback::Rejected(rejected)),
            ("/callback?code=c&state=other", Callback::Other),
            ("/callback?code=c", Callback::Other),
            ("/callback?code=c&code=d&state=s", Callback::Other),
            ("/callback?code=c&error=x&state=s", Callback::Other),
            ("/callback?code=c&state=s&iss=https%3A%2F%2Fother.example.org", Callback::Other),
            ("/favicon.ico", Callback::Other),
            ("/callback/x?code=c&state=s", Callback::Other),
        ] {
            assert_eq!(callback(target, "s", issuer), expected, "{target}");
        }
    }
}
