//! Sources, their branches, and the queueing of runs.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::{CommitId, ImageName, SourceName};
use edgewright_model::order::TrustDomain;
use edgewright_model::run::{RunNumber, RunState, Trigger};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::write::{Statement, run_all};
use crate::{Store, StoreError, row};

/// A source's row id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub i64);

impl SourceId {
    /// The trust domain of its trusted or untrusted runs.
    pub const fn domain(self, trusted: bool) -> TrustDomain {
        TrustDomain { source: self.0.unsigned_abs(), trusted }
    }
}

/// A configured source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    pub id: SourceId,
    /// Configured name.
    pub name: SourceName,
    /// Address, without credentials.
    pub url: String,
    /// `name:` of its newest readable commit: the first component of its repositories.
    pub definition_name: Option<SourceName>,
    /// The remote's default branch at the last poll.
    pub default_branch: Option<String>,
    /// When it was polled last.
    pub polled_at: Option<Timestamp>,
    /// Why the last poll failed.
    pub poll_error: Option<String>,
    /// Consecutive failed polls.
    pub poll_failures: u32,
}

/// A commit to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    pub branch: String,
    pub commit: CommitId,
    /// First line of its message.
    pub subject: String,
    pub author: String,
    pub trigger: Trigger,
    /// Whether its ref is trusted.
    pub trusted: bool,
}

fn source(row: &SqliteRow) -> Result<SourceRow, StoreError> {
    Ok(SourceRow {
        id: SourceId(row::number(row, "id")?),
        name: row::text(row, "name")?,
        url: row::text(row, "url")?,
        definition_name: row::maybe(row, "definition_name")?,
        default_branch: row::maybe(row, "default_branch")?,
        polled_at: row::maybe(row, "polled_at")?,
        poll_error: row::maybe(row, "poll_error")?,
        poll_failures: row::number(row, "poll_failures")?,
    })
}

impl Store {
    /// Makes or updates a source by its configured name.
    pub async fn upsert_source(
        &self,
        name: &SourceName,
        url: &str,
        now: Timestamp,
    ) -> Result<SourceRow, StoreError> {
        // The same address under another name is the same source: `run` and `serve` may call it differently.
        let rename = sqlx::query(
            "UPDATE sources SET name = ?1 WHERE id = (SELECT min(id) FROM sources WHERE url = ?2)
             AND NOT EXISTS (SELECT 1 FROM sources WHERE name = ?1)",
        )
        .bind(name.as_str())
        .bind(url);
        let upsert = sqlx::query(
            "INSERT INTO sources (name, url, created_at) VALUES (?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET url = excluded.url RETURNING *",
        )
        .bind(name.as_str())
        .bind(url)
        .bind(now.to_string());
        self.write(move |db| {
            Box::pin(async move {
                rename.execute(&mut *db).await.doing("rename a source")?;
                source(&upsert.fetch_one(db).await.doing("store a source")?)
            })
        })
        .await
    }

    /// All sources, by name.
    pub async fn sources(&self) -> Result<Vec<SourceRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM sources ORDER BY name")
            .fetch_all(&self.readers)
            .await
            .doing("list sources")?;
        rows.iter().map(source).collect()
    }

    /// One source.
    pub async fn source(&self, id: SourceId) -> Result<SourceRow, StoreError> {
        let row = sqlx::query("SELECT * FROM sources WHERE id = ?").bind(id.0).fetch_one(&self.readers).await;
        source(&row.doing("read a source")?)
    }

    /// Notes the result of a poll; an error counts, a success resets the count.
    ///
    /// A branch that becomes the default one is decided again, because its channels hold releases of another
    /// branch. That is noted in the same transaction, so that a server that is killed before it queues the
    /// run decides it after the restart.
    pub async fn note_poll(
        &self,
        id: SourceId,
        default_branch: Option<&str>,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let note = sqlx::query(
            "UPDATE sources SET polled_at = ?1, poll_error = ?2,
             poll_failures = CASE WHEN ?2 IS NULL THEN 0 ELSE poll_failures + 1 END WHERE id = ?3",
        )
        .bind(now.to_string())
        .bind(error)
        .bind(id.0);
        let statements = self::default_branch(id, default_branch).into_iter().chain([note]).collect();
        self.execute_all("note a poll", statements).await
    }

    /// Notes which branch counts as the default one. A branch that becomes it is decided again, as by
    /// [`Store::note_poll`].
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn note_default_branch(&self, id: SourceId, branch: Option<&str>) -> Result<(), StoreError> {
        self.execute_all("note the default branch", default_branch(id, branch).into()).await
    }

    /// The last decided commit of every branch.
    pub async fn decided(&self, id: SourceId) -> Result<BTreeMap<String, CommitId>, StoreError> {
        let rows = sqlx::query("SELECT name, commit_id FROM branches WHERE source_id = ?")
            .bind(id.0)
            .fetch_all(&self.readers)
            .await
            .doing("list branches")?;
        rows.iter().map(|row| Ok((row::text(row, "name")?, row::text(row, "commit_id")?))).collect()
    }

    /// Notes commits of branches as decided without a run: commits from before the source was followed are
    /// not run.
    pub async fn note_decided(
        &self,
        id: SourceId,
        branches: &BTreeMap<String, CommitId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let decisions = branches.iter().map(|(branch, commit)| decide(id, branch, commit, now));
        self.execute_all("note branches", decisions.collect()).await
    }

    /// Queues a run: notes the branch's commit as decided, supersedes queued runs of the same branch (unless
    /// it only tests an update), inserts the new run and writes the row of the audit trail, whose object is
    /// the new run; all or nothing. The run resolves the locks of `images` again (empty: of all).
    pub async fn queue_run(
        &self,
        id: SourceId,
        new: &NewRun,
        images: &BTreeSet<ImageName>,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<RunNumber, StoreError> {
        // A repeated run of a commit does not change what the poller has decided.
        let decision = (new.trigger == Trigger::Commit).then(|| decide(id, &new.branch, &new.commit, now));
        let supersede = sqlx::query(
            "UPDATE runs SET state = ?, generation = generation + 1, finished_at = ?
             WHERE source_id = ? AND branch = ? AND state = ? AND NOT ?",
        )
        .bind(RunState::Superseded.name())
        .bind(now.to_string())
        .bind(id.0)
        .bind(&new.branch)
        .bind(RunState::Queued.name())
        .bind(new.trigger == Trigger::Update);
        let before = decision.into_iter().chain([supersede]).collect();
        let queue = sqlx::query(
            "INSERT INTO runs (source_id, branch, commit_id, subject, author, trigger, trusted, state,
             created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
        )
        .bind(id.0)
        .bind(&new.branch)
        .bind(new.commit.as_str())
        .bind(&new.subject)
        .bind(&new.author)
        .bind(new.trigger.name())
        .bind(new.trusted)
        .bind(RunState::Queued.name())
        .bind(now.to_string());
        let (images, entry) = (images.clone(), entry.clone());
        self.write(move |db| {
            Box::pin(async move {
                run_all(db, "supersede queued runs", before).await?;
                let row = queue.fetch_one(&mut *db).await.doing("queue a run")?;
                let number = RunNumber(row::number(&row, "number")?);
                for image in images {
                    sqlx::query("INSERT INTO run_images (run, image) VALUES (?, ?)")
                        .bind(number.0)
                        .bind(image.as_str())
                        .execute(&mut *db)
                        .await
                        .doing("note a run's image")?;
                }
                let entry = NewAuditEntry { object: format!("runs/{number}"), ..entry };
                audit::insert(&entry, now).execute(db).await.doing("write an audit row")?;
                Ok(number)
            })
        })
        .await
    }

    /// The names of the sources whose runs have a digest: a platform manifest's, or of an index.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn sources_with(&self, digest: &Digest) -> Result<Vec<SourceName>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT s.name FROM run_nodes n JOIN runs r ON r.number = n.run
             JOIN sources s ON s.id = r.source_id WHERE n.digest = ?1 OR n.digest IN
             (SELECT m.value FROM indexes i, json_each(i.manifests) m WHERE i.digest = ?1) ORDER BY s.name",
        );
        let rows = rows.bind(digest.to_string()).fetch_all(&self.readers).await;
        let rows = rows.doing("find the sources of a digest")?;
        rows.iter().map(|row| row::text(row, "name")).collect()
    }
}

/// Notes a default branch; the decision about a branch that becomes it is deleted.
fn default_branch(id: SourceId, branch: Option<&str>) -> [Statement; 2] {
    let undecide = sqlx::query(
        "DELETE FROM branches WHERE source_id = ?1 AND name = ?2 AND EXISTS
         (SELECT 1 FROM sources WHERE id = ?1 AND default_branch <> ?2)",
    );
    let note = sqlx::query(
        "UPDATE sources SET default_branch = ?2 WHERE id = ?1 AND ?2 IS NOT NULL AND default_branch IS NOT ?2",
    );
    [undecide, note].map(|statement| statement.bind(id.0).bind(branch))
}

fn decide(id: SourceId, branch: &str, commit: &CommitId, now: Timestamp) -> Statement {
    sqlx::query(
        "INSERT INTO branches (source_id, name, commit_id, decided_at) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET commit_id = excluded.commit_id, decided_at = excluded.decided_at",
    )
    .bind(id.0)
    .bind(branch)
    .bind(commit.as_str())
    .bind(now.to_string())
}
