//! The registry's one error type: what a caller in the process matches on, and what HTTP maps to a status and a code.

use edgewright_blobs::BlobError;
use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::reference::{Reference, RepoName};
use edgewright_sqlite::{WriterError, is_disk_full};

/// Why the registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such repository.
    #[error("there is no repository `{0}`")]
    NameUnknown(RepoName),
    /// No such manifest.
    #[error("there is no manifest `{reference}` in repository `{repository}`")]
    ManifestUnknown {
        /// Where.
        repository: RepoName,
        /// What was asked for.
        reference: Reference,
    },
    /// No such blob, or it was found damaged.
    #[error("there is no blob `{digest}` in repository `{repository}`")]
    BlobUnknown {
        /// Where.
        repository: RepoName,
        /// What was asked for.
        digest: Digest,
    },
    /// A pin or a manifest names something that is not there.
    #[error("`{digest}` is not in repository `{repository}`; push it there first")]
    ReferenceUnknown {
        /// Where.
        repository: RepoName,
        /// What is missing.
        digest: Digest,
    },
    /// No such upload: never begun, finished, cancelled or expired.
    #[error("there is no such upload; begin a new one")]
    UploadUnknown,
    /// The upload is being written by another request.
    #[error("the upload is being written by another request; wait for it, then ask for the upload's status")]
    UploadInUse,
    /// The chunk does not begin where the upload ends.
    #[error("the chunk does not begin at byte {expected}, where the upload ends")]
    ChunkOutOfOrder {
        /// Bytes that the upload has.
        expected: u64,
    },
    /// The client went away or was too slow. What arrived of an upload is kept.
    #[error("the request's body ended before it was complete")]
    BodyIncomplete,
    /// The content is not what its digest says.
    #[error("the content's digest is {actual}, not {expected}")]
    DigestMismatch {
        /// As the client said.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// The content is not as long as the client said.
    #[error("the content has {actual} bytes, not {expected}")]
    SizeMismatch {
        /// As the client said.
        expected: u64,
        /// As counted.
        actual: u64,
    },
    /// Not a manifest that can be kept.
    #[error("the manifest is invalid: {0}")]
    ManifestInvalid(String),
    /// Larger than [`crate::MANIFEST_LIMIT`].
    #[error("the manifest is larger than 4 MiB")]
    ManifestTooLarge,
    /// The name is moved by the resolver's owner alone.
    #[error(
        "`{reference}` of {repository} is reserved: channels are moved by Edgewright, never by pushing or deleting a tag; use another name"
    )]
    Reserved {
        /// The repository that was to be written.
        repository: RepoName,
        /// The tag, or the digest where the whole repository is virtual.
        reference: Reference,
    },
    /// Something refers to it from above.
    #[error("`{digest}` is held by pin `{pin}`; what took the pin must let go first")]
    Pinned {
        /// What was to go.
        digest: Digest,
        /// A pin that holds it.
        pin: String,
    },
    /// A manifest of the repository needs it.
    #[error("`{digest}` is needed by manifest `{manifest}`; delete that first")]
    Referenced {
        /// What was to go.
        digest: Digest,
        /// The digest of a manifest that needs it.
        manifest: String,
    },
    /// Too many at once.
    #[error("too many {0} at a time; try again later")]
    Busy(&'static str),
    /// No space left on the registry's disk.
    #[error("the registry's disk is full; free space and try again")]
    NoSpace,
    /// The resolver could not answer.
    #[error("reserved tags cannot be resolved right now; try again")]
    ResolverUnavailable,
    /// The folder was written by a newer Edgewright.
    #[error(
        "registry.db has schema version {0}, newer than this Edgewright knows; run the newer version, or restore a backup from before the upgrade"
    )]
    NewerSchema(i64),
    /// The registry has been closed.
    #[error("the registry is shutting down")]
    Closed,
    /// The metadata database failed.
    #[error("registry.db failed")]
    Metadata(#[source] sqlx::Error),
    /// The metadata database did not commit a change; trying again may help.
    #[error("registry.db did not accept a change")]
    Writer(#[source] WriterError),
    /// Setting up the metadata database failed.
    #[error("registry.db could not be brought to this version's schema")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row holds what was never written by us.
    #[error("registry.db holds an unreadable {0}")]
    Corrupt(&'static str),
    /// The blob store failed.
    #[error("the blob store failed")]
    Store(#[source] BlobError),
    /// A blocking task of ours panicked.
    #[error("a task of the registry panicked")]
    Panicked,
}

impl RegistryError {
    /// What kind of fault it is.
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
