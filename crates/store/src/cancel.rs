//! Cancelling runs. A request is a column of the run, so that it survives a restart: from then on no job of
//! the run starts, nothing of it is released, and the only state that follows is `cancelled`.

use edgewright_model::run::RunNumber;
use jiff::Timestamp;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::{Store, StoreError};

impl Store {
    /// Records a request to cancel a run, with its row of the audit trail; false if the run has already
    /// ended. A second request changes nothing.
    pub async fn request_cancel(
        &self,
        number: RunNumber,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<bool, StoreError> {
        let request = sqlx::query(
            "UPDATE runs SET cancel_requested_at = coalesce(cancel_requested_at, ?)
             WHERE number = ? AND state IN ('queued', 'preparing', 'running', 'releasing')",
        )
        .bind(now.to_string())
        .bind(number.0);
        let record = audit::insert(entry, now);
        self.write(move |db| {
            Box::pin(async move {
                let done = request.execute(&mut *db).await.doing("request a cancel")?;
                let is_open = done.rows_affected() == 1;
                if is_open {
                    record.execute(db).await.doing("write an audit row")?;
                }
                Ok(is_open)
            })
        })
        .await
    }

    /// Cancels the nodes of a run that have not ended.
    pub async fn cancel_nodes(&self, number: RunNumber, now: Timestamp) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "UPDATE run_nodes SET state = 'cancelled', phase = NULL, failure = NULL, not_before = NULL, finished_at = ?
             WHERE run = ? AND state IN ('waiting', 'running')",
        );
        self.execute("cancel nodes", statement.bind(now.to_string()).bind(number.0)).await.map(drop)
    }
}
