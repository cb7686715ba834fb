//! Copies of the database, and what is reset in a copy before it replaces the original.

use std::path::Path;

use crate::error::Operation as _;
use crate::{Store, StoreError};

/// The statements that reset a copy, in order.
const FORGET_POSITIONS: [&str; 7] = [
    // The original may have ended these runs since: their result is unknown.
    "UPDATE run_nodes SET state = 'cancelled' WHERE state IN ('waiting', 'running')",
    "UPDATE runs SET state = 'cancelled', generation = generation + 1, failure = 'restored from a backup'
     WHERE state IN ('queued', 'preparing', 'running', 'releasing')",
    "DELETE FROM branches",
    "UPDATE channels SET target = NULL, completed = NULL, pin = NULL, pin_reason = NULL, generation = generation + 1,
     floor = coalesce((SELECT max(number) FROM releases WHERE releases.source_id = channels.source_id), 0)",
    "INSERT INTO rollout_events (rollout, number, at, kind, event, actor)
     SELECT number, generation + 1, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), 'ordered', json_object('ordered',
         json_object('order', 'supersede', 'at', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))), 'system:restore'
     FROM rollouts WHERE ended_at IS NULL",
    "UPDATE rollouts SET state = 'superseded', generation = generation + 1,
     ended_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE ended_at IS NULL",
    // What devices have may be newer than the copy: what was delivered or pinned orders nothing.
    "UPDATE fleet_devices SET delivered = NULL, delivered_in = NULL, delivered_at = NULL, confirmed = NULL,
     confirmed_in = NULL, confirmed_at = NULL, pin = NULL, pin_reason = NULL, is_unsure = 1",
];

impl Store {
    /// Copies a consistent snapshot of a database into a new file, also while a server writes to it.
    pub async fn copy(database: &Path, to: &Path) -> Result<(), StoreError> {
        edgewright_sqlite::copy(database, to).await.doing("copy the database")
    }

    /// Resets branches and channels: the followed branches are decided again, and channel tags answer 404
    /// until the release of that run. So a copy that is older than the devices' images never moves devices
    /// backwards.
    pub async fn forget_positions(&self) -> Result<(), StoreError> {
        self.execute_all("forget positions", FORGET_POSITIONS.map(sqlx::query).into()).await
    }
}
