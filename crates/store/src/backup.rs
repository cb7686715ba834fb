//! Copies of the database, and what a copy must forget before it is used in the original's place.

use std::path::Path;

use crate::error::Operation as _;
use crate::{Store, StoreError};

/// What a copy forgets, in order.
const FORGET_POSITIONS: [&str; 4] = [
    // Of runs that the original may have ended, nothing is known.
    "UPDATE run_nodes SET state = 'cancelled' WHERE state IN ('waiting', 'running')",
    "UPDATE runs SET state = 'cancelled', generation = generation + 1, failure = 'restored from a backup'
     WHERE state IN ('queued', 'preparing', 'running', 'releasing')",
    "DELETE FROM branches",
    "UPDATE channels SET target = NULL, completed = NULL, pin = NULL, pin_reason = NULL, generation = generation + 1,
     floor = coalesce((SELECT max(number) FROM releases WHERE releases.source_id = channels.source_id), 0)",
];

impl Store {
    /// Copies a database as of one moment into a file that does not exist, also while a server writes to it.
    pub async fn copy(database: &Path, to: &Path) -> Result<(), StoreError> {
        edgewright_sqlite::copy(database, to).await.doing("copy itself")
    }

    /// Forgets where branches and channels stand: the followed branches are decided anew, and channels answer nothing until
    /// the release of that run. So a copy that is older than what devices have never moves them backwards.
    pub async fn forget_positions(&self) -> Result<(), StoreError> {
        self.execute_all("forget positions", FORGET_POSITIONS.map(sqlx::query).into()).await
    }
}
