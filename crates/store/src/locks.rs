//! Lock overlays: numbered per image, never backwards.

use edgewright_model::lock::Lock;
use edgewright_model::names::ImageName;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::{Store, StoreError, row};

/// A lock overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRow {
    /// The image.
    pub image: ImageName,
    /// Counted per image, from 1.
    pub number: u32,
    /// The lock.
    pub lock: Lock,
    /// Why it was resolved.
    pub reason: String,
    /// When.
    pub created_at: Timestamp,
}

fn lock(row: &SqliteRow) -> Result<LockRow, StoreError> {
    Ok(LockRow {
        image: row::text(row, "image")?,
        number: row::number(row, "number")?,
        lock: row::json(row, "document")?,
        reason: row::text(row, "reason")?,
        created_at: row::text(row, "created_at")?,
    })
}

impl Store {
    /// Every overlay of a source, oldest first for each image.
    pub async fn locks(&self, source: SourceId) -> Result<Vec<LockRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM locks WHERE source_id = ? ORDER BY image, number")
            .bind(source.0)
            .fetch_all(&self.pool)
            .await
            .doing("list locks")?;
        rows.iter().map(lock).collect()
    }

    /// Adds the next overlay of an image and gives its number.
    pub async fn add_lock(
        &self,
        source: SourceId,
        image: &ImageName,
        lock: &Lock,
        reason: &str,
        now: Timestamp,
    ) -> Result<u32, StoreError> {
        sqlx::query_scalar(
            "INSERT INTO locks (source_id, image, number, request, document, reason, created_at)
             SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6 FROM locks WHERE source_id = ?1 AND image = ?2
             RETURNING number",
        )
        .bind(source.0)
        .bind(image.as_str())
        .bind(lock.request.to_string())
        .bind(row::to_json(lock)?)
        .bind(reason)
        .bind(now.to_string())
        .fetch_one(&self.pool)
        .await
        .doing("add a lock")
    }
}
