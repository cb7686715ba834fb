//! Sites and channels.

use std::collections::BTreeMap;

use edgewright_api::{ChannelView, InventoryView, SiteSummary, SiteView, SlotView};
use edgewright_model::names::{ChannelName, SiteId, SiteName, SourceName, VariantName};
use edgewright_model::run::ReleaseNumber;
use edgewright_model::spec::Follows;
use edgewright_store::channels::ChannelRow;
use edgewright_store::inventory::{InventoryState, SiteRow, SlotRow};
use edgewright_store::releases::EntryRow;
use edgewright_store::sources::SourceRow;

use super::page::{Page, PageRequest, named};
use super::{ViewError, Views};

impl Views {
    /// The sites, by source and name.
    pub async fn sites(&self, source: Option<&SourceName>) -> Result<Vec<SiteSummary>, ViewError> {
        Ok(self.site_page(source, &PageRequest::ALL).await?.rows)
    }

    /// A page of them.
    pub async fn site_page(
        &self,
        source: Option<&SourceName>,
        page: &PageRequest,
    ) -> Result<Page<SiteSummary>, ViewError> {
        let after: Option<(SourceName, String)> = page.after(named)?;
        // Several sites of a source may have had one name.
        let place = |name: &SiteName, id: &SiteId| format!("{name}/{id}");
        let mut views = Vec::new();
        for source in self.selected(source).await? {
            if views.len() >= page.rows() || after.as_ref().is_some_and(|(first, _)| source.name < *first) {
                continue;
            }
            let after =
                after.as_ref().filter(|(name, _)| *name == source.name).map(|(_, site)| site.as_str());
            let mut sites = self.store.sites(source.id).await?;
            sites.sort_by_key(|site| place(&site.name, &site.id));
            sites.retain(|site| after.is_none_or(|after| place(&site.name, &site.id).as_str() > after));
            views.extend(sites.iter().map(|site| summary(&source.name, site)));
        }
        views.truncate(page.rows());
        Ok(page.cut(views, |last| format!("{}/{}", last.source, place(&last.name, &last.id))))
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
        Ok(self.channel_page(source, &PageRequest::ALL).await?.rows)
    }

    /// A page of them.
    pub async fn channel_page(
        &self,
        source: Option<&SourceName>,
        page: &PageRequest,
    ) -> Result<Page<ChannelView>, ViewError> {
        let after: Option<(SourceName, ChannelName)> = page.after(named)?;
        let mut views = Vec::new();
        for source in self.selected(source).await? {
            if views.len() >= page.rows() || after.as_ref().is_some_and(|(first, _)| source.name < *first) {
                continue;
            }
            let after = after.as_ref().filter(|(name, _)| *name == source.name).map(|(_, channel)| channel);
            let mut channels = self.store.channels(source.id).await?;
            channels.sort_by(|one, other| one.name.cmp(&other.name));
            channels.retain(|row| after.is_none_or(|after| row.name > *after));
            views.extend(channels.into_iter().map(|row| channel(source.name.clone(), row)));
        }
        views.truncate(page.rows());
        Ok(page.cut(views, |last| format!("{}/{}", last.source, last.name)))
    }
}

/// The commit that the inventory of a source was read from.
pub(super) fn inventory_view(state: InventoryState) -> InventoryView {
    let InventoryState { commit, at, error } = state;
    InventoryView { commit: commit.map(|commit| commit.to_string()), at, error }
}

/// A channel as a document, without what only control knows.
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
        awaited_test: None,
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
