//! The audit trail: one row for each change, written in the transaction of the change.

use edgewright_model::principal::PrincipalId;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::write::Statement;
use crate::{Store, StoreError, row};

/// A row to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAuditEntry {
    pub actor: PrincipalId,
    /// The operation, such as `run.cancel`.
    pub operation: String,
    /// The changed object, such as `runs/7`.
    pub object: String,
    /// Its state before; none for a creation.
    pub before: Option<Value>,
    /// Its state afterwards; none for a deletion.
    pub after: Option<Value>,
    /// The id of the request.
    pub request: Option<String>,
}

/// A stored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub number: i64,
    pub at: Timestamp,
    pub entry: NewAuditEntry,
}

/// A filter of rows.
#[derive(Debug, Clone, Default)]
pub struct AuditSelection {
    /// Only of this principal.
    pub actor: Option<PrincipalId>,
    /// Only this operation.
    pub operation: Option<String>,
    /// Only this object.
    pub object: Option<String>,
    /// Only at or after this time.
    pub since: Option<Timestamp>,
    /// Only rows with lower numbers.
    pub below: Option<i64>,
    /// The largest number of rows.
    pub limit: u32,
}

fn audit_row(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        number: row::number(row, "id")?,
        at: row::text(row, "at")?,
        entry: NewAuditEntry {
            actor: row::text(row, "actor")?,
            operation: row::text(row, "operation")?,
            object: row::text(row, "object")?,
            before: row::maybe_json(row, "before")?,
            after: row::maybe_json(row, "after")?.filter(|value: &Value| !value.is_null()),
            request: row::maybe(row, "request")?,
        },
    })
}

/// The statement that writes a row, for the transaction of the change.
pub(crate) fn insert(entry: &NewAuditEntry, now: Timestamp) -> Statement {
    let json = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    sqlx::query(
        "INSERT INTO audit (at, actor, operation, object, before, after, request) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(now.to_string())
    .bind(entry.actor.to_string())
    .bind(&entry.operation)
    .bind(&entry.object)
    .bind(json(&entry.before))
    // The column is NOT NULL since the first version; `null` means a deletion.
    .bind(json(&entry.after).unwrap_or_else(|| "null".to_owned()))
    .bind(&entry.request)
}

impl Store {
    /// Writes a row for a change outside of this database, such as in the registry or in memory.
    pub async fn note_audit(&self, entry: &NewAuditEntry, now: Timestamp) -> Result<(), StoreError> {
        self.execute("write an audit row", insert(entry, now)).await.map(drop)
    }

    /// Rows, newest first.
    pub async fn audit_trail(&self, selection: &AuditSelection) -> Result<Vec<AuditRow>, StoreError> {
        // Compared as times, not as text: only some texts have fractions of seconds.
        let rows = sqlx::query(
            "SELECT * FROM audit
             WHERE (?1 IS NULL OR actor = ?1) AND (?2 IS NULL OR operation = ?2) AND (?3 IS NULL OR object = ?3)
               AND (?4 IS NULL OR julianday(at) >= julianday(?4)) AND (?5 IS NULL OR id < ?5)
             ORDER BY id DESC LIMIT ?6",
        )
        .bind(selection.actor.as_ref().map(ToString::to_string))
        .bind(&selection.operation)
        .bind(&selection.object)
        .bind(selection.since.map(|since| since.to_string()))
        .bind(selection.below)
        .bind(selection.limit)
        .fetch_all(&self.readers)
        .await
        .doing("list audit rows")?;
        rows.iter().map(audit_row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(actor: &str, operation: &str, object: &str) -> NewAuditEntry {
        NewAuditEntry {
            actor: actor.parse().unwrap(),
            operation: operation.to_owned(),
            object: object.to_owned(),
            before: Some(serde_json::json!("running")),
            after: None,
            request: Some("r".to_owned()),
        }
    }

    #[tokio::test]
    async fn rows_are_filtered_and_listed_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).await.unwrap();
        let at = |second: i64| Timestamp::from_millisecond(1_700_000_000_000 + second * 500).unwrap();
        let entries = [
            entry("operator:token", "run.cancel", "runs/1"),
            entry("system:channels", "channel.move", "plants/channels/stable"),
            entry("operator:token", "run.retry", "runs/1"),
        ];
        for (second, entry) in (0..).zip(&entries) {
            store.note_audit(entry, at(second)).await.unwrap();
        }
        let numbers = async |selection: AuditSelection| {
            let rows = store.audit_trail(&AuditSelection { limit: 10, ..selection }).await.unwrap();
            rows.iter().map(|row| row.number).collect::<Vec<_>>()
        };
        let all = AuditSelection::default;
        assert_eq!(numbers(all()).await, [3, 2, 1]);
        let operator = Some("operator:token".parse().unwrap());
        assert_eq!(numbers(AuditSelection { actor: operator, ..all() }).await, [3, 1]);
        let moves = Some("channel.move".to_owned());
        assert_eq!(numbers(AuditSelection { operation: moves, ..all() }).await, [2]);
        assert_eq!(numbers(AuditSelection { object: Some("runs/1".to_owned()), ..all() }).await, [3, 1]);
        assert_eq!(numbers(AuditSelection { since: Some(at(1)), ..all() }).await, [3, 2]);
        assert_eq!(numbers(AuditSelection { below: Some(3), ..all() }).await, [2, 1]);
        let first = store.audit_trail(&AuditSelection { limit: 1, below: Some(2), ..all() }).await.unwrap();
        assert_eq!(first[0].entry, entries[0]);
        assert_eq!(first[0].at, at(0));
    }
}
