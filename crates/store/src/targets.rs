//! Copies of channels' releases in external registries (targets).

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, SourceName};
use edgewright_model::reference::RepoName;
use edgewright_model::run::ReleaseNumber;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::write::Statement;
use crate::{Store, StoreError, row};

/// The number of newest copies of a channel that are remembered.
const REMEMBERED: u32 = 20;

/// The key of a copy: a channel's release in a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyKey {
    pub target: String,
    pub source: SourceId,
    pub channel: ChannelName,
    /// The release that the channel holds.
    pub release: ReleaseNumber,
}

/// The state of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRow {
    pub key: CopyKey,
    /// The source's configured name.
    pub source_name: SourceName,
    /// Hash of the target's address and names.
    pub place: String,
    /// `waiting`, `copying`, `copied` or `failed`; a failed copy is retried.
    pub state: String,
    /// The newest verdict that was copied.
    pub verdicts: i64,
    /// Consecutive failed attempts.
    pub failures: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The next action, in the imperative.
    pub hint: Option<String>,
    /// Since when it is in this state.
    pub changed_at: Timestamp,
}

fn copy(row: &SqliteRow) -> Result<CopyRow, StoreError> {
    Ok(CopyRow {
        key: CopyKey {
            target: row::text(row, "target")?,
            source: SourceId(row::number(row, "source_id")?),
            channel: row::text(row, "channel")?,
            release: ReleaseNumber(row::number(row, "release")?),
        },
        source_name: row::text(row, "source_name")?,
        place: row::text(row, "place")?,
        state: row::text(row, "state")?,
        verdicts: row::number(row, "verdicts")?,
        failures: row::number(row, "failures")?,
        error: row::maybe(row, "error")?,
        hint: row::maybe(row, "hint")?,
        changed_at: row::text(row, "changed_at")?,
    })
}

impl Store {
    /// All copies, by target, source and channel, the newest release of each first.
    pub async fn copies(&self) -> Result<Vec<CopyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT c.*, s.name AS source_name FROM target_copies c JOIN sources s ON s.id = c.source_id
             ORDER BY c.target, s.name, c.channel, c.release DESC",
        )
        .fetch_all(&self.readers)
        .await;
        rows.doing("list copies")?.iter().map(copy).collect()
    }

    /// Requests a copy, and deletes other copies of its channel that were never completed. A copy that was
    /// made at another address waits again.
    pub async fn want_copy(&self, key: &CopyKey, place: &str, now: Timestamp) -> Result<(), StoreError> {
        let forget = sqlx::query(
            "DELETE FROM target_copies WHERE target = ?1 AND source_id = ?2 AND channel = ?3 AND release <> ?4
             AND (state <> 'copied' OR release <= ?4 - ?5)",
        )
        .bind(&key.target)
        .bind(key.source.0)
        .bind(key.channel.as_str())
        .bind(key.release.0)
        .bind(REMEMBERED);
        let want = sqlx::query(
            "INSERT INTO target_copies (target, source_id, channel, release, place, state, changed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6)
             ON CONFLICT DO UPDATE SET place = ?5, state = 'waiting', verdicts = 0, failures = 0, error = NULL, hint = NULL,
             changed_at = ?6 WHERE place <> ?5",
        )
        .bind(&key.target)
        .bind(key.source.0)
        .bind(key.channel.as_str())
        .bind(key.release.0)
        .bind(place)
        .bind(now.to_string());
        self.execute_all("request a copy", vec![forget, want]).await
    }

    /// Notes that a copy begins: the error of the last attempt is kept until it succeeds.
    pub async fn note_copying(&self, key: &CopyKey, now: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query(
            "UPDATE target_copies SET state = 'copying', changed_at = ? WHERE target = ? AND source_id = ? AND channel = ? AND release = ?",
        );
        self.note(query.bind(now.to_string()), key).await
    }

    /// Notes that a copy is complete: images, their referrers up to a verdict, and the tags of its channel.
    pub async fn note_copied(&self, key: &CopyKey, verdicts: i64, now: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query(
            "UPDATE target_copies SET state = 'copied', verdicts = ?, failures = 0, error = NULL, hint = NULL, changed_at = ?
             WHERE target = ? AND source_id = ? AND channel = ? AND release = ?",
        );
        self.note(query.bind(verdicts).bind(now.to_string()), key).await
    }

    /// Notes a failed attempt.
    pub async fn note_not_copied(
        &self,
        key: &CopyKey,
        error: &str,
        hint: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(
            "UPDATE target_copies SET failures = failures + 1, error = ?, hint = ?, state = 'failed', changed_at = ?
             WHERE target = ? AND source_id = ? AND channel = ? AND release = ?",
        );
        self.note(query.bind(error).bind(hint).bind(now.to_string()), key).await
    }

    async fn note(&self, statement: Statement, key: &CopyKey) -> Result<(), StoreError> {
        let statement =
            statement.bind(&key.target).bind(key.source.0).bind(key.channel.as_str()).bind(key.release.0);
        self.execute("note a copy", statement).await?;
        Ok(())
    }

    /// The newest published verdict about each index of a release; 0 if there is none.
    pub async fn verdict_marks(
        &self,
        source: SourceId,
        release: ReleaseNumber,
    ) -> Result<BTreeMap<Digest, i64>, StoreError> {
        let rows = sqlx::query(
            "SELECT e.digest AS digest, coalesce(max(v.id), 0) AS mark FROM release_entries e
             LEFT JOIN indexes i ON i.digest = e.digest LEFT JOIN json_each(i.manifests) m
             LEFT JOIN verdicts v ON v.digest = m.value AND v.published IS NOT NULL
             AND EXISTS (SELECT 1 FROM runs r WHERE r.number = v.run AND r.trusted)
             WHERE e.source_id = ? AND e.release = ? GROUP BY e.digest",
        )
        .bind(source.0)
        .bind(release.0)
        .fetch_all(&self.readers)
        .await
        .doing("find verdicts")?;
        rows.iter().map(|row| Ok((row::text(row, "digest")?, row::number(row, "mark")?))).collect()
    }

    /// The newest verdict that was copied with each index, by repository in the target.
    pub async fn copied_images(
        &self,
        target: &str,
        place: &str,
    ) -> Result<BTreeMap<(RepoName, Digest), i64>, StoreError> {
        let rows = sqlx::query(
            "SELECT repository, digest, verdicts FROM target_images WHERE target = ? AND place = ?",
        )
        .bind(target)
        .bind(place)
        .fetch_all(&self.readers)
        .await
        .doing("list copied images")?;
        let image = |row| {
            Ok(((row::text(row, "repository")?, row::text(row, "digest")?), row::number(row, "verdicts")?))
        };
        rows.iter().map(image).collect()
    }

    /// Notes that an index was copied with its referrers up to a verdict.
    pub async fn note_image_copied(
        &self,
        (target, place): (&str, &str),
        repository: &RepoName,
        digest: &Digest,
        verdicts: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO target_images (target, place, repository, digest, verdicts, copied_at) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET verdicts = excluded.verdicts, copied_at = excluded.copied_at",
        )
        .bind(target)
        .bind(place)
        .bind(repository.as_str())
        .bind(digest.to_string())
        .bind(verdicts)
        .bind(now.to_string());
        self.execute("note a copied image", statement).await?;
        Ok(())
    }
}
