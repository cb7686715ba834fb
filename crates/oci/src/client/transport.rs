//! Requests: URLs, authentication, errors from statuses.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use edgewright_model::reference::RepoName;
use reqwest::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::{Challenge, Credentials};
use super::error::ClientError;
use super::passing::{Redirects, policy};

/// Time limit for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit between two reads of a response.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Maximum number of redirects that are followed for a blob that is passed on.
pub(super) const REDIRECTS_LIMIT: usize = 5;
/// Maximum number of bytes that are read of an error's body.
const ERROR_BODY_LIMIT: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
    host: String,
    credentials: Credentials,
    /// Tokens of the token service, by repository and rights.
    tokens: Mutex<HashMap<(RepoName, Rights), HeaderValue>>,
}

/// The rights of a request in its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rights {
    Pull,
    Push,
}

/// A request without its body; `what` describes it in errors.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) repository: &'a RepoName,
    pub(super) rights: Rights,
    /// Description for errors, such as `blob sha256:… of plant-os/hmi`.
    pub(super) what: &'a str,
}

/// A `Location` or `Link`, relative or absolute.
pub(super) fn resolve(from: &Url, location: &str) -> Result<Url, ClientError> {
    from.join(location).map_err(|_| ClientError::Address { url: format!("{from} + {location}") })
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.starts_with("127.") || name == "[::1]"
}

/// The base address of the registry that an image reference names.
pub(super) fn url_of_host(host: &str) -> String {
    match host {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        _ if is_loopback(host) => format!("http://{host}"),
        _ => format!("https://{host}"),
    }
}

impl Transport {
    pub(super) fn new(
        url: &str,
        credentials: Credentials,
        authority: Option<&[u8]>,
        redirects: Redirects,
    ) -> Result<Self, ClientError> {
        let address = || ClientError::Address { url: url.to_owned() };
        let base: Url = url.parse().map_err(|_| address())?;
        let name = base.host_str().ok_or_else(address)?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(address());
        }
        let host = base.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(policy(redirects))
            .tcp_nodelay(true)
            .user_agent(concat!("edgewright/", env!("CARGO_PKG_VERSION")));
        // A proxy cannot reach the local loopback.
        let builder = if is_loopback(&host) { builder.no_proxy() } else { builder };
        let unusable = |source| ClientError::Unreachable {
            registry: host.clone(),
            what: "any request".to_owned(),
            source,
        };
        let builder = match authority {
            Some(pem) => {
                let known = Certificate::from_pem_bundle(pem).map_err(unusable)?;
                if known.is_empty() {
                    return Err(ClientError::Authority { registry: host });
                }
                builder.tls_certs_merge(known)
            }
            None => builder,
        };
        let http = builder.build().map_err(unusable)?;
        Ok(Self { http, base, host, credentials, tokens: Mutex::default() })
    }

    /// The same connections with other credentials.
    pub(super) fn with_credentials(&self, credentials: Credentials) -> Self {
        Self {
            http: self.http.clone(),
            base: self.base.clone(),
            host: self.host.clone(),
            credentials,
            tokens: Mutex::default(),
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn auth_json(&self) -> String {
        self.credentials.to_auth_json(&self.host)
    }

    pub(super) fn is_plain_http(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// The address of something below `/v2/REPOSITORY/`.
    pub(super) fn url(&self, repository: &RepoName, rest: &str) -> Result<Url, ClientError> {
        resolve(&self.base, &format!("/v2/{repository}/{rest}"))
    }

    /// Sends a request, with a token if the registry asks for one, and returns the response with any status.
    /// `shape` adds headers and body; it is called again for a further attempt.
    ///
    /// Idempotent requests are sent once more if the connection ended without a response: a registry may
    /// close a kept connection at the moment at which it is used again (RFC 9112, section 9.3.1).
    pub(super) async fn send_any(
        &self,
        request: &Request<'_>,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let known = self.authorization(request);
        let answer = match self.once(request, known.clone(), &shape).await {
            Err(ClientError::Unreachable { source, .. })
                if request.method.is_idempotent() && is_closed(&source) =>
            {
                self.once(request, known.clone(), &shape).await?
            }
            result => result?,
        };
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.answer_challenge(request, &answer).await? {
            Some(fresh) if Some(&fresh) != known.as_ref() => self.once(request, Some(fresh), &shape).await,
            _ => Ok(answer),
        }
    }

    /// As [`Self::send_any`]; statuses other than success become errors.
    pub(super) async fn send(
        &self,
        request: &Request<'_>,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let answer = self.send_any(request, shape).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.fault(request.what, answer).await) }
    }

    /// Statuses other than success become errors; the body is not read.
    pub(super) async fn success(&self, what: &str, answer: Response) -> Result<(), ClientError> {
        if answer.status().is_success() { Ok(()) } else { Err(self.fault(what, answer).await) }
    }

    /// Sends a request whose body can be sent only once, with the token of earlier requests.
    pub(super) async fn send_once(
        &self,
        request: &Request<'_>,
        shape: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        self.once(request, self.authorization(request), shape).await
    }

    async fn once(
        &self,
        request: &Request<'_>,
        authorization: Option<HeaderValue>,
        shape: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let mut builder = self.http.request(request.method.clone(), request.url.clone());
        // Upload locations may be on another host (object storage), which must not get our credentials.
        if request.url.host_str() == self.base.host_str()
            && let Some(value) = authorization
        {
            builder = builder.header(AUTHORIZATION, value);
        }
        shape(builder).send().await.map_err(|source| self.unreachable(request.what, source))
    }

    fn authorization(&self, request: &Request<'_>) -> Option<HeaderValue> {
        if let Credentials::Bearer(token) = &self.credentials {
            return secret(&format!("Bearer {token}"));
        }
        let tokens = self.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tokens.get(&(request.repository.clone(), request.rights)).cloned()
    }

    async fn answer_challenge(
        &self,
        request: &Request<'_>,
        answer: &Response,
    ) -> Result<Option<HeaderValue>, ClientError> {
        let headers = answer.headers().get_all(WWW_AUTHENTICATE);
        let challenge = headers.iter().find_map(|value| Challenge::parse(value.to_str().ok()?));
        let value = match (challenge, &self.credentials) {
            (None, _) | (_, Credentials::Bearer(_)) | (Some(Challenge::Basic), Credentials::Anonymous) => {
                return Ok(None);
            }
            (Some(Challenge::Basic), Credentials::Basic { user, password }) => {
                secret(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            (Some(Challenge::Bearer { realm, service, scope }), credentials) => {
                let scope = scope.unwrap_or_else(|| {
                    let rights = if request.rights == Rights::Push { "pull,push" } else { "pull" };
                    format!("repository:{}:{rights}", request.repository)
                });
                let token = self.token(&realm, service, &scope, credentials, request.what).await?;
                secret(&format!("Bearer {token}"))
            }
        };
        if let Some(value) = &value {
            let mut tokens = self.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            tokens.insert((request.repository.clone(), request.rights), value.clone());
        }
        Ok(value)
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: &str,
        credentials: &Credentials,
        what: &str,
    ) -> Result<String, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut url = resolve(&self.base, realm)?;
        url.query_pairs_mut().append_pair("scope", scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let mut builder = self.http.get(url);
        if let Credentials::Basic { user, password } = credentials {
            builder = builder.basic_auth(user, Some(password));
        }
        let answer = builder.send().await.map_err(|source| self.unreachable(what, source))?;
        if !answer.status().is_success() {
            return Err(self.fault(&format!("a token for {what}"), answer).await);
        }
        let body: Answer = answer.json().await.map_err(|source| self.unreachable(what, source))?;
        body.token.or(body.access_token).ok_or_else(|| self.protocol(what, "no token"))
    }

    pub(super) fn unreachable(&self, what: &str, source: reqwest::Error) -> ClientError {
        // The message has the address already, and a query may contain an upload's state.
        let source = source.without_url();
        ClientError::Unreachable { registry: self.host.clone(), what: what.to_owned(), source }
    }

    pub(super) fn protocol(&self, what: &str, problem: impl Into<String>) -> ClientError {
        ClientError::Protocol { registry: self.host.clone(), what: what.to_owned(), problem: problem.into() }
    }

    /// The error for an unsuccessful response.
    pub(super) async fn fault(&self, what: &str, answer: Response) -> ClientError {
        let (registry, what) = (self.host.clone(), what.to_owned());
        let status = answer.status();
        let detail = detail(answer).await;
        match status {
            StatusCode::NOT_FOUND => ClientError::NotFound { registry, what },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ClientError::Denied { registry, what, detail }
            }
            _ => ClientError::Status { registry, what, status: status.as_u16(), detail },
        }
    }
}

/// Whether the connection ended without a response.
fn is_closed(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The registry's message (distribution-spec, "Error Codes"), with a leading colon.
async fn detail(mut answer: Response) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ERROR_BODY_LIMIT {
            break;
        }
    }
    let Ok(parsed) = serde_json::from_slice::<Errors>(&body) else { return String::new() };
    let texts: Vec<String> = parsed.errors.iter().map(|e| format!("{} {}", e.code, e.message)).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join("; ").trim()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_become_addresses() {
        for (host, url) in [
            ("quay.io", "https://quay.io"),
            ("docker.io", "https://registry-1.docker.io"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("localhost:5000", "http://localhost:5000"),
            ("localhost.example", "https://localhost.example"),
        ] {
            assert_eq!(url_of_host(host), url);
        }
        assert!(Transport::new("ftp://x", Credentials::Anonymous, None, Redirects::Default).is_err());
        assert!(Transport::new("x", Credentials::Anonymous, None, Redirects::Default).is_err());
    }
}
