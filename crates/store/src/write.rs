//! Writes: on the one writer, each in a transaction of its own, committed together with other waiting writes.

use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteArguments, SqliteQueryResult};
use sqlx::{Sqlite, SqliteConnection};

use crate::error::Operation as _;
use crate::{Store, StoreError};

/// A statement with its values. They are encoded when they are bound, so it borrows nothing and can be sent
/// to the writer.
pub(crate) type Statement = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

impl Store {
    /// Runs a transaction of several statements on the writer: all or nothing. It is committed when this
    /// returns `Ok`, and undone when the closure gives an error. The closure must not wait for anything but
    /// its connection.
    pub(crate) async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        self.writer()?.write(work).await
    }

    /// Runs one statement on the writer.
    pub(crate) async fn execute(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<SqliteQueryResult, StoreError> {
        self.write(move |db| Box::pin(async move { statement.execute(db).await.doing(operation) })).await
    }

    /// Runs statements on the writer, all or none.
    pub(crate) async fn execute_all(
        &self,
        operation: &'static str,
        statements: Vec<Statement>,
    ) -> Result<(), StoreError> {
        self.write(move |db| Box::pin(run_all(db, operation, statements))).await
    }
}

/// Runs statements one after the other inside of a write.
pub(crate) async fn run_all(
    db: &mut SqliteConnection,
    operation: &'static str,
    statements: Vec<Statement>,
) -> Result<(), StoreError> {
    for statement in statements {
        statement.execute(&mut *db).await.doing(operation)?;
    }
    Ok(())
}

/// Checks a compare-and-set: it changed exactly one row, or the row was changed since it was read.
pub(crate) fn changed_one(
    result: &SqliteQueryResult,
    what: impl FnOnce() -> String,
) -> Result<(), StoreError> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict { what: what() }) }
}
