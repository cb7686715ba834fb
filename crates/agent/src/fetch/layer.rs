//! One blob: from the first source that has it, resumed where an earlier download ended, verified.

use std::io::Read as _;
use std::path::Path;

use edgewright_model::Digest;
use edgewright_model::digest::Hasher;
use edgewright_oci::media::Descriptor;
use edgewright_oci::{Client, ClientError};
use tokio::io::AsyncWriteExt as _;

use super::{Blobs, FetchError, Limiter, Registry};
use crate::blocking::blocking;
use crate::updater::Progress;

/// Bytes after which a partial file is made durable and the free space is looked at again.
const SYNC_BYTES: u64 = 16 * 1024 * 1024;

/// What a download received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Blobs that were not in the folder.
    pub blobs: usize,
    /// Bytes that were received.
    pub bytes: u64,
}

impl Registry {
    /// Downloads the blobs that the folder does not have. What was received before a failure is kept and not
    /// requested again.
    pub async fn download(
        &self,
        wanted: &[Descriptor],
        blobs: &Blobs,
        limiter: &mut Limiter,
        progress: &Progress,
    ) -> Result<Fetched, FetchError> {
        let (folder, all) = (blobs.clone(), wanted.to_vec());
        let missing = blocking(move || missing(&folder, all)).await??;
        let total: u64 = missing.iter().map(|blob| blob.size).sum();
        let mut sources: Vec<&Client> = self.sources().collect();
        let mut fetched = Fetched::default();
        let mut before = 0;
        for (position, blob) in missing.iter().enumerate() {
            let what = format!("downloading layer {} of {}", position + 1, missing.len());
            let report = |done: u64| progress.step(&what, before + done, Some(total));
            let mut job = Job { blob, blobs, limiter, progress, report: &report, received: 0 };
            let mut errors = Vec::new();
            let mut is_done = false;
            for _ in 0..sources.len() {
                match job.fetch(sources[0], self).await? {
                    Ok(()) => {
                        is_done = true;
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(registry = sources[0].host(), %error, "a source failed, trying the next one");
                        errors.push(error);
                        // The rest of the blobs is not asked for there first.
                        sources.rotate_left(1);
                    }
                }
            }
            fetched.bytes += job.received;
            if !is_done {
                return Err(FetchError::Sources { what: format!("layer {}", blob.digest), errors });
            }
            fetched.blobs += 1;
            before += blob.size;
        }
        Ok(fetched)
    }
}

/// Blobs that are not in the folder, each once. Fails if the disk is too small.
fn missing(folder: &Blobs, wanted: Vec<Descriptor>) -> Result<Vec<Descriptor>, FetchError> {
    let mut missing: Vec<Descriptor> = Vec::new();
    let mut bytes: u64 = 0;
    for blob in wanted {
        if folder.has(&blob.digest, blob.size) || missing.iter().any(|known| known.digest == blob.digest) {
            continue;
        }
        let done = std::fs::metadata(folder.partial(&blob.digest)).map_or(0, |metadata| metadata.len());
        bytes = bytes.saturating_add(blob.size.saturating_sub(done));
        missing.push(blob);
    }
    if !missing.is_empty() {
        folder.need(bytes)?;
    }
    Ok(missing)
}

struct Job<'a> {
    blob: &'a Descriptor,
    blobs: &'a Blobs,
    limiter: &'a mut Limiter,
    progress: &'a Progress,
    report: &'a (dyn Fn(u64) + Send + Sync),
    received: u64,
}

impl Job<'_> {
    /// Downloads the blob from one source. The outer error ends the download, the inner one the source.
    async fn fetch(
        &mut self,
        client: &Client,
        registry: &Registry,
    ) -> Result<Result<(), ClientError>, FetchError> {
        let (mut hasher, mut done) = self.resume().await?;
        loop {
            let outcome = self.receive(client, registry, hasher, done).await?;
            let is_stale = done > 0
                && matches!(
                    outcome,
                    Err(ClientError::Corrupt { .. }
                        | ClientError::TooLarge { .. }
                        | ClientError::Status { status: 416, .. })
                );
            if let Err(ClientError::Corrupt { .. } | ClientError::TooLarge { .. }) = &outcome {
                self.discard().await?;
            }
            if !is_stale {
                return Ok(outcome);
            }
            // The damage may be in what a power cut left: the same source gets one chance with nothing.
            self.discard().await?;
            (hasher, done) = (Hasher::new(self.blob.digest.algorithm()), 0);
        }
    }

    async fn receive(
        &mut self,
        client: &Client,
        registry: &Registry,
        hasher: Hasher,
        mut done: u64,
    ) -> Result<Result<(), ClientError>, FetchError> {
        let (digest, size) = (&self.blob.digest, self.blob.size);
        if done == size && hasher.clone().finish() == *digest {
            return self.finish().await.map(Ok);
        }
        let mut reader = match client.resume_blob(registry.repository(), digest, hasher, done).await {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(error)),
        };
        let path = self.blobs.partial(digest);
        let open = tokio::fs::OpenOptions::new().create(true).append(true).open(&path).await;
        let mut file = open.map_err(FetchError::local(&path))?;
        let mut synced = done;
        loop {
            let chunk = tokio::select! {
                () = self.progress.cancel().cancelled() => return Err(FetchError::Cancelled),
                chunk = reader.chunk() => chunk,
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    // Not one byte is requested again.
                    let left = reader.take_left().filter(|left| done + left.len() as u64 <= size);
                    if let Some(left) = left {
                        self.received += left.len() as u64;
                        file.write_all(&left).await.map_err(FetchError::local(&path))?;
                    }
                    file.flush().await.map_err(FetchError::local(&path))?;
                    return Ok(Err(error));
                }
            };
            done += chunk.len() as u64;
            self.received += chunk.len() as u64;
            if done > size {
                let registry = client.host().to_owned();
                return Ok(Err(ClientError::TooLarge {
                    registry,
                    what: format!("blob {digest}"),
                    limit: size,
                }));
            }
            file.write_all(&chunk).await.map_err(FetchError::local(&path))?;
            (self.report)(done);
            self.limiter.take(chunk.len()).await;
            if done - synced >= SYNC_BYTES {
                file.flush().await.map_err(FetchError::local(&path))?;
                file.sync_data().await.map_err(FetchError::local(&path))?;
                synced = done;
                let blobs = self.blobs.clone();
                blocking(move || blobs.need(0)).await??;
            }
        }
        file.flush().await.map_err(FetchError::local(&path))?;
        drop(file);
        self.finish().await.map(Ok)
    }

    async fn finish(&self) -> Result<(), FetchError> {
        let (blobs, digest) = (self.blobs.clone(), self.blob.digest.clone());
        blocking(move || blobs.finish(&digest)).await?
    }

    async fn discard(&self) -> Result<(), FetchError> {
        let path = self.blobs.partial(&self.blob.digest);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FetchError::local(&path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The hash and length of what an earlier download left.
    async fn resume(&self) -> Result<(Hasher, u64), FetchError> {
        let (blobs, digest, size) = (self.blobs.clone(), self.blob.digest.clone(), self.blob.size);
        blocking(move || hash_partial(&blobs.partial(&digest), &digest, size)).await?
    }
}

fn hash_partial(path: &Path, digest: &Digest, size: u64) -> Result<(Hasher, u64), FetchError> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((hasher, 0)),
        Err(error) => return Err(FetchError::local(path)(error)),
    };
    let mut buffer = vec![0; 64 * 1024];
    let mut done = 0;
    loop {
        let count = file.read(&mut buffer).map_err(FetchError::local(path))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        done += count as u64;
    }
    let is_damaged = done > size || (done == size && hasher.clone().finish() != *digest);
    if is_damaged {
        std::fs::remove_file(path).map_err(FetchError::local(path))?;
        return Ok((Hasher::new(digest.algorithm()), 0));
    }
    Ok((hasher, done))
}
