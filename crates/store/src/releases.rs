//! Releases and their entries.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, CommitId, Platform, VariantName};
use edgewright_model::reference::RepoName;
use edgewright_model::run::{EntryOrigin, ReleaseNumber, RunNumber, RunState};
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::channels::{ChannelMove, move_channel};
use crate::error::Operation as _;
use crate::fleet::Image;
use crate::sources::SourceId;
use crate::write::changed_one;
use crate::{Store, StoreError, row};

/// A release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// Its number within its source.
    pub number: ReleaseNumber,
    /// The run that made it.
    pub run: RunNumber,
    /// The branch of that run.
    pub branch: String,
    pub commit: CommitId,
    pub created_at: Timestamp,
}

/// When and where a release was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseStamp {
    /// Its number within its source.
    pub number: ReleaseNumber,
    /// The branch of its run.
    pub branch: String,
    pub created_at: Timestamp,
}

/// Which releases to list.
#[derive(Debug, Clone, Copy)]
pub struct ReleasePage<'a> {
    /// Of these sources.
    pub sources: &'a [SourceId],
    /// Of runs before this one.
    pub below: Option<RunNumber>,
    /// Only this one of each source.
    pub number: Option<ReleaseNumber>,
    /// At most so many.
    pub limit: u32,
}

/// A release in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRelease {
    pub source: SourceId,
    pub release: ReleaseRow,
    /// The number of its entries.
    pub entries: usize,
}

/// One variant of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    pub variant: VariantName,
    pub repository: RepoName,
    /// The index.
    pub digest: Digest,
    /// New or carried.
    pub origin: EntryOrigin,
    pub reason: String,
}

/// A channel that takes a new release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taking {
    pub channel: ChannelName,
    /// The generation that it was read at.
    pub generation: u32,
    /// Whether its devices take the release in stages.
    pub is_staged: bool,
}

/// A release to make.
#[derive(Debug)]
pub struct NewRelease<'a> {
    pub source: SourceId,
    /// The run, in state `releasing`.
    pub run: RunNumber,
    /// Its terminal state.
    pub state: RunState,
    pub branch: &'a str,
    pub commit: &'a CommitId,
    /// Every variant.
    pub entries: &'a [EntryRow],
    /// Channels that take the release, with the generation that each was read at. A channel that changed
    /// since does not move now: its next move is decided again.
    pub channels: &'a [Taking],
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

impl Store {
    /// The newest releases of a source, newest first.
    pub async fn releases(&self, source: SourceId, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM releases WHERE source_id = ? ORDER BY number DESC LIMIT ?")
            .bind(source.0)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .doing("list releases")?;
        rows.iter().map(release).collect()
    }

    /// Releases of some sources, those of the newest runs first.
    pub async fn release_page(&self, page: &ReleasePage<'_>) -> Result<Vec<ListedRelease>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.*, (SELECT count(*) FROM release_entries e
                          WHERE e.source_id = r.source_id AND e.release = r.number) AS entries
             FROM releases r WHERE r.source_id IN (SELECT value FROM json_each(?1))
             AND (?2 IS NULL OR r.run < ?2) AND (?3 IS NULL OR r.number = ?3) ORDER BY r.run DESC LIMIT ?4",
        )
        .bind(row::to_json(&page.sources.iter().map(|source| source.0).collect::<Vec<_>>())?)
        .bind(page.below.map(|run| run.0))
        .bind(page.number.map(|number| number.0))
        .bind(page.limit)
        .fetch_all(&self.readers)
        .await
        .doing("list releases")?;
        let listed = |row: &SqliteRow| {
            Ok(ListedRelease {
                source: SourceId(row::number(row, "source_id")?),
                release: release(row)?,
                entries: row::number(row, "entries")?,
            })
        };
        rows.iter().map(listed).collect()
    }

    /// The entries of some releases, each by variant.
    pub async fn entries_of(
        &self,
        releases: &[(SourceId, ReleaseNumber)],
    ) -> Result<BTreeMap<(SourceId, ReleaseNumber), Vec<EntryRow>>, StoreError> {
        let wanted: Vec<(i64, u32)> = releases.iter().map(|(source, number)| (source.0, number.0)).collect();
        let rows = sqlx::query(
            "SELECT e.* FROM json_each(?) wanted CROSS JOIN release_entries e
             ON e.source_id = wanted.value ->> 0 AND e.release = wanted.value ->> 1 ORDER BY e.variant",
        )
        .bind(row::to_json(&wanted)?)
        .fetch_all(&self.readers)
        .await
        .doing("list entries of releases")?;
        let mut entries: BTreeMap<_, Vec<EntryRow>> = BTreeMap::new();
        for row in &rows {
            let source = SourceId(row::number(row, "source_id")?);
            let number = ReleaseNumber(row::number(row, "release")?);
            entries.entry((source, number)).or_default().push(entry(row)?);
        }
        Ok(entries)
    }

    /// The releases that a declared channel of a source holds or may still take, by number.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn release_stamps(&self, source: SourceId) -> Result<Vec<ReleaseStamp>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, branch, created_at FROM releases WHERE source_id = ?1 AND number >=
             (SELECT coalesce(min(coalesce(completed, 0)), 0) FROM channels WHERE source_id = ?1 AND removed_at IS NULL)
             ORDER BY number",
        )
        .bind(source.0)
        .fetch_all(&self.readers)
        .await
        .doing("list releases")?;
        let stamp = |row: &SqliteRow| {
            Ok(ReleaseStamp {
                number: ReleaseNumber(row::number(row, "number")?),
                branch: row::text(row, "branch")?,
                created_at: row::text(row, "created_at")?,
            })
        };
        rows.iter().map(stamp).collect()
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
                .fetch_all(&self.readers)
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
                .fetch_one(&self.readers)
                .await
                .doing("find the newest release")?;
        Ok(number.map(ReleaseNumber))
    }

    /// Notes the platform manifests of an index.
    pub async fn note_index(
        &self,
        digest: &Digest,
        repository: &RepoName,
        manifests: &BTreeMap<Platform, Digest>,
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO indexes (digest, repository, manifests) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(digest.to_string())
        .bind(repository.as_str())
        .bind(row::to_json(manifests)?);
        self.execute("note an index", statement).await?;
        Ok(())
    }

    /// The platform manifests of an index.
    pub async fn index(&self, digest: &Digest) -> Result<Option<BTreeMap<Platform, Digest>>, StoreError> {
        let found = sqlx::query("SELECT manifests FROM indexes WHERE digest = ?")
            .bind(digest.to_string())
            .fetch_optional(&self.readers)
            .await;
        found.doing("read an index")?.as_ref().map(|row| row::json(row, "manifests")).transpose()
    }

    /// The platform manifests of some indexes.
    pub async fn indexes(
        &self,
        digests: &BTreeSet<&Digest>,
    ) -> Result<BTreeMap<Digest, BTreeMap<Platform, Digest>>, StoreError> {
        let rows = sqlx::query(
            "SELECT i.digest, i.manifests FROM json_each(?) wanted CROSS JOIN indexes i ON i.digest = wanted.value",
        )
        .bind(row::to_json(digests)?)
        .fetch_all(&self.readers)
        .await
        .doing("read indexes")?;
        rows.iter().map(|row| Ok((row::text(row, "digest")?, row::json(row, "manifests")?))).collect()
    }

    /// All indexes of a source's releases up to this one.
    pub async fn digests_until(
        &self,
        source: SourceId,
        last: ReleaseNumber,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let rows =
            sqlx::query("SELECT DISTINCT digest FROM release_entries WHERE source_id = ? AND release <= ?")
                .bind(source.0)
                .bind(last.0)
                .fetch_all(&self.readers)
                .await
                .doing("list digests of releases")?;
        rows.iter().map(|row| row::text(row, "digest")).collect()
    }

    /// The indexes that are one of these digests, or have it as the manifest of a platform.
    pub async fn indexes_with(
        &self,
        digests: &BTreeSet<&Digest>,
    ) -> Result<BTreeMap<Digest, Image>, StoreError> {
        if digests.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = sqlx::query(
            "SELECT wanted.value AS part, i.digest, i.repository FROM json_each(?1) wanted
             CROSS JOIN indexes i ON i.digest = wanted.value
             UNION SELECT m.value, i.digest, i.repository FROM indexes i, json_each(i.manifests) m
             WHERE m.value IN (SELECT value FROM json_each(?1))",
        )
        .bind(row::to_json(digests)?)
        .fetch_all(&self.readers)
        .await
        .doing("find indexes of manifests")?;
        let image = |row: &SqliteRow| {
            let (repository, digest) = (row::text(row, "repository")?, row::text(row, "digest")?);
            Ok((row::text(row, "part")?, Image { repository, digest }))
        };
        rows.iter().map(image).collect()
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
        .fetch_all(&self.readers)
        .await
        .doing("list indexes")?;
        rows.iter().map(|row| Ok((row::text(row, "digest")?, row::json(row, "manifests")?))).collect()
    }

    /// Makes a release, moves its channels with an audit record each, and ends the run: all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the run is not `releasing`.
    pub async fn release(&self, new: &NewRelease<'_>, now: Timestamp) -> Result<ReleaseNumber, StoreError> {
        let (source, run, state, commit) = (new.source, new.run, new.state, new.commit.clone());
        let (branch, entries, channels) =
            (new.branch.to_owned(), new.entries.to_vec(), new.channels.to_vec());
        self.write(move |db| {
            Box::pin(async move {
                let number = insert_release(db, (source, run), (&branch, &commit), now).await?;
                for entry in &entries {
                    insert_entry(db, source, number, entry).await?;
                }
                for Taking { channel, generation, is_staged } in channels {
                    let reason = format!("release of branch `{branch}`");
                    let decided = ChannelMove { channel, generation, release: number, reason, is_staged };
                    move_channel(db, source, &decided, now).await?;
                }
                end_run(db, run, (state, number), now).await?;
                Ok(number)
            })
        })
        .await
    }
}

pub(crate) async fn insert_release(
    db: &mut SqliteConnection,
    (source, run): (SourceId, RunNumber),
    (branch, commit): (&str, &CommitId),
    now: Timestamp,
) -> Result<ReleaseNumber, StoreError> {
    let row = sqlx::query(
        "INSERT INTO releases (source_id, number, run, branch, commit_id, created_at)
         SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, ?4, ?5 FROM releases WHERE source_id = ?1 RETURNING number",
    )
    .bind(source.0)
    .bind(run.0)
    .bind(branch)
    .bind(commit.as_str())
    .bind(now.to_string())
    .fetch_one(db)
    .await
    .doing("store a release")?;
    Ok(ReleaseNumber(row::number(&row, "number")?))
}

pub(crate) async fn insert_entry(
    db: &mut SqliteConnection,
    source: SourceId,
    number: ReleaseNumber,
    entry: &EntryRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO release_entries (source_id, release, variant, repository, digest, origin, reason)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(source.0)
    .bind(number.0)
    .bind(entry.variant.to_string())
    .bind(entry.repository.as_str())
    .bind(entry.digest.to_string())
    .bind(entry.origin.name())
    .bind(&entry.reason)
    .execute(db)
    .await
    .doing("store a release's entry")
    .map(drop)
}

async fn end_run(
    db: &mut SqliteConnection,
    run: RunNumber,
    (state, release): (RunState, ReleaseNumber),
    now: Timestamp,
) -> Result<(), StoreError> {
    let ended = sqlx::query(
        "UPDATE runs SET state = ?, release = ?, generation = generation + 1, finished_at = ?
         WHERE number = ? AND state = ? AND cancel_requested_at IS NULL",
    )
    .bind(state.name())
    .bind(release.0)
    .bind(now.to_string())
    .bind(run.0)
    .bind(RunState::Releasing.name())
    .execute(db)
    .await
    .doing("end a run")?;
    changed_one(&ended, || format!("run {run}"))
}
