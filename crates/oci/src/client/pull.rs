//! Pulls of blobs: verified, and resumed by `Range` after a broken connection.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::digest::Hasher;
use edgewright_model::reference::RepoName;
use edgewright_process::Backoff;
use reqwest::header::RANGE;
use reqwest::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::error::ClientError;
use super::transport::{Request, Rights};
use super::{Client, Progress};

/// Number of consecutive attempts without a received byte.
const ATTEMPTS: u32 = 5;
/// The delays before further attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// A blob that is being pulled. The last chunk is returned only after the digest of the whole blob matched.
#[derive(Debug)]
pub struct BlobReader {
    client: Client,
    repository: RepoName,
    digest: Digest,
    what: String,
    answer: Option<Response>,
    total: Option<u64>,
    hasher: Option<Hasher>,
    /// Bytes received so far.
    done: u64,
    /// Number of bytes of the current response to skip, if the registry ignored `Range`.
    skip: u64,
    failures: u32,
    /// Held back until the next chunk arrived or the digest matched.
    held: Option<Bytes>,
    /// What was held back when an error ended the pull.
    left: Option<Bytes>,
}

impl Client {
    /// Opens a blob for reading.
    pub async fn pull_blob(&self, repository: &RepoName, digest: &Digest) -> Result<BlobReader, ClientError> {
        self.resume_blob(repository, digest, Hasher::new(digest.algorithm()), 0).await
    }

    /// Opens the rest of a blob for reading: `hasher` has seen its first `done` bytes, which are not sent
    /// again. The digest is that of the whole blob. A registry that has no more than `done` bytes responds
    /// with an error.
    pub async fn resume_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        hasher: Hasher,
        done: u64,
    ) -> Result<BlobReader, ClientError> {
        let what = format!("blob {digest} of {repository}");
        let opened = self.get_blob(repository, digest, &what, done).await;
        let mut reader = BlobReader {
            client: self.clone(),
            repository: repository.clone(),
            digest: digest.clone(),
            what,
            total: None,
            answer: None,
            hasher: Some(hasher),
            done,
            skip: 0,
            failures: 0,
            held: None,
            left: None,
        };
        match opened {
            Ok(answer) => reader.accept_answer(answer),
            // A failed connection is an error at once; a response that broke in its first bytes is requested
            // again.
            Err(ClientError::Unreachable { source, .. }) if !source.is_connect() => {
                reader.resume(Some(source)).await?;
            }
            Err(error) => return Err(error),
        }
        let length = reader.answer.as_ref().and_then(Response::content_length);
        reader.total = length.map(|length| length.saturating_add(done - reader.skip));
        Ok(reader)
    }

    /// Writes a blob to `writer` and returns its length in bytes. The written bytes are valid only if this
    /// succeeds.
    pub async fn pull_blob_to(
        &self,
        repository: &RepoName,
        digest: &Digest,
        writer: &mut (dyn AsyncWrite + Unpin + Send),
        progress: Progress<'_>,
    ) -> Result<u64, ClientError> {
        let mut reader = self.pull_blob(repository, digest).await?;
        let mut done = 0;
        while let Some(chunk) = reader.chunk().await? {
            writer.write_all(&chunk).await.map_err(|source| reader.local(source))?;
            done += chunk.len() as u64;
            progress(done, reader.total);
        }
        writer.flush().await.map_err(|source| reader.local(source))?;
        Ok(done)
    }

    /// Writes a blob to a new file and returns its length in bytes; a failure leaves no file behind.
    pub async fn pull_blob_file(
        &self,
        repository: &RepoName,
        digest: &Digest,
        path: &Path,
        progress: Progress<'_>,
    ) -> Result<u64, ClientError> {
        let local = |source| ClientError::Local { what: format!("writing {}", path.display()), source };
        let mut file = tokio::fs::File::create(path).await.map_err(local)?;
        let result = self.pull_blob_to(repository, digest, &mut file, progress).await;
        if result.is_err() {
            // The caller needs the first error; a file that cannot be removed is removed with its folder.
            let _ = tokio::fs::remove_file(path).await;
        }
        result
    }

    /// A blob's bytes; an error if it is longer than `limit` bytes.
    pub async fn pull_blob_bytes(
        &self,
        repository: &RepoName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Bytes, ClientError> {
        let mut reader = self.pull_blob(repository, digest).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.chunk().await? {
            if bytes.len() as u64 + chunk.len() as u64 > limit {
                return Err(ClientError::TooLarge {
                    registry: self.host().to_owned(),
                    what: reader.what,
                    limit,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    async fn get_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        what: &str,
        from: u64,
    ) -> Result<Response, ClientError> {
        let url = self.transport.url(repository, &format!("blobs/{digest}"))?;
        let request = Request { method: Method::GET, url, repository, rights: Rights::Pull, what };
        let range = |builder: reqwest::RequestBuilder| match from {
            0 => builder,
            _ => builder.header(RANGE, format!("bytes={from}-")),
        };
        self.transport.send(&request, range).await
    }
}

impl BlobReader {
    /// Length of the blob in bytes, if the registry sent it.
    pub const fn total(&self) -> Option<u64> {
        self.total
    }

    /// The next chunk; `None` at the end. After an error the chunks received so far are invalid.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        let next = self.next().await;
        if next.is_err() {
            self.answer = None;
            self.left = self.held.take();
        }
        next
    }

    /// The last bytes that were received before an error, after those of all chunks. They are not verified:
    /// for callers that resume there later, and verify the whole.
    pub fn take_left(&mut self) -> Option<Bytes> {
        self.left.take()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let Some(answer) = &mut self.answer else { return Ok(self.held.take()) };
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    if let Some(held) = self.accept(chunk) {
                        return Ok(Some(held));
                    }
                }
                Ok(None) if self.total.is_some_and(|total| self.done < total) => self.resume(None).await?,
                Ok(None) => {
                    self.answer = None;
                    self.verify()?;
                }
                // The end of the response was lost, but nothing of the content.
                Err(_) if self.total == Some(self.done) => {
                    self.answer = None;
                    self.verify()?;
                }
                Err(error) => self.resume(Some(error)).await?,
            }
        }
    }

    /// The rest of the blob as a reader, for decompressors and tar readers.
    pub fn into_read(self) -> impl AsyncRead + Send + Unpin {
        let chunks = futures::stream::try_unfold(self, |mut reader| async move {
            match reader.chunk().await {
                Ok(chunk) => Ok(chunk.map(|chunk| (chunk, reader))),
                Err(error) => Err(std::io::Error::other(error)),
            }
        });
        tokio_util::io::StreamReader::new(Box::pin(chunks))
    }

    fn accept(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        // `skipped` is at most the chunk's length, which is a usize.
        let chunk = chunk.split_off(usize::try_from(skipped).unwrap_or(chunk.len()));
        if chunk.is_empty() {
            return None;
        }
        self.failures = 0;
        self.done += chunk.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        self.held.replace(chunk)
    }

    fn verify(&mut self) -> Result<(), ClientError> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let actual = hasher.finish();
        if actual == self.digest {
            return Ok(());
        }
        self.held = None;
        let registry = self.client.host().to_owned();
        Err(ClientError::Corrupt { registry, what: self.what.clone(), actual })
    }

    async fn resume(&mut self, mut cause: Option<reqwest::Error>) -> Result<(), ClientError> {
        loop {
            self.failures += 1;
            if self.failures > ATTEMPTS {
                return Err(match cause {
                    Some(source) => self.client.transport.unreachable(&self.what, source),
                    None => ClientError::BrokenOff {
                        registry: self.client.host().to_owned(),
                        what: self.what.clone(),
                        done: self.done,
                        attempts: ATTEMPTS,
                    },
                });
            }
            tracing::debug!(what = self.what, done = self.done, "pull interrupted, will resume");
            tokio::time::sleep(PAUSES.pause(self.failures)).await;
            match self.client.get_blob(&self.repository, &self.digest, &self.what, self.done).await {
                Ok(answer) => {
                    self.accept_answer(answer);
                    return Ok(());
                }
                Err(ClientError::Unreachable { source, .. }) => cause = Some(source),
                Err(other) => return Err(other),
            }
        }
    }

    /// A registry may ignore `Range`: then what is known already is skipped.
    fn accept_answer(&mut self, answer: Response) {
        self.skip = if answer.status() == StatusCode::PARTIAL_CONTENT { 0 } else { self.done };
        self.answer = Some(answer);
    }

    fn local(&self, source: std::io::Error) -> ClientError {
        ClientError::Local { what: format!("writing {}", self.what), source }
    }
}
