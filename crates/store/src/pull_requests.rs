//! The newest images of pull requests: the tags `pr-N`.

use edgewright_model::Digest;
use edgewright_model::names::VariantName;
use edgewright_model::reference::RepoName;
use edgewright_model::run::RunNumber;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::releases::EntryRow;
use crate::sources::SourceId;
use crate::write::Statement;
use crate::{Store, StoreError, row};

/// One image of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestRow {
    /// Its ref: `refs/pull/12/head`.
    pub name: String,
    /// The run that built it.
    pub run: RunNumber,
    pub variant: VariantName,
    pub repository: RepoName,
    /// The index.
    pub digest: Digest,
}

fn pull_request(row: &SqliteRow) -> Result<PullRequestRow, StoreError> {
    Ok(PullRequestRow {
        name: row::text(row, "name")?,
        run: RunNumber(row::number(row, "run")?),
        variant: row::text(row, "variant")?,
        repository: row::text(row, "repository")?,
        digest: row::text(row, "digest")?,
    })
}

impl Store {
    /// The images of a source's pull requests, by ref and variant.
    pub async fn pull_requests(&self, source: SourceId) -> Result<Vec<PullRequestRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM pull_requests WHERE source_id = ? ORDER BY name, variant")
            .bind(source.0)
            .fetch_all(&self.readers)
            .await;
        rows.doing("list images of pull requests")?.iter().map(pull_request).collect()
    }

    /// Replaces the images of a pull request by those of a run.
    pub async fn note_pull_request(
        &self,
        source: SourceId,
        name: &str,
        run: RunNumber,
        entries: &[EntryRow],
    ) -> Result<(), StoreError> {
        let mut statements = vec![forget(source, name)];
        for entry in entries {
            let insert = sqlx::query(
                "INSERT INTO pull_requests (source_id, name, run, variant, repository, digest) VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(source.0)
            .bind(name)
            .bind(run.0)
            .bind(entry.variant.to_string())
            .bind(entry.repository.as_str())
            .bind(entry.digest.to_string());
            statements.push(insert);
        }
        self.execute_all("note images of a pull request", statements).await
    }

    /// Deletes the images of a pull request if they are still those of this run; gives whether they were.
    pub async fn forget_pull_request_run(
        &self,
        source: SourceId,
        run: RunNumber,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query("DELETE FROM pull_requests WHERE source_id = ? AND run = ?")
            .bind(source.0)
            .bind(run.0);
        let done = self.execute("forget images of a pull request", statement).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deletes the images of a closed pull request and the decision about its ref. Gives its runs.
    pub async fn end_pull_request(&self, source: SourceId, name: &str) -> Result<Vec<RunNumber>, StoreError> {
        let undecide = sqlx::query("DELETE FROM branches WHERE source_id = ? AND name = ?");
        let statements = vec![forget(source, name), undecide.bind(source.0).bind(name)];
        self.execute_all("end a pull request", statements).await?;
        let rows = sqlx::query("SELECT number FROM runs WHERE source_id = ? AND branch = ? ORDER BY number")
            .bind(source.0)
            .bind(name)
            .fetch_all(&self.readers)
            .await
            .doing("list a pull request's runs")?;
        rows.iter().map(|row| Ok(RunNumber(row::number(row, "number")?))).collect()
    }
}

fn forget(source: SourceId, name: &str) -> Statement {
    sqlx::query("DELETE FROM pull_requests WHERE source_id = ? AND name = ?").bind(source.0).bind(name)
}
