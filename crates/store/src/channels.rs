//! Channels: the release that each should be at, the release that its tag answers, and every move.

use edgewright_model::names::ChannelName;
use edgewright_model::principal::Principal;
use edgewright_model::run::ReleaseNumber;
use edgewright_model::spec::ChannelSpec;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::write::changed_one;
use crate::{Store, StoreError, row};

/// The actor of moves in the audit trail.
const MOVER: Principal = Principal::System { component: "channels" };

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRow {
    pub name: ChannelName,
    /// As the default branch declares it.
    pub spec: ChannelSpec,
    /// The release that it should be at.
    pub target: Option<ReleaseNumber>,
    /// The release that its tag answers.
    pub completed: Option<ReleaseNumber>,
    /// Counts its changes: a move that was decided at another generation is dropped.
    pub generation: u32,
    /// Why an operator holds it.
    pub hold: Option<String>,
    /// The release that an operator pinned it to.
    pub pin: Option<Pin>,
    /// It takes only releases with higher numbers: this and older ones came from a backup, and devices may
    /// have newer ones.
    pub floor: ReleaseNumber,
    /// When its tag moved last.
    pub moved_at: Option<Timestamp>,
    /// Since when no commit of the default branch declares it.
    pub removed_at: Option<Timestamp>,
}

/// Why a channel stays at one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub release: ReleaseNumber,
    pub reason: String,
}

/// The only channel that is declared: that of slots that name none.
pub fn only(channels: &[ChannelRow]) -> Option<&ChannelName> {
    let mut declared = channels.iter().filter(|channel| channel.removed_at.is_none());
    declared.next().map(|channel| &channel.name).filter(|_| declared.next().is_none())
}

impl ChannelRow {
    /// Why it does not move: an operator holds it, or its declaration does.
    pub fn held(&self) -> Option<&str> {
        self.hold.as_deref().or(self.spec.hold.as_deref())
    }
}

/// A release that a channel took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMoveRow {
    pub channel: ChannelName,
    pub release: ReleaseNumber,
    pub at: Timestamp,
    pub reason: String,
}

/// A decided move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMove {
    pub channel: ChannelName,
    /// The generation at which it was decided.
    pub generation: u32,
    pub release: ReleaseNumber,
    pub reason: String,
    /// Whether devices take the release in stages: then only the channel's target moves, and the tag once the
    /// rollout is complete.
    pub is_staged: bool,
}

/// An operator's change of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelChange {
    /// It stays at its release.
    Hold { reason: String },
    /// It moves again.
    Resume,
    /// It is set to one release and stays there.
    Pin(Pin),
    /// It follows its branch again.
    Unpin,
}

fn channel(row: &SqliteRow) -> Result<ChannelRow, StoreError> {
    let pin: Option<u32> = row::maybe_number(row, "pin")?;
    let reason: Option<String> = row::maybe(row, "pin_reason")?;
    Ok(ChannelRow {
        name: row::text(row, "name")?,
        spec: row::json(row, "spec")?,
        target: row::maybe_number(row, "target")?.map(ReleaseNumber),
        completed: row::maybe_number(row, "completed")?.map(ReleaseNumber),
        generation: row::number(row, "generation")?,
        hold: row::maybe(row, "hold")?,
        pin: pin.map(|release| Pin { release: ReleaseNumber(release), reason: reason.unwrap_or_default() }),
        floor: ReleaseNumber(row::number(row, "floor")?),
        moved_at: row::maybe(row, "moved_at")?,
        removed_at: row::maybe(row, "removed_at")?,
    })
}

impl Store {
    /// A source's channels, by name; including those that are no longer declared but hold a release.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn channels(&self, source: SourceId) -> Result<Vec<ChannelRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM channels WHERE source_id = ? ORDER BY name")
            .bind(source.0)
            .fetch_all(&self.readers)
            .await
            .doing("list channels")?;
        rows.iter().map(channel).collect()
    }

    /// The moves of a source's channels to releases from this number on, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn channel_moves(
        &self,
        source: SourceId,
        since: ReleaseNumber,
    ) -> Result<Vec<ChannelMoveRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT channel, release, at, reason FROM channel_moves WHERE source_id = ? AND release >= ? ORDER BY id",
        )
        .bind(source.0)
        .bind(since.0)
        .fetch_all(&self.readers)
        .await
        .doing("list the moves of channels")?;
        let one = |row: &SqliteRow| {
            Ok(ChannelMoveRow {
                channel: row::text(row, "channel")?,
                release: ReleaseNumber(row::number(row, "release")?),
                at: row::text(row, "at")?,
                reason: row::text(row, "reason")?,
            })
        };
        rows.iter().map(one).collect()
    }

    /// Makes decided moves, each only if its channel is still at the generation that it was decided at.
    /// Gives the channels that moved.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn move_channels(
        &self,
        source: SourceId,
        decided: &[ChannelMove],
        now: Timestamp,
    ) -> Result<Vec<ChannelName>, StoreError> {
        let moves = decided.to_vec();
        self.write(move |db| Box::pin(make_moves(db, source, moves, now))).await
    }

    /// Changes a channel for an operator, with the row of the audit trail. Its next move follows from the
    /// change.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such channel; the database cannot be written.
    pub async fn change_channel(
        &self,
        source: SourceId,
        name: &ChannelName,
        change: &ChannelChange,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<(), StoreError> {
        let statement = match change {
            ChannelChange::Hold { .. } | ChannelChange::Resume => {
                "UPDATE channels SET hold = ?1, generation = generation + 1 WHERE source_id = ?3 AND name = ?4"
            }
            ChannelChange::Pin(_) | ChannelChange::Unpin => {
                "UPDATE channels SET pin = ?1, pin_reason = ?2, generation = generation + 1
                 WHERE source_id = ?3 AND name = ?4"
            }
        };
        let query = sqlx::query(statement);
        let query = match change {
            ChannelChange::Hold { reason } => query.bind(reason).bind(None::<String>),
            ChannelChange::Resume | ChannelChange::Unpin => query.bind(None::<String>).bind(None::<String>),
            ChannelChange::Pin(pin) => query.bind(pin.release.0).bind(&pin.reason),
        };
        let change = query.bind(source.0).bind(name.as_str());
        let (record, name) = (audit::insert(entry, now), name.clone());
        self.write(move |db| {
            Box::pin(async move {
                let changed = change.execute(&mut *db).await.doing("change a channel")?;
                changed_one(&changed, || format!("channel {name}"))?;
                record.execute(db).await.doing("write an audit row")
            })
        })
        .await
    }
}

impl Store {
    /// Makes a move that an operator asked for, with the row of the audit trail.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the channel changed since the move was decided; the database cannot be
    /// written.
    pub async fn promote(
        &self,
        source: SourceId,
        decided: &ChannelMove,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<(), StoreError> {
        let (decided, record) = (decided.clone(), audit::insert(entry, now));
        self.write(move |db| {
            Box::pin(async move {
                if !move_channel(db, source, &decided, now).await? {
                    return Err(StoreError::Conflict { what: format!("channel {}", decided.channel) });
                }
                record.execute(db).await.doing("write an audit row")
            })
        })
        .await
    }
}

async fn make_moves(
    db: &mut SqliteConnection,
    source: SourceId,
    moves: Vec<ChannelMove>,
    now: Timestamp,
) -> Result<Vec<ChannelName>, StoreError> {
    let mut made = Vec::new();
    for one in moves {
        if move_channel(db, source, &one, now).await? {
            made.push(one.channel);
        }
    }
    Ok(made)
}

/// Makes a move if the channel is still at the generation that it was decided at.
pub(crate) async fn move_channel(
    db: &mut SqliteConnection,
    source: SourceId,
    decided: &ChannelMove,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let found = sqlx::query(
        "SELECT s.name AS name, c.completed AS completed FROM channels c JOIN sources s ON s.id = c.source_id
         WHERE c.source_id = ? AND c.name = ? AND c.generation = ?",
    )
    .bind(source.0)
    .bind(decided.channel.as_str())
    .bind(decided.generation)
    .fetch_optional(&mut *db)
    .await
    .doing("read a channel")?;
    let Some(found) = found else { return Ok(false) };
    let source_name: String = row::text(&found, "name")?;
    let before: Option<u32> = row::maybe_number(&found, "completed")?;
    let after = serde_json::json!({ "release": decided.release, "reason": decided.reason });
    if decided.is_staged {
        return aim(db, (source, &source_name), decided, after, now).await.map(|()| true);
    }
    sqlx::query(
        "UPDATE channels SET target = ?1, completed = ?1, generation = generation + 1, moved_at = ?2
         WHERE source_id = ?3 AND name = ?4",
    )
    .bind(decided.release.0)
    .bind(now.to_string())
    .bind(source.0)
    .bind(decided.channel.as_str())
    .execute(&mut *db)
    .await
    .doing("move a channel")?;
    sqlx::query("INSERT INTO channel_moves (source_id, channel, release, at, reason) VALUES (?, ?, ?, ?, ?)")
        .bind(source.0)
        .bind(decided.channel.as_str())
        .bind(decided.release.0)
        .bind(now.to_string())
        .bind(&decided.reason)
        .execute(&mut *db)
        .await
        .doing("record the move of a channel")?;
    let entry = NewAuditEntry {
        actor: MOVER.id(),
        operation: "channel.move".to_owned(),
        object: format!("{source_name}/channels/{}", decided.channel),
        before: before.map(|release| serde_json::json!({ "release": release })),
        after: Some(after),
        request: None,
    };
    audit::insert(&entry, now).execute(db).await.doing("write an audit row")?;
    Ok(true)
}

/// Sets the target of a channel: its tag stays where it is until the rollout of that release is complete.
async fn aim(
    db: &mut SqliteConnection,
    (source, source_name): (SourceId, &str),
    decided: &ChannelMove,
    after: serde_json::Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE channels SET target = ?, generation = generation + 1 WHERE source_id = ? AND name = ?",
    )
    .bind(decided.release.0)
    .bind(source.0)
    .bind(decided.channel.as_str())
    .execute(&mut *db)
    .await
    .doing("set the target of a channel")?;
    let entry = NewAuditEntry {
        actor: MOVER.id(),
        operation: "channel.target".to_owned(),
        object: format!("{source_name}/channels/{}", decided.channel),
        before: None,
        after: Some(after),
        request: None,
    };
    audit::insert(&entry, now).execute(db).await.doing("write an audit row")
}
