//! `registry.db`. All SQL of the registry is here.
//!
//! ```text
//!  change ─▶ the writer: many changes, one commit ─▶ cache invalidated ─▶ acknowledged
//!  read   ─▶ cache ─ miss ─▶ pool of read-only connections ─▶ cache, if nothing was committed in between
//! ```
//!
//! Writer and connections are those of `edgewright_sqlite`: acknowledged changes survive a power cut.

mod apply;
mod cache;
mod change;
mod copy;
mod reads;
mod rows;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use edgewright_sqlite::Writer;
use sqlx::sqlite::SqlitePool;

pub use copy::copy_metadata;

pub(crate) use change::{Change, Descriptor, NewManifest, UploadQuota};
pub(crate) use reads::Page;
pub(crate) use rows::{BlobRow, Intent, ManifestRow, OpenUpload};

use crate::error::RegistryError;
use apply::apply;
use cache::Cache;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Readers beside the writer; reads that miss the cache are short.
const READERS: u32 = 4;

/// The database, its writer and its cache.
#[derive(Debug)]
pub(crate) struct Metadata {
    readers: SqlitePool,
    writer: Writer,
    cache: Arc<Cache>,
}

impl Metadata {
    /// Opens `registry.db` in a folder, and creates or migrates it.
    pub(crate) async fn open(folder: &Path, manifest_cache_bytes: usize) -> Result<Self, RegistryError> {
        let file = folder.join("registry.db");
        let mut connection = edgewright_sqlite::connect(&file).await?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::VersionMissing(version) => RegistryError::NewerSchema(version),
            error => RegistryError::Migrate(error),
        })?;
        let readers = edgewright_sqlite::readers(&file, READERS).await?;
        let writer = Writer::start("registry.db", connection);
        Ok(Self { readers, writer, cache: Arc::new(Cache::new(manifest_cache_bytes)) })
    }

    /// Commits a change; when it returns `Ok`, the change survives a power cut.
    pub(crate) async fn change(&self, change: Change) -> Result<(), RegistryError> {
        let change = Arc::new(change);
        let (cache, committed) = (Arc::clone(&self.cache), Arc::clone(&change));
        self.writer
            .write_then(
                move |db| Box::pin(async move { apply(db, &change).await }),
                move || cache.forget(&committed),
            )
            .await
    }

    /// Commits what is queued and closes the connections.
    pub(crate) async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

/// Unix milliseconds, for rows only: the only decision that depends on them is the age of content.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Parses a stored text, which was valid when it was written.
fn parsed<T: FromStr>(text: &str, what: &'static str) -> Result<T, RegistryError> {
    text.parse().map_err(|_| RegistryError::Corrupt(what))
}

fn unsigned(number: i64, what: &'static str) -> Result<u64, RegistryError> {
    u64::try_from(number).map_err(|_| RegistryError::Corrupt(what))
}

fn signed(number: u64) -> i64 {
    // A blob of more than 2^63 bytes is larger than any disk.
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
