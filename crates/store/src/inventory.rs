//! What the default branch of a source declares besides images: its name, sites, slots, channels and rollout
//! policies. The releases that channels hold are in [`crate::channels`].

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::names::{
    ChannelName, CommitId, ImageName, RolloutName, SiteId, SiteName, SlotId, SourceName, VariantName,
};
use edgewright_model::spec::{ChannelSpec, Labels, RolloutSpec};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::write::Statement;
use crate::{Store, StoreError, row};

/// A place where devices are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRow {
    /// Its immutable id.
    pub id: SiteId,
    /// Its folder.
    pub name: SiteName,
    pub labels: Labels,
    /// Its places for devices, by id.
    pub slots: Vec<SlotRow>,
    /// Since when no commit of the default branch declares it.
    pub removed_at: Option<Timestamp>,
}

/// A machine's place in a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRow {
    /// Its immutable id, unique in its site.
    pub id: SlotId,
    /// A name for people.
    pub name: Option<String>,
    /// The image that its device runs.
    pub image: ImageName,
    /// The variant of that image; none while the image has errors.
    pub variant: Option<VariantName>,
    /// The channel that its device follows, if the slot declares one.
    pub channel: Option<ChannelName>,
    pub labels: Labels,
    /// Since when no commit of the default branch declares it.
    pub removed_at: Option<Timestamp>,
}

/// What a commit of the default branch declares.
#[derive(Debug, Clone)]
pub struct Declaration<'a> {
    pub commit: &'a CommitId,
    /// The source's name: the first component of its repositories.
    pub name: &'a SourceName,
    pub channels: &'a BTreeMap<ChannelName, ChannelSpec>,
    /// Its rollout policies.
    pub policies: &'a BTreeMap<RolloutName, RolloutSpec>,
    /// Its sites that have no errors.
    pub sites: &'a [SiteRow],
    /// Sites that have errors: their rows are left unchanged.
    pub broken: &'a BTreeSet<SiteName>,
}

/// The commit that the inventory of a source comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryState {
    /// The commit; none before the first readable one.
    pub commit: Option<CommitId>,
    /// When it was applied.
    pub at: Option<Timestamp>,
    /// Why a newer commit was not applied.
    pub error: Option<String>,
}

fn slot(row: &SqliteRow) -> Result<SlotRow, StoreError> {
    Ok(SlotRow {
        id: row::text(row, "id")?,
        name: row::maybe(row, "name")?,
        image: row::text(row, "image")?,
        variant: row::maybe(row, "variant")?,
        channel: row::maybe(row, "channel")?,
        labels: row::json(row, "labels")?,
        removed_at: row::maybe(row, "removed_at")?,
    })
}

impl Store {
    /// Applies what a commit of the default branch declares, all or nothing. What it no longer declares is
    /// marked with the time of removal and kept: devices may still be there.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn declare_inventory(
        &self,
        source: SourceId,
        declared: &Declaration<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let known = self.sites(source).await?;
        let mut statements: Vec<Statement> = take_name(source, declared.name).into();
        statements.extend(declare_channels(source, declared.channels, now)?);
        statements.extend(declare_policies(source, declared.policies, now)?);
        statements.extend(remove_sites(source, declared, now)?);
        for site in declared.sites.iter().filter(|site| !known.contains(site)) {
            statements.push(declare_site(source, site, now)?);
            statements.extend(declare_slots(source, site, now)?);
        }
        statements.push(note_commit(source, declared.commit, now));
        self.execute_all("declare the inventory", statements).await
    }

    /// Notes that a commit declares the inventory as it is stored.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn note_inventory_commit(
        &self,
        source: SourceId,
        commit: &CommitId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute("note the inventory's commit", note_commit(source, commit, now)).await?;
        Ok(())
    }

    /// Notes why a commit's declarations were not applied; the earlier ones stay in effect.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn note_inventory_error(&self, source: SourceId, why: &str) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "UPDATE sources SET inventory_error = ?1 WHERE id = ?2 AND inventory_error IS NOT ?1",
        );
        self.execute("note an error of the inventory", statement.bind(why).bind(source.0)).await?;
        Ok(())
    }

    /// The commit that the inventory of a source comes from.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn inventory_state(&self, source: SourceId) -> Result<InventoryState, StoreError> {
        let row =
            sqlx::query("SELECT inventory_commit, inventory_at, inventory_error FROM sources WHERE id = ?")
                .bind(source.0)
                .fetch_one(&self.readers)
                .await
                .doing("read the inventory's state")?;
        Ok(InventoryState {
            commit: row::maybe(&row, "inventory_commit")?,
            at: row::maybe(&row, "inventory_at")?,
            error: row::maybe(&row, "inventory_error")?,
        })
    }

    /// The sites of a source with their slots, by name; including removed ones.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn sites(&self, source: SourceId) -> Result<Vec<SiteRow>, StoreError> {
        let mut slots: BTreeMap<SiteId, Vec<SlotRow>> = BTreeMap::new();
        let rows = sqlx::query("SELECT * FROM slots WHERE source_id = ? ORDER BY site, id")
            .bind(source.0)
            .fetch_all(&self.readers)
            .await
            .doing("list slots")?;
        for row in &rows {
            slots.entry(row::text(row, "site")?).or_default().push(slot(row)?);
        }
        let rows = sqlx::query("SELECT * FROM sites WHERE source_id = ? ORDER BY name, id")
            .bind(source.0)
            .fetch_all(&self.readers)
            .await
            .doing("list sites")?;
        let site = |row: &SqliteRow| {
            let id: SiteId = row::text(row, "id")?;
            Ok(SiteRow {
                slots: slots.remove(&id).unwrap_or_default(),
                id,
                name: row::text(row, "name")?,
                labels: row::json(row, "labels")?,
                removed_at: row::maybe(row, "removed_at")?,
            })
        };
        rows.iter().map(site).collect()
    }

    /// The rollout policies of a source.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rollout_policies(
        &self,
        source: SourceId,
    ) -> Result<BTreeMap<RolloutName, RolloutSpec>, StoreError> {
        let rows = sqlx::query("SELECT name, spec FROM rollout_policies WHERE source_id = ?")
            .bind(source.0)
            .fetch_all(&self.readers)
            .await
            .doing("list rollout policies")?;
        rows.iter().map(|row| Ok((row::text(row, "name")?, row::json(row, "spec")?))).collect()
    }
}

fn note_commit(source: SourceId, commit: &CommitId, now: Timestamp) -> Statement {
    sqlx::query(
        "UPDATE sources SET inventory_commit = ?, inventory_at = ?, inventory_error = NULL WHERE id = ?",
    )
    .bind(commit.as_str())
    .bind(now.to_string())
    .bind(source.0)
}

/// Gives a source its name, and takes it from a source that had it before: the caller has made sure that this
/// one is no longer followed.
fn take_name(source: SourceId, name: &SourceName) -> [Statement; 2] {
    let lose = sqlx::query("UPDATE sources SET definition_name = NULL WHERE definition_name = ? AND id <> ?");
    let take =
        sqlx::query("UPDATE sources SET definition_name = ?1 WHERE id = ?2 AND definition_name IS NOT ?1");
    [lose, take].map(|statement| statement.bind(name.as_str()).bind(source.0))
}

/// A channel that is no longer declared is deleted, unless it holds a release: then it stays at that release.
fn declare_channels(
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

fn declare_policies(
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

fn remove_sites(
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

fn declare_site(source: SourceId, site: &SiteRow, now: Timestamp) -> Result<Statement, StoreError> {
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

fn declare_slots(source: SourceId, site: &SiteRow, now: Timestamp) -> Result<Vec<Statement>, StoreError> {
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
