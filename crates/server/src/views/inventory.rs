//! Sites and channels.

use std::collections::BTreeMap;

use edgewright_api::{ChannelView, InventoryView, SiteSummary, SiteView, SlotView};
use edgewright_model::names::{ChannelName, SiteName, SourceName, VariantName};
use edgewright_model::run::ReleaseNumber;
use edgewright_model::spec::Follows;
use edgewright_store::channels::ChannelRow;
use edgewright_store::inventory::{InventoryState, SiteRow, SlotRow};
use edgewright_store::releases::EntryRow;
use edgewright_store::sources::{SourceId, SourceRow};

use super::{ViewError, Views};

impl Views {
    /// The sites, by source and name.
    pub async fn sites(&self, source: Option<&SourceName>) -> Result<Vec<SiteSummary>, ViewError> {
        let mut views = Vec::new();
        for source in self.selected(source).await? {
            let sites = self.store.sites(source.id).await?;
            views.extend(sites.iter().map(|site| summary(&source.name, site)));
        }
        Ok(views)
    }

    /// One site with its slots, and the image that the channel of each provides.
    pub async fn site(&self, name: &SiteName, source: Option<&SourceName>) -> Result<SiteView, ViewError> {
        let (source, site) = self.site_row(name, source).await?;
        let channels = self.store.channels(source.id).await?;
        let held: BTreeMap<&ChannelName, ReleaseNumber> =
            channels.iter().filter_map(|channel| Some((&channel.name, channel.completed?))).collect();
        let mut entries: BTreeMap<ReleaseNumber, Vec<EntryRow>> = BTreeMap::new();
        let mut slots = Vec::with_capacity(site.slots.len());
        for slot in &site.slots {
            let release = slot.channel.as_ref().and_then(|channel| held.get(channel)).copied();
            if let Some(release) = release
                && let std::collections::btree_map::Entry::Vacant(place) = entries.entry(release)
            {
                place.insert(self.store.entries(source.id, release).await?);
            }
            let entry = release
                .and_then(|release| entries.get(&release))
                .and_then(|entries| entry(entries, slot.variant.as_ref()));
            slots.push(slot_view(slot, release, entry));
        }
        Ok(SiteView { site: summary(&source.name, &site), slots })
    }

    async fn site_row(
        &self,
        name: &SiteName,
        source: Option<&SourceName>,
    ) -> Result<(SourceRow, SiteRow), ViewError> {
        let mut found = Vec::new();
        for source in self.selected(source).await? {
            let sites = self.store.sites(source.id).await?;
            // Another site may have the same name by now; the one that still exists has precedence.
            let site = sites.into_iter().filter(|site| site.name == *name).min_by_key(|site| site.removed_at);
            found.extend(site.map(|site| (source, site)));
        }
        if found.len() > 1 {
            return Err(ViewError::AmbiguousSite {
                site: name.to_string(),
                sources: found.iter().map(|(source, _)| source.name.to_string()).collect(),
            });
        }
        found.pop().ok_or_else(|| ViewError::NotFound {
            what: format!("site `{name}` not found"),
            hint: "`edgewright sites` lists them".to_owned(),
        })
    }

    /// The channels, by source and name.
    pub async fn channels(&self, source: Option<&SourceName>) -> Result<Vec<ChannelView>, ViewError> {
        let mut views = Vec::new();
        for source in self.selected(source).await? {
            let channels = self.store.channels(source.id).await?;
            views.extend(channels.into_iter().map(|row| channel(source.name.clone(), row)));
        }
        Ok(views)
    }

    /// The commit that the inventory of a source was read from.
    pub(super) async fn inventory(&self, source: SourceId) -> Result<InventoryView, ViewError> {
        let InventoryState { commit, at, error } = self.store.inventory_state(source).await?;
        Ok(InventoryView { commit: commit.map(|commit| commit.to_string()), at, error })
    }
}

/// A channel as a document.
pub(crate) fn channel(source: SourceName, row: ChannelRow) -> ChannelView {
    ChannelView {
        source,
        follows: match &row.spec.follows {
            Follows::DefaultBranch => "default branch".to_owned(),
            Follows::Branch(branch) => format!("branch {branch}"),
            Follows::Channel(channel) => format!("channel {channel}"),
        },
        after: row.spec.after.map(|after| after.to_string()),
        rollout: row.spec.rollout.as_ref().map(ToString::to_string),
        hold: row.held().map(str::to_owned),
        target_release: row.target,
        release: row.completed,
        moved: row.moved_at,
        pin: row.pin.as_ref().map(|pin| pin.release),
        pin_reason: row.pin.map(|pin| pin.reason),
        removed: row.removed_at,
        name: row.name,
    }
}

fn summary(source: &SourceName, site: &SiteRow) -> SiteSummary {
    let declared = site.slots.iter().filter(|slot| slot.removed_at.is_none()).count();
    SiteSummary {
        source: source.clone(),
        name: site.name.clone(),
        id: site.id.clone(),
        labels: site.labels.clone(),
        slot_count: u32::try_from(declared).unwrap_or(u32::MAX),
        removed: site.removed_at,
    }
}

/// The entry of a variant in a release.
fn entry<'e>(entries: &'e [EntryRow], variant: Option<&VariantName>) -> Option<&'e EntryRow> {
    let variant = variant?;
    entries.iter().find(|entry| entry.variant == *variant)
}

fn slot_view(slot: &SlotRow, release: Option<ReleaseNumber>, entry: Option<&EntryRow>) -> SlotView {
    SlotView {
        id: slot.id.clone(),
        name: slot.name.clone(),
        image: slot.image.clone(),
        variant: slot.variant.clone(),
        channel: slot.channel.clone(),
        release,
        digest: entry.map(|entry| entry.digest.clone()),
        labels: slot.labels.clone(),
        removed: slot.removed_at,
    }
}
