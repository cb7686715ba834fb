//! The outbox: events, written by triggers of the schema, and the last one that each sink received.

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use edgewright_model::names::SourceName;

use crate::error::Operation as _;
use crate::{Store, StoreError, row};

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Counts up, never used twice.
    pub id: i64,
    /// When it happened.
    pub at: Timestamp,
    /// `run`, `node`, `release` or `channel`.
    pub kind: String,
    /// The source, by its configured name.
    pub source: SourceName,
    /// The object: `plants/runs/7`.
    pub subject: String,
    /// The state after it.
    pub data: serde_json::Value,
}

/// The progress of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkRow {
    pub name: String,
    /// The last event that it received, or that was given up.
    pub delivered: i64,
    /// Failed deliveries in a row.
    pub failures: u32,
    /// Why the last delivery failed.
    pub error: Option<String>,
}

fn event(row: &SqliteRow) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        id: row::number(row, "id")?,
        at: row::text(row, "at")?,
        kind: row::text(row, "kind")?,
        source: row::text(row, "source")?,
        subject: row::text(row, "subject")?,
        data: row::json(row, "data")?,
    })
}

fn sink(row: &SqliteRow) -> Result<SinkRow, StoreError> {
    Ok(SinkRow {
        name: row::text(row, "name")?,
        delivered: row::number(row, "told")?,
        failures: row::number(row, "failures")?,
        error: row::maybe(row, "error")?,
    })
}

impl Store {
    /// A sink by its name; a new one receives the events from now on.
    pub async fn sink(&self, name: &str) -> Result<SinkRow, StoreError> {
        let known =
            sqlx::query("SELECT * FROM sinks WHERE name = ?").bind(name).fetch_optional(&self.readers).await;
        if let Some(row) = known.doing("read a sink")? {
            return sink(&row);
        }
        let statement = sqlx::query(
            "INSERT INTO sinks (name, told) VALUES (?, (SELECT coalesce(max(id), 0) FROM events))
             ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING *",
        )
        .bind(name);
        self.write(move |db| {
            Box::pin(async move { sink(&statement.fetch_one(db).await.doing("add a sink")?) })
        })
        .await
    }

    /// All sinks that ever were, by name.
    pub async fn sinks(&self) -> Result<Vec<SinkRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM sinks ORDER BY name").fetch_all(&self.readers).await;
        rows.doing("list sinks")?.iter().map(sink).collect()
    }

    /// The next events after one, oldest first.
    pub async fn events_after(&self, id: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?")
            .bind(id)
            .bind(limit)
            .fetch_all(&self.readers)
            .await;
        rows.doing("list events")?.iter().map(event).collect()
    }

    /// How many events a sink has not received yet.
    pub async fn undelivered(&self, sink: &str) -> Result<u64, StoreError> {
        let found = sqlx::query(
            "SELECT count(*) AS events FROM events WHERE id > (SELECT told FROM sinks WHERE name = ?)",
        )
        .bind(sink)
        .fetch_one(&self.readers)
        .await
        .doing("count events")?;
        Ok(found.try_get::<i64, _>("events").map_or(0, |count| u64::try_from(count).unwrap_or(0)))
    }

    /// Notes the last event that a sink received. Never goes back.
    pub async fn note_delivered(&self, name: &str, event: i64) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "UPDATE sinks SET told = ?1, failures = 0, error = NULL WHERE name = ?2 AND told <= ?1",
        )
        .bind(event)
        .bind(name);
        self.execute("note a delivery", statement).await?;
        Ok(())
    }

    /// Notes that a delivery failed.
    pub async fn note_delivery_failure(&self, name: &str, error: &str) -> Result<(), StoreError> {
        let statement = sqlx::query("UPDATE sinks SET failures = failures + 1, error = ? WHERE name = ?")
            .bind(error)
            .bind(name);
        self.execute("note a failed delivery", statement).await?;
        Ok(())
    }
}
