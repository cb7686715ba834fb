//! The registry's error type: callers in the process match on it, HTTP maps it to a status and a code.

use edgewright_blobs::BlobError;
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::reference::{Reference, RepoName};
use edgewright_sqlite::{WriterError, is_disk_full};

/// What a client has too many of when its share of the open uploads is used up.
pub(crate) const OWN_UPLOADS: &str = "open uploads of these credentials";

/// Why an operation of the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such repository.
    #[error("repository `{0}` not found")]
    NameUnknown(RepoName),
    /// No such manifest.
    #[error("manifest `{reference}` not found in repository `{repository}`")]
    ManifestUnknown {
        repository: RepoName,
        /// The requested tag or digest.
        reference: Reference,
    },
    /// No such blob, or it was found damaged.
    #[error("blob `{digest}` not found in repository `{repository}`")]
    BlobUnknown {
        repository: RepoName,
        /// The requested tag or digest.
        digest: Digest,
    },
    /// A pin or a manifest refers to missing content.
    #[error("`{digest}` is not in repository `{repository}`; push it there first")]
    ReferenceUnknown {
        repository: RepoName,
        /// The missing content.
        digest: Digest,
    },
    /// No such upload: never begun, finished, cancelled or expired.
    #[error("upload not found; begin a new one")]
    UploadUnknown,
    /// The upload is being written by another request.
    #[error("the upload is being written by another request; wait for it, then ask for the upload's status")]
    UploadInUse,
    /// The chunk does not begin at the end of the upload.
    #[error("the chunk must begin at byte {expected}, the end of the upload")]
    ChunkOutOfOrder {
        /// Bytes that the upload has.
        expected: u64,
    },
    /// The client went away or was too slow. The received part of an upload is kept.
    #[error("incomplete request body")]
    BodyIncomplete,
    /// The content does not match its digest.
    #[error("digest mismatch: expected {expected}, the content has {actual}")]
    DigestMismatch {
        /// The client's value.
        expected: Digest,
        /// The computed digest.
        actual: Digest,
    },
    /// The content does not have the declared length.
    #[error("size mismatch: expected {expected} bytes, the content has {actual}")]
    SizeMismatch {
        /// The client's value.
        expected: u64,
        /// The counted bytes.
        actual: u64,
    },
    /// The manifest is malformed or unsupported.
    #[error("invalid manifest: {0}")]
    ManifestInvalid(String),
    /// Larger than [`crate::MANIFEST_LIMIT`].
    #[error("the manifest is larger than 4 MiB")]
    ManifestTooLarge,
    /// Only the owner of the resolver can move the name.
    #[error(
        "`{reference}` of {repository} is reserved: Edgewright moves channels, clients cannot push or delete them; use another name"
    )]
    Reserved {
        /// The repository of the request.
        repository: RepoName,
        /// The tag, or the digest if the whole repository is virtual.
        reference: Reference,
    },
    /// A pin holds it.
    #[error("`{digest}` is held by pin `{pin}`; the owner of the pin must release it first")]
    Pinned {
        /// The content to delete.
        digest: Digest,
        /// A pin that holds it.
        pin: String,
    },
    /// A manifest of the repository refers to it.
    #[error("manifest `{manifest}` refers to `{digest}`; delete that manifest first")]
    Referenced {
        /// The content to delete.
        digest: Digest,
        /// The digest of a manifest that refers to it.
        manifest: String,
    },
    /// Too many concurrent operations.
    #[error("too many {0} at a time; try again later")]
    Busy(&'static str),
    /// No space left on the registry's disk.
    #[error("the registry's disk is full; free space and try again")]
    NoSpace,
    /// The resolver is unavailable.
    #[error("cannot resolve reserved tags right now; try again")]
    ResolverUnavailable,
    /// The blob is only in an external registry, which does not send it.
    #[error("blob `{0}` is in an external registry that does not send it now; try again later")]
    ExternalUnavailable(Digest),
    /// The folder was written by a newer Edgewright.
    #[error(
        "registry.db has schema version {0}, which this version of Edgewright does not support; run the newer version, or restore a backup from before the upgrade"
    )]
    NewerSchema(i64),
    /// The registry has been closed.
    #[error("the registry is shutting down")]
    Closed,
    /// The metadata database failed.
    #[error("cannot read or write registry.db")]
    Metadata(#[source] sqlx::Error),
    /// The metadata database did not commit a change; a retry may succeed.
    #[error("cannot write to registry.db")]
    Writer(#[source] WriterError),
    /// A migration of the metadata database failed.
    #[error("cannot migrate registry.db")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row has an invalid value.
    #[error("malformed {0} in registry.db")]
    Corrupt(&'static str),
    /// The blob store failed.
    #[error("blob store error")]
    Store(#[source] BlobError),
    /// A blocking task panicked: a defect.
    #[error("a task of the registry panicked")]
    Panicked,
}

impl RegistryError {
    /// Its class.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::NameUnknown(_)
            | Self::ManifestUnknown { .. }
            | Self::BlobUnknown { .. }
            | Self::UploadUnknown => ErrorClass::NotFound,
            Self::ReferenceUnknown { .. }
            | Self::ChunkOutOfOrder { .. }
            | Self::BodyIncomplete
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::ManifestInvalid(_)
            | Self::ManifestTooLarge
            | Self::NewerSchema(_) => ErrorClass::UserFault,
            Self::UploadInUse | Self::Pinned { .. } | Self::Referenced { .. } => ErrorClass::Conflict,
            Self::Reserved { .. } => ErrorClass::Denied,
            Self::Busy(_)
            | Self::NoSpace
            | Self::ResolverUnavailable
            | Self::ExternalUnavailable(_)
            | Self::Closed
            | Self::Metadata(_)
            | Self::Writer(_)
            | Self::Migrate(_)
            | Self::Store(_) => ErrorClass::Unavailable,
            Self::Corrupt(_) | Self::Panicked => ErrorClass::Bug,
        }
    }
}

impl From<sqlx::Error> for RegistryError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            error if is_disk_full(&error) => Self::NoSpace,
            error => Self::Metadata(error),
        }
    }
}

impl From<WriterError> for RegistryError {
    fn from(error: WriterError) -> Self {
        match &error {
            WriterError::Closed => Self::Closed,
            WriterError::Begin(source) | WriterError::Commit(source) if is_disk_full(source) => Self::NoSpace,
            _ => Self::Writer(error),
        }
    }
}

impl From<BlobError> for RegistryError {
    fn from(error: BlobError) -> Self {
        if error.is_no_space() { Self::NoSpace } else { Self::Store(error) }
    }
}

impl From<tokio::task::JoinError> for RegistryError {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Panicked
    }
}
