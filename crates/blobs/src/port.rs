//! The port and its vocabulary.

use std::fmt;
use std::io;
use std::str::FromStr;

use edgewright_model::Digest;

/// The name of an upload: 1 to 64 of `a-z`, `0-9` and `-`, and so safe as a file's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(String);

impl UploadId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not an upload's id.
#[derive(Debug, thiserror::Error)]
#[error("not an upload id: want 1 to 64 of a-z, 0-9 and `-`")]
pub struct InvalidUploadId;

impl FromStr for UploadId {
    type Err = InvalidUploadId;

    fn from_str(text: &str) -> Result<Self, InvalidUploadId> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidUploadId)
        }
    }
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is not there.
    #[error("`{0}` is not in the blob store")]
    Missing(String),
    /// The medium failed.
    #[error("failed to {operation} `{name}`")]
    Io {
        /// What was done, as a verb.
        operation: &'static str,
        /// To what.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BlobError {
    pub(crate) fn io(operation: &'static str, name: impl fmt::Display, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Self::Missing(name.to_string());
        }
        Self::Io { operation, name: name.to_string(), source }
    }

    /// The disk, or the user's share of it, is full.
    pub fn is_no_space(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Self::Io { source, .. } if full(source.kind()))
    }

    /// It is not there.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// Space of the medium, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// All of it.
    pub total: u64,
    /// What this process may still take.
    pub available: u64,
}

/// Bytes by digest. Every call blocks. What a call that returned `Ok` promises holds over a power cut only where
/// said; every call may be repeated after a crash.
pub trait BlobStore: fmt::Debug + Send + Sync + 'static {
    /// Makes an empty upload; one that exists is emptied.
    fn create_upload(&self, id: &UploadId) -> Result<Box<dyn UploadFile>, BlobError>;

    /// Opens an upload to go on at its end.
    fn open_upload(&self, id: &UploadId) -> Result<Box<dyn UploadFile>, BlobError>;

    /// Drops an upload and gives its space back; it is no error when there is none.
    fn discard_upload(&self, id: &UploadId) -> Result<(), BlobError>;

    /// Makes a *synced* upload the blob `digest`, replacing what was there (a re-push repairs). Atomic; survives a power
    /// cut once it returned. Readers of what was there before go on reading that.
    fn publish(&self, id: &UploadId, digest: &Digest) -> Result<(), BlobError>;

    /// Makes sure that a blob which a crash left behind a [`Self::publish`] survives a power cut; `false`: it is not there.
    fn settle(&self, digest: &Digest) -> Result<bool, BlobError>;

    /// Opens a blob.
    fn open(&self, digest: &Digest) -> Result<Box<dyn BlobFile>, BlobError>;

    /// A blob's length in bytes, `None` where there is none.
    fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError>;

    /// Removes a blob; it is no error when there is none. Survives a power cut once it returned.
    fn remove(&self, digest: &Digest) -> Result<(), BlobError>;

    /// Space of the medium.
    fn disk_usage(&self) -> Result<DiskUsage, BlobError>;
}

/// An upload that is open for writing.
pub trait UploadFile: fmt::Debug + Send + 'static {
    /// Bytes that it has.
    fn size(&self) -> u64;

    /// Adds bytes at the end; when it fails the upload is as before, unless a crash comes between.
    fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError>;

    /// All bytes that were appended survive a power cut.
    fn sync(&mut self) -> Result<(), BlobError>;

    /// Reads at an offset, as [`BlobFile::read_at`].
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, BlobError>;
}

/// A blob that is open for reading.
pub trait BlobFile: fmt::Debug + Send + Sync + 'static {
    /// Its length in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`; less only where the blob ends.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, BlobError>;
}
