//! Errors of the database.

use edgewright_model::error::ErrorClass;
use edgewright_sqlite::{WriterError, is_disk_full};

/// Why an operation on the database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or created.
    #[error("cannot open the database {path}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed, or the schema is newer than this build.
    #[error(
        "cannot migrate the database {path}: another version of edgewright wrote it, or a migration failed"
    )]
    Schema {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed: disk full, I/O error, or a defect.
    #[error("cannot {operation}: database error")]
    Query {
        /// What the statement does, as a verb phrase: `list runs`.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The writer did not commit: the disk is full, another process holds the lock, or the database is
    /// closed.
    #[error("cannot write to the database")]
    Writer(#[from] WriterError),
    /// The database was opened read-only.
    #[error("cannot write to the database: it was opened read-only")]
    ReadOnly,
    /// A stored value does not parse: the file was changed from outside.
    #[error("malformed value in the database, column `{column}`: {message}")]
    Corrupt { column: &'static str, message: String },
    /// The row was changed since it was read.
    #[error("{what} was changed at the same time")]
    Conflict { what: String },
    /// There are as many devices as are kept, and all of them reported lately.
    #[error("too many devices: reports of {limit} are kept, and each of them reported in the last {days} days", days = crate::devices::SILENT_DAYS_LIMIT)]
    TooManyDevices {
        /// The limit.
        limit: u32,
    },
}

impl StoreError {
    /// The class by which exit code, HTTP status and retry are chosen.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Open { .. } | Self::Query { .. } | Self::Writer(_) => ErrorClass::Unavailable,
            Self::Schema { .. } => ErrorClass::UserFault,
            Self::Conflict { .. } | Self::TooManyDevices { .. } => ErrorClass::Conflict,
            Self::Corrupt { .. } | Self::ReadOnly => ErrorClass::Bug,
        }
    }

    /// The next action, in the imperative.
    pub fn hint(&self) -> Option<&'static str> {
        let is_full = match self {
            Self::Schema { .. } => {
                return Some("install the version of edgewright that wrote the database, or a newer one");
            }
            Self::Query { source, .. } => is_disk_full(source),
            Self::Writer(WriterError::Begin(source) | WriterError::Commit(source)) => is_disk_full(source),
            Self::TooManyDevices { .. } => {
                return Some(
                    "let devices keep their ids (`[report] device` in agent.toml): silent ones make room",
                );
            }
            _ => false,
        };
        is_full.then_some("free space on the disk of the data folder")
    }
}

/// Names the operation of a failed statement.
pub(crate) trait Operation<T> {
    fn doing(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> Operation<T> for Result<T, sqlx::Error> {
    fn doing(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Query { operation, source })
    }
}
