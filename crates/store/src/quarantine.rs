//! Quarantine: digests that no channel takes, and no device is answered with.

use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::principal::PrincipalId;
use edgewright_model::run::ReleaseNumber;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::{Store, StoreError, row};

/// A quarantined digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    pub source: SourceId,
    /// The index.
    pub digest: Digest,
    pub reason: String,
    pub actor: PrincipalId,
    pub at: Timestamp,
}

fn quarantined(row: &SqliteRow) -> Result<QuarantineRow, StoreError> {
    Ok(QuarantineRow {
        source: SourceId(row::number(row, "source_id")?),
        digest: row::text(row, "digest")?,
        reason: row::text(row, "reason")?,
        actor: row::text(row, "actor")?,
        at: row::text(row, "at")?,
    })
}

impl Store {
    /// All quarantined digests, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn quarantine(&self) -> Result<Vec<QuarantineRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM quarantine ORDER BY at DESC, digest")
            .fetch_all(&self.readers)
            .await
            .doing("list quarantined digests")?;
        rows.iter().map(quarantined).collect()
    }

    /// The releases of a source that contain a quarantined digest.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn quarantined_releases(
        &self,
        source: SourceId,
    ) -> Result<BTreeSet<ReleaseNumber>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT e.release FROM quarantine q JOIN release_entries e
             ON e.source_id = q.source_id AND e.digest = q.digest WHERE q.source_id = ?",
        )
        .bind(source.0)
        .fetch_all(&self.readers)
        .await
        .doing("list quarantined releases")?;
        rows.iter().map(|row| Ok(ReleaseNumber(row::number(row, "release")?))).collect()
    }

    /// Ends the quarantine of a digest. False if it was not quarantined.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn clear_quarantine(
        &self,
        source: SourceId,
        digest: &Digest,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<bool, StoreError> {
        let clear = sqlx::query("DELETE FROM quarantine WHERE source_id = ? AND digest = ?")
            .bind(source.0)
            .bind(digest.to_string());
        let record = audit::insert(entry, now);
        self.write(move |db| {
            Box::pin(async move {
                let cleared = clear.execute(&mut *db).await.doing("end a quarantine")?;
                if cleared.rows_affected() == 0 {
                    return Ok(false);
                }
                record.execute(db).await.doing("write an audit row")?;
                Ok(true)
            })
        })
        .await
    }
}
