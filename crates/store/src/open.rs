//! Opening the database: its writer, its read connections, its migrations.

use std::path::Path;
use std::sync::Arc;

use edgewright_sqlite::{Writer, WriterStats};
use sqlx::sqlite::SqlitePool;

use crate::{StoreError, audit};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Read connections of control, and as many of the API: neither waits for the other one's reads.
const READERS: u32 = 4;

/// Control's database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    /// The read connections of this clone. They are read-only.
    pub(crate) readers: SqlitePool,
    connections: Arc<Connections>,
}

#[derive(Debug)]
struct Connections {
    /// Absent if the database was opened read-only.
    writer: Option<Writer>,
    control: SqlitePool,
    api: SqlitePool,
}

impl Store {
    /// Opens or creates the database and migrates its schema.
    ///
    /// # Errors
    /// The file cannot be opened, or its schema is newer than this build.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.display().to_string(), source };
        let schema = |source| StoreError::Schema { path: path.display().to_string(), source };
        let mut connection = edgewright_sqlite::connect(path).await.map_err(open)?;
        MIGRATIONS.run(&mut connection).await.map_err(schema)?;
        audit::chain_old_rows(&mut connection).await?;
        let control = edgewright_sqlite::readers(path, READERS).await.map_err(open)?;
        let api = edgewright_sqlite::readers(path, READERS).await.map_err(open)?;
        let writer = Writer::start("control.db", connection);
        Ok(Self::with(Some(writer), control, api))
    }

    /// Opens an existing database for reading beside a running server.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.display().to_string(), source };
        let readers = edgewright_sqlite::readers(path, READERS).await.map_err(open)?;
        Ok(Self::with(None, readers.clone(), readers))
    }

    fn with(writer: Option<Writer>, control: SqlitePool, api: SqlitePool) -> Self {
        let readers = control.clone();
        Self { readers, connections: Arc::new(Connections { writer, control, api }) }
    }

    /// The same database for the API: its reads have connections of their own, so that slow listings never
    /// delay control.
    #[must_use]
    pub fn for_api(&self) -> Self {
        Self { readers: self.connections.api.clone(), connections: Arc::clone(&self.connections) }
    }

    /// What the writer did since the database was opened; all zero if it was opened read-only.
    pub fn writer_stats(&self) -> WriterStats {
        self.connections.writer.as_ref().map(Writer::stats).unwrap_or_default()
    }

    pub(crate) fn writer(&self) -> Result<&Writer, StoreError> {
        self.connections.writer.as_ref().ok_or(StoreError::ReadOnly)
    }

    /// Accepts no further writes, commits the waiting ones, waits for open reads and closes the file.
    pub async fn close(&self) {
        if let Some(writer) = &self.connections.writer {
            writer.close().await;
        }
        self.connections.control.close().await;
        self.connections.api.close().await;
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::error::ErrorClass;
    use jiff::Timestamp;
    use sqlx::{Connection as _, SqliteConnection};
    use tokio::sync::oneshot;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    async fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(&folder.path().join("control.db")).await.unwrap()
    }

    async fn add_source(store: &Store) -> Result<(), StoreError> {
        store.upsert_source(&"plants".parse().unwrap(), "/git/plants", NOW).await.map(drop)
    }

    #[tokio::test]
    async fn the_api_reads_while_control_has_no_connection_left_and_a_write_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        add_source(&store).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..READERS {
            held.push(store.readers.acquire().await.unwrap());
        }
        let (enter, entered) = oneshot::channel();
        let (leave, left) = oneshot::channel::<()>();
        let open_write = store.write(move |db| {
            Box::pin(async move {
                let renamed = sqlx::query("UPDATE sources SET name = 'works'").execute(db).await;
                renamed.map_err(|source| StoreError::Query { operation: "rename", source })?;
                enter.send(()).unwrap();
                left.await.unwrap();
                Ok(())
            })
        });
        let reads = async {
            entered.await.unwrap();
            assert!(store.readers.try_acquire().is_none(), "control has no connection left");
            let sources = store.for_api().sources().await.unwrap();
            assert_eq!(sources[0].name.as_str(), "plants", "uncommitted rows are invisible");
            leave.send(()).unwrap();
        };
        let (written, ()) = tokio::join!(open_write, reads);
        written.unwrap();
        assert_eq!(store.for_api().sources().await.unwrap()[0].name.as_str(), "works");
    }

    #[tokio::test]
    async fn read_connections_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        for readers in [&store.readers, &store.for_api().readers] {
            let error = sqlx::query("DELETE FROM sources").execute(readers).await.unwrap_err();
            assert!(error.to_string().contains("readonly"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_write_to_a_read_only_store_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.db");
        assert!(matches!(Store::open_read_only(&path).await, Err(StoreError::Open { .. })));
        let store = store(&folder).await;
        add_source(&store).await.unwrap();
        let reader = Store::open_read_only(&path).await.unwrap();
        assert_eq!(reader.sources().await.unwrap().len(), 1);
        assert!(matches!(add_source(&reader).await, Err(StoreError::ReadOnly)));
        assert_eq!(reader.writer_stats(), WriterStats::default());
    }

    #[tokio::test]
    async fn a_closed_store_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let api = store.for_api();
        store.close().await;
        for error in [add_source(&store).await.unwrap_err(), api.sources().await.map(drop).unwrap_err()] {
            assert_eq!(error.class(), ErrorClass::Unavailable, "{error:?}");
        }
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["control.db"], "the journal is in the database");
    }

    #[tokio::test]
    async fn a_full_disk_has_a_hint_and_writes_succeed_when_there_is_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let limit = async |pages: i64| {
            // SQLite takes the greater of this and the number of pages in use.
            let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
            store.execute("limit the file", sqlx::query(pragma)).await.unwrap();
        };
        limit(1).await;
        let large = "x".repeat(100_000);
        let error = store.upsert_source(&"plants".parse().unwrap(), &large, NOW).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("free space")), "{error:?}");
        limit(1_000_000).await;
        store.upsert_source(&"plants".parse().unwrap(), &large, NOW).await.unwrap();
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let from_the_future = sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (999, 'from the future', TRUE, X'00', 0)",
        );
        store.execute("add a migration", from_the_future).await.unwrap();
        store.close().await;
        let error = Store::open(&folder.path().join("control.db")).await.unwrap_err();
        assert!(matches!(error, StoreError::Schema { .. }), "{error:?}");
    }

    /// A database as it was before a migration, without foreign keys.
    async fn before(path: &Path, version: i64) -> SqliteConnection {
        let mut db = edgewright_sqlite::connect(path).await.unwrap();
        sqlx::query("PRAGMA foreign_keys = off").execute(&mut db).await.unwrap();
        let older = MIGRATIONS.iter().filter(|migration| migration.version < version).cloned().collect();
        sqlx::migrate::Migrator::with_migrations(older).run(&mut db).await.unwrap();
        db
    }

    #[tokio::test]
    async fn verdicts_recorded_with_any_runner_count_as_the_first_semantics() {
        use edgewright_model::verdict::{LaneInputs, LaneProfile, Verdict};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.db");
        let old = include_str!("../../model/tests/golden/verdict-0001.json");
        let external = old.replace("podman", "external").replace("\"container\"", "\"external\"");
        let mut db = before(&path, 70).await;
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
            .execute(&mut db)
            .await
            .unwrap();
        }
        db.close().await.unwrap();

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
