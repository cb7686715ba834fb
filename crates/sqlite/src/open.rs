//! Connections, and copies of a whole database.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, SqliteConnection};

/// How long a statement waits for SQLite's own locks: checkpoints, copies, a second process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// SQLite's result code for a full disk (SQLITE_FULL).
const SQLITE_FULL: &str = "13";
/// The shared-memory index cannot grow (SQLITE_IOERR_SHMSIZE): the symptom of a full tmpfs.
const SQLITE_IOERR_SHMSIZE: &str = "4874";

/// Opens or creates a database for its writer.
pub async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(path).create_if_missing(true).connect().await
}

/// Opens read-only connections to an existing database. They stay open until the pool is closed.
pub async fn readers(path: &Path, count: u32) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(count)
        .idle_timeout(None)
        .max_lifetime(None)
        // Opening the file itself read-only would forbid WAL's shared-memory file if no server runs.
        .connect_with(options(path).pragma("query_only", "on"))
        .await
}

/// Copies a consistent snapshot of a database into a new file, also while its writer works.
pub async fn copy(database: &Path, to: &Path) -> Result<(), sqlx::Error> {
    let mut connection =
        SqliteConnectOptions::new().filename(database).create_if_missing(false).connect().await?;
    sqlx::query("VACUUM INTO ?").bind(to.display().to_string()).execute(&mut connection).await?;
    Ok(())
}

/// Whether an error means that the disk is full.
pub fn is_disk_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some(SQLITE_FULL | SQLITE_IOERR_SHMSIZE))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of `PRAGMA synchronous`.
    const FULL: i64 = 2;

    #[tokio::test]
    async fn a_commit_survives_a_power_cut() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = connect(&folder.path().join("test.db")).await.unwrap();
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
        let synchronous: i64 =
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
        let foreign_keys: i64 =
            sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&mut connection).await.unwrap();
        assert_eq!((journal.as_str(), synchronous, foreign_keys), ("wal", FULL, 1));
    }

    #[tokio::test]
    async fn readers_cannot_write_and_do_not_create_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        assert!(readers(&path, 1).await.is_err());
        let mut connection = connect(&path).await.unwrap();
        sqlx::query("CREATE TABLE numbers (n INTEGER)").execute(&mut connection).await.unwrap();
        let readers = readers(&path, 1).await.unwrap();
        let error = sqlx::query("INSERT INTO numbers VALUES (1)").execute(&readers).await.unwrap_err();
        assert!(error.to_string().contains("readonly"), "{error}");
    }
}
