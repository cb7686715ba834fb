//! Releases, the channels that point to them, and the audit record of every move.

use std::collections::BTreeMap;

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, CommitId, Platform, VariantName};
use edgewright_model::principal::Principal;
use edgewright_model::reference::RepoName;
use edgewright_model::run::{EntryOrigin, ReleaseNumber, RunNumber, RunState};
use edgewright_model::spec::ChannelSpec;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::{Store, StoreError, row};

/// Who moves channels at the end of a run.
const RELEASER: Principal = Principal::System { component: "releases" };

/// A release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// Its number within its source.
    pub number: ReleaseNumber,
    /// The run that made it.
    pub run: RunNumber,
    /// The branch of that run.
    pub branch: String,
    /// Its commit.
    pub commit: CommitId,
    /// When.
    pub created_at: Timestamp,
}

/// One variant of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// The variant.
    pub variant: VariantName,
    /// Its repository.
    pub repository: RepoName,
    /// The index.
    pub digest: Digest,
    /// New or carried.
    pub origin: EntryOrigin,
    /// Why.
    pub reason: String,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRow {
    /// Its name.
    pub name: ChannelName,
    /// As declared by the newest commit of the default branch.
    pub spec: ChannelSpec,
    /// The release that it points to.
    pub release: Option<ReleaseNumber>,
    /// Counts its moves.
    pub generation: u32,
    /// Why it does not follow at the moment.
    pub hold: Option<String>,
    /// When it moved last.
    pub moved_at: Option<Timestamp>,
}

/// What a run's end names, in one transaction.
#[derive(Debug)]
pub struct NewRelease<'a> {
    /// The source.
    pub source: SourceId,
    /// The run, in state `releasing`.
    pub run: RunNumber,
    /// Its terminal state.
    pub state: RunState,
    /// Its branch.
    pub branch: &'a str,
    /// Its commit.
    pub commit: &'a CommitId,
    /// Every variant.
    pub entries: &'a [EntryRow],
    /// Channels that take the release, with the generation that each was read at.
    pub channels: &'a [(ChannelName, u32)],
}

fn release(row: &SqliteRow) -> Result<ReleaseRow, StoreError> {
    Ok(ReleaseRow {
        number: ReleaseNumber(row::number(row, "number")?),
        run: RunNumber(row::number(row, "run")?),
        branch: row::text(row, "branch")?,
        commit: row::text(row, "commit_id")?,
        created_at: row::text(row, "created_at")?,
    })
}

fn entry(row: &SqliteRow) -> Result<EntryRow, StoreError> {
    Ok(EntryRow {
        variant: row::text(row, "variant")?,
        repository: row::text(row, "repository")?,
        digest: row::text(row, "digest")?,
        origin: row::text(row, "origin")?,
        reason: row::text(row, "reason")?,
    })
}

fn channel(row: &SqliteRow) -> Result<ChannelRow, StoreError> {
    Ok(ChannelRow {
        name: row::text(row, "name")?,
        spec: row::json(row, "spec")?,
        release: row::maybe_number(row, "release")?.map(ReleaseNumber),
        generation: row::number(row, "generation")?,
        hold: row::maybe(row, "hold")?,
        moved_at: row::maybe(row, "moved_at")?,
    })
}

impl Store {
    /// The newest releases of a source, newest first.
    pub async fn releases(&self, source: SourceId, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM releases WHERE source_id = ? ORDER BY number DESC LIMIT ?")
            .bind(source.0)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .doing("list releases")?;
        rows.iter().map(release).collect()
    }

    /// The entries of a release, by variant.
    pub async fn entries(
        &self,
        source: SourceId,
        number: ReleaseNumber,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM release_entries WHERE source_id = ? AND release = ? ORDER BY variant")
                .bind(source.0)
                .bind(number.0)
                .fetch_all(&self.pool)
                .await
                .doing("list a release's entries")?;
        rows.iter().map(entry).collect()
    }

    /// The newest release that a branch made.
    pub async fn newest_release(
        &self,
        source: SourceId,
        branch: &str,
    ) -> Result<Option<ReleaseNumber>, StoreError> {
        let number: Option<u32> =
            sqlx::query_scalar("SELECT max(number) FROM releases WHERE source_id = ? AND branch = ?")
                .bind(source.0)
                .bind(branch)
                .fetch_one(&self.pool)
                .await
                .doing("find the newest release")?;
        Ok(number.map(ReleaseNumber))
    }

    /// A source's channels.
    pub async fn channels(&self, source: SourceId) -> Result<Vec<ChannelRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM channels WHERE source_id = ? ORDER BY name")
            .bind(source.0)
            .fetch_all(&self.pool)
            .await
            .doing("list channels")?;
        rows.iter().map(channel).collect()
    }

    /// Makes the declared channels exist as declared. One that is no longer declared goes, unless it points to something.
    pub async fn declare_channels(
        &self,
        source: SourceId,
        channels: &BTreeMap<ChannelName, ChannelSpec>,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let names = row::to_json(&channels.keys().collect::<Vec<_>>())?;
        sqlx::query(
            "DELETE FROM channels WHERE source_id = ? AND release IS NULL AND name NOT IN (SELECT value FROM json_each(?))",
        )
        .bind(source.0)
        .bind(names)
        .execute(&mut *write)
        .await
        .doing("drop channels")?;
        for (name, spec) in channels {
            sqlx::query(
                "INSERT INTO channels (source_id, name, spec) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET spec = excluded.spec
                 WHERE spec <> excluded.spec",
            )
            .bind(source.0)
            .bind(name.as_str())
            .bind(row::to_json(spec)?)
            .execute(&mut *write)
            .await
            .doing("declare a channel")?;
        }
        write.commit().await.doing("commit channels")
    }

    /// Notes which platform manifests an index names.
    pub async fn note_index(
        &self,
        digest: &Digest,
        repository: &RepoName,
        manifests: &BTreeMap<Platform, Digest>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO indexes (digest, repository, manifests) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(digest.to_string())
        .bind(repository.as_str())
        .bind(row::to_json(manifests)?)
        .execute(&self.pool)
        .await
        .doing("note an index")?;
        Ok(())
    }

    /// The platform manifests of an index.
    pub async fn index(&self, digest: &Digest) -> Result<Option<BTreeMap<Platform, Digest>>, StoreError> {
        let found = sqlx::query("SELECT manifests FROM indexes WHERE digest = ?")
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await;
        found.doing("read an index")?.as_ref().map(|row| row::json(row, "manifests")).transpose()
    }

    /// The platform manifests of every index in a release.
    pub async fn indexes_of(
        &self,
        source: SourceId,
        number: ReleaseNumber,
    ) -> Result<BTreeMap<Digest, BTreeMap<Platform, Digest>>, StoreError> {
        let rows = sqlx::query(
            "SELECT i.digest AS digest, i.manifests AS manifests FROM release_entries e JOIN indexes i ON i.digest = e.digest
             WHERE e.source_id = ? AND e.release = ?",
        )
        .bind(source.0)
        .bind(number.0)
        .fetch_all(&self.pool)
        .await
        .doing("list indexes")?;
        rows.iter().map(|row| Ok((row::text(row, "digest")?, row::json(row, "manifests")?))).collect()
    }

    /// Makes a release, moves its channels with an audit record each, and ends the run: all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where a channel moved in between or the run is not `releasing`.
    pub async fn release(&self, new: &NewRelease<'_>, now: Timestamp) -> Result<ReleaseNumber, StoreError> {
        let mut write = self.write().await?;
        let number: u32 =
            sqlx::query_scalar("SELECT coalesce(max(number), 0) + 1 FROM releases WHERE source_id = ?")
                .bind(new.source.0)
                .fetch_one(&mut *write)
                .await
                .doing("number a release")?;
        sqlx::query(
            "INSERT INTO releases (source_id, number, run, branch, commit_id, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(new.source.0)
        .bind(number)
        .bind(new.run.0)
        .bind(new.branch)
        .bind(new.commit.as_str())
        .bind(now.to_string())
        .execute(&mut *write)
        .await
        .doing("store a release")?;
        for entry in new.entries {
            sqlx::query(
                "INSERT INTO release_entries (source_id, release, variant, repository, digest, origin, reason)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(new.source.0)
            .bind(number)
            .bind(entry.variant.to_string())
            .bind(entry.repository.as_str())
            .bind(entry.digest.to_string())
            .bind(entry.origin.name())
            .bind(&entry.reason)
            .execute(&mut *write)
            .await
            .doing("store a release's entry")?;
        }
        let source: String = sqlx::query_scalar("SELECT name FROM sources WHERE id = ?")
            .bind(new.source.0)
            .fetch_one(&mut *write)
            .await
            .doing("name a release's source")?;
        for (name, generation) in new.channels {
            let before: Option<Option<u32>> =
                sqlx::query_scalar("SELECT release FROM channels WHERE source_id = ? AND name = ?")
                    .bind(new.source.0)
                    .bind(name.as_str())
                    .fetch_optional(&mut *write)
                    .await
                    .doing("read a channel")?;
            let before = before.flatten();
            let moved = sqlx::query(
                "UPDATE channels SET release = ?, generation = generation + 1, moved_at = ?
                 WHERE source_id = ? AND name = ? AND generation = ? AND hold IS NULL",
            )
            .bind(number)
            .bind(now.to_string())
            .bind(new.source.0)
            .bind(name.as_str())
            .bind(generation)
            .execute(&mut *write)
            .await
            .doing("move a channel")?;
            if moved.rows_affected() != 1 {
                return Err(StoreError::Conflict { what: format!("channel {name}") });
            }
            let entry = NewAuditEntry {
                actor: RELEASER.id(),
                operation: "channel.move".to_owned(),
                object: format!("{source}/channels/{name}"),
                before: before.map(|release| serde_json::json!({ "release": release })),
                after: Some(serde_json::json!({ "release": number, "run": new.run, "commit": new.commit })),
                request: None,
            };
            audit::note(&mut write, &entry, now).await?;
        }
        let ended = sqlx::query(
            "UPDATE runs SET state = ?, release = ?, generation = generation + 1, finished_at = ? WHERE number = ? AND state = ?",
        )
        .bind(new.state.name())
        .bind(number)
        .bind(now.to_string())
        .bind(new.run.0)
        .bind(RunState::Releasing.name())
        .execute(&mut *write)
        .await
        .doing("end a run")?;
        if ended.rows_affected() != 1 {
            return Err(StoreError::Conflict { what: format!("run {}", new.run) });
        }
        write.commit().await.doing("commit a release")?;
        Ok(ReleaseNumber(number))
    }
}
