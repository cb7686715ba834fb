//! How rollouts begin.

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, CommitId, RolloutName};
use edgewright_model::run::{ReleaseNumber, RolloutNumber, RunNumber};
use edgewright_model::spec::RolloutSpec;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{MemberRow, RolloutKind};
use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::releases::{EntryRow, insert_entry, insert_release};
use crate::sources::SourceId;
use crate::write::{Statement, changed_one};
use crate::{Store, StoreError, row};

/// A rollout to begin.
#[derive(Debug, Clone)]
pub struct NewRollout {
    pub source: SourceId,
    pub channel: ChannelName,
    pub release: ReleaseNumber,
    /// The release that the channel has completed.
    pub before: Option<ReleaseNumber>,
    pub kind: RolloutKind,
    pub policy: Option<RolloutName>,
    pub spec: RolloutSpec,
    /// JSON: the outcomes of earlier rollouts.
    pub baseline: Value,
    /// Why the channel takes the release.
    pub reason: String,
    pub members: Vec<MemberRow>,
}

/// A release with the digests of an earlier one, that a channel goes back to.
#[derive(Debug, Clone)]
pub struct RollBack {
    pub source: SourceId,
    pub channel: ChannelName,
    /// The generation at which this was decided.
    pub generation: u32,
    /// The release that is taken back: the new one belongs to its run and branch.
    pub bad: ReleaseNumber,
    /// The entries of the new release.
    pub entries: Vec<EntryRow>,
    /// What is quarantined.
    pub quarantine: Vec<Digest>,
    /// Why, for people: also the reason of the hold.
    pub reason: String,
    /// Whether devices take it in a rollout.
    pub is_staged: bool,
}

/// The statement that adds devices to a rollout.
pub(super) fn insert_members(number: RolloutNumber, members: &[MemberRow]) -> Result<Statement, StoreError> {
    let rows: Vec<Value> = members
        .iter()
        .map(|member| {
            let before = member.before.as_ref();
            json!([
                member.member,
                member.device,
                member.part.name(),
                member.site,
                member.variant.to_string(),
                serde_json::to_string(&member.labels).unwrap_or_default(),
                member.group,
                member.patience.as_secs(),
                member.seen_at.map(|at| at.to_string()),
                member.after.digest.to_string(),
                member.after.repository.as_str(),
                before.map(|image| image.digest.to_string()),
                before.map(|image| image.repository.as_str()),
            ])
        })
        .collect();
    Ok(sqlx::query(
        "INSERT INTO rollout_members (rollout, member, device, part, site, variant, labels, grouped, patience_s, seen_at,
             after_digest, after_in, before_digest, before_in)
         SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
             value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12 FROM json_each(?2)",
    )
    .bind(number.0)
    .bind(row::to_json(&rows)?))
}

impl Store {
    /// Begins a rollout. None if the channel has another target by now, or an open rollout.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn start_rollout(
        &self,
        new: &NewRollout,
        now: Timestamp,
    ) -> Result<Option<RolloutNumber>, StoreError> {
        let insert = sqlx::query(
            "INSERT INTO rollouts (source_id, channel, release, before, kind, policy, spec, salt, baseline, reason, state,
                 started_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, s.name || '/' || ?2 || '/' || ?3 || '/' ||
                 (SELECT coalesce(max(number), 0) + 1 FROM rollouts), ?8, ?9, 'active', ?10
             FROM channels c JOIN sources s ON s.id = c.source_id
             WHERE c.source_id = ?1 AND c.name = ?2 AND c.target = ?3
               AND NOT EXISTS (SELECT 1 FROM rollouts r WHERE r.source_id = ?1 AND r.channel = ?2 AND r.ended_at IS NULL)
             RETURNING number",
        )
        .bind(new.source.0)
        .bind(new.channel.as_str().to_owned())
        .bind(new.release.0)
        .bind(new.before.map(|release| release.0))
        .bind(new.kind.name())
        .bind(new.policy.as_ref().map(ToString::to_string))
        .bind(row::to_json(&new.spec)?)
        .bind(row::to_json(&new.baseline)?)
        .bind(new.reason.clone())
        .bind(now.to_string());
        let members = new.members.clone();
        self.write(move |db| {
            Box::pin(async move {
                let Some(row) = insert.fetch_optional(&mut *db).await.doing("begin a rollout")? else {
                    return Ok(None);
                };
                let number = RolloutNumber(row::number(&row, "number")?);
                insert_members(number, &members)?.execute(db).await.doing("add devices to a rollout")?;
                Ok(Some(number))
            })
        })
        .await
    }

    /// Makes the release that a channel goes back to, moves the channel there, holds it and quarantines what
    /// it had: all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the channel changed since; the database cannot be written.
    pub async fn roll_back(
        &self,
        wanted: &RollBack,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<ReleaseNumber, StoreError> {
        let (wanted, entry) = (wanted.clone(), entry.clone());
        self.write(move |db| {
            Box::pin(async move {
                let RollBack { source, channel, generation, bad, .. } = &wanted;
                let found = sqlx::query(
                    "SELECT run, branch, commit_id FROM releases WHERE source_id = ? AND number = ?",
                )
                .bind(source.0)
                .bind(bad.0)
                .fetch_one(&mut *db)
                .await
                .doing("read a release")?;
                let run = RunNumber(row::number(&found, "run")?);
                let branch: String = row::text(&found, "branch")?;
                let commit: CommitId = row::text(&found, "commit_id")?;
                let number = insert_release(db, (*source, run), (&branch, &commit), now).await?;
                sqlx::query("UPDATE releases SET takes_back = ? WHERE source_id = ? AND number = ?")
                    .bind(bad.0)
                    .bind(source.0)
                    .bind(number.0)
                    .execute(&mut *db)
                    .await
                    .doing("note what a release takes back")?;
                for entry in &wanted.entries {
                    insert_entry(db, *source, number, entry).await?;
                }
                hold_and_quarantine(db, &wanted, &entry.actor.to_string(), now).await?;
                let decided = crate::channels::ChannelMove {
                    channel: channel.clone(),
                    generation: *generation,
                    release: number,
                    reason: wanted.reason.clone(),
                    is_staged: wanted.is_staged,
                };
                crate::channels::move_channel(db, *source, &decided, now).await?;
                audit::insert(&entry, now).execute(db).await.doing("write an audit row")?;
                Ok(number)
            })
        })
        .await
    }
}

/// Holds a channel, and quarantines what it goes back from.
async fn hold_and_quarantine(
    db: &mut sqlx::SqliteConnection,
    wanted: &RollBack,
    actor: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let RollBack { source, channel, generation, .. } = wanted;
    let held = sqlx::query(
        "UPDATE channels SET hold = ?, pin = NULL, pin_reason = NULL
         WHERE source_id = ? AND name = ? AND generation = ?",
    )
    .bind(&wanted.reason)
    .bind(source.0)
    .bind(channel.as_str())
    .bind(generation)
    .execute(&mut *db)
    .await
    .doing("hold a channel")?;
    changed_one(&held, || format!("channel {channel}"))?;
    for digest in &wanted.quarantine {
        sqlx::query(
            "INSERT INTO quarantine (source_id, digest, reason, actor, at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(source.0)
        .bind(digest.to_string())
        .bind(&wanted.reason)
        .bind(actor)
        .bind(now.to_string())
        .execute(&mut *db)
        .await
        .doing("quarantine a digest")?;
    }
    Ok(())
}
