//! One upload while it is written: its file, its running digest and checksums.
//!
//! If the state is not in memory, it is rebuilt from the file: after a restart, and after `kill -9`.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use edgewright_blobs::checksum::{CHUNK, Checksums, Summer};
use edgewright_blobs::{BlobError, BlobStore, UploadFile, UploadId};
use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use futures::future::{BoxFuture, ready};
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

use crate::error::RegistryError;

/// Bytes handed to a blocking thread at once; twice that is in memory per upload.
const BATCH: usize = CHUNK;

/// The state of an upload, behind a lock that its current request holds, including its blocking threads: an
/// aborted request never writes concurrently with the next one.
#[derive(Debug)]
pub(crate) enum Session {
    /// Not in memory.
    Closed,
    /// Ready for more. Only while a request holds it: an idle upload has no open file.
    Open(Box<Writer>),
    /// Between two requests.
    Parked(Box<Parked>),
    /// Published or dropped.
    Ended,
}

/// A locked upload. Its file is closed when it is released.
#[derive(Debug)]
pub(crate) struct Held(OwnedMutexGuard<Session>);

/// What an idle upload keeps in memory.
#[derive(Debug)]
pub(crate) struct Parked {
    sha256: Hasher,
    sums: Summer,
    size: u64,
    is_synced: bool,
    since: Instant,
}

impl Parked {
    /// How long no request has held the upload.
    pub(crate) fn idle(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Held {
    pub(crate) const fn new(guard: OwnedMutexGuard<Session>) -> Self {
        Self(guard)
    }
}

impl Deref for Held {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !matches!(*self.0, Session::Open(_)) {
            return;
        }
        if let Session::Open(writer) = std::mem::replace(&mut *self.0, Session::Closed) {
            *self.0 = Session::Parked(Box::new(writer.park()));
        }
    }
}

/// Appends and hashes. Every call blocks.
#[derive(Debug)]
pub(crate) struct Writer {
    file: Box<dyn UploadFile>,
    sha256: Hasher,
    sums: Summer,
    is_synced: bool,
}

/// The result of an upload.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) checksums: Checksums,
}

impl Writer {
    pub(crate) fn create(store: &dyn BlobStore, id: &UploadId) -> Result<Self, BlobError> {
        let file = store.create_upload(id)?;
        Ok(Self { file, sha256: Hasher::new(Algorithm::Sha256), sums: Summer::default(), is_synced: false })
    }

    /// Continues at the end of the file, after hashing its content.
    pub(crate) fn resume(store: &dyn BlobStore, id: &UploadId) -> Result<Self, BlobError> {
        let file = match store.open_upload(id) {
            Ok(file) => file,
            // A power cut can delete a file of which nothing was acknowledged.
            Err(error) if error.is_missing() => return Self::create(store, id),
            Err(error) => return Err(error),
        };
        let (mut sha256, mut sums) = (Hasher::new(Algorithm::Sha256), Summer::default());
        read_all(&*file, |bytes| {
            sha256.update(bytes);
            sums.update(bytes);
        })?;
        Ok(Self { file, sha256, sums, is_synced: false })
    }

    fn park(self) -> Parked {
        let size = self.size();
        let Self { file: _, sha256, sums, is_synced } = self;
        Parked { sha256, sums, size, is_synced, since: Instant::now() }
    }

    /// Opens the file of an idle upload again. What was not synced is read again: an error of writing it
    /// would have been reported to the closed file.
    pub(crate) fn unpark(store: &dyn BlobStore, id: &UploadId, parked: Parked) -> Result<Self, BlobError> {
        let Parked { sha256, sums, size, is_synced, since: _ } = parked;
        if is_synced {
            let file = store.open_upload(id)?;
            if file.size() == size {
                return Ok(Self { file, sha256, sums, is_synced });
            }
        }
        Self::resume(store, id)
    }

    pub(crate) fn size(&self) -> u64 {
        self.file.size()
    }

    fn append(&mut self, batch: &[Bytes]) -> Result<(), BlobError> {
        for bytes in batch {
            self.is_synced = false;
            self.file.append(bytes)?;
            self.sha256.update(bytes);
            self.sums.update(bytes);
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), BlobError> {
        if !self.is_synced {
            self.file.sync()?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// The digest; the file is read again if another algorithm was computed so far.
    pub(crate) fn content(&self, algorithm: Algorithm) -> Result<Content, BlobError> {
        let digest = match algorithm {
            Algorithm::Sha256 => self.sha256.clone().finish(),
            Algorithm::Sha512 => {
                let mut sha512 = Hasher::new(Algorithm::Sha512);
                read_all(&*self.file, |bytes| sha512.update(bytes))?;
                sha512.finish()
            }
        };
        Ok(Content { digest, size: self.size(), checksums: self.sums.clone().finish() })
    }
}

fn read_all(file: &dyn UploadFile, mut take: impl FnMut(&[u8])) -> Result<(), BlobError> {
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let count = file.read_at(offset, &mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        take(&buffer[..count]);
        offset += count as u64;
    }
}

/// Runs `work` on the held writer in a blocking thread; when it fails, the session has ended.
/// Starts at once, even before it is awaited.
pub(crate) fn with_writer<T: Send + 'static>(
    mut held: Held,
    work: impl FnOnce(&mut Writer) -> Result<T, BlobError> + Send + 'static,
) -> impl Future<Output = Result<(Held, T), RegistryError>> + Send + 'static {
    let joined = spawn_blocking(move || {
        let Session::Open(writer) = &mut *held else { return Err(RegistryError::UploadUnknown) };
        match work(writer) {
            Ok(value) => Ok((held, value)),
            Err(error) => {
                *held = Session::Ended;
                Err(error.into())
            }
        }
    });
    async { joined.await? }
}

/// Why a body was not received completely.
#[derive(Debug)]
pub(crate) enum Cut {
    /// The client failed; the received part is kept.
    Client,
    /// The server failed; the session has ended.
    Server(RegistryError),
}

/// Streams a request's body into an upload: while one batch is written, the next arrives.
pub(crate) async fn receive(held: Held, body: Body) -> Result<Held, Cut> {
    let mut stream = body.into_data_stream();
    let mut writing: BoxFuture<'static, Result<Held, RegistryError>> = ready(Ok(held)).boxed();
    let mut ended = Ok(false);
    while matches!(ended, Ok(false)) {
        let (mut batch, mut filled) = (Vec::new(), 0);
        while filled < BATCH && matches!(ended, Ok(false)) {
            match stream.next().await {
                Some(Ok(bytes)) => {
                    filled += bytes.len();
                    batch.push(bytes);
                }
                None => ended = Ok(true),
                Some(Err(_)) => ended = Err(Cut::Client),
            }
        }
        if filled > 0 {
            let held = writing.await.map_err(Cut::Server)?;
            // It is written while the next batch is received.
            let append = with_writer(held, move |writer| writer.append(&batch));
            writing = append.map(|appended| appended.map(|(held, ())| held)).boxed();
        }
    }
    let held = writing.await.map_err(Cut::Server)?;
    ended.map(|_| held)
}

/// The error that aborts a response.
pub(crate) fn cut_answer() -> io::Error {
    io::Error::other("the blob is damaged")
}
