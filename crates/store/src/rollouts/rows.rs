//! Rows of rollouts.

use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, DeviceId, RolloutName, SiteId, VariantName};
use edgewright_model::reference::RepoName;
use edgewright_model::run::{ReleaseNumber, RolloutNumber};
use edgewright_model::spec::{Labels, RolloutSpec};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;

use crate::sources::SourceId;
use crate::{StoreError, row};

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
    pub(super) const fn name(self) -> &'static str {
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

pub(super) fn rollout(row: &SqliteRow) -> Result<RolloutRow, StoreError> {
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

pub(super) fn member(row: &SqliteRow) -> Result<MemberRow, StoreError> {
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

pub(super) fn event(row: &SqliteRow) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        number: row::number(row, "number")?,
        at: row::text(row, "at")?,
        kind: row::text(row, "kind")?,
        member: row::maybe_number(row, "member")?,
        event: row::json(row, "event")?,
        actor: row::maybe(row, "actor")?,
    })
}
