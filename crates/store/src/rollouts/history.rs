//! Writing to the history of a rollout.

use edgewright_model::run::RolloutNumber;
use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{Completion, EventRow, MemberRow, RolloutState, start};
use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::write::{Statement, changed_one};
use crate::{Store, StoreError, row};

impl Store {
    /// Writes events of a rollout, how it is after them, the rows of the audit trail, and what follows for
    /// the channel: all or none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if an event of one of these numbers was written by another server; the
    /// database cannot be written.
    pub async fn add_rollout_events(
        &self,
        number: RolloutNumber,
        events: &[EventRow],
        state: &RolloutState,
        (completion, entries): (Option<Completion>, &[NewAuditEntry]),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut statements = Vec::with_capacity(events.len());
        for event in events {
            statements.push(insert_event(number, event)?);
        }
        let highest = events.iter().map(|event| event.number).max().unwrap_or_default();
        let state = note_state(number, state, (highest, now))?;
        let entries: Vec<_> = entries.iter().map(|entry| audit::insert(entry, now)).collect();
        self.write(move |db| {
            Box::pin(async move {
                for statement in statements {
                    let written = statement.execute(&mut *db).await.doing("write an event of a rollout")?;
                    changed_one(&written, || format!("rollout {number}"))?;
                }
                state.execute(&mut *db).await.doing("note the state of a rollout")?;
                if let Some(completion) = completion {
                    complete(db, number, &completion, now).await?;
                }
                for entry in entries {
                    entry.execute(&mut *db).await.doing("write an audit row")?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Adds devices to a rollout that has begun.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn add_rollout_members(
        &self,
        number: RolloutNumber,
        members: &[MemberRow],
    ) -> Result<(), StoreError> {
        self.execute("add devices to a rollout", start::insert_members(number, members)?).await.map(drop)
    }
}

fn insert_event(number: RolloutNumber, event: &EventRow) -> Result<Statement, StoreError> {
    Ok(sqlx::query(
        "INSERT INTO rollout_events (rollout, number, at, kind, member, event, actor)
         VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(number.0)
    .bind(row::signed(event.number))
    .bind(event.at.to_string())
    .bind(event.kind.clone())
    .bind(event.member)
    .bind(row::to_json(&event.event)?)
    .bind(event.actor.clone()))
}

fn note_state(
    number: RolloutNumber,
    state: &RolloutState,
    (highest, now): (u64, Timestamp),
) -> Result<Statement, StoreError> {
    let outcomes = state.outcomes.as_ref().map(row::to_json).transpose()?;
    Ok(sqlx::query(
        "UPDATE rollouts SET state = ?1, stage = ?2, generation = max(generation, ?3), outcomes = coalesce(?4, outcomes),
         ended_at = CASE WHEN ?4 IS NULL THEN ended_at ELSE coalesce(ended_at, ?5) END
         WHERE number = ?6 AND generation <= ?3",
    )
    .bind(state.state.clone())
    .bind(state.stage)
    .bind(row::signed(highest))
    .bind(outcomes)
    .bind(now.to_string())
    .bind(number.0))
}

/// Moves the tag of a channel to the release that its devices have.
async fn complete(
    db: &mut SqliteConnection,
    number: RolloutNumber,
    completion: &Completion,
    now: Timestamp,
) -> Result<(), StoreError> {
    let found = sqlx::query(
        "SELECT c.generation FROM rollouts r JOIN channels c ON c.source_id = r.source_id AND c.name = r.channel
         WHERE r.number = ? AND c.target = ?",
    )
    .bind(number.0)
    .bind(completion.release.0)
    .fetch_optional(&mut *db)
    .await
    .doing("read a channel")?;
    // A channel that has another target by now moves with that one's rollout.
    let Some(found) = found else { return Ok(()) };
    let source: i64 = sqlx::query_scalar("SELECT source_id FROM rollouts WHERE number = ?")
        .bind(number.0)
        .fetch_one(&mut *db)
        .await
        .doing("read a rollout")?;
    let decided = crate::channels::ChannelMove {
        channel: completion.channel.clone(),
        generation: row::number(&found, "generation")?,
        release: completion.release,
        reason: completion.reason.clone(),
        is_staged: false,
    };
    crate::channels::move_channel(db, SourceId(source), &decided, now).await.map(drop)
}
