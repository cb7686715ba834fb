//! A database of numbers, and writes that add one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use edgewright_sqlite::{Writer, WriterError};
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

const SCHEMA: &str = "CREATE TABLE numbers (n INTEGER PRIMARY KEY, filler BLOB) STRICT;
    CREATE TABLE children (parent INTEGER REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED) STRICT;";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the write itself failed")]
    Own,
    #[error("a statement failed: {0}")]
    Statement(sqlx::Error),
    #[error(transparent)]
    Writer(#[from] WriterError),
}

pub(crate) struct Database {
    folder: tempfile::TempDir,
    pub(crate) writer: Writer,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = edgewright_sqlite::connect(&folder.path().join("numbers.db")).await.unwrap();
        sqlx::query(SCHEMA).execute(&mut connection).await.unwrap();
        Self { folder, writer: Writer::start("numbers.db", connection) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("numbers.db")
    }

    /// Runs a statement on the writer's connection.
    pub(crate) async fn run(&self, sql: &str) {
        self.writer.write(execute(sql)).await.unwrap();
    }

    /// The numbers in the database after it was closed and opened again.
    pub(crate) async fn reopened(&self) -> BTreeSet<i64> {
        self.writer.close().await;
        let mut connection = edgewright_sqlite::connect(&self.path()).await.unwrap();
        let numbers: Vec<i64> =
            sqlx::query_scalar("SELECT n FROM numbers").fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        numbers.into_iter().collect()
    }
}

/// The type of a write.
pub(crate) type Work =
    Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(), Failure>> + Send>;

/// Runs a statement.
pub(crate) fn execute(sql: impl Into<String>) -> Work {
    let statement = sqlx::query(AssertSqlSafe(sql.into()));
    Box::new(move |db| {
        Box::pin(async move { statement.execute(db).await.map_err(Failure::Statement).map(drop) })
    })
}

/// Adds a number.
pub(crate) fn add(number: i64) -> Work {
    execute(format!("INSERT INTO numbers (n) VALUES ({number})"))
}

/// Adds a number, and fails.
pub(crate) fn fail(number: i64) -> Work {
    Box::new(move |db| {
        Box::pin(async move {
            add(number)(db).await?;
            Err(Failure::Own)
        })
    })
}
