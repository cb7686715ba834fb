//! The statements of a declaration.

use std::collections::BTreeMap;

use edgewright_model::names::{ChannelName, CommitId, RolloutName, SourceName};
use edgewright_model::spec::{ChannelSpec, RolloutSpec};
use jiff::Timestamp;

use super::{Declaration, SiteRow};
use crate::sources::SourceId;
use crate::write::Statement;
use crate::{StoreError, row};

pub(super) fn note_commit(source: SourceId, commit: &CommitId, now: Timestamp) -> Statement {
    sqlx::query(
        "UPDATE sources SET inventory_commit = ?, inventory_at = ?, inventory_error = NULL WHERE id = ?",
    )
    .bind(commit.as_str())
    .bind(now.to_string())
    .bind(source.0)
}

/// Gives a source its name, and takes it from a source that had it before: the caller has made sure that this
/// one is no longer followed.
pub(super) fn take_name(source: SourceId, name: &SourceName) -> [Statement; 2] {
    let lose = sqlx::query("UPDATE sources SET definition_name = NULL WHERE definition_name = ? AND id <> ?");
    let take =
        sqlx::query("UPDATE sources SET definition_name = ?1 WHERE id = ?2 AND definition_name IS NOT ?1");
    [lose, take].map(|statement| statement.bind(name.as_str()).bind(source.0))
}

/// A channel that is no longer declared is deleted, unless it holds a release: then it stays at that release.
pub(super) fn declare_channels(
    source: SourceId,
    channels: &BTreeMap<ChannelName, ChannelSpec>,
    now: Timestamp,
) -> Result<Vec<Statement>, StoreError> {
    let names = row::to_json(&channels.keys().collect::<Vec<_>>())?;
    let drop = sqlx::query(
        "DELETE FROM channels WHERE source_id = ? AND completed IS NULL AND name NOT IN (SELECT value FROM json_each(?))",
    );
    let remove = sqlx::query(
        "UPDATE channels SET removed_at = ?, generation = generation + 1
         WHERE source_id = ? AND removed_at IS NULL AND name NOT IN (SELECT value FROM json_each(?))",
    );
    let mut statements =
        vec![drop.bind(source.0).bind(&names), remove.bind(now.to_string()).bind(source.0).bind(&names)];
    for (name, spec) in channels {
        // A new generation drops moves that were decided by the earlier declaration.
        let declare = sqlx::query(
            "INSERT INTO channels (source_id, name, spec) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET spec = excluded.spec, removed_at = NULL, generation = generation + 1
             WHERE spec <> excluded.spec OR removed_at IS NOT NULL",
        );
        statements.push(declare.bind(source.0).bind(name.as_str()).bind(row::to_json(spec)?));
    }
    Ok(statements)
}

pub(super) fn declare_policies(
    source: SourceId,
    policies: &BTreeMap<RolloutName, RolloutSpec>,
    now: Timestamp,
) -> Result<Vec<Statement>, StoreError> {
    let names = row::to_json(&policies.keys().collect::<Vec<_>>())?;
    let drop = sqlx::query(
        "DELETE FROM rollout_policies WHERE source_id = ? AND name NOT IN (SELECT value FROM json_each(?))",
    );
    let mut statements = vec![drop.bind(source.0).bind(names)];
    for (name, spec) in policies {
        let declare = sqlx::query(
            "INSERT INTO rollout_policies (source_id, name, spec, changed_at) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET spec = excluded.spec, changed_at = excluded.changed_at WHERE spec <> excluded.spec",
        );
        let declare = declare.bind(source.0).bind(name.as_str());
        statements.push(declare.bind(row::to_json(spec)?).bind(now.to_string()));
    }
    Ok(statements)
}

pub(super) fn remove_sites(
    source: SourceId,
    declared: &Declaration<'_>,
    now: Timestamp,
) -> Result<[Statement; 2], StoreError> {
    let ids = row::to_json(&declared.sites.iter().map(|site| &site.id).collect::<Vec<_>>())?;
    let broken = row::to_json(declared.broken)?;
    let slots = sqlx::query(
        "UPDATE slots SET removed_at = ?4 WHERE source_id = ?1 AND removed_at IS NULL AND site IN
         (SELECT id FROM sites WHERE source_id = ?1 AND removed_at IS NULL
          AND id NOT IN (SELECT value FROM json_each(?2)) AND name NOT IN (SELECT value FROM json_each(?3)))",
    );
    let sites = sqlx::query(
        "UPDATE sites SET removed_at = ?4 WHERE source_id = ?1 AND removed_at IS NULL
         AND id NOT IN (SELECT value FROM json_each(?2)) AND name NOT IN (SELECT value FROM json_each(?3))",
    );
    let now = now.to_string();
    Ok([slots, sites].map(|statement| statement.bind(source.0).bind(&ids).bind(&broken).bind(&now)))
}

pub(super) fn declare_site(
    source: SourceId,
    site: &SiteRow,
    now: Timestamp,
) -> Result<Statement, StoreError> {
    let declare = sqlx::query(
        "INSERT INTO sites (source_id, id, name, labels, changed_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET name = excluded.name, labels = excluded.labels, changed_at = excluded.changed_at,
             removed_at = NULL
         WHERE name <> excluded.name OR labels <> excluded.labels OR removed_at IS NOT NULL",
    );
    Ok(declare
        .bind(source.0)
        .bind(site.id.as_str())
        .bind(site.name.as_str())
        .bind(row::to_json(&site.labels)?)
        .bind(now.to_string()))
}

pub(super) fn declare_slots(
    source: SourceId,
    site: &SiteRow,
    now: Timestamp,
) -> Result<Vec<Statement>, StoreError> {
    let ids = row::to_json(&site.slots.iter().map(|slot| &slot.id).collect::<Vec<_>>())?;
    let remove = sqlx::query(
        "UPDATE slots SET removed_at = ? WHERE source_id = ? AND site = ? AND removed_at IS NULL
         AND id NOT IN (SELECT value FROM json_each(?))",
    );
    let mut statements = vec![remove.bind(now.to_string()).bind(source.0).bind(site.id.as_str()).bind(ids)];
    for slot in &site.slots {
        let declare = sqlx::query(
            "INSERT INTO slots (source_id, site, id, name, image, variant, channel, labels, changed_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET name = excluded.name, image = excluded.image, variant = excluded.variant,
                 channel = excluded.channel, labels = excluded.labels, changed_at = excluded.changed_at, removed_at = NULL
             WHERE name IS NOT excluded.name OR image <> excluded.image OR variant IS NOT excluded.variant
                 OR channel IS NOT excluded.channel OR labels <> excluded.labels OR removed_at IS NOT NULL",
        )
        .bind(source.0)
        .bind(site.id.as_str())
        .bind(slot.id.as_str())
        .bind(&slot.name)
        .bind(slot.image.as_str())
        .bind(slot.variant.as_ref().map(ToString::to_string))
        .bind(slot.channel.as_ref().map(ChannelName::as_str))
        .bind(row::to_json(&slot.labels)?)
        .bind(now.to_string());
        statements.push(declare);
    }
    Ok(statements)
}
