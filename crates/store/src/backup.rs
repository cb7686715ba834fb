//! Copies of the database, and what a copy must forget before it is used in the original's place.

use std::path::Path;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::error::Operation as _;
use crate::{Store, StoreError};

impl Store {
    /// Copies a database as of one moment into a file that does not exist, also while a server writes to it.
    pub async fn copy(database: &Path, to: &Path) -> Result<(), StoreError> {
        let open = |source| StoreError::Open { path: database.display().to_string(), source };
        let options = SqliteConnectOptions::new().filename(database).create_if_missing(false);
        let mut connection = options.connect().await.map_err(open)?;
        let copied =
            sqlx::query("VACUUM INTO ?").bind(to.display().to_string()).execute(&mut connection).await;
        copied.map(drop).doing("copy itself")
    }

    /// Forgets where branches and channels stand: the followed branches are decided anew, and channels answer nothing until
    /// the release of that run. So a copy that is older than what devices have never moves them backwards.
    pub async fn forget_positions(&self) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for statement in [
            // Of runs that the original may have ended, nothing is known.
            "UPDATE run_nodes SET state = 'cancelled' WHERE state IN ('waiting', 'running')",
            "UPDATE runs SET state = 'cancelled', generation = generation + 1, failure = 'restored from a backup'
             WHERE state IN ('queued', 'preparing', 'running', 'releasing')",
            "DELETE FROM branches",
            "UPDATE channels SET target = NULL, completed = NULL, generation = generation + 1",
        ] {
            sqlx::query(statement).execute(&mut *write).await.doing("forget positions")?;
        }
        write.commit().await.doing("forget positions")
    }
}
