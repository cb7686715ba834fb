//! Blob responses: each chunk is verified with its checksum before a byte of it is sent, so no response
//! completes with wrong bytes: it is reset instead, and the blob is marked damaged, until a new push repairs
//! it.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use edgewright_blobs::checksum::CHUNK;
use edgewright_blobs::{BlobError, BlobFile};
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;
use futures::stream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::downloads::{Downloader, Turn};
use crate::error::RegistryError;
use crate::external::{ExternalBlob, Trouble};
use crate::metadata::{BlobRow, Change};
use crate::pace::{CLIENT_RATE_LIMIT, Pace};
use crate::registry::Inner;
use crate::session::cut_answer;

/// The number of buffered pieces between disk and socket.
const QUEUE: usize = 2;
/// The size of a piece, in bytes. A client's progress is seen each time that it has taken one.
const PIECE: usize = 64 * 1024;

/// An existing blob, with the length of its row.
#[derive(Debug, Clone)]
pub(crate) struct OpenBlob {
    file: Arc<dyn BlobFile>,
    row: BlobRow,
}

/// A part of a response: its header, and its range of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) head: Bytes,
    pub(crate) range: Range<u64>,
}

/// What a response is read from.
pub(crate) enum Content {
    /// The own file.
    Own(OpenBlob),
    /// An external registry.
    External(Box<ExternalBlob>),
}

#[derive(Debug)]
enum Fault {
    Damaged(String),
    External(Trouble),
    Panicked,
}

impl Content {
    pub(crate) const fn size(&self) -> u64 {
        match self {
            Self::Own(blob) => blob.row.size,
            Self::External(blob) => blob.size(),
        }
    }

    async fn chunk(&mut self, index: u64) -> Result<Bytes, Fault> {
        match self {
            Self::Own(blob) => blob.chunk(index).await,
            Self::External(blob) => blob.chunk(index).await.map_err(Fault::External),
        }
    }
}

impl OpenBlob {
    pub(crate) const fn row(&self) -> &BlobRow {
        &self.row
    }

    async fn chunk(&self, index: u64) -> Result<Bytes, Fault> {
        let blob = self.clone();
        spawn_blocking(move || blob.read_chunk(index)).await.map_err(|_| Fault::Panicked)?
    }

    fn read_chunk(&self, index: u64) -> Result<Bytes, Fault> {
        let start = index * CHUNK as u64;
        let length = self.row.size.saturating_sub(start).min(CHUNK as u64);
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(CHUNK)];
        let read = self.file.read_at(start, &mut buffer);
        let count = read.map_err(|error| Fault::Damaged(error.to_string()))?;
        if count < buffer.len() || !self.row.checksums.agrees(index, &buffer) {
            return Err(Fault::Damaged(format!("checksum mismatch in the 256 KiB from byte {start}")));
        }
        Ok(buffer.into())
    }
}

impl Inner {
    /// Opens a blob of a repository; none if it is missing or damaged.
    pub(crate) async fn open_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<OpenBlob, RegistryError> {
        let unknown =
            || RegistryError::BlobUnknown { repository: repository.clone(), digest: digest.clone() };
        let row = self.metadata.blob(repository, digest).await?.ok_or_else(unknown)?;
        let (store, named) = (Arc::clone(&self.store), digest.clone());
        let fault = match spawn_blocking(move || store.open(&named)).await? {
            Ok(file) if file.size() == row.size => {
                return Ok(OpenBlob { file: file.into(), row });
            }
            Ok(file) => format!("the file has {} bytes instead of {}", file.size(), row.size),
            Err(error @ BlobError::Missing(_)) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        self.damaged(digest, &fault).await;
        Err(unknown())
    }

    /// Hides a blob until it is pushed again.
    async fn damaged(&self, digest: &Digest, fault: &str) {
        tracing::error!(blob.digest = %digest, fault, "blob is damaged and hidden; push it again to repair it");
        if let Err(error) = self.metadata.change(Change::Damage(digest.clone())).await {
            tracing::error!(%error, blob.digest = %digest, "cannot hide a damaged blob");
        }
    }

    /// Reads all of a blob into memory.
    pub(crate) async fn read_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        let blob = self.open_blob(repository, digest).await?;
        let size = blob.row.size;
        if size > limit {
            return Err(RegistryError::SizeMismatch { expected: limit, actual: size });
        }
        let mut bytes = Vec::new();
        for index in 0..size.div_ceil(CHUNK as u64) {
            let chunk = blob.chunk(index).await;
            bytes.extend_from_slice(&self.accept_chunk(repository, digest, chunk).await?);
        }
        Ok(bytes.into())
    }

    /// A chunk that was read before the response began, or the error for it.
    async fn accept_chunk(
        &self,
        repository: &RepoName,
        digest: &Digest,
        chunk: Result<Bytes, Fault>,
    ) -> Result<Bytes, RegistryError> {
        match chunk {
            Ok(bytes) => return Ok(bytes),
            Err(Fault::Panicked) => return Err(RegistryError::Panicked),
            Err(Fault::External(Trouble::Unavailable)) => {
                return Err(RegistryError::ExternalUnavailable(digest.clone()));
            }
            Err(Fault::External(Trouble::Missing)) => {}
            Err(Fault::Damaged(fault)) => self.damaged(digest, &fault).await,
        }
        Err(RegistryError::BlobUnknown { repository: repository.clone(), digest: digest.clone() })
    }

    /// Streams parts of a blob. The first chunk is read before this returns, so damage in it gives 404, not a
    /// reset.
    pub(crate) async fn stream_blob(
        self: &Arc<Self>,
        (repository, digest, downloader): (&RepoName, &Digest, &Downloader),
        mut content: Content,
        parts: Vec<Part>,
        tail: Bytes,
    ) -> Result<Body, RegistryError> {
        let Some(first) = parts.first().filter(|part| !part.range.is_empty()) else {
            return Ok(Body::empty());
        };
        let downloads = match &mut content {
            Content::Own(_) => &self.downloads,
            Content::External(blob) => {
                blob.begin(&first.range);
                &self.outside.downloads
            }
        };
        let turn = downloads.turn(downloader, self.settings.idle_limit).await?;
        let index = first.range.start / CHUNK as u64;
        let chunk = content.chunk(index).await;
        let ready = (index, self.accept_chunk(repository, digest, chunk).await?);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let pace = Pace::new(self.settings.idle_limit, CLIENT_RATE_LIMIT);
        let (registry, digest) = (Arc::clone(self), digest.clone());
        let download = Download { registry, digest, content, ready, sender, pace, turn };
        self.tasks.spawn(download.send(parts, tail));
        let answer = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|bytes| (bytes, receiver))
        });
        Ok(Body::from_stream(answer))
    }
}

/// A response that is being sent.
struct Download {
    registry: Arc<Inner>,
    digest: Digest,
    content: Content,
    /// The last read chunk, with its index.
    ready: (u64, Bytes),
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    pace: Pace,
    /// The permit of this download.
    turn: Turn,
}

impl Download {
    async fn send(mut self, parts: Vec<Part>, tail: Bytes) {
        for Part { head, range } in parts {
            if !head.is_empty() && !self.give(Ok(head)).await {
                return;
            }
            let mut at = range.start;
            while at < range.end {
                let index = at / CHUNK as u64;
                if self.ready.0 != index && !self.read(index).await {
                    return;
                }
                let start = index * CHUNK as u64;
                let end = range.end.min(start + self.ready.1.len() as u64).min(at + PIECE as u64);
                let within = |offset: u64| usize::try_from(offset - start).unwrap_or(CHUNK);
                if !self.give(Ok(self.ready.1.slice(within(at)..within(end)))).await {
                    return;
                }
                at = end;
            }
        }
        if !tail.is_empty() {
            self.give(Ok(tail)).await;
        }
    }

    /// Sends bytes to the client. False: the client is gone or too slow; the response ends and the connection
    /// is reset.
    async fn give(&mut self, bytes: Result<Bytes, std::io::Error>) -> bool {
        let length = bytes.as_ref().map_or(0, Bytes::len);
        let is_sent = tokio::select! {
            sent = self.pace.wait(self.sender.send(bytes)) => matches!(sent, Some(Ok(()))),
            () = self.registry.closing.cancelled() => false,
            () = self.turn.cut() => false,
        };
        self.pace.progressed(length);
        self.turn.sent(length);
        if let Content::External(blob) = &mut self.content
            && is_sent
        {
            blob.sent(length);
        }
        is_sent
    }

    /// Reads a chunk. False: it is damaged or unreadable, and the response is aborted.
    async fn read(&mut self, index: u64) -> bool {
        let chunk = tokio::select! {
            chunk = self.content.chunk(index) => chunk,
            // An external registry may be slow: nothing is read for a client that left.
            () = self.sender.closed() => return false,
            () = self.registry.closing.cancelled() => return false,
        };
        match chunk {
            Ok(bytes) => {
                self.ready = (index, bytes);
                true
            }
            Err(fault) => {
                if let Fault::Damaged(fault) = &fault {
                    self.registry.damaged(&self.digest, fault).await;
                }
                self.give(Err(cut_answer())).await;
                false
            }
        }
    }
}
