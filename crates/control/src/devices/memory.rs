//! What offers are made from, in memory: a poll reads nothing from the database.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use edgewright_model::Digest;
use edgewright_model::names::{ChannelName, DeviceId, SiteId, SiteName, SlotId, SourceName, VariantName};
use edgewright_model::run::ReleaseNumber;
use edgewright_registry::AccessToken;
use edgewright_rollout::offer::{Facts, Turn, offer};
use edgewright_store::channels::only;
use edgewright_store::fleet::{DeviceState, FleetDevice, Image};
use edgewright_store::inventory::SlotRow;
use edgewright_store::sources::{SourceId, SourceRow};
use edgewright_store::{Store, StoreError};
use jiff::Timestamp;

use super::Whereabouts;
use super::offers::Offer;
use super::port::{RolloutAnswer, RolloutPort};

/// All devices, their credentials and what their sources declare.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) devices: HashMap<DeviceId, Member>,
    /// The devices of each site, in every state.
    at_sites: HashMap<(SourceId, SiteId), BTreeSet<DeviceId>>,
    pub(super) credentials: HashMap<AccessToken, Credential>,
    pub(super) sources: BTreeMap<SourceId, SourceFacts>,
}

/// A credential: whose it is, and until when.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) device: DeviceId,
    pub(super) expires_at: Option<Timestamp>,
}

/// A device.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) row: FleetDevice,
    /// What it could not run, or left.
    pub(super) failed: BTreeSet<Digest>,
}

/// What a source declares and has released.
#[derive(Debug, Default)]
pub(super) struct SourceFacts {
    pub(super) name: Option<SourceName>,
    pub(super) sites: BTreeMap<SiteId, SiteFacts>,
    completed: BTreeMap<ChannelName, ReleaseNumber>,
    /// The only channel: that of slots that name none.
    only: Option<ChannelName>,
    images: BTreeMap<ReleaseNumber, BTreeMap<VariantName, Image>>,
    /// What a restored backup had: a device may have something newer.
    below_floor: BTreeSet<Digest>,
}

/// What a site declares.
#[derive(Debug)]
pub(super) struct SiteFacts {
    pub(super) name: SiteName,
    pub(super) slots: BTreeMap<SlotId, SlotFacts>,
}

/// What a slot declares.
#[derive(Debug, Clone)]
pub(super) struct SlotFacts {
    pub(super) variant: Option<VariantName>,
    pub(super) channel: Option<ChannelName>,
    /// Whether the default branch declares it now.
    pub(super) is_declared: bool,
    pub(super) labels: edgewright_model::spec::Labels,
}

impl SourceFacts {
    /// Reads what offers of a source need. `pins`: the releases that its devices are pinned to.
    pub(super) async fn load(
        store: &Store,
        source: &SourceRow,
        pins: &BTreeSet<ReleaseNumber>,
    ) -> Result<Self, StoreError> {
        let mut facts = Self { name: Some(source.name.clone()), ..Self::default() };
        for site in store.sites(source.id).await? {
            let slot_facts = |slot: &SlotRow| SlotFacts {
                variant: slot.variant.clone(),
                channel: slot.channel.clone(),
                is_declared: slot.removed_at.is_none() && site.removed_at.is_none(),
                labels: slot.labels_at(&site),
            };
            let slots = site.slots.iter().map(|slot| (slot.id.clone(), slot_facts(slot))).collect();
            facts.sites.insert(site.id, SiteFacts { name: site.name, slots });
        }
        let (mut wanted, mut floor) = (pins.clone(), ReleaseNumber(0));
        let channels = store.channels(source.id).await?;
        facts.only = only(&channels).cloned();
        for channel in channels {
            floor = floor.max(channel.floor);
            if let Some(release) = channel.completed {
                wanted.insert(release);
                facts.completed.insert(channel.name, release);
            }
        }
        for number in wanted {
            let entries = store.entries(source.id, number).await?.into_iter();
            let image = |repository, digest| Image { repository, digest };
            let images = entries.map(|entry| (entry.variant, image(entry.repository, entry.digest)));
            facts.images.insert(number, images.collect());
        }
        if floor > ReleaseNumber(0) {
            facts.below_floor = store.digests_until(source.id, floor).await?;
        }
        Ok(facts)
    }

    /// What the slot of a device declares, or declared last.
    pub(super) fn slot(&self, row: &FleetDevice) -> Option<&SlotFacts> {
        self.sites.get(&row.site)?.slots.get(&row.slot)
    }

    /// The channel that a slot follows.
    pub(super) fn channel<'a>(&'a self, slot: &'a SlotFacts) -> Option<&'a ChannelName> {
        slot.channel.as_ref().or(self.only.as_ref())
    }

    fn image(&self, release: ReleaseNumber, variant: Option<&VariantName>) -> Option<&Image> {
        self.images.get(&release)?.get(variant?)
    }
}

impl Memory {
    /// Takes a device's row over.
    pub(super) fn put(&mut self, row: FleetDevice) {
        let place = |row: &FleetDevice| (row.source, row.site.clone());
        let (before, after) = (self.devices.get(&row.id).map(|member| place(&member.row)), place(&row));
        if before.as_ref() != Some(&after) {
            if let Some(there) = before.and_then(|before| self.at_sites.get_mut(&before)) {
                there.remove(&row.id);
            }
            self.at_sites.entry(after).or_default().insert(row.id.clone());
        }
        match self.devices.entry(row.id.clone()) {
            Entry::Occupied(mut member) => member.get_mut().row = row,
            Entry::Vacant(new) => {
                new.insert(Member { row, failed: BTreeSet::new() });
            }
        }
    }

    /// The device that has a slot for itself.
    pub(super) fn in_slot(&self, source: SourceId, site: &SiteId, slot: &SlotId) -> Option<&DeviceId> {
        let there = self.at_sites.get(&(source, site.clone()))?.iter();
        let mut rows = there.filter_map(|id| self.devices.get(id)).map(|member| &member.row);
        rows.find(|row| row.slot == *slot && row.state.is_in_slot()).map(|row| &row.id)
    }

    /// The names of a source and of one of its sites.
    pub(super) fn whereabouts(&self, source: SourceId, site: &SiteId) -> Whereabouts {
        let Some(facts) = self.sources.get(&source) else { return Whereabouts::default() };
        Whereabouts { source: facts.name.clone(), site: facts.sites.get(site).map(|site| site.name.clone()) }
    }

    /// The holder of a credential that is valid now.
    pub(super) fn holder(&self, token: &AccessToken, now: Timestamp) -> Option<&DeviceId> {
        let found = self.credentials.get(token)?;
        let is_in_slot = self.devices.get(&found.device).is_some_and(|member| member.row.state.is_in_slot());
        (is_in_slot && found.expires_at.is_none_or(|end| end > now)).then_some(&found.device)
    }

    /// What a device is answered with now; none if there is no such device.
    pub(super) fn offer(&self, id: &DeviceId, rollouts: &dyn RolloutPort, now: Timestamp) -> Option<Offer> {
        let member = self.devices.get(id)?;
        let row = &member.row;
        let source = self.sources.get(&row.source);
        let slot = source.and_then(|source| source.slot(row));
        // The slot of an orphan is not declared any more: the device keeps what it has.
        let slot = slot.filter(|slot| slot.is_declared);
        let variant = slot.and_then(|slot| slot.variant.as_ref());
        let completed = source.zip(slot).and_then(|(source, slot)| {
            let release = source.completed.get(source.channel(slot)?)?;
            source.image(*release, variant)
        });
        let pin = row.pin.as_ref().map(|pin| source.and_then(|source| source.image(pin.release, variant)));
        let (turn, reason) = match rollouts.answer(id, now) {
            Some(RolloutAnswer { repository, digest, is_new, is_first, reason }) => {
                (Some((Image { repository, digest }, is_new && is_first)), Some(reason))
            }
            None => (None, None),
        };
        let below = |image: &Image| {
            row.is_unsure && source.is_some_and(|source| source.below_floor.contains(&image.digest))
        };
        let decided = offer(&Facts {
            is_member: row.state.is_member(),
            is_held: matches!(row.state, DeviceState::Held { .. }),
            pin,
            rollout: turn.as_ref().map(|(image, is_first)| Turn { image, is_first: *is_first }),
            completed,
            confirmed: row.confirmed.as_ref(),
            delivered: row.delivered.as_ref(),
            is_quarantined: &|image| rollouts.is_quarantined(row.source, &image.digest),
            has_failed: &|image| member.failed.contains(&image.digest),
            is_below_floor: &below,
        });
        let (image, why, is_first) = (decided.image.cloned(), decided.why, decided.is_first);
        Some(Offer { image, why, rollout: reason, is_first })
    }

    /// Whether the slot of a device is no longer declared.
    pub(super) fn is_orphan(&self, row: &FleetDevice) -> bool {
        let source = self.sources.get(&row.source);
        let slot = source.and_then(|source| source.slot(row));
        !slot.is_some_and(|slot| slot.is_declared)
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::role::{Grant, Permission};

    use super::*;

    #[test]
    fn a_slot_is_held_by_the_device_that_was_put_there_last() {
        let (site, slot): (SiteId, SlotId) = ("s-a".parse().unwrap(), "press-1".parse().unwrap());
        let row = |id: &str, source, state| FleetDevice {
            id: id.parse().unwrap(),
            source: SourceId(source),
            site: site.clone(),
            slot: slot.clone(),
            state,
            pin: None,
            serial: None,
            enrolled_at: Timestamp::UNIX_EPOCH,
            seen_at: None,
            delivered: None,
            confirmed: None,
            is_unsure: false,
            clone: None,
        };
        let mut memory = Memory::default();
        let holder =
            |memory: &Memory, source| memory.in_slot(SourceId(source), &site, &slot).map(ToString::to_string);
        memory.put(row("one", 1, DeviceState::Active));
        assert_eq!(memory.in_slot(SourceId(1), &site, &"press-2".parse().unwrap()), None);
        assert_eq!(memory.in_slot(SourceId(1), &"s-b".parse().unwrap(), &slot), None);
        assert_eq!([1, 2].map(|source| holder(&memory, source)), [Some("one".to_owned()), None]);
        // Replaced.
        memory.put(row("one", 1, DeviceState::Retired { reason: String::new() }));
        assert_eq!(holder(&memory, 1), None);
        memory.put(row("two", 1, DeviceState::Waiting));
        assert_eq!(holder(&memory, 1).as_deref(), Some("two"));
        // Its source was adopted by another row.
        memory.put(row("two", 2, DeviceState::Waiting));
        assert_eq!([1, 2].map(|source| holder(&memory, source)), [None, Some("two".to_owned())]);
    }

    #[test]
    fn grants_for_a_source_and_a_site_cover_its_devices() {
        let slot = SlotFacts {
            variant: None,
            channel: Some("stable".parse().unwrap()),
            is_declared: true,
            labels: BTreeMap::new(),
        };
        let site: SiteId = "s-a".parse().unwrap();
        let slots = [("press-1".parse().unwrap(), slot)].into();
        let sites = [(site.clone(), SiteFacts { name: "plant-a".parse().unwrap(), slots })].into();
        let facts = SourceFacts { name: Some("plants".parse().unwrap()), sites, ..SourceFacts::default() };
        let memory = Memory { sources: [(SourceId(1), facts)].into(), ..Memory::default() };
        let here = memory.whereabouts(SourceId(1), &site);
        let elsewhere = memory.whereabouts(SourceId(1), &"s-b".parse().unwrap());
        let unknown = memory.whereabouts(SourceId(2), &site);
        for (grant, expected) in [
            ("operator", [true, true, true]),
            ("operator:source=plants", [true, true, false]),
            ("operator:source=plants,site=plant-a", [true, false, false]),
            ("operator:site=plant-b", [false, false, false]),
            ("operator:source=tools", [false, false, false]),
            ("operator:channel=stable", [false, false, false]),
        ] {
            let grant: Grant = grant.parse().unwrap();
            let places = [&here, &elsewhere, &unknown];
            let permitted = places.map(|place| grant.permits(Permission::Operate, &place.scope()));
            assert_eq!(permitted, expected, "{grant}");
        }
    }
}
