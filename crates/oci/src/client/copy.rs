//! Streams blobs from one registry to another without a local copy.

use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method};
use tokio_util::io::ReaderStream;

use super::Client;
use super::error::ClientError;
use super::push::{CHUNK, OCTETS, with_digest};
use super::transport::{Request, Rights};

impl Client {
    /// Copies a blob from another registry; does nothing if the repository has it. The bytes are verified on
    /// the way: the last piece of a damaged blob is never sent, so the registry never stores it.
    pub async fn copy_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        size: u64,
        from: (&Self, &RepoName),
    ) -> Result<(), ClientError> {
        if self.has_blob(repository, digest).await? {
            return Ok(());
        }
        let (source, source_repository) = from;
        let reader = source.pull_blob(source_repository, digest).await?;
        let what = format!("a push of blob {digest} to {repository}");
        let url = with_digest(self.open_upload(repository, &what).await?, digest);
        let request = Request { method: Method::PUT, url, repository, rights: Rights::Push, what: &what };
        let body = Body::wrap_stream(ReaderStream::with_capacity(reader.into_read(), CHUNK));
        let answer = self
            .transport
            .send_once(&request, |builder| {
                builder.header(CONTENT_TYPE, OCTETS).header(CONTENT_LENGTH, size).body(body)
            })
            .await?;
        if answer.status().is_success() { Ok(()) } else { Err(self.transport.fault(&what, answer).await) }
    }
}
