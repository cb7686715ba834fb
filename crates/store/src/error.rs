//! What can go wrong with the database.

use edgewright_model::error::ErrorClass;
use edgewright_sqlite::{WriterError, is_disk_full};

/// Why the database did not do what was asked.
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
        "the database {path} does not fit this version of edgewright: install the version that wrote it, or a newer one"
    )]
    Schema {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// SQLite refused a statement: disk full, I/O error, or a defect.
    #[error("the database refused to {operation}")]
    Query {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The writer did not commit: the disk is full, another process holds the lock, or the database is closed.
    #[error("the database did not accept a write")]
    Writer(#[from] WriterError),
    /// The database was opened for reading only.
    #[error("the database was opened for reading only")]
    ReadOnly,
    /// A stored value does not parse: the file was changed from outside.
    #[error("column `{column}` holds a value that does not parse: {message}")]
    Corrupt {
        /// Where.
        column: &'static str,
        /// Why.
        message: String,
    },
    /// The row changed in between.
    #[error("{what} changed in between")]
    Conflict {
        /// What.
        what: String,
    },
}

impl StoreError {
    /// The class by which exit code, HTTP status and retry are chosen.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Open { .. } | Self::Query { .. } | Self::Writer(_) => ErrorClass::Unavailable,
            Self::Schema { .. } => ErrorClass::UserFault,
            Self::Conflict { .. } => ErrorClass::Conflict,
            Self::Corrupt { .. } | Self::ReadOnly => ErrorClass::Bug,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        let is_full = match self {
            Self::Query { source, .. } => is_disk_full(source),
            Self::Writer(WriterError::Begin(source) | WriterError::Commit(source)) => is_disk_full(source),
            _ => false,
        };
        is_full.then_some("free space on the disk of the data folder, then try again")
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
