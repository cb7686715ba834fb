//! Blobs that this registry does not have and an external one has: read there, verified, passed on.
//!
//! ```text
//!  external registry ─▶ chunk of 256 KiB ─▶ its checksum ─▶ client
//!                                        └▶ digest of the whole blob ─▶ last chunk
//! ```
//!
//! The row of a blob remains when its file is lost, with the length and a checksum of each chunk. So each
//! chunk is verified before a byte of it is sent, in parts of blobs, too. Of whole blobs the digest is
//! verified in addition, before the last chunk is sent. No blob is in memory as a whole.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use edgewright_blobs::checksum::CHUNK;
use edgewright_model::Digest;
use edgewright_model::digest::Hasher;
use edgewright_model::reference::RepoName;
use futures::StreamExt as _;
use tokio::time::{sleep, timeout};

use crate::credentials::credentials_follow;
use crate::downloads::Downloads;
use crate::error::RegistryError;
use crate::metadata::BlobRow;
use crate::ports::{CopyBytes, CopyError, ExternalCopy, Redirection};
use crate::registry::Inner;
use crate::settings::RegistrySettings;

/// How long an external registry may take until it responds, and between two reads.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a chunk is requested of each copy, until the download is given up. The first chunk is requested
/// once: nothing was sent yet, so the client gets an error that it can act on.
const ATTEMPTS_LIMIT: usize = 4;
/// The pause before the second attempt; further ones are longer.
const PAUSE: Duration = Duration::from_millis(250);

/// What clients got of external registries since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExternalTraffic {
    /// Bytes that were read there and passed on.
    pub proxied_bytes: u64,
    /// Requests that were redirected.
    pub redirects: u64,
    /// Downloads that failed because of an external registry.
    pub failures: u64,
}

/// What reads of external registries share.
#[derive(Debug)]
pub(crate) struct Outside {
    /// The permits of downloads that are read there.
    pub(crate) downloads: Downloads,
    bytes: AtomicU64,
    redirects: AtomicU64,
    failures: AtomicU64,
    /// Whether it was logged that clients would send credentials along.
    has_warned: AtomicBool,
}

impl Outside {
    pub(crate) fn new(settings: &RegistrySettings) -> Self {
        let none = AtomicU64::default;
        let (limit, share) = (settings.max_proxied_downloads, settings.max_proxied_downloads_per_peer);
        let downloads = Downloads::new((limit, limit), share);
        let has_warned = AtomicBool::default();
        Self { downloads, bytes: none(), redirects: none(), failures: none(), has_warned }
    }

    pub(crate) fn traffic(&self) -> ExternalTraffic {
        ExternalTraffic {
            proxied_bytes: self.bytes.load(Ordering::Relaxed),
            redirects: self.redirects.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

/// Why a chunk cannot be read.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No external registry has the blob.
    Missing,
    /// None of them sends it now.
    Unavailable,
}

/// A part of a blob that is read from external registries.
pub(crate) struct ExternalBlob {
    registry: Arc<Inner>,
    digest: Digest,
    row: BlobRow,
    copies: Vec<Arc<dyn ExternalCopy>>,
    /// The end of what is requested: that of a chunk.
    end: u64,
    open: Option<Open>,
    /// Of all chunks so far, if all of the blob is read.
    hasher: Option<Hasher>,
    sent: u64,
}

/// A response of an external registry.
struct Open {
    /// The next chunk.
    index: u64,
    bytes: CopyBytes,
    /// What it sent of the next chunk, and maybe of the one after it.
    buffer: BytesMut,
}

impl Inner {
    /// Whether clients of a virtual repository read a blob of `home` elsewhere. `base` is the URL at which
    /// they reach this registry.
    pub(crate) async fn redirect(
        &self,
        home: &RepoName,
        digest: &Digest,
        base: &str,
    ) -> Result<Redirection, RegistryError> {
        let external = self.resolver.external().filter(|external| external.is_used());
        let Some(external) = external else { return Ok(Redirection::None) };
        let images = self.metadata.images_with(home, digest).await?;
        if images.is_empty() {
            return Ok(Redirection::None);
        }
        let redirection = external.redirect(&images, digest).await;
        if let Redirection::To(url) = &redirection {
            if credentials_follow(base, url) {
                if !self.outside.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        url,
                        "devices are not redirected: they would send their credentials along, because the host \
                         is that of this server, or below it"
                    );
                }
                return Ok(Redirection::Unavailable);
            }
            self.outside.redirects.fetch_add(1, Ordering::Relaxed);
        }
        Ok(redirection)
    }

    /// A blob of `home` whose file is lost, from the external registries that have it; none if none has it,
    /// or if it was never here.
    pub(crate) async fn external_blob(
        self: &Arc<Self>,
        home: &RepoName,
        digest: &Digest,
    ) -> Result<Option<ExternalBlob>, RegistryError> {
        let Some(external) = self.resolver.external() else { return Ok(None) };
        let copies = external.copies(&self.metadata.images_with(home, digest).await?);
        if copies.is_empty() {
            return Ok(None);
        }
        let row = self.metadata.lost_blob(home, digest).await?;
        Ok(row.map(|row| ExternalBlob {
            registry: Arc::clone(self),
            digest: digest.clone(),
            end: row.size,
            row,
            copies,
            open: None,
            hasher: None,
            sent: 0,
        }))
    }
}

impl ExternalBlob {
    pub(crate) const fn size(&self) -> u64 {
        self.row.size
    }

    /// Chooses the part that [`Self::chunk`] reads from its first chunk to its last.
    pub(crate) fn begin(&mut self, part: &Range<u64>) {
        self.end = part.end.next_multiple_of(CHUNK as u64).min(self.row.size);
        let is_whole = *part == (0..self.row.size);
        self.hasher = is_whole.then(|| Hasher::new(self.digest.algorithm()));
    }

    /// Reads a chunk; each follows the one before it.
    pub(crate) async fn chunk(&mut self, index: u64) -> Result<Bytes, Trouble> {
        let attempts = if self.sent == 0 { 1 } else { ATTEMPTS_LIMIT };
        let mut is_missing = true;
        for attempt in 0..attempts {
            if attempt > 0 {
                sleep(PAUSE * u32::try_from(attempt).unwrap_or(1)).await;
            }
            for copy in self.copies.clone() {
                let problem = match self.read(&*copy, index).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(CopyError::Missing) => "it has no such blob".to_owned(),
                    Err(CopyError::Unavailable(problem)) => {
                        is_missing = false;
                        problem
                    }
                };
                self.open = None;
                tracing::warn!(
                    registry.host = copy.host(),
                    blob.digest = %self.digest,
                    chunk = index,
                    problem,
                    "cannot read a blob of an external registry"
                );
            }
            if is_missing {
                break;
            }
        }
        self.registry.outside.failures.fetch_add(1, Ordering::Relaxed);
        Err(if is_missing { Trouble::Missing } else { Trouble::Unavailable })
    }

    /// Reads a chunk of one copy, and verifies it.
    async fn read(&mut self, copy: &dyn ExternalCopy, index: u64) -> Result<Bytes, CopyError> {
        let start = index * CHUNK as u64;
        let length = usize::try_from(self.row.size.saturating_sub(start)).unwrap_or(CHUNK).min(CHUNK);
        let late = |_| CopyError::Unavailable("it does not respond in time".to_owned());
        let mut open = if let Some(open) = self.open.take().filter(|open| open.index == index) {
            open
        } else {
            let opened = timeout(READ_TIMEOUT, copy.open(&self.digest, start..self.end));
            Open { index, bytes: opened.await.map_err(late)??, buffer: BytesMut::new() }
        };
        while open.buffer.len() < length {
            match timeout(READ_TIMEOUT, open.bytes.next()).await.map_err(late)? {
                Some(bytes) => open.buffer.extend_from_slice(&bytes?),
                None => return Err(CopyError::Unavailable("its response ended too early".to_owned())),
            }
        }
        let bytes = open.buffer.split_to(length).freeze();
        if !self.row.checksums.agrees(index, &bytes) {
            return Err(CopyError::Unavailable(format!("wrong content in the 256 KiB from byte {start}")));
        }
        if let Some(mut hasher) = self.hasher.clone() {
            hasher.update(&bytes);
            if start + length as u64 >= self.row.size && hasher.clone().finish() != self.digest {
                return Err(CopyError::Unavailable("wrong content: its digest is another one".to_owned()));
            }
            self.hasher = Some(hasher);
        }
        open.index += 1;
        self.open = Some(open);
        Ok(bytes)
    }

    /// To be called when the client took bytes.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.registry.outside.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for ExternalBlob {
    fn drop(&mut self) {
        if self.sent > 0 {
            let (bytes, size) = (self.sent, self.row.size);
            tracing::debug!(blob.digest = %self.digest, bytes, size, "passed on a blob of an external registry");
        }
    }
}
