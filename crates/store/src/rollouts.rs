//! Rollouts: what each began with, its devices, and its history.

mod history;
mod rows;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edgewright_model::names::{ChannelName, DeviceId, SourceName};
use edgewright_model::principal::PrincipalId;
use edgewright_model::run::{ReleaseNumber, RolloutNumber};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;

pub use rows::{
    Completion, EventRow, MemberImage, MemberPart, MemberRow, RolloutKind, RolloutRow, RolloutState,
};
use rows::{event, member, rollout};
pub use start::{NewRollout, RollBack};

use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::{Store, StoreError, row};

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
        let query = sqlx::query("SELECT * FROM rollout_members WHERE rollout = ? ORDER BY member");
        row::all(query.bind(number.0).fetch(&self.readers), "list the devices of a rollout", member).await
    }

    /// The history of a rollout, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rollout_events(&self, number: RolloutNumber) -> Result<Vec<EventRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM rollout_events WHERE rollout = ? ORDER BY number");
        row::all(query.bind(number.0).fetch(&self.readers), "read the history of a rollout", event).await
    }

    /// How long the slowest confirmation of each device of a source took so far.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn confirmation_times(
        &self,
        source: SourceId,
    ) -> Result<BTreeMap<DeviceId, Duration>, StoreError> {
        let query = sqlx::query(
            "SELECT m.device, CAST(max((julianday(h.at) - julianday(o.at)) * 86400) AS INTEGER) AS seconds
             FROM rollouts r JOIN rollout_events o ON o.rollout = r.number AND o.kind = 'offered'
             JOIN rollout_events h ON h.rollout = r.number AND h.kind = 'healthy' AND h.member = o.member
             JOIN rollout_members m ON m.rollout = r.number AND m.member = o.member
             WHERE r.source_id = ? GROUP BY m.device",
        );
        let time = |row: &SqliteRow| {
            let seconds: i64 = row::number(row, "seconds")?;
            let seconds = u64::try_from(seconds).unwrap_or_default();
            Ok((row::text(row, "device")?, Duration::from_secs(seconds)))
        };
        let rows = query.bind(source.0).fetch(&self.readers);
        Ok(row::all(rows, "read how long confirmations take", time).await?.into_iter().collect())
    }

    /// The channels that slots with an enrolled device follow. A slot that names none follows the only one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn channels_with_devices(&self, source: SourceId) -> Result<BTreeSet<ChannelName>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT coalesce(s.channel, (SELECT min(c.name) FROM channels c
                 WHERE c.source_id = s.source_id AND c.removed_at IS NULL HAVING count(*) = 1)) AS channel
             FROM slots s WHERE s.source_id = ? AND s.removed_at IS NULL AND EXISTS (SELECT 1 FROM fleet_devices f
                 WHERE f.source_id = s.source_id AND f.site = s.site AND f.slot = s.id AND f.state IN ('active', 'held'))",
        )
        .bind(source.0)
        .fetch_all(&self.readers)
        .await
        .doing("list channels with devices")?;
        let channels = rows.iter().map(|row| row::maybe(row, "channel")).collect::<Result<Vec<_>, _>>()?;
        Ok(channels.into_iter().flatten().collect())
    }

    /// Who ordered that a channel takes a release: by promoting or pinning it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn release_orderers(
        &self,
        source: &SourceName,
        channel: &ChannelName,
        release: ReleaseNumber,
    ) -> Result<BTreeSet<PrincipalId>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT actor FROM audit WHERE object = ?1
             AND ((operation = 'channel.promote' AND json_extract(after, '$.target') = ?2)
                 OR (operation = 'channel.pin' AND json_extract(after, '$.pin') = ?2))",
        )
        .bind(format!("{source}/channels/{channel}"))
        .bind(release.0)
        .fetch_all(&self.readers)
        .await
        .doing("list who ordered a release")?;
        rows.iter().map(|row| row::text(row, "actor")).collect()
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
}
