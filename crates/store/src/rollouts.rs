//! Rollouts: what each began with, its devices, and its history.

mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, DeviceId, RolloutName, SiteId, VariantName};
use edgewright_model::reference::RepoName;
use edgewright_model::run::{ReleaseNumber, RolloutNumber};
use edgewright_model::spec::{Labels, RolloutSpec};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

pub use start::{NewRollout, RollBack};

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::write::changed_one;
use crate::{Store, StoreError, row};

/// A rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutRow {
    pub number: RolloutNumber,
    pub source: SourceId,
    pub channel: ChannelName,
    /// The release that its devices get.
    pub release: ReleaseNumber,
    /// The release that the channel had completed.
    pub before: Option<ReleaseNumber>,
    pub kind: RolloutKind,
    /// The policy's name.
    pub policy: Option<RolloutName>,
    /// The policy as it was declared when the rollout began.
    pub spec: RolloutSpec,
    pub salt: String,
    /// JSON: the outcomes of rollouts that were complete before.
    pub baseline: Value,
    /// Why the channel takes the release.
    pub reason: String,
    pub state: String,
    /// The stage that is open.
    pub stage: u16,
    /// The number of the last event.
    pub generation: u64,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// Why there is a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutKind {
    /// The channel takes a release.
    Release,
    /// An operator rolled the channel back.
    Rollback,
}

impl RolloutKind {
    /// Its name in the database and in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Rollback => "rollback",
        }
    }
}

/// An image of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberImage {
    pub repository: RepoName,
    /// The index.
    pub digest: Digest,
}

/// A device's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberPart {
    /// It was there at the beginning: stages are made of these.
    First,
    /// It came later.
    Joined,
    /// It does not get the release, and counts in its redundancy group.
    Watched,
}

impl MemberPart {
    const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Joined => "joined",
            Self::Watched => "watched",
        }
    }
}

/// A device of a rollout, as it was when it was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// Its number in events.
    pub member: u32,
    pub device: DeviceId,
    pub part: MemberPart,
    pub site: SiteId,
    pub variant: VariantName,
    /// Of its slot and its site.
    pub labels: Labels,
    /// Its redundancy group at its site.
    pub group: Option<String>,
    pub patience: Duration,
    pub seen_at: Option<Timestamp>,
    /// What it gets.
    pub after: MemberImage,
    /// What it had.
    pub before: Option<MemberImage>,
}

/// An event to write.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    pub number: u64,
    pub at: Timestamp,
    /// Such as `offered`.
    pub kind: String,
    pub member: Option<u32>,
    /// JSON of the engine's event.
    pub event: Value,
    /// Who gave an order.
    pub actor: Option<String>,
}

/// How a rollout is after some events.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutState {
    pub state: String,
    pub stage: u16,
    /// JSON: its outcomes, if it has ended.
    pub outcomes: Option<Value>,
}

/// What follows for the channel from the end of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub channel: ChannelName,
    pub release: ReleaseNumber,
    pub reason: String,
}

fn rollout(row: &SqliteRow) -> Result<RolloutRow, StoreError> {
    let kind: String = row::text(row, "kind")?;
    Ok(RolloutRow {
        number: RolloutNumber(row::number(row, "number")?),
        source: SourceId(row::number(row, "source_id")?),
        channel: row::text(row, "channel")?,
        release: ReleaseNumber(row::number(row, "release")?),
        before: row::maybe_number(row, "before")?.map(ReleaseNumber),
        kind: if kind == RolloutKind::Rollback.name() { RolloutKind::Rollback } else { RolloutKind::Release },
        policy: row::maybe(row, "policy")?,
        spec: row::json(row, "spec")?,
        salt: row::text(row, "salt")?,
        baseline: row::json(row, "baseline")?,
        reason: row::text(row, "reason")?,
        state: row::text(row, "state")?,
        stage: row::number(row, "stage")?,
        generation: row::number(row, "generation")?,
        started_at: row::text(row, "started_at")?,
        ended_at: row::maybe(row, "ended_at")?,
    })
}

fn member(row: &SqliteRow) -> Result<MemberRow, StoreError> {
    let part: String = row::text(row, "part")?;
    let before: Option<Digest> = row::maybe(row, "before_digest")?;
    let before_in: Option<RepoName> = row::maybe(row, "before_in")?;
    Ok(MemberRow {
        member: row::number(row, "member")?,
        device: row::text(row, "device")?,
        part: match part.as_str() {
            "first" => MemberPart::First,
            "joined" => MemberPart::Joined,
            _ => MemberPart::Watched,
        },
        site: row::text(row, "site")?,
        variant: row::text(row, "variant")?,
        labels: row::json(row, "labels")?,
        group: row::maybe(row, "grouped")?,
        patience: Duration::from_secs(row::number(row, "patience_s")?),
        seen_at: row::maybe(row, "seen_at")?,
        after: MemberImage {
            repository: row::text(row, "after_in")?,
            digest: row::text(row, "after_digest")?,
        },
        before: before_in.zip(before).map(|(repository, digest)| MemberImage { repository, digest }),
    })
}

fn event(row: &SqliteRow) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        number: row::number(row, "number")?,
        at: row::text(row, "at")?,
        kind: row::text(row, "kind")?,
        member: row::maybe_number(row, "member")?,
        event: row::json(row, "event")?,
        actor: row::maybe(row, "actor")?,
    })
}

impl Store {
    /// Rollouts, newest first; of one source, before a number.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rollouts(
        &self,
        source: Option<SourceId>,
        below: Option<RolloutNumber>,
        limit: u32,
    ) -> Result<Vec<RolloutRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM rollouts WHERE (?1 IS NULL OR source_id = ?1) AND (?2 IS NULL OR number < ?2)
             ORDER BY number DESC LIMIT ?3",
        )
        .bind(source.map(|source| source.0))
        .bind(below.map(|number| number.0))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("list rollouts")?;
        rows.iter().map(rollout).collect()
    }

    /// One rollout.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rollout(&self, number: RolloutNumber) -> Result<Option<RolloutRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM rollouts WHERE number = ?")
            .bind(number.0)
            .fetch_optional(&self.readers)
            .await;
        found.doing("read a rollout")?.as_ref().map(rollout).transpose()
    }

    /// The newest rollout of each channel of a source.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn newest_rollouts(&self, source: SourceId) -> Result<Vec<RolloutRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM rollouts WHERE number IN
             (SELECT max(number) FROM rollouts WHERE source_id = ? GROUP BY channel) ORDER BY number",
        )
        .bind(source.0)
        .fetch_all(&self.readers)
        .await
        .doing("list the newest rollouts")?;
        rows.iter().map(rollout).collect()
    }

    /// The devices of a rollout, in the order of their numbers.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rollout_members(&self, number: RolloutNumber) -> Result<Vec<MemberRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM rollout_members WHERE rollout = ? ORDER BY member")
            .bind(number.0)
            .fetch_all(&self.readers)
            .await
            .doing("list the devices of a rollout")?;
        rows.iter().map(member).collect()
    }

    /// The history of a rollout, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rollout_events(&self, number: RolloutNumber) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM rollout_events WHERE rollout = ? ORDER BY number")
            .bind(number.0)
            .fetch_all(&self.readers)
            .await
            .doing("read the history of a rollout")?;
        rows.iter().map(event).collect()
    }

    /// How long the slowest confirmation of each device of a source took so far.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn confirmation_times(
        &self,
        source: SourceId,
    ) -> Result<BTreeMap<DeviceId, Duration>, StoreError> {
        let rows = sqlx::query(
            "SELECT m.device, CAST(max((julianday(h.at) - julianday(o.at)) * 86400) AS INTEGER) AS seconds
             FROM rollouts r JOIN rollout_events o ON o.rollout = r.number AND o.kind = 'offered'
             JOIN rollout_events h ON h.rollout = r.number AND h.kind = 'healthy' AND h.member = o.member
             JOIN rollout_members m ON m.rollout = r.number AND m.member = o.member
             WHERE r.source_id = ? GROUP BY m.device",
        )
        .bind(source.0)
        .fetch_all(&self.readers)
        .await
        .doing("read how long confirmations take")?;
        let time = |row: &SqliteRow| {
            let seconds: i64 = row::number(row, "seconds")?;
            let seconds = u64::try_from(seconds).unwrap_or_default();
            Ok((row::text(row, "device")?, Duration::from_secs(seconds)))
        };
        rows.iter().map(time).collect()
    }

    /// The channels that slots with an enrolled device follow.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn channels_with_devices(
        &self,
        source: SourceId,
    ) -> Result<BTreeSet<ChannelName>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT s.channel FROM slots s WHERE s.source_id = ? AND s.channel IS NOT NULL AND EXISTS
             (SELECT 1 FROM fleet_devices f WHERE f.source_id = s.source_id AND f.site = s.site AND f.slot = s.id
              AND f.state IN ('active', 'held'))",
        )
        .bind(source.0)
        .fetch_all(&self.readers)
        .await
        .doing("list channels with devices")?;
        rows.iter().map(|row| row::text(row, "channel")).collect()
    }

    /// The release that a release takes back; none if it was made by a run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn taken_back_by(
        &self,
        source: SourceId,
        release: ReleaseNumber,
    ) -> Result<Option<ReleaseNumber>, StoreError> {
        let found = sqlx::query("SELECT takes_back FROM releases WHERE source_id = ? AND number = ?")
            .bind(source.0)
            .bind(release.0)
            .fetch_optional(&self.readers)
            .await
            .doing("read a release")?;
        let number: Option<Option<u32>> =
            found.as_ref().map(|row| row::maybe_number(row, "takes_back")).transpose()?;
        Ok(number.flatten().map(ReleaseNumber))
    }

    /// JSON of the outcomes of a source's rollouts that were complete.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn completed_outcomes(&self, source: SourceId) -> Result<Vec<Value>, StoreError> {
        let rows = sqlx::query(
            "SELECT outcomes FROM rollouts WHERE source_id = ? AND state = 'complete' AND outcomes IS NOT NULL
             ORDER BY number DESC LIMIT 20",
        )
        .bind(source.0)
        .fetch_all(&self.readers)
        .await
        .doing("read the outcomes of rollouts")?;
        rows.iter().map(|row| row::json(row, "outcomes")).collect()
    }

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

fn insert_event(number: RolloutNumber, event: &EventRow) -> Result<crate::write::Statement, StoreError> {
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
) -> Result<crate::write::Statement, StoreError> {
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
