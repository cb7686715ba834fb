//! The audit trail: one row for each change, written in the transaction of the change, and chained to the row
//! before by its hash ([`edgewright_model::audit`]).
//!
//! The one writer appends: between reading the hash of the last row and writing the next one, no other row is
//! written.

use edgewright_model::Digest;
use edgewright_model::audit::{Anchor, Row};
use edgewright_model::principal::PrincipalId;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use crate::error::Operation as _;
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
    /// The hash of the row before.
    pub previous: Digest,
    /// The hash of this row.
    pub hash: Digest,
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
    /// Only rows with higher numbers, and these oldest first.
    pub after: Option<i64>,
    /// The largest number of rows.
    pub limit: u32,
}

fn entry(row: &SqliteRow) -> Result<NewAuditEntry, StoreError> {
    let not_null = |value: &Value| !value.is_null();
    Ok(NewAuditEntry {
        actor: row::text(row, "actor")?,
        operation: row::text(row, "operation")?,
        object: row::text(row, "object")?,
        before: row::maybe_json(row, "before")?.filter(not_null),
        after: row::maybe_json(row, "after")?.filter(not_null),
        request: row::maybe(row, "request")?,
    })
}

fn audit_row(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        number: row::number(row, "id")?,
        at: row::text(row, "at")?,
        entry: entry(row)?,
        previous: row::maybe(row, "previous")?.unwrap_or_else(|| Anchor::genesis().hash),
        hash: row::text(row, "hash")?,
    })
}

/// A row to append, for the transaction of the change.
#[derive(Debug)]
pub(crate) struct Append {
    entry: NewAuditEntry,
    at: String,
}

/// Prepares a row for the transaction of the change.
pub(crate) fn insert(entry: &NewAuditEntry, now: Timestamp) -> Append {
    Append { entry: entry.clone(), at: now.to_string() }
}

impl Append {
    /// Appends the row.
    pub(crate) async fn execute(self, db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let Self { entry, at } = self;
        let last: Option<(i64, String)> =
            sqlx::query_as("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1")
                .fetch_optional(&mut *db)
                .await?;
        let (last, previous) = match last {
            Some((number, hash)) => {
                (number, hash.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?)
            }
            None => (0, Anchor::genesis().hash),
        };
        let number = last + 1;
        let hash = hash(&entry, (number, &at), &previous);
        let json = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        sqlx::query(
            "INSERT INTO audit (id, at, actor, operation, object, before, after, request, hash)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(number)
        .bind(at)
        .bind(entry.actor.to_string())
        .bind(&entry.operation)
        .bind(&entry.object)
        .bind(json(&entry.before))
        // The column is NOT NULL since the first version; `null` means a deletion.
        .bind(json(&entry.after).unwrap_or_else(|| "null".to_owned()))
        .bind(&entry.request)
        .bind(hash.to_string())
        .execute(db)
        .await
        .map(drop)
    }
}

fn hash(entry: &NewAuditEntry, (number, at): (i64, &str), previous: &Digest) -> Digest {
    Row {
        number: number.unsigned_abs(),
        at,
        actor: &entry.actor.to_string(),
        operation: &entry.operation,
        object: &entry.object,
        before: entry.before.as_ref().filter(|value| !value.is_null()),
        after: entry.after.as_ref().filter(|value| !value.is_null()),
        request: entry.request.as_deref(),
        previous,
    }
    .hash()
}

/// Chains the rows that a version before the chain wrote. Called once, after the migrations.
pub(crate) async fn chain_old_rows(db: &mut SqliteConnection) -> Result<(), StoreError> {
    const DOING: &str = "chain the audit trail";
    let mut transaction = db.begin_with("BEGIN IMMEDIATE").await.doing(DOING)?;
    // Rows without a hash are the oldest ones: none is written without.
    let old = "SELECT *, NULL AS previous FROM audit WHERE hash IS NULL ORDER BY id";
    let rows = sqlx::query(old).fetch_all(&mut *transaction).await.doing(DOING)?;
    let mut previous = Anchor::genesis().hash;
    for row in &rows {
        let (number, at): (i64, String) = (row::number(row, "id")?, row::text(row, "at")?);
        let hash = hash(&entry(row)?, (number, &at), &previous);
        sqlx::query("UPDATE audit SET hash = ? WHERE id = ?")
            .bind(hash.to_string())
            .bind(number)
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        previous = hash;
    }
    transaction.commit().await.doing(DOING)
}

impl Store {
    /// Writes a row for a change outside of this database, such as in the registry or in memory.
    pub async fn note_audit(&self, entry: &NewAuditEntry, now: Timestamp) -> Result<(), StoreError> {
        let record = insert(entry, now);
        self.write(move |db| Box::pin(async move { record.execute(db).await.doing("write an audit row") }))
            .await
    }

    /// Rows, newest first; those after a number oldest first.
    pub async fn audit_trail(&self, selection: &AuditSelection) -> Result<Vec<AuditRow>, StoreError> {
        // Compared as times, not as text: only some texts have fractions of seconds.
        let order = if selection.after.is_some() { "ASC" } else { "DESC" };
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT *, (SELECT hash FROM audit before WHERE before.id < audit.id ORDER BY id DESC LIMIT 1) AS previous
             FROM audit
             WHERE (?1 IS NULL OR actor = ?1) AND (?2 IS NULL OR operation = ?2) AND (?3 IS NULL OR object = ?3)
               AND (?4 IS NULL OR julianday(at) >= julianday(?4)) AND id < ?5 AND id > ?7
             ORDER BY id {order} LIMIT ?6",
        )))
        .bind(selection.actor.as_ref().map(ToString::to_string))
        .bind(&selection.operation)
        .bind(&selection.object)
        .bind(selection.since.map(|since| since.to_string()))
        .bind(selection.below.unwrap_or(i64::MAX))
        .bind(selection.limit)
        .bind(selection.after.unwrap_or(0))
        .fetch_all(&self.readers)
        .await
        .doing("list audit rows")?;
        rows.iter().map(audit_row).collect()
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::audit::{Broken, Verifier};

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
        assert_eq!(numbers(AuditSelection { after: Some(1), ..all() }).await, [2, 3]);
        let first = store.audit_trail(&AuditSelection { limit: 1, below: Some(2), ..all() }).await.unwrap();
        assert_eq!(first[0].entry, entries[0]);
        assert_eq!(first[0].at, at(0));
    }

    /// Verifies the whole trail of a store.
    async fn verify(store: &Store) -> Result<(Anchor, u64), Broken> {
        let selection = AuditSelection { after: Some(0), limit: 1000, ..AuditSelection::default() };
        let mut verifier = Verifier::new(Anchor::genesis(), None);
        for row in store.audit_trail(&selection).await.unwrap() {
            let (at, actor, entry) = (row.at.to_string(), row.entry.actor.to_string(), &row.entry);
            let hashed = Row {
                number: row.number.unsigned_abs(),
                at: &at,
                actor: &actor,
                operation: &entry.operation,
                object: &entry.object,
                before: entry.before.as_ref(),
                after: entry.after.as_ref(),
                request: entry.request.as_deref(),
                previous: &row.previous,
            };
            verifier.push(&hashed, &row.hash)?;
        }
        verifier.finish()
    }

    #[tokio::test]
    async fn rows_are_chained_and_a_change_of_the_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.db");
        let store = Store::open(&path).await.unwrap();
        let write = |row: i64| {
            let mut entry = entry("operator:token", "run.cancel", &format!("runs/{row}"));
            // A null is the same as no value: only one of them is stored.
            entry.before = (row % 2 == 0).then_some(Value::Null);
            let store = &store;
            async move { store.note_audit(&entry, Timestamp::from_second(row).unwrap()).await.unwrap() }
        };
        // Writes at the same time are committed in one group.
        futures::future::join_all((1..=20).map(write)).await;
        let (head, rows) = verify(&store).await.unwrap();
        assert_eq!((head.number, rows), (20, 20));
        store.close().await;

        let mut db = edgewright_sqlite::connect(&path).await.unwrap();
        let change = "UPDATE audit SET actor = 'operator:command' WHERE id = 7";
        let rejected = sqlx::query(change).execute(&mut db).await.unwrap_err().to_string();
        assert!(rejected.contains("rows of the audit trail never change"), "{rejected}");
        let rejected = sqlx::query("DELETE FROM audit WHERE id = 7").execute(&mut db).await.unwrap_err();
        assert!(rejected.to_string().contains("rows of the audit trail are never removed"), "{rejected}");
        sqlx::query("DROP TRIGGER audit_rows_do_not_change").execute(&mut db).await.unwrap();
        sqlx::query(change).execute(&mut db).await.unwrap();
        let store = Store::open_read_only(&path).await.unwrap();
        assert!(matches!(verify(&store).await, Err(Broken::Changed { number: 7, .. })));
    }
}
