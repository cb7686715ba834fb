//! Pushes of blobs: one streaming PUT, resumed where the registry kept the upload.

use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::order::BlobRef;
use edgewright_model::reference::RepoName;
use edgewright_process::Backoff;
use futures::StreamExt as _;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::io::AsyncSeekExt as _;
use tokio_util::io::ReaderStream;

use super::error::ClientError;
use super::transport::{Request, Rights, resolve};
use super::{Client, Progress};

/// Number of attempts to push a blob.
const ATTEMPTS: u32 = 4;
/// The delays before further attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
/// Files are read and sent in pieces of this size, in bytes.
pub(super) const CHUNK: usize = 512 * 1024;
/// The interval of progress reports.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
pub(super) const OCTETS: &str = "application/octet-stream";

impl Client {
    /// Whether the repository has a blob.
    pub async fn has_blob(&self, repository: &RepoName, digest: &Digest) -> Result<bool, ClientError> {
        let what = format!("blob {digest} of {repository}");
        let url = self.transport.url(repository, &format!("blobs/{digest}"))?;
        let request = Request { method: Method::HEAD, url, repository, rights: Rights::Pull, what: &what };
        match self.transport.send(&request, |builder| builder).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Requests a mount of a blob from another repository of the registry; `false` if the registry requires
    /// an upload instead.
    pub async fn mount_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        from: &RepoName,
    ) -> Result<bool, ClientError> {
        let what = format!("a mount of blob {digest} of {from} into {repository}");
        let mut url = self.transport.url(repository, "blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from.as_str());
        let request = Request { method: Method::POST, url, repository, rights: Rights::Push, what: &what };
        let answer = self.transport.send(&request, |builder| builder.header(CONTENT_LENGTH, 0)).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // The registry opened an upload, which is not used.
        if let Ok(url) = self.location(&request.url, &answer, &what) {
            let request = Request { method: Method::DELETE, url, ..request };
            let _ = self.transport.send_any(&request, |builder| builder).await;
        }
        Ok(false)
    }

    /// Pushes small bytes as a blob; does nothing if the repository has it.
    pub async fn push_blob_bytes(
        &self,
        repository: &RepoName,
        bytes: impl Into<Bytes>,
    ) -> Result<BlobRef, ClientError> {
        let bytes: Bytes = bytes.into();
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let blob = BlobRef { repository: repository.clone(), digest, size };
        let what = format!("a push of blob {} to {repository}", blob.digest);
        if self.has_blob(repository, &blob.digest).await? {
            return Ok(blob);
        }
        let mut attempts = Attempts(1);
        while let Err(error) = self.post_blob(&blob, &bytes, &what).await {
            attempts.pause(&what, error).await?;
            // The interrupted attempt may have stored it.
            if self.has_blob(repository, &blob.digest).await? {
                break;
            }
        }
        Ok(blob)
    }

    /// One attempt: a single POST, or an upload where the registry requires one.
    async fn post_blob(&self, blob: &BlobRef, bytes: &Bytes, what: &str) -> Result<(), ClientError> {
        let repository = &blob.repository;
        let body = |builder: RequestBuilder| builder.header(CONTENT_TYPE, OCTETS).body(bytes.clone());
        let request = Request {
            method: Method::POST,
            url: with_digest(self.transport.url(repository, "blobs/uploads/")?, &blob.digest),
            repository,
            rights: Rights::Push,
            what,
        };
        let answer = self.transport.send(&request, body).await?;
        // A registry may ignore the body and open an upload (distribution-spec, "Single POST").
        if answer.status() == StatusCode::ACCEPTED {
            let url = with_digest(self.location(&request.url, &answer, what)?, &blob.digest);
            // Not sent twice: an upload ends with the first.
            let put =
                self.transport.send_once(&Request { method: Method::PUT, url, ..request }, body).await?;
            return self.transport.success(what, put).await;
        }
        Ok(())
    }

    /// Pushes a file as a blob, streaming; does nothing if the repository has it. The caller passes digest
    /// and size, the registry verifies them.
    pub async fn push_blob_file(
        &self,
        repository: &RepoName,
        path: &Path,
        digest: &Digest,
        size: u64,
        progress: Progress<'_>,
    ) -> Result<BlobRef, ClientError> {
        let blob = BlobRef { repository: repository.clone(), digest: digest.clone(), size };
        if self.has_blob(repository, digest).await? {
            progress(size, Some(size));
            return Ok(blob);
        }
        let what = format!("a push of blob {digest} to {repository}");
        let mut upload: Option<Url> = None;
        let mut attempts = Attempts(1);
        while let Err(error) = self.push_attempt(&blob, path, &what, &mut upload, progress).await {
            attempts.pause(&what, error).await?;
        }
        Ok(blob)
    }

    async fn push_attempt(
        &self,
        blob: &BlobRef,
        path: &Path,
        what: &str,
        upload: &mut Option<Url>,
        progress: Progress<'_>,
    ) -> Result<(), ClientError> {
        let repository = &blob.repository;
        let (location, start) = match upload.take() {
            Some(url) => match self.upload_offset(repository, url, what).await? {
                Some((url, offset)) if offset < blob.size => (url, offset),
                _ => (self.open_upload(repository, what).await?, 0),
            },
            None => (self.open_upload(repository, what).await?, 0),
        };
        *upload = Some(location.clone());
        let local = |source| ClientError::Local { what: format!("reading {}", path.display()), source };
        let mut file = tokio::fs::File::open(path).await.map_err(local)?;
        file.seek(SeekFrom::Start(start)).await.map_err(local)?;
        let sent = Arc::new(AtomicU64::new(start));
        let counter = Arc::clone(&sent);
        let chunks = ReaderStream::with_capacity(file, CHUNK).inspect(move |chunk| {
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            counter.fetch_add(length, Ordering::Relaxed);
        });
        let url = with_digest(location, &blob.digest);
        let request = Request { method: Method::PUT, url, repository, rights: Rights::Push, what };
        let put = self.transport.send_once(&request, |builder| {
            let builder = builder.header(CONTENT_TYPE, OCTETS).header(CONTENT_LENGTH, blob.size - start);
            let builder = match start {
                0 => builder,
                _ => builder.header(CONTENT_RANGE, format!("{start}-{}", blob.size - 1)),
            };
            builder.body(Body::wrap_stream(chunks))
        });
        tokio::pin!(put);
        let mut ticks = tokio::time::interval(PROGRESS_EVERY);
        let answer = loop {
            tokio::select! {
                answer = &mut put => break answer?,
                _ = ticks.tick() => progress(sent.load(Ordering::Relaxed), Some(blob.size)),
            }
        };
        progress(sent.load(Ordering::Relaxed), Some(blob.size));
        self.transport.success(what, answer).await
    }

    pub(super) async fn open_upload(&self, repository: &RepoName, what: &str) -> Result<Url, ClientError> {
        let url = self.transport.url(repository, "blobs/uploads/")?;
        let request = Request { method: Method::POST, url, repository, rights: Rights::Push, what };
        let answer = self.transport.send(&request, |builder| builder.header(CONTENT_LENGTH, 0)).await?;
        self.location(&request.url, &answer, what)
    }

    /// The number of bytes of an upload that the registry has; `None` if the upload no longer exists.
    async fn upload_offset(
        &self,
        repository: &RepoName,
        url: Url,
        what: &str,
    ) -> Result<Option<(Url, u64)>, ClientError> {
        let request = Request { method: Method::GET, url, repository, rights: Rights::Push, what };
        let answer = self.transport.send_any(&request, |builder| builder).await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let last = answer.headers().get(RANGE).and_then(|value| value.to_str().ok()).and_then(range_end);
        let location = self.location(&request.url, &answer, what).unwrap_or(request.url);
        Ok(last.map(|last| (location, last + 1)))
    }

    fn location(&self, from: &Url, answer: &Response, what: &str) -> Result<Url, ClientError> {
        let header = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = header.ok_or_else(|| self.transport.protocol(what, "no Location"))?;
        resolve(from, location)
    }
}

/// The attempts of a push.
struct Attempts(u32);

impl Attempts {
    /// Waits before the next attempt; the error itself if the registry refused the push, or after the last.
    async fn pause(&mut self, what: &str, error: ClientError) -> Result<(), ClientError> {
        let interrupted =
            matches!(error, ClientError::Unreachable { .. } | ClientError::Status { status: 500.., .. });
        if !interrupted || self.0 == ATTEMPTS {
            return Err(error);
        }
        tracing::debug!(what, %error, attempt = self.0, "push interrupted, will retry");
        tokio::time::sleep(PAUSES.pause(self.0)).await;
        self.0 += 1;
        Ok(())
    }
}

pub(super) fn with_digest(mut url: Url, digest: &Digest) -> Url {
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
}

/// The last byte of `0-1023`, with or without `bytes=`; `None` for `0-0`, which registries also send for an
/// empty upload.
fn range_end(text: &str) -> Option<u64> {
    let (_, last) = text.trim_start_matches("bytes=").split_once('-')?;
    last.trim().parse().ok().filter(|last| *last > 0)
}

#[cfg(test)]
mod tests {
    use super::range_end;

    #[test]
    fn upload_ranges_parse() {
        for (text, end) in
            [("0-1023", Some(1023)), ("bytes=0-9", Some(9)), ("0-0", None), ("", None), ("x-y", None)]
        {
            assert_eq!(range_end(text), end, "{text}");
        }
    }
}
