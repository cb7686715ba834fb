//! What the default branch of a source declares besides images: its name, sites, slots, channels and rollout
//! policies. The releases that channels hold are in [`crate::channels`].

mod declare;

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::names::{
    ChannelName, CommitId, ImageName, RolloutName, SiteId, SiteName, SlotId, SourceName, VariantName,
};
use edgewright_model::spec::{ChannelSpec, Labels, RolloutSpec, SiteNames};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::write::Statement;
use crate::{Store, StoreError, row};
use declare::{
    declare_channels, declare_policies, declare_site, declare_slots, note_commit, remove_sites, take_name,
};

/// A place where devices are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRow {
    /// Its immutable id.
    pub id: SiteId,
    /// Its folder when it was first declared: its images are named by it.
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

impl SlotRow {
    /// Its labels at a site; those of the site where it has none of that name.
    pub fn labels_at(&self, site: &SiteRow) -> Labels {
        let mut labels = site.labels.clone();
        labels.extend(self.labels.clone());
        labels
    }
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

fn state(row: &SqliteRow) -> Result<InventoryState, StoreError> {
    Ok(InventoryState {
        commit: row::maybe(row, "inventory_commit")?,
        at: row::maybe(row, "inventory_at")?,
        error: row::maybe(row, "inventory_error")?,
    })
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
        state(&row)
    }

    /// The commit that the inventory of each source comes from.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn inventory_states(&self) -> Result<BTreeMap<SourceId, InventoryState>, StoreError> {
        let rows = sqlx::query("SELECT id, inventory_commit, inventory_at, inventory_error FROM sources")
            .fetch_all(&self.readers)
            .await
            .doing("read the state of inventories")?;
        rows.iter().map(|row| Ok((SourceId(row::number(row, "id")?), state(row)?))).collect()
    }

    /// The sites of a source with their slots, by name; including removed ones.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn sites(&self, source: SourceId) -> Result<Vec<SiteRow>, StoreError> {
        let mut slots: BTreeMap<SiteId, Vec<SlotRow>> = BTreeMap::new();
        let rows = sqlx::query("SELECT * FROM slots WHERE source_id = ? ORDER BY site, id").bind(source.0);
        row::all(rows.fetch(&self.readers), "list slots", |row| {
            slots.entry(row::text(row, "site")?).or_default().push(slot(row)?);
            Ok(())
        })
        .await?;
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

    /// The names of a source's sites by id, including removed ones. A site keeps the name of its first
    /// declaration.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn site_names(&self, source: SourceId) -> Result<SiteNames, StoreError> {
        let rows = sqlx::query("SELECT id, name FROM sites WHERE source_id = ?")
            .bind(source.0)
            .fetch_all(&self.readers)
            .await
            .doing("list the names of sites")?;
        rows.iter().map(|row| Ok((row::text(row, "id")?, row::text(row, "name")?))).collect()
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
