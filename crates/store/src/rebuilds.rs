//! Requested rebuilds of digests, and their results.

use edgewright_model::Digest;
use edgewright_model::names::Platform;
use edgewright_model::outcome::JobFailure;
use edgewright_model::run::{RebuildNumber, RebuildState, RunNumber};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::{Store, StoreError, row};

/// A rebuilt node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// The run whose node it is.
    pub run: RunNumber,
    pub node: String,
    pub platform: Platform,
    /// Its rebuilt steps, up to the first that gave other bytes.
    pub steps: Vec<RebuiltStep>,
    /// Why its rebuild failed.
    pub failure: Option<JobFailure>,
}

/// A rebuilt step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuiltStep {
    /// Its title: `bootstrap trixie`.
    pub title: String,
    /// The key up to and including it.
    pub key: Digest,
    /// The recorded digest; none if the step alone was never recorded.
    pub was: Option<Digest>,
    /// The digest of the rebuild.
    pub now: Digest,
    /// The first files that differ and how, if it gave other bytes: `etc/x: mtime, content`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

impl Rebuilt {
    /// Whether every step gave the recorded bytes.
    pub fn is_proved(&self) -> bool {
        self.failure.is_none() && self.steps.iter().all(RebuiltStep::is_proved)
    }
}

impl RebuiltStep {
    /// Whether it gave the recorded bytes.
    pub fn is_proved(&self) -> bool {
        self.was.as_ref().is_none_or(|was| *was == self.now)
    }
}

/// A requested rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildRow {
    pub number: RebuildNumber,
    /// The digest to rebuild.
    pub digest: Digest,
    pub state: RebuildState,
    /// What its job does now, as text.
    pub doing: Option<String>,
    /// The results, one for each platform.
    pub builds: Vec<Rebuilt>,
    /// Why it failed as a whole.
    pub failure: Option<String>,
}

fn rebuild(row: &SqliteRow) -> Result<RebuildRow, StoreError> {
    Ok(RebuildRow {
        number: RebuildNumber(row::number(row, "number")?),
        digest: row::text(row, "digest")?,
        state: row::text(row, "state")?,
        doing: row::maybe(row, "doing")?,
        builds: row::json(row, "builds")?,
        failure: row::maybe(row, "failure")?,
    })
}

impl Store {
    /// Queues the rebuild of a digest, with a row of the audit trail whose object is the rebuild. Gives the
    /// open rebuild of the same digest if there is one.
    pub async fn queue_rebuild(
        &self,
        digest: &Digest,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<RebuildNumber, StoreError> {
        let open = sqlx::query(
            "SELECT number FROM rebuilds WHERE state IN ('queued', 'running') AND digest = ? LIMIT 1",
        )
        .bind(digest.to_string());
        let queue = sqlx::query(
            "INSERT INTO rebuilds (digest, state, created_at) VALUES (?, 'queued', ?) RETURNING number",
        )
        .bind(digest.to_string())
        .bind(now.to_string());
        let entry = entry.clone();
        self.write(move |db| {
            Box::pin(async move {
                if let Some(row) = open.fetch_optional(&mut *db).await.doing("find an open rebuild")? {
                    return Ok(RebuildNumber(row::number(&row, "number")?));
                }
                let row = queue.fetch_one(&mut *db).await.doing("queue a rebuild")?;
                let number = RebuildNumber(row::number(&row, "number")?);
                let entry = NewAuditEntry { object: format!("rebuilds/{number}"), ..entry };
                audit::insert(&entry, now).execute(db).await.doing("write an audit row")?;
                Ok(number)
            })
        })
        .await
    }

    /// One rebuild.
    pub async fn rebuild(&self, number: RebuildNumber) -> Result<Option<RebuildRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM rebuilds WHERE number = ?")
            .bind(number.0)
            .fetch_optional(&self.readers)
            .await;
        found.doing("read a rebuild")?.as_ref().map(rebuild).transpose()
    }

    /// The oldest rebuild that has not ended, including one that a crash interrupted.
    pub async fn open_rebuild(&self) -> Result<Option<RebuildNumber>, StoreError> {
        let found = sqlx::query(
            "SELECT number FROM rebuilds WHERE state IN ('queued', 'running') ORDER BY number LIMIT 1",
        )
        .fetch_optional(&self.readers)
        .await;
        found
            .doing("find open rebuilds")?
            .map(|row| Ok(RebuildNumber(row::number(&row, "number")?)))
            .transpose()
    }

    /// Notes what a rebuild's job does now, and that it is running.
    pub async fn note_rebuild(&self, number: RebuildNumber, doing: &str) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "UPDATE rebuilds SET state = 'running', doing = ? WHERE number = ? AND state IN ('queued', 'running')",
        )
        .bind(doing)
        .bind(number.0);
        self.execute("note a rebuild", statement).await?;
        Ok(())
    }

    /// Ends a rebuild with its results, or with why there are none.
    pub async fn end_rebuild(
        &self,
        number: RebuildNumber,
        result: Result<&[Rebuilt], &str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (state, builds, failure) = match result {
            Ok(builds) => (RebuildState::Done, builds, None),
            Err(why) => (RebuildState::Failed, &[][..], Some(why)),
        };
        let statement = sqlx::query(
            "UPDATE rebuilds SET state = ?, doing = NULL, builds = ?, failure = ?, finished_at = ? WHERE number = ?",
        )
        .bind(state.name())
        .bind(row::to_json(&builds)?)
        .bind(failure)
        .bind(now.to_string())
        .bind(number.0);
        self.execute("end a rebuild", statement).await?;
        Ok(())
    }
}
