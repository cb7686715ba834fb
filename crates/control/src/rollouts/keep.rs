//! Rollouts follow their devices: those that come, those that leave, and where each one's answer comes from.
//!
//! Devices are looked at in portions: those that ask meanwhile wait for one portion, not for the fleet.

use std::collections::{BTreeMap, HashMap};

use edgewright_model::names::{ChannelName, DeviceId};
use edgewright_model::run::RolloutNumber;
use edgewright_rollout::state::{Event, Status};
use edgewright_store::channels::ChannelRow;
use edgewright_store::fleet::FleetDevice;
use edgewright_store::rollouts::{MemberImage, MemberRow};

use super::Rollouts;
use super::members::Source;
use super::memory::{Active, Memory, Place};
use crate::ControlError;

/// How many devices are looked at at once: about a millisecond.
const PORTION: usize = 1_000;

impl Rollouts {
    /// Does something with memory for each item, in portions; others use memory in between.
    async fn in_portions<T>(&self, items: Vec<T>, mut work: impl FnMut(&mut Memory, Vec<T>)) {
        let mut items = items.into_iter();
        loop {
            let portion: Vec<T> = items.by_ref().take(PORTION).collect();
            if portion.is_empty() {
                return;
            }
            work(&mut self.memory(), portion);
            tokio::task::yield_now().await;
        }
    }

    /// What a rollout knows of the devices of its channel: more than what they confirmed, because a device
    /// may run its release already.
    pub(super) async fn known<'a>(
        &self,
        source: &'a Source,
        channel: &ChannelRow,
        number: RolloutNumber,
    ) -> HashMap<&'a DeviceId, MemberImage> {
        let mut known = HashMap::new();
        let devices = source.followers(&channel.name).map(|follower| &follower.device.id).collect();
        self.in_portions(devices, |memory, portion| {
            let Some(active) = memory.rollouts.get(&number) else { return };
            let image = |device| active.current(active.member_of(device)?).cloned();
            known.extend(portion.into_iter().filter_map(|device| Some((device, image(device)?))));
        })
        .await;
        known
    }

    /// Takes a rollout that began in the place of its channel's former one.
    pub(super) async fn replace(&self, former: Option<RolloutNumber>, active: Active) {
        let (number, seats) = (active.row.number, active.seats());
        self.memory().rollouts.insert(number, active);
        // Until its turn here, a device is answered by the former one.
        self.in_portions(seats, |memory, portion| memory.seat(number, portion)).await;
        let former = former.and_then(|former| self.memory().rollouts.remove(&former));
        drop(former);
    }

    /// Devices that came to a channel's newest rollout, and devices that left it.
    pub(super) async fn keep_up(
        &self,
        source: &Source,
        channel: &ChannelRow,
        number: RolloutNumber,
    ) -> Result<(), ControlError> {
        let is_open = self.memory().rollouts.get(&number).is_some_and(Active::is_open);
        if !is_open {
            return Ok(());
        }
        self.see(source, channel, number).await;
        let joining = self.joining(source, channel, number).await;
        let mut left = self.left(source, channel, number).await;
        // A device that comes back has a new number, and counts once.
        let now = self.0.clock.now();
        if let Some(active) = self.memory().rollouts.get(&number) {
            left.extend(joining.iter().filter_map(|member| {
                let device = active.member_of(&member.device)?;
                Some(Event::Left { device, is_gone: true, at: now })
            }));
        }
        if !joining.is_empty() {
            let _gate = self.0.gate.read().await;
            self.0.store.add_rollout_members(number, &joining).await?;
            self.in_portions(joining, |memory, portion| {
                if let Some(active) = memory.rollouts.get_mut(&number) {
                    active.join(portion);
                }
            })
            .await;
        }
        if left.is_empty() {
            return Ok(());
        }
        self.record(number, left.into_iter().map(|event| (event, None)).collect()).await
    }

    /// When the devices of a channel were heard of.
    async fn see(&self, source: &Source, channel: &ChannelRow, number: RolloutNumber) {
        let seen = source.followers(&channel.name);
        let seen =
            seen.filter_map(|follower| Some((&follower.device.id, follower.device.seen_at?))).collect();
        self.in_portions(seen, |memory, portion| {
            let Some(active) = memory.rollouts.get_mut(&number) else { return };
            for (device, at) in portion {
                active.see(device, at);
            }
        })
        .await;
    }

    /// Devices that follow a rollout's channel now and are no members of it.
    async fn joining(&self, source: &Source, channel: &ChannelRow, number: RolloutNumber) -> Vec<MemberRow> {
        let mut newcomers = Vec::new();
        self.in_portions(source.followers(&channel.name).collect(), |memory, portion| {
            let Some(active) = memory.rollouts.get(&number) else { return };
            let is_new =
                |device| active.member_of(device).is_none_or(|member| !active.engine.is_member(member));
            newcomers.extend(portion.into_iter().filter(|follower| is_new(&follower.device.id)));
        })
        .await;
        let rollout = self.memory().rollouts.get(&number).map(|it| (it.row.spec.clone(), it.members.len()));
        rollout.map_or_else(Vec::new, |(spec, from)| source.joining(channel, &spec, newcomers, from))
    }

    /// Members that do not get the release any more.
    async fn left(&self, source: &Source, channel: &ChannelRow, number: RolloutNumber) -> Vec<Event> {
        let at = self.0.clock.now();
        let count = self.memory().rollouts.get(&number).map_or(0, |active| active.members.len());
        let mut left = Vec::new();
        self.in_portions((0..count).collect(), |memory, portion| {
            let Some(active) = memory.rollouts.get(&number) else { return };
            let members = portion.into_iter().filter_map(|place| active.members.get(place));
            for member in members.filter(|member| active.engine.is_member(member.member)) {
                let still = source.is_still(&channel.name, member);
                if still != Some(true) {
                    left.push(Event::Left { device: member.member, is_gone: still.is_none(), at });
                }
            }
        })
        .await;
        left
    }

    /// Notes where the answer of each device of a source comes from.
    pub(super) async fn place(&self, source: &Source) {
        let channels: Channels<'_> = {
            let memory = self.memory();
            let newest = |channel| Some(memory.newest(source.row.id, channel)?.number);
            source.channels.iter().map(|channel| (&channel.name, (channel, newest(channel)))).collect()
        };
        // No device is without its place meanwhile: it would be answered with what its channel holds.
        self.in_portions(source.devices().iter().collect(), |memory, portion| {
            for device in portion {
                match memory.place(source, &channels, device) {
                    Some(place) => memory.devices.insert(device.id.clone(), place),
                    None => memory.devices.remove(&device.id),
                };
            }
        })
        .await;
    }
}

/// The channels of a source, each with its newest rollout.
type Channels<'a> = BTreeMap<&'a ChannelName, (&'a ChannelRow, Option<RolloutNumber>)>;

impl Active {
    /// Whether devices may still come and leave.
    const fn is_open(&self) -> bool {
        use Status::{Active, Complete, Paused, Stopped};
        matches!(self.engine.status(), Active | Paused | Stopped(_) | Complete)
    }
}

impl Memory {
    /// Answers devices from a rollout.
    pub(super) fn seat(&mut self, rollout: RolloutNumber, seats: Vec<(DeviceId, u32)>) {
        let places = seats.into_iter().map(|(device, member)| (device, Place::Member { rollout, member }));
        self.devices.extend(places);
    }

    /// Where a device's answer comes from; none: from its pin, or from what its channel holds.
    fn place(&self, source: &Source, channels: &Channels<'_>, device: &FleetDevice) -> Option<Place> {
        let (channel, follower) = source.following(device).filter(|(_, follower)| follower.is_free())?;
        let (channel, newest) = channels.get(channel)?;
        if channel.spec.rollout.is_none() {
            let image = source.image(channel.completed, follower.variant)?;
            let reason = format!("channel {} has no rollout policy", channel.name);
            return Some(Place::Plain { image, reason });
        }
        let in_rollout = newest.and_then(|rollout| {
            let active = self.rollouts.get(&rollout)?;
            let member = active.member_of(&device.id).filter(|member| active.engine.is_member(*member))?;
            Some(Place::Member { rollout, member })
        });
        // A rollout does not change it.
        in_rollout.or_else(|| {
            let image = source.settled(channel, follower)?;
            Some(Place::Plain { image, reason: "the device has this release already".to_owned() })
        })
    }
}
