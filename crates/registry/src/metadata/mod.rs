//! `registry.db`: the only place with SQL.
//!
//! ```text
//!  change ─▶ bounded queue ─▶ writer task: many changes, one commit ─▶ cache forgets ─▶ acknowledged
//!  read   ─▶ cache ─ miss ─▶ pool of read-only connections ─▶ cache, if nothing was committed in between
//! ```
//!
//! WAL with synchronous FULL: what is acknowledged survives a power cut.

mod apply;
mod cache;
mod change;
mod copy;
mod reads;
mod rows;
mod writer;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, SqliteConnection};

pub use copy::copy_metadata;

pub(crate) use change::{Change, Descriptor, NewManifest};
pub(crate) use reads::Page;
pub(crate) use rows::{BlobRow, Intent, ManifestRow};

use crate::error::RegistryError;
use cache::Cache;
use writer::Writer;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Readers beside the writer; reads that miss the cache are short.
const READERS: u32 = 4;

/// How long a connection waits for SQLite's own locks, which only checkpoints take.
const BUSY: Duration = Duration::from_secs(10);

/// The database, its writer and its cache.
#[derive(Debug)]
pub(crate) struct Metadata {
    readers: SqlitePool,
    writer: Writer,
    cache: Arc<Cache>,
}

impl Metadata {
    /// Opens `registry.db` in a folder, making or migrating it.
    pub(crate) async fn open(folder: &Path, manifest_cache_bytes: usize) -> Result<Self, RegistryError> {
        let file = SqliteConnectOptions::new().filename(folder.join("registry.db")).busy_timeout(BUSY);
        let mut connection = connect(file.clone()).await?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::VersionMissing(version) => RegistryError::NewerSchema(version),
            error => RegistryError::Migrate(error),
        })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(file.read_only(true))
            .await?;
        let cache = Arc::new(Cache::new(manifest_cache_bytes));
        let writer = Writer::start(connection, Arc::clone(&cache));
        Ok(Self { readers, writer, cache })
    }

    /// Commits a change; when it returns `Ok`, the change survives a power cut.
    pub(crate) async fn change(&self, change: Change) -> Result<(), RegistryError> {
        self.writer.change(change).await
    }

    /// Commits what is queued and closes the connections.
    pub(crate) async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

async fn connect(file: SqliteConnectOptions) -> Result<SqliteConnection, RegistryError> {
    let options = file
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true);
    Ok(options.connect().await?)
}

/// Unix milliseconds; rows only, no decision but the age of uploads is made from them.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Reads back a text that was parsed before it was written.
fn parsed<T: FromStr>(text: &str, what: &'static str) -> Result<T, RegistryError> {
    text.parse().map_err(|_| RegistryError::Corrupt(what))
}

fn unsigned(number: i64, what: &'static str) -> Result<u64, RegistryError> {
    u64::try_from(number).map_err(|_| RegistryError::Corrupt(what))
}

fn signed(number: u64) -> i64 {
    // A blob of more than 2^63 bytes does not fit any disk.
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
