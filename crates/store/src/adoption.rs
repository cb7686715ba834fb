//! Two rows that turn out to be one source: `edgewright run` in a clone and `edgewright serve` of its remote
//! have other addresses and often other configured names, but the same `name:` in `edgewright.yaml`.

use std::collections::BTreeSet;

use edgewright_model::names::SourceName;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::{Store, StoreError, row};

impl Store {
    /// Moves the history of another source that declares `name` (runs, releases, channels, locks, builds in
    /// effect) to `into`, and removes the other row. `into` must be new: a source with runs of its own keeps
    /// its own history. Sources in `followed` are in use and never moved.
    ///
    /// Returns the configured name of the source that was moved; none if there was nothing to move.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn adopt_source(
        &self,
        into: SourceId,
        name: &SourceName,
        followed: &BTreeSet<SourceId>,
    ) -> Result<Option<SourceName>, StoreError> {
        let (name, followed) = (name.clone(), followed.clone());
        // Almost always there is nothing to adopt: find that out without the writer.
        let others: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sources WHERE definition_name = ? AND id <> ?")
                .bind(name.as_str())
                .bind(into.0)
                .fetch_one(&self.readers)
                .await
                .doing("look for a source of the same name")?;
        if others == 0 {
            return Ok(None);
        }
        self.write(move |db| Box::pin(async move { adopt(db, into, &name, &followed).await })).await
    }
}

async fn adopt(
    db: &mut SqliteConnection,
    into: SourceId,
    name: &SourceName,
    followed: &BTreeSet<SourceId>,
) -> Result<Option<SourceName>, StoreError> {
    const DOING: &str = "adopt a source's history";
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM runs WHERE source_id = ?")
        .bind(into.0)
        .fetch_one(&mut *db)
        .await
        .doing(DOING)?;
    // The one that ran last, if several declared the name at some time.
    let others = sqlx::query(
        "SELECT id, name FROM sources WHERE definition_name = ?1 AND id <> ?2
         ORDER BY (SELECT max(number) FROM runs WHERE source_id = sources.id) DESC",
    )
    .bind(name.as_str())
    .bind(into.0)
    .fetch_all(&mut *db)
    .await
    .doing(DOING)?;
    let mut old = None;
    for other in &others {
        let id = SourceId(row::number(other, "id")?);
        if !followed.contains(&id) {
            old = Some((id, row::text(other, "name")?));
            break;
        }
    }
    let Some((old, old_name)) = old.filter(|_| runs == 0) else { return Ok(None) };
    let tables = sqlx::query(
        "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
         WHERE m.type = 'table' AND c.name = 'source_id'",
    );
    let tables = tables.fetch_all(&mut *db).await.doing(DOING)?;
    // Rows refer to each other by source and number, so neither side can be moved first.
    sqlx::query("PRAGMA defer_foreign_keys = ON").execute(&mut *db).await.doing(DOING)?;
    for table in &tables {
        let table: String = table.try_get("name").doing(DOING)?;
        // The names come from the schema. What the new row has already is newer.
        let take = format!("UPDATE OR IGNORE \"{table}\" SET source_id = ? WHERE source_id = ?");
        sqlx::query(AssertSqlSafe(take)).bind(into.0).bind(old.0).execute(&mut *db).await.doing(DOING)?;
        let drop = format!("DELETE FROM \"{table}\" WHERE source_id = ?");
        sqlx::query(AssertSqlSafe(drop)).bind(old.0).execute(&mut *db).await.doing(DOING)?;
    }
    sqlx::query("DELETE FROM sources WHERE id = ?").bind(old.0).execute(&mut *db).await.doing(DOING)?;
    sqlx::query("PRAGMA defer_foreign_keys = OFF").execute(&mut *db).await.doing(DOING)?;
    Ok(Some(old_name))
}
