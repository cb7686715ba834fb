//! Runs: one execution of a plan each.

use std::collections::BTreeMap;

use edgewright_model::format::Diagnostic;
use edgewright_model::names::{CommitId, ImageName};
use edgewright_model::order::TrustDomain;
use edgewright_model::run::{ReleaseNumber, RunNumber, RunState, Trigger};
use edgewright_model::tools::ToolVersions;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::{Store, StoreError, row};

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    pub number: RunNumber,
    pub source: SourceId,
    /// The branch that it follows.
    pub branch: String,
    pub commit: CommitId,
    /// First line of the commit's message.
    pub subject: String,
    /// The commit's author.
    pub author: String,
    /// Why it was queued.
    pub trigger: Trigger,
    /// Whether its ref was trusted when it was queued.
    pub trusted: bool,
    pub state: RunState,
    /// Counts changes of state.
    pub generation: u32,
    /// The overlay number of each image with a lock; none for the committed lock. Fixed by the plan.
    pub locks: BTreeMap<ImageName, Option<u32>>,
    /// The programs that execute its steps. Fixed by the plan; empty for runs of earlier versions.
    pub tools: ToolVersions,
    /// Errors and warnings of the commit.
    pub diagnostics: Vec<Diagnostic>,
    /// The plan in one line.
    pub summary: Option<String>,
    /// Why the run as a whole failed.
    pub failure: Option<String>,
    /// The release that it made.
    pub release: Option<ReleaseNumber>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When its cancellation was requested.
    pub cancel_requested_at: Option<Timestamp>,
}

impl RunRow {
    /// The trust domain of its jobs.
    pub const fn domain(&self) -> TrustDomain {
        self.source.domain(self.trusted)
    }
}

fn run(row: &SqliteRow) -> Result<RunRow, StoreError> {
    Ok(RunRow {
        number: RunNumber(row::number(row, "number")?),
        source: SourceId(row::number(row, "source_id")?),
        branch: row::text(row, "branch")?,
        commit: row::text(row, "commit_id")?,
        subject: row::text(row, "subject")?,
        author: row::text(row, "author")?,
        trigger: row::text(row, "trigger")?,
        trusted: row::number::<u8>(row, "trusted")? != 0,
        state: row::text(row, "state")?,
        generation: row::number(row, "generation")?,
        locks: row::json(row, "locks")?,
        tools: row::json(row, "tools")?,
        diagnostics: row::json(row, "diagnostics")?,
        summary: row::maybe(row, "summary")?,
        failure: row::maybe(row, "failure")?,
        release: row::maybe_number(row, "release")?.map(ReleaseNumber),
        created_at: row::text(row, "created_at")?,
        started_at: row::maybe(row, "started_at")?,
        finished_at: row::maybe(row, "finished_at")?,
        cancel_requested_at: row::maybe(row, "cancel_requested_at")?,
    })
}

/// The columns of a run in a list: without those that may be long.
macro_rules! listed {
    ($rest:literal) => {
        concat!(
            "SELECT number, source_id, branch, commit_id, subject, author, trigger, trusted, state, generation,
             '{}' AS locks, '{}' AS tools, '[]' AS diagnostics, summary, NULL AS failure, release, created_at, started_at,
             finished_at, cancel_requested_at FROM runs ",
            $rest
        )
    };
}

impl Store {
    /// The newest runs below a number, newest first, of one source or of all. Without their locks,
    /// diagnostics and failures, which may be long.
    pub async fn run_page(
        &self,
        source: Option<SourceId>,
        below: Option<RunNumber>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError> {
        let below = below.map_or(i64::MAX, |run| run.0.into());
        let query = match source {
            Some(source) => {
                let sql = listed!("WHERE source_id = ? AND number < ? ORDER BY number DESC LIMIT ?");
                sqlx::query(sql).bind(source.0)
            }
            None => sqlx::query(listed!("WHERE number < ? ORDER BY number DESC LIMIT ?")),
        };
        let rows = query.bind(below).bind(limit).fetch_all(&self.readers).await.doing("list runs")?;
        rows.iter().map(run).collect()
    }

    /// One run.
    pub async fn run(&self, number: RunNumber) -> Result<Option<RunRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM runs WHERE number = ?")
            .bind(number.0)
            .fetch_optional(&self.readers)
            .await;
        found.doing("read a run")?.as_ref().map(run).transpose()
    }

    /// The newest runs, newest first, of one source or of all.
    pub async fn runs(&self, source: Option<SourceId>, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM runs WHERE ?1 IS NULL OR source_id = ?1 ORDER BY number DESC LIMIT ?2",
        )
        .bind(source.map(|id| id.0))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("list runs")?;
        rows.iter().map(run).collect()
    }

    /// The newest run of a source's branch; without one, of any branch. Pull requests are none, and neither
    /// are runs that test an update.
    pub async fn newest_run(
        &self,
        source: SourceId,
        branch: Option<&str>,
    ) -> Result<Option<RunRow>, StoreError> {
        let found = sqlx::query(
            "SELECT * FROM runs WHERE source_id = ?1 AND branch = coalesce(?2, branch) AND branch NOT LIKE 'refs/%'
             AND trigger <> 'update' ORDER BY number DESC LIMIT 1",
        )
        .bind(source.0)
        .bind(branch)
        .fetch_optional(&self.readers)
        .await
        .doing("read the newest run of a branch")?;
        found.as_ref().map(run).transpose()
    }

    /// Runs that have not ended, oldest first.
    pub async fn open_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM runs WHERE state IN ('queued', 'preparing', 'running', 'releasing') ORDER BY number",
        )
        .fetch_all(&self.readers)
        .await
        .doing("list open runs")?;
        rows.iter().map(run).collect()
    }

    /// The number of runs in each state.
    pub async fn run_counts(&self) -> Result<Vec<(RunState, u64)>, StoreError> {
        let rows = sqlx::query("SELECT state, count(*) AS runs FROM runs GROUP BY state ORDER BY state")
            .fetch_all(&self.readers)
            .await
            .doing("count runs")?;
        rows.iter().map(|row| Ok((row::text(row, "state")?, row::number(row, "runs")?))).collect()
    }

    /// Runs of pull requests of a source that ended before a time, oldest first.
    pub async fn pull_request_runs_before(
        &self,
        source: SourceId,
        before: Timestamp,
    ) -> Result<Vec<RunNumber>, StoreError> {
        let rows = sqlx::query(
            "SELECT number FROM runs WHERE source_id = ? AND finished_at < ?
             AND (branch LIKE 'refs/pull/%' OR branch LIKE 'refs/merge-requests/%') ORDER BY number",
        )
        .bind(source.0)
        .bind(before.to_string())
        .fetch_all(&self.readers)
        .await
        .doing("list runs of pull requests")?;
        rows.iter().map(|row| Ok(RunNumber(row::number(row, "number")?))).collect()
    }

    /// The last planned run of a commit before a given one that a domain knows of.
    pub async fn planned_before(
        &self,
        number: RunNumber,
        domain: TrustDomain,
    ) -> Result<Option<RunRow>, StoreError> {
        let found = sqlx::query(
            "SELECT * FROM runs WHERE source_id = ?1 AND (trusted OR NOT ?2) AND number < ?3 AND summary IS NOT NULL
             AND trigger <> 'update' ORDER BY number DESC LIMIT 1",
        )
        .bind(row::signed(domain.source))
        .bind(domain.trusted)
        .bind(number.0)
        .fetch_optional(&self.readers)
        .await;
        found.doing("read the previous run")?.as_ref().map(run).transpose()
    }

    /// Moves a run to another state, if it is still in `from`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the transition is not permitted, the state changed since, or the run is
    /// being cancelled: then it can only end.
    pub async fn move_run(
        &self,
        number: RunNumber,
        from: RunState,
        to: RunState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.end_run(number, from, to, None, now).await
    }

    /// Moves a run to another state, with the reason if it failed as a whole.
    pub async fn end_run(
        &self,
        number: RunNumber,
        from: RunState,
        to: RunState,
        failure: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let conflict = || StoreError::Conflict { what: format!("run {number} ({from} → {to})") };
        if !from.may_become(to) {
            return Err(conflict());
        }
        let statement = sqlx::query(
            "UPDATE runs SET state = ?1, generation = generation + 1, failure = coalesce(?2, failure),
             started_at = coalesce(started_at, ?3), finished_at = CASE WHEN ?4 THEN ?3 END
             WHERE number = ?5 AND state = ?6 AND (cancel_requested_at IS NULL OR ?1 = 'cancelled')",
        )
        .bind(to.name())
        .bind(failure)
        .bind(now.to_string())
        .bind(to.is_terminal())
        .bind(number.0)
        .bind(from.name());
        let done = self.execute("move a run", statement).await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(conflict()) }
    }

    /// Notes errors and warnings of a run's commit.
    pub async fn note_diagnostics(
        &self,
        number: RunNumber,
        diagnostics: &[Diagnostic],
    ) -> Result<(), StoreError> {
        let statement =
            sqlx::query("UPDATE runs SET diagnostics = ?1 WHERE number = ?2 AND diagnostics <> ?1")
                .bind(row::to_json(&diagnostics)?)
                .bind(number.0);
        self.execute("note diagnostics", statement).await?;
        Ok(())
    }
}
