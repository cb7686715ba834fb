//! The port and its types.

use std::fmt;
use std::io;
use std::str::FromStr;

use edgewright_model::Digest;

/// The name of an upload: 1 to 64 of `a-z`, `0-9` and `-`, and so safe as a file name.
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

/// The text is not an upload id.
#[derive(Debug, thiserror::Error)]
#[error("invalid upload id: expected 1 to 64 of a-z, 0-9 and `-`")]
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
    /// There is no such blob or upload.
    #[error("`{0}` is not in the blob store")]
    Missing(String),
    /// The medium failed.
    #[error("cannot {operation} `{name}`")]
    Io {
        /// The operation, as a verb.
        operation: &'static str,
        /// The blob, upload or folder.
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

    /// Whether there is no such blob or upload.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// Space of the medium, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// The size of the file system.
    pub total: u64,
    /// The space that this process may still use.
    pub available: u64,
}

/// Blobs by digest. Every call blocks. The effect of a successful call survives a power cut only where its
/// documentation states so; every call may be repeated after a crash.
pub trait BlobStore: fmt::Debug + Send + Sync + 'static {
    /// Creates an empty upload; an existing one is truncated.
    fn create_upload(&self, id: &UploadId) -> Result<Box<dyn UploadFile>, BlobError>;

    /// Opens an upload to append to it.
    fn open_upload(&self, id: &UploadId) -> Result<Box<dyn UploadFile>, BlobError>;

    /// Deletes an upload; no error if there is none.
    fn discard_upload(&self, id: &UploadId) -> Result<(), BlobError>;

    /// Makes a *synced* upload the blob `digest`, and replaces an existing one (so a second push repairs a
    /// damaged blob). Atomic; survives a power cut once it returned. Open readers of the replaced blob keep
    /// reading that.
    fn publish(&self, id: &UploadId, digest: &Digest) -> Result<(), BlobError>;

    /// Makes sure that a blob survives a power cut, if a crash interrupted its [`Self::publish`]; `false` if
    /// there is none.
    fn settle(&self, digest: &Digest) -> Result<bool, BlobError>;

    /// Opens a blob.
    fn open(&self, digest: &Digest) -> Result<Box<dyn BlobFile>, BlobError>;

    /// A blob's length in bytes; `None` if there is none.
    fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError>;

    /// Removes a blob; no error if there is none. Survives a power cut once it returned.
    fn remove(&self, digest: &Digest) -> Result<(), BlobError>;

    /// Space of the medium.
    fn disk_usage(&self) -> Result<DiskUsage, BlobError>;
}

/// An upload that is open for writing.
pub trait UploadFile: fmt::Debug + Send + 'static {
    /// Its length in bytes.
    fn size(&self) -> u64;

    /// Appends bytes; after an error the upload is as before, unless the process was killed.
    fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError>;

    /// Makes sure that all appended bytes survive a power cut.
    fn sync(&mut self) -> Result<(), BlobError>;

    /// Reads at an offset, as [`BlobFile::read_at`].
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, BlobError>;
}

/// A blob that is open for reading.
pub trait BlobFile: fmt::Debug + Send + Sync + 'static {
    /// Its length in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`; gives fewer bytes only at the end of the blob.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, BlobError>;
}
