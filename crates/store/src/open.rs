//! Opening the database: settings, migrations, transactions.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Sqlite, Transaction};

use crate::StoreError;
use crate::error::Operation as _;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Connections: readers beside the one writer that SQLite admits.
const CONNECTIONS: u32 = 4;
/// How long a statement waits for another writer.
const BUSY: Duration = Duration::from_secs(20);

/// Control's database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: SqlitePool,
}

impl Store {
    /// Opens or creates the database and brings its schema up to date.
    ///
    /// # Errors
    /// The file cannot be opened, or its schema is newer than this build.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = Self::options(path).create_if_missing(true);
        let pool = Self::connect(path, options).await?;
        let schema = |source| StoreError::Schema { path: path.display().to_string(), source };
        MIGRATIONS.run(&pool).await.map_err(schema)?;
        Ok(Self { pool })
    }

    /// Opens an existing database for reading beside a running server.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        // `read_only` at the file level would forbid the shared-memory file of WAL where no server runs.
        let options = Self::options(path).pragma("query_only", "on");
        Ok(Self { pool: Self::connect(path, options).await? })
    }

    fn options(path: &Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
    }

    async fn connect(path: &Path, options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
        let open = |source| StoreError::Open { path: path.display().to_string(), source };
        SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            // On a full disk SQLite itself rolls back, and the connection counts a transaction that nobody can end.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await
            .map_err(open)
    }

    /// A transaction that holds the write lock from its start, so that it never fails half-way for another writer.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.doing("begin a transaction")
    }

    /// Waits for open statements and closes the files.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn committed_rows_survive_power_loss_by_these_settings() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).await.unwrap();
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.pool).await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.pool).await.unwrap();
        assert_eq!((journal.as_str(), synchronous), ("wal", 2));
    }

    #[tokio::test]
    async fn writing_goes_on_after_sqlite_rolled_back_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).await.unwrap();
        for _ in 0..=CONNECTIONS {
            let mut write = store.write().await.unwrap();
            // As a commit on a full disk does.
            sqlx::query("ROLLBACK").execute(&mut *write).await.unwrap();
            assert!(write.commit().await.is_err());
        }
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.db");
        let store = Store::open(&path).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (999, 'from the future', TRUE, X'00', 0)",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        store.close().await;
        let error = Store::open(&path).await.unwrap_err();
        assert!(matches!(error, StoreError::Schema { .. }), "{error:?}");
    }

    /// A database as it was before a migration.
    async fn before(path: &Path, version: i64) -> SqlitePool {
        let options = Store::options(path).create_if_missing(true).foreign_keys(false);
        let pool = Store::connect(path, options).await.unwrap();
        let older = MIGRATIONS.iter().filter(|migration| migration.version < version).cloned().collect();
        sqlx::migrate::Migrator::with_migrations(older).run(&pool).await.unwrap();
        pool
    }

    #[tokio::test]
    async fn verdicts_recorded_with_any_runner_count_as_the_first_semantics() {
        use edgewright_model::verdict::{LaneInputs, LaneProfile, Verdict};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.db");
        let old = include_str!("../../model/tests/golden/verdict-0001.json");
        let external = old.replace("podman", "external").replace("\"container\"", "\"external\"");
        let pool = before(&path, 70).await;
        for document in [old, &external] {
            let verdict: Verdict = serde_json::from_str(document).unwrap();
            sqlx::query(
                "INSERT INTO verdicts (digest, repository, lane, check_set, inputs, origin, result, document, run, created_at)
                 VALUES (?, 'plant-os/hmi', ?, ?, 'sha256:of-the-runner', 'ran', 'failed', ?, 1, '2026-11-01T00:00:00Z')",
            )
            .bind(verdict.manifest.digest.to_string())
            .bind(verdict.lane.name())
            .bind(verdict.check_set.to_string())
            .bind(document)
            .execute(&pool)
            .await
            .unwrap();
        }
        pool.close().await;

        let store = Store::open(&path).await.unwrap();
        let mut key = serde_json::from_str::<Verdict>(old).unwrap().key();
        let podman = LaneProfile { name: "podman".to_owned(), semantics: 1 }.inputs(None);
        assert_eq!(key.inputs, podman.digest());
        let found = store.verdict(&key).await.unwrap().unwrap().verdict;
        assert_eq!(found.inputs, podman);
        assert!(old.contains(&found.recorded_on.runner.unwrap().to_string()), "the runner is kept");

        key.lane = edgewright_model::spec::Lane::External;
        key.inputs = LaneInputs::external().digest();
        let found = store.verdict(&key).await.unwrap().unwrap().verdict;
        assert_eq!(found.recorded_on.runner, None);
    }
}
