//! Lock overlays, numbered per image in the order of creation, and the update checks of runs.

use std::collections::BTreeSet;

use edgewright_model::lock::Lock;
use edgewright_model::moves::LockCheck;
use edgewright_model::names::ImageName;
use edgewright_model::order::TrustDomain;
use edgewright_model::run::RunNumber;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::{Store, StoreError, row};

/// A lock overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRow {
    pub image: ImageName,
    /// Counts from 1 for each image.
    pub number: u32,
    pub lock: Lock,
    /// Why it was resolved.
    pub reason: String,
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
    /// Every overlay that a domain may use, oldest first for each image.
    pub async fn locks(&self, domain: TrustDomain) -> Result<Vec<LockRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM locks WHERE source_id = ? AND (trusted OR NOT ?) ORDER BY image, number",
        )
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .fetch_all(&self.readers)
        .await
        .doing("list locks")?;
        rows.iter().map(lock).collect()
    }

    /// Adds the next overlay of an image and gives its number.
    pub async fn add_lock(
        &self,
        domain: TrustDomain,
        image: &ImageName,
        lock: &Lock,
        reason: &str,
        now: Timestamp,
    ) -> Result<u32, StoreError> {
        let statement = sqlx::query(
            "INSERT INTO locks (source_id, image, number, request, document, reason, created_at, trusted)
             SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6, ?7 FROM locks WHERE source_id = ?1 AND image = ?2
             RETURNING number",
        )
        .bind(row::signed(domain.source))
        .bind(image.as_str())
        .bind(lock.request.to_string())
        .bind(row::to_json(lock)?)
        .bind(reason)
        .bind(now.to_string())
        .bind(domain.trusted);
        let added = self
            .write(move |db| Box::pin(async move { statement.fetch_one(db).await.doing("add a lock") }))
            .await?;
        row::number(&added, "number")
    }

    /// Notes the update check of an image by a run; a later check of the same run replaces it.
    pub async fn note_update_check(&self, run: RunNumber, check: &LockCheck) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO lock_looks (run, image, document) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET document = excluded.document",
        )
        .bind(run.0)
        .bind(check.image.as_str())
        .bind(row::to_json(check)?);
        self.execute("note an update check", statement).await?;
        Ok(())
    }

    /// The update checks of a run, by image.
    pub async fn update_checks(&self, run: RunNumber) -> Result<Vec<LockCheck>, StoreError> {
        let rows = sqlx::query("SELECT document FROM lock_looks WHERE run = ? ORDER BY image")
            .bind(run.0)
            .fetch_all(&self.readers)
            .await
            .doing("list update checks")?;
        rows.iter().map(|row| row::json(row, "document")).collect()
    }

    /// The images whose locks a run resolves again; empty for all.
    pub async fn run_images(&self, run: RunNumber) -> Result<BTreeSet<ImageName>, StoreError> {
        let rows = sqlx::query("SELECT image FROM run_images WHERE run = ?")
            .bind(run.0)
            .fetch_all(&self.readers)
            .await
            .doing("list a run's images")?;
        rows.iter().map(|row| row::text(row, "image")).collect()
    }

    /// When all locks of a source's branch were last checked for updates: the newest complete run that
    /// checked them, or the first planned run that has locks. None if the branch has no locks.
    pub async fn last_update_check(
        &self,
        source: SourceId,
        branch: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let found = sqlx::query(
            "SELECT created_at FROM runs WHERE source_id = ?1 AND branch = ?2 AND
             ((trigger = 'lock' AND state NOT IN ('superseded', 'cancelled')
               AND NOT EXISTS (SELECT 1 FROM run_images WHERE run = number))
              OR number = (SELECT min(number) FROM runs WHERE source_id = ?1 AND branch = ?2 AND locks <> '{}'))
             AND EXISTS (SELECT 1 FROM runs WHERE source_id = ?1 AND branch = ?2 AND locks <> '{}')
             ORDER BY number DESC LIMIT 1",
        )
        .bind(source.0)
        .bind(branch)
        .fetch_optional(&self.readers)
        .await
        .doing("read the time of the last update check")?;
        found.as_ref().map(|row| row::text(row, "created_at")).transpose()
    }
}
