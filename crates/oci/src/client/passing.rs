//! Blobs that are passed on to another client: their address, and parts of them as they come.

use std::ops::Range;

use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::error::ClientError;
use super::transport::{Request, Rights};
use super::{Client, Credentials, transport};

/// How clients follow redirects, such as those of a registry to its object storage. Credentials stay with the
/// registry's host in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    /// As the HTTP library does.
    Default,
    /// A few, and never from HTTPS to HTTP.
    Few,
    /// A redirect is the response.
    None,
}

/// A part of a blob as the registry sends it. It is not verified.
#[derive(Debug)]
pub struct BlobPart {
    client: Client,
    what: String,
    answer: Response,
    /// Bytes to skip, if the registry ignored `Range`.
    skip: u64,
    /// Bytes that are still to come.
    left: u64,
}

impl Client {
    /// A client for passing blobs on: it follows few redirects, and none from HTTPS to HTTP.
    pub fn for_passing(
        url: &str,
        credentials: Credentials,
        authority: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        Self::with_redirects(url, credentials, authority, Redirects::Few)
    }

    /// A client that sees what a stranger would see: without credentials, and without following redirects.
    pub fn for_probing(url: &str, authority: Option<&[u8]>) -> Result<Self, ClientError> {
        Self::with_redirects(url, Credentials::Anonymous, authority, Redirects::None)
    }

    /// The address of a blob.
    pub fn blob_url(&self, repository: &RepoName, digest: &Digest) -> Result<String, ClientError> {
        Ok(self.transport.url(repository, &format!("blobs/{digest}"))?.into())
    }

    /// Whether the registry gives a blob to a client that has no credentials and requests no token: itself or
    /// by a redirect.
    pub async fn is_blob_public(&self, repository: &RepoName, digest: &Digest) -> Result<bool, ClientError> {
        let what = format!("blob {digest} of {repository}");
        let url = self.transport.url(repository, &format!("blobs/{digest}"))?;
        let request = Request { method: Method::HEAD, url, repository, rights: Rights::Pull, what: &what };
        let answer = self.transport.send_once(&request, |builder| builder).await?;
        match answer.status() {
            status if status.is_success() || status.is_redirection() => Ok(true),
            StatusCode::TOO_MANY_REQUESTS => Err(self.transport.fault(&what, answer).await),
            status if status.is_server_error() => Err(self.transport.fault(&what, answer).await),
            _ => Ok(false),
        }
    }

    /// Opens a part of a blob; `part` must not be empty.
    pub async fn pull_part(
        &self,
        repository: &RepoName,
        digest: &Digest,
        part: Range<u64>,
    ) -> Result<BlobPart, ClientError> {
        let what = format!("blob {digest} of {repository}");
        let url = self.transport.url(repository, &format!("blobs/{digest}"))?;
        let request = Request { method: Method::GET, url, repository, rights: Rights::Pull, what: &what };
        let range = format!("bytes={}-{}", part.start, part.end.saturating_sub(1));
        let answer = self.transport.send(&request, |builder| builder.header(RANGE, &range)).await?;
        let skip = if answer.status() == StatusCode::PARTIAL_CONTENT { 0 } else { part.start };
        if skip == 0 && part.start > 0 && !begins_at(&answer, part.start) {
            return Err(self.transport.protocol(&what, format!("another part than {range}")));
        }
        Ok(BlobPart { client: self.clone(), what, answer, skip, left: part.end.saturating_sub(part.start) })
    }
}

impl BlobPart {
    /// The next bytes; none after the last of the part.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while self.left > 0 {
            let chunk = self.answer.chunk().await;
            let chunk = chunk.map_err(|source| self.client.transport.unreachable(&self.what, source))?;
            let Some(mut chunk) = chunk else {
                let problem = format!("it ended {} bytes too early", self.left);
                return Err(self.client.transport.protocol(&self.what, problem));
            };
            let skipped = self.skip.min(chunk.len() as u64);
            self.skip -= skipped;
            // Both are at most the chunk's length, which is a usize.
            drop(chunk.split_to(usize::try_from(skipped).unwrap_or(chunk.len())));
            chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= chunk.len() as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

/// Whether a part of a blob (RFC 9110, section 14.4) begins at a byte.
fn begins_at(answer: &Response, start: u64) -> bool {
    let header = answer.headers().get(CONTENT_RANGE).and_then(|header| header.to_str().ok());
    header.is_some_and(|header| header.trim().starts_with(&format!("bytes {start}-")))
}

/// The redirects that a client follows.
pub(super) fn policy(redirects: Redirects) -> reqwest::redirect::Policy {
    use reqwest::redirect::Policy;
    match redirects {
        Redirects::Default => Policy::default(),
        Redirects::None => Policy::none(),
        Redirects::Few => Policy::custom(|attempt| {
            let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
            if attempt.previous().len() > transport::REDIRECTS_LIMIT {
                attempt.error("too many redirects")
            } else if was_secure && attempt.url().scheme() != "https" {
                attempt.error("a redirect from https:// to http://")
            } else {
                attempt.follow()
            }
        }),
    }
}
