//! Which devices follow a channel, what each has, and what it would get.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use edgewright_model::names::{ChannelName, DeviceId, SiteId, SlotId, VariantName};
use edgewright_model::run::ReleaseNumber;
use edgewright_model::spec::{Labels, RolloutSpec};
use edgewright_rollout::policy::Policy;
use edgewright_store::Store;
use edgewright_store::channels::{ChannelRow, only};
use edgewright_store::fleet::{DeviceState, FleetDevice, Image};
use edgewright_store::inventory::SlotRow;
use edgewright_store::releases::EntryRow;
use edgewright_store::rollouts::{MemberImage, MemberPart, MemberRow};
use edgewright_store::sources::{SourceId, SourceRow};

use crate::ControlError;

/// A device is late after this multiple of the longest time that it took so far.
const PATIENCE_FACTOR: u32 = 3;
/// The shortest time after which a device is late.
const SHORTEST_PATIENCE: Duration = Duration::from_hours(1);

/// What a source has, as loaded.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) row: SourceRow,
    pub(super) channels: Vec<ChannelRow>,
    pub(super) policies: BTreeMap<edgewright_model::names::RolloutName, RolloutSpec>,
    /// The only channel: that of slots that name none.
    only: Option<ChannelName>,
    devices: Vec<FleetDevice>,
    slots: BTreeMap<SiteId, BTreeMap<SlotId, (SlotRow, Labels)>>,
    /// Places of devices in the list above, by the channel that they follow.
    followers: BTreeMap<ChannelName, Vec<usize>>,
    times: BTreeMap<DeviceId, Duration>,
    entries: BTreeMap<ReleaseNumber, BTreeMap<VariantName, EntryRow>>,
}

/// A device that follows a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follower<'a> {
    pub(super) device: &'a FleetDevice,
    labels: &'a Labels,
    pub(super) variant: &'a VariantName,
}

impl Follower<'_> {
    /// Whether it takes releases: a person neither holds nor pinned it.
    pub(super) fn is_free(&self) -> bool {
        self.device.state == DeviceState::Active && self.device.pin.is_none()
    }

    /// What it runs or was given last.
    fn own(&self) -> Option<MemberImage> {
        self.device.confirmed.as_ref().or(self.device.delivered.as_ref()).map(image)
    }
}

fn image(image: &Image) -> MemberImage {
    MemberImage { repository: image.repository.clone(), digest: image.digest.clone() }
}

impl Source {
    /// Reads what decides about rollouts of a source.
    pub(super) async fn load(store: &Store, id: SourceId) -> Result<Self, ControlError> {
        let channels = store.channels(id).await?;
        let devices = store.fleet(id).await?;
        let mut slots = BTreeMap::new();
        if !devices.is_empty() {
            for site in store.sites(id).await? {
                let there = site.slots.iter().filter(|slot| slot.removed_at.is_none());
                let there = there.map(|slot| (slot.id.clone(), (slot.clone(), slot.labels_at(&site))));
                slots.insert(site.id.clone(), there.collect());
            }
        }
        let mut entries = BTreeMap::new();
        let wanted: BTreeSet<ReleaseNumber> =
            channels.iter().flat_map(|channel| [channel.target, channel.completed]).flatten().collect();
        for release in wanted {
            let rows = store.entries(id, release).await?.into_iter();
            entries.insert(release, rows.map(|entry| (entry.variant.clone(), entry)).collect());
        }
        let mut source = Self {
            only: only(&channels).cloned(),
            row: store.source(id).await?,
            channels,
            policies: store.rollout_policies(id).await?,
            times: if devices.is_empty() { BTreeMap::new() } else { store.confirmation_times(id).await? },
            devices,
            slots,
            followers: BTreeMap::new(),
            entries,
        };
        let mut followers: BTreeMap<ChannelName, Vec<usize>> = BTreeMap::new();
        for (index, device) in source.devices.iter().enumerate() {
            if let Some((channel, _)) = source.following(device) {
                followers.entry(channel.clone()).or_default().push(index);
            }
        }
        source.followers = followers;
        Ok(source)
    }

    /// All devices, in whatever state.
    pub(super) fn devices(&self) -> &[FleetDevice] {
        &self.devices
    }

    /// The policy of a channel; none: its devices follow it at once.
    pub(super) fn policy(&self, channel: &ChannelRow) -> Option<RolloutSpec> {
        let name = channel.spec.rollout.as_ref()?;
        // The format checks that it is declared; without it, all devices are one stage.
        Some(self.policies.get(name).cloned().unwrap_or_default())
    }

    /// The channel that a slot follows.
    fn channel<'a>(&'a self, slot: &'a SlotRow) -> Option<&'a ChannelName> {
        slot.channel.as_ref().or(self.only.as_ref())
    }

    /// The image of a variant in a release.
    pub(super) fn image(&self, release: Option<ReleaseNumber>, variant: &VariantName) -> Option<MemberImage> {
        let entry = self.entries.get(&release?)?.get(variant)?;
        Some(MemberImage { repository: entry.repository.clone(), digest: entry.digest.clone() })
    }

    /// What a device has that no rollout has to change: the image of the channel's target.
    pub(super) fn settled(&self, channel: &ChannelRow, follower: Follower<'_>) -> Option<MemberImage> {
        let target = self.image(channel.target, follower.variant)?;
        follower.own().filter(|own| own.digest == target.digest).map(|_| target)
    }

    /// The channel that a device follows, whatever a person decided about the device.
    pub(super) fn following<'a>(
        &'a self,
        device: &'a FleetDevice,
    ) -> Option<(&'a ChannelName, Follower<'a>)> {
        let (slot, labels) = self.slot(device).filter(|_| device.state.is_member())?;
        let variant = slot.variant.as_ref()?;
        Some((self.channel(slot)?, Follower { device, labels, variant }))
    }

    /// The devices that follow a channel.
    pub(super) fn followers<'a>(&'a self, channel: &ChannelName) -> impl Iterator<Item = Follower<'a>> {
        let places = self.followers.get(channel).map(Vec::as_slice).unwrap_or_default();
        let devices = places.iter().filter_map(|place| self.devices.get(*place));
        devices.filter_map(|device| self.following(device)).map(|(_, follower)| follower)
    }

    fn slot(&self, device: &FleetDevice) -> Option<&(SlotRow, Labels)> {
        self.slots.get(&device.site)?.get(&device.slot)
    }

    /// A device of a source, in whatever state.
    pub(super) fn device(&self, id: &DeviceId) -> Option<&FleetDevice> {
        let place = self.devices.binary_search_by(|device| device.id.cmp(id)).ok()?;
        self.devices.get(place)
    }

    /// The devices of a rollout of a channel's target: those whose digest would change, then the others of
    /// their redundancy groups. `known` is what the channel's rollout before knows of them.
    pub(super) fn members(
        &self,
        channel: &ChannelRow,
        spec: &RolloutSpec,
        mut known: HashMap<&DeviceId, MemberImage>,
    ) -> Vec<MemberRow> {
        let (mut members, mut others) = (Vec::new(), Vec::new());
        for follower in self.followers(&channel.name) {
            match self.member(channel, spec, follower, known.remove(&follower.device.id)) {
                Some(member) => members.push(member),
                None => others.extend(self.watched(channel, spec, follower)),
            }
        }
        let groups: BTreeSet<_> = members.iter().filter_map(grouped).collect();
        others.retain(|other| grouped(other).is_some_and(|group| groups.contains(&group)));
        members.extend(others);
        number(&mut members, 0);
        members
    }

    /// Devices that come to a rollout after its beginning: those of them whose digest it would change.
    /// `from` is the first number that is free.
    pub(super) fn joining(
        &self,
        channel: &ChannelRow,
        spec: &RolloutSpec,
        newcomers: Vec<Follower<'_>>,
        from: usize,
    ) -> Vec<MemberRow> {
        let member = |follower| self.member(channel, spec, follower, None);
        let mut members: Vec<MemberRow> = newcomers.into_iter().filter_map(member).collect();
        for member in &mut members {
            member.part = MemberPart::Joined;
        }
        number(&mut members, from);
        members
    }

    /// A device whose digest the channel's target would change.
    fn member(
        &self,
        channel: &ChannelRow,
        spec: &RolloutSpec,
        follower: Follower<'_>,
        known: Option<MemberImage>,
    ) -> Option<MemberRow> {
        if !follower.is_free() {
            return None;
        }
        let after = self.image(channel.target, follower.variant)?;
        // The rollout before knows more than what was confirmed: a device may run its release already.
        let has_it = |image: &MemberImage| image.digest == after.digest;
        if follower.own().as_ref().is_some_and(has_it) && known.as_ref().is_none_or(has_it) {
            return None;
        }
        // A device that has nothing yet gets what the channel has completed.
        if known.is_none() && follower.own().is_none() && channel.target == channel.completed {
            return None;
        }
        let before =
            known.or_else(|| follower.own()).or_else(|| self.image(channel.completed, follower.variant));
        Some(self.row_of(spec, follower, MemberPart::First, (after, before)))
    }

    /// A device that counts in its redundancy group only.
    fn watched(&self, channel: &ChannelRow, spec: &RolloutSpec, follower: Follower<'_>) -> Option<MemberRow> {
        let own = follower.own().or_else(|| self.image(channel.target, follower.variant))?;
        let row = self.row_of(spec, follower, MemberPart::Watched, (own.clone(), Some(own)));
        row.group.is_some().then_some(row)
    }

    fn row_of(
        &self,
        spec: &RolloutSpec,
        follower: Follower<'_>,
        part: MemberPart,
        (after, before): (MemberImage, Option<MemberImage>),
    ) -> MemberRow {
        let longest = Policy::of(spec, &jiff::tz::TimeZone::UTC).offline_after;
        let patience = self
            .times
            .get(&follower.device.id)
            .map_or(longest, |time| (*time * PATIENCE_FACTOR).max(SHORTEST_PATIENCE).min(longest));
        MemberRow {
            member: 0,
            device: follower.device.id.clone(),
            part,
            site: follower.device.site.clone(),
            variant: follower.variant.clone(),
            labels: follower.labels.clone(),
            group: spec.group.as_ref().and_then(|key| follower.labels.get(key)).map(ToString::to_string),
            patience,
            seen_at: follower.device.seen_at.or(Some(follower.device.enrolled_at)),
            after,
            before,
        }
    }

    /// Whether a member still follows the channel with the same variant, and takes releases. None: it is no
    /// device of the source any more.
    pub(super) fn is_still(&self, channel: &ChannelName, member: &MemberRow) -> Option<bool> {
        let device = self.device(&member.device).filter(|device| device.state.is_member())?;
        let slot = self.slot(device);
        Some(slot.is_some_and(|(slot, labels)| {
            let is_there =
                self.channel(slot) == Some(channel) && slot.variant.as_ref() == Some(&member.variant);
            is_there && Follower { device, labels, variant: &member.variant }.is_free()
        }))
    }
}

fn grouped(member: &MemberRow) -> Option<(SiteId, String)> {
    Some((member.site.clone(), member.group.clone()?))
}

fn number(members: &mut [MemberRow], from: usize) {
    for (index, member) in (from..).zip(members) {
        member.member = u32::try_from(index).unwrap_or(u32::MAX);
    }
}
