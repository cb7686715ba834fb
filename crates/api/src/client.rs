//! The client: one method per route, typed errors, no retries.

mod fleet;
mod users;

use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::names::{ChannelName, ImageName, SiteName, SourceName, VariantName};
use edgewright_model::run::{RebuildNumber, ReleaseNumber, RunNumber};
use reqwest::header::LINK;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;

use crate::error::{ApiError, class_of};
use crate::{
    AuditFilter, AuditPage, ChannelPost, ChannelView, EvidenceQuery, EvidenceView, ExportPost, ExportView,
    ImageSummary, ImageView, PollResponse, RebuildPost, RebuildStatus, ReleaseView, RunJobs, RunResponse,
    RunSummary, RunView, ServerStatus, SiteSummary, SiteView, SourceView, TargetView, VerdictPost,
    VerdictResponse, routes,
};

/// Time limit for connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for a response; logs have none.
const RESPONSE_LIMIT: Duration = Duration::from_secs(30);
/// Number of characters of an unexpected response that errors show.
const SHOWN_BYTES: usize = 200;

/// A client of one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is invalid.
    #[error("`{url}` is not the address of a server: want http://HOST:PORT or https://HOST:PORT")]
    Address {
        /// The address.
        url: String,
    },
    /// There are no certificates in PEM format among the authorities.
    #[error("no certificates in PEM format")]
    Authorities,
    /// The HTTP client could not be created: the system's certificates cannot be read.
    #[error("cannot create the HTTP client")]
    Start(#[source] reqwest::Error),
    /// The server could not be reached, or the connection was lost.
    #[error("no response from {url}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server returned an error.
    #[error(transparent)]
    Rejected(#[from] ApiError),
    /// The response is not what this version expects.
    #[error("unexpected response from {url}")]
    Unexpected {
        /// The URL of the request.
        url: String,
        /// Why it could not be decoded.
        #[source]
        source: reqwest::Error,
    },
}

impl ClientError {
    /// The class of the error.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Address { .. } | Self::Authorities => ErrorClass::UserFault,
            Self::Start(_) | Self::Unreachable { .. } | Self::Unexpected { .. } => ErrorClass::Unavailable,
            Self::Rejected(error) => error.code,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Rejected(error) => error.hint.clone(),
            Self::Unreachable { source, .. } if Chain(source).to_string().contains("UnknownIssuer") => Some(
                "trust the authority of the server's certificate: --ca-file FILE or EDGEWRIGHT_CA_FILE"
                    .into(),
            ),
            Self::Unreachable { .. } => Some(
                "check that `edgewright serve` runs there; without --server, the local data folder is read"
                    .into(),
            ),
            Self::Unexpected { .. } => {
                Some("check the address, and that client and server have the same version".into())
            }
            Self::Address { .. } | Self::Authorities | Self::Start(_) => None,
        }
    }
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:5080`.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::build(url, Vec::new())
    }

    /// The same, which also trusts the certificate authorities in `pem`.
    pub fn with_authorities(url: &str, pem: &[u8]) -> Result<Self, ClientError> {
        let authorities = reqwest::Certificate::from_pem_bundle(pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(ClientError::Authorities);
        }
        Self::build(url, authorities)
    }

    fn build(url: &str, authorities: Vec<reqwest::Certificate>) -> Result<Self, ClientError> {
        let address = || ClientError::Address { url: url.to_owned() };
        let base = Url::parse(url).map_err(|_| address())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(address());
        }
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_LIMIT);
        if !authorities.is_empty() {
            http = http.tls_certs_merge(authorities);
        }
        let http = http.build().map_err(ClientError::Start)?;
        Ok(Self { base, http, token: None })
    }

    /// The same with a token, which is sent with every request.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// The status of the server.
    pub async fn status(&self) -> Result<ServerStatus, ClientError> {
        self.get(routes::STATUS, &[]).await
    }

    /// The sources.
    pub async fn sources(&self) -> Result<Vec<SourceView>, ClientError> {
        self.get(routes::SOURCES, &[]).await
    }

    /// Polls a source at once.
    pub async fn poll(&self, source: &SourceName) -> Result<PollResponse, ClientError> {
        self.post(&routes::poll(source.as_str())).await
    }

    /// Checks a source for updates, of some images or (with an empty list) of all; what changed is built and
    /// released.
    pub async fn update(
        &self,
        source: &SourceName,
        images: &[ImageName],
    ) -> Result<RunResponse, ClientError> {
        let names: Vec<&str> = images.iter().map(ImageName::as_str).collect();
        let names = (!names.is_empty()).then(|| names.join(","));
        self.post_with(&routes::update(source.as_str()), &[("images", names)]).await
    }

    /// The newest runs, newest first.
    pub async fn runs(
        &self,
        source: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<RunSummary>, ClientError> {
        self.list(routes::RUNS, source, &[], Some(limit)).await
    }

    /// One run.
    pub async fn run(&self, number: RunNumber) -> Result<RunView, ClientError> {
        self.get(&routes::run(number), &[]).await
    }

    /// Cancels a run.
    pub async fn cancel(&self, number: RunNumber) -> Result<RunResponse, ClientError> {
        self.post(&routes::cancel(number)).await
    }

    /// Queues the commit of a run again; the response has the new run.
    pub async fn retry(&self, number: RunNumber) -> Result<RunResponse, ClientError> {
        self.post(&routes::retry(number)).await
    }

    /// Posts the verdict of another system on a digest.
    pub async fn post_verdict(&self, post: &VerdictPost) -> Result<VerdictResponse, ClientError> {
        let request = self.request(Method::POST, routes::VERDICTS, &[]).json(post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// The objects that build a digest again and test it.
    pub async fn export(&self, post: &ExportPost) -> Result<ExportView, ClientError> {
        let request = self.request(Method::POST, routes::EXPORTS, &[]).json(post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// Starts a rebuild of a digest.
    pub async fn start_rebuild(&self, digest: &Digest) -> Result<RebuildStatus, ClientError> {
        let body = RebuildPost { digest: digest.clone() };
        let request = self.request(Method::POST, routes::REBUILDS, &[]).json(&body);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// One rebuild.
    pub async fn rebuild(&self, number: RebuildNumber) -> Result<RebuildStatus, ClientError> {
        self.get(&routes::rebuild(number), &[]).await
    }

    /// A run as Markdown, for a comment on a pull request.
    pub async fn comment(&self, number: RunNumber) -> Result<String, ClientError> {
        let request = self.request(Method::GET, &routes::comment(number), &[]).timeout(RESPONSE_LIMIT);
        let response = self.send(request).await?;
        let url = self.base.to_string();
        response.text().await.map_err(|source| ClientError::Unreachable { url, source: source.without_url() })
    }

    /// The jobs of a run that were started, without the first `known` ones; or those of one node.
    pub async fn jobs(&self, run: RunNumber, node: Option<&str>, known: u64) -> Result<RunJobs, ClientError> {
        let query = [("node", node.map(str::to_owned)), ("known", Some(known.to_string()))];
        self.get(&routes::jobs(run), &query).await
    }

    /// A node's log from byte `from` on; with `follow` it ends when the job does.
    pub async fn log(
        &self,
        run: RunNumber,
        node: &str,
        follow: bool,
        from: u64,
    ) -> Result<LogStream, ClientError> {
        let query = [("follow", Some(follow.to_string())), ("from", Some(from.to_string()))];
        let request = self.request(Method::GET, &routes::log(run, node), &query);
        Ok(LogStream { url: self.base.to_string(), response: self.send(request).await? })
    }

    /// The evidence of a node's lanes.
    pub async fn evidence(&self, run: RunNumber, node: &str) -> Result<Vec<EvidenceView>, ClientError> {
        self.get(&routes::evidence(run, node), &[]).await
    }

    /// One piece of evidence.
    pub async fn piece(
        &self,
        run: RunNumber,
        node: &str,
        name: &str,
        of: &EvidenceQuery,
    ) -> Result<Vec<u8>, ClientError> {
        let query = [
            ("lane", of.lane.map(|lane| lane.to_string())),
            ("platform", of.platform.as_ref().map(ToString::to_string)),
        ];
        let request =
            self.request(Method::GET, &routes::piece(run, name, node), &query).timeout(RESPONSE_LIMIT);
        let response = self.send(request).await?;
        let url = self.base.to_string();
        let bytes = response.bytes().await;
        Ok(bytes.map_err(|source| ClientError::Unreachable { url, source: source.without_url() })?.to_vec())
    }

    /// The variants.
    pub async fn images(&self, source: Option<&SourceName>) -> Result<Vec<ImageSummary>, ClientError> {
        self.list(routes::IMAGES, source, &[], None).await
    }

    /// One variant.
    pub async fn image(
        &self,
        variant: &VariantName,
        source: Option<&SourceName>,
    ) -> Result<ImageView, ClientError> {
        let path = routes::image(&variant.to_string());
        self.get(&path, &[("source", source.map(ToString::to_string))]).await
    }

    /// The newest releases, newest first.
    pub async fn releases(
        &self,
        source: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<ReleaseView>, ClientError> {
        self.list(routes::RELEASES, source, &[], Some(limit)).await
    }

    /// The release of a number, of each source that has one.
    pub async fn release(
        &self,
        number: ReleaseNumber,
        source: Option<&SourceName>,
    ) -> Result<Vec<ReleaseView>, ClientError> {
        self.list(routes::RELEASES, source, &[("number", Some(number.to_string()))], None).await
    }

    /// The channels.
    pub async fn channels(&self, source: Option<&SourceName>) -> Result<Vec<ChannelView>, ClientError> {
        self.list(routes::CHANNELS, source, &[], None).await
    }

    /// Holds, resumes, pins or unpins a channel.
    pub async fn change_channel(
        &self,
        channel: &ChannelName,
        source: Option<&SourceName>,
        post: &ChannelPost,
    ) -> Result<ChannelView, ClientError> {
        let query = [("source", source.map(ToString::to_string))];
        let request = self.request(Method::POST, &routes::channel(channel.as_str()), &query).json(post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// The sites.
    pub async fn sites(&self, source: Option<&SourceName>) -> Result<Vec<SiteSummary>, ClientError> {
        self.list(routes::SITES, source, &[], None).await
    }

    /// One site with its slots.
    pub async fn site(&self, name: &SiteName, source: Option<&SourceName>) -> Result<SiteView, ClientError> {
        self.get(&routes::site(name.as_str()), &[("source", source.map(ToString::to_string))]).await
    }

    /// The replication of channels to external registries.
    pub async fn targets(&self) -> Result<Vec<TargetView>, ClientError> {
        self.get(routes::TARGETS, &[]).await
    }

    /// The audit trail.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<AuditPage, ClientError> {
        let AuditFilter { actor, operation, object, since, limit, cursor, after } = filter;
        let query = [
            ("actor", actor.as_ref().map(ToString::to_string)),
            ("operation", operation.clone()),
            ("object", object.clone()),
            ("since", since.map(|since| since.to_string())),
            limited(*limit),
            ("cursor", cursor.clone()),
            ("after", after.map(|after| after.to_string())),
        ];
        self.get(routes::AUDIT, &query).await
    }

    /// The address of the server, as it was given.
    pub const fn base(&self) -> &Url {
        &self.base
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, Option<String>)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.post_with(path, &[]).await
    }

    async fn post_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<T, ClientError> {
        let request = self.request(Method::POST, path, query);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<T, ClientError> {
        decode(self.send(self.request(Method::GET, path, query).timeout(RESPONSE_LIMIT)).await?).await
    }

    /// The rows of a list, page by page: all, or at most `limit`.
    async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        source: Option<&SourceName>,
        filter: &[(&str, Option<String>)],
        limit: Option<u32>,
    ) -> Result<Vec<T>, ClientError> {
        let mut rows = Vec::new();
        let mut cursor = None;
        loop {
            let missing = limit.map(|limit| limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(limit)));
            let page = missing.unwrap_or(routes::LARGEST_LIMIT).clamp(1, routes::LARGEST_LIMIT);
            let own = [("source", source.map(ToString::to_string)), limited(page), ("cursor", cursor)];
            let request = self.request(Method::GET, path, &[filter, &own].concat());
            let response = self.send(request.timeout(RESPONSE_LIMIT)).await?;
            cursor = next_cursor(&response);
            let page: Vec<T> = decode(response).await?;
            let is_last = page.is_empty() || cursor.is_none();
            rows.extend(page);
            if is_last || limit.is_some_and(|limit| rows.len() >= limit as usize) {
                return Ok(rows);
            }
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| ClientError::Unreachable {
            url: self.base.to_string(),
            source: source.without_url(),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap_or_default();
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| unexpected(status, &body)).into())
    }
}

/// The cursor of the next page, from the `Link` header. Only the cursor counts: the server does not know the
/// prefix of its address behind a proxy.
fn next_cursor(response: &Response) -> Option<String> {
    let link = response.headers().get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("rel=\"next\"") {
        return None;
    }
    let url = response.url().join(target).ok()?;
    url.query_pairs().find(|(name, _)| name == "cursor").map(|(_, value)| value.into_owned())
}

fn limited(limit: u32) -> (&'static str, Option<String>) {
    ("limit", Some(limit.to_string()))
}

fn unexpected(status: u16, body: &[u8]) -> ApiError {
    let shown: String = String::from_utf8_lossy(body).chars().take(SHOWN_BYTES).collect();
    ApiError {
        code: class_of(status),
        message: format!(
            "the server returned status {status}: {}",
            shown.replace(char::is_control, " ").trim()
        ),
        hint: Some(
            "check that this is the address of an Edgewright server, not of a proxy or another server".into(),
        ),
    }
}

async fn decode<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let url = response.url().to_string();
    response.json().await.map_err(|source| ClientError::Unexpected { url, source: source.without_url() })
}

/// A log that is being received.
#[derive(Debug)]
pub struct LogStream {
    url: String,
    response: Response,
}

impl LogStream {
    /// The next bytes, not split at lines; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let chunk = self.response.chunk().await.map_err(|source| ClientError::Unreachable {
            url: self.url.clone(),
            source: source.without_url(),
        })?;
        Ok(chunk.map(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_prefixes_kept() {
        for bad in ["", "127.0.0.1:5080", "ftp://a", "file:///x"] {
            assert_eq!(Client::new(bad).unwrap_err().class(), ErrorClass::UserFault, "{bad}");
        }
        let client = Client::new("http://example.test/edge/").unwrap();
        let query = [("follow", Some("true".to_owned())), ("limit", None)];
        let request =
            client.request(Method::GET, &routes::log(RunNumber(7), "hmi/plant-a"), &query).build().unwrap();
        let expected = "http://example.test/edge/api/v1/runs/7/jobs/hmi/plant-a/log?follow=true";
        assert_eq!(request.url().as_str(), expected);
    }

    #[test]
    fn unexpected_responses_are_shown_shortened_on_one_line() {
        let error = unexpected(502, b"<html>\nbad gateway</html>");
        assert_eq!(error.code, ErrorClass::Unavailable);
        assert_eq!(error.message, "the server returned status 502: <html> bad gateway</html>");
    }
}
