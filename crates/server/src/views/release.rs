//! Releases.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use edgewright_api::{ReleaseEntry, ReleaseView};
use edgewright_model::names::SourceName;
use edgewright_model::run::{ReleaseNumber, RunNumber};
use edgewright_store::channels::ChannelRow;
use edgewright_store::releases::{EntryRow, ListedRelease, ReleasePage};
use edgewright_store::sources::SourceId;

use super::page::{Page, PageRequest};
use super::{ViewError, Views};

/// The largest number of entries of all releases on a page; a page has at least one release.
const MAX_PAGE_ENTRIES: usize = 20_000;

impl Views {
    /// The newest releases of all sources or one, newest first.
    pub async fn releases(
        &self,
        source: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<ReleaseView>, ViewError> {
        let mut releases = Vec::new();
        let mut cursor = None;
        while let Some(missing) = limit.checked_sub(u32::try_from(releases.len()).unwrap_or(limit))
            && missing > 0
        {
            let page = self.release_page(source, None, &PageRequest { limit: missing, cursor }).await?;
            releases.extend(page.rows);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(releases)
    }

    /// The release of a number, of each source that has one.
    pub async fn release(
        &self,
        number: ReleaseNumber,
        source: Option<&SourceName>,
    ) -> Result<Vec<ReleaseView>, ViewError> {
        Ok(self.release_page(source, Some(number), &PageRequest::ALL).await?.rows)
    }

    /// A page of releases, newest first; only those of one number if it is given.
    pub async fn release_page(
        &self,
        source: Option<&SourceName>,
        number: Option<ReleaseNumber>,
        page: &PageRequest,
    ) -> Result<Page<ReleaseView>, ViewError> {
        let below: Option<RunNumber> = page.after(|text| text.parse().ok())?;
        let sources = self.selected(source).await?;
        let ids: Vec<_> = sources.iter().map(|source| source.id).collect();
        let wanted = ReleasePage { sources: &ids, below, number, limit: page.limit.saturating_add(1) };
        let found = self.store.release_page(&wanted).await?;
        let shown = shown(&found, page.rows() - 1);
        let has_more = shown < found.len();
        let next = found[..shown].last().filter(|_| has_more).map(|last| last.release.run.to_string());

        let keys: Vec<_> = found[..shown].iter().map(|row| (row.source, row.release.number)).collect();
        let mut entries = self.store.entries_of(&keys).await?;
        let names: BTreeMap<_, _> = sources.into_iter().map(|source| (source.id, source.name)).collect();
        let mut channels: BTreeMap<SourceId, Vec<ChannelRow>> = BTreeMap::new();
        let mut rows = Vec::with_capacity(shown);
        for listed in found.into_iter().take(shown) {
            let key = (listed.source, listed.release.number);
            let of_source = match channels.entry(key.0) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.store.channels(key.0).await?),
            };
            let Some(name) = names.get(&key.0) else { continue };
            let entries = entries.remove(&key).unwrap_or_default();
            rows.push(view(name.clone(), listed, of_source, entries));
        }
        Ok(Page { rows, next })
    }
}

/// How many of the releases are on the page.
fn shown(found: &[ListedRelease], limit: usize) -> usize {
    let mut entries = 0_usize;
    let fits = found.iter().take(limit).take_while(|listed| {
        entries = entries.saturating_add(listed.entries);
        entries <= MAX_PAGE_ENTRIES
    });
    fits.count().max(1).min(found.len())
}

fn view(
    source: SourceName,
    listed: ListedRelease,
    channels: &[ChannelRow],
    entries: Vec<EntryRow>,
) -> ReleaseView {
    let row = listed.release;
    let is_held = |channel: &&ChannelRow| channel.completed == Some(row.number);
    ReleaseView {
        source,
        channels: channels.iter().filter(is_held).map(|channel| channel.name.clone()).collect(),
        number: row.number,
        branch: row.branch,
        commit: row.commit.to_string(),
        run: row.run,
        created: row.created_at,
        entries: entries
            .into_iter()
            .map(|entry| ReleaseEntry {
                variant: entry.variant,
                repository: entry.repository,
                digest: entry.digest,
                origin: entry.origin,
                reason: entry.reason,
            })
            .collect(),
    }
}
