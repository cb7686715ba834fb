//! The reconciler: rollouts follow the targets of channels, the inventory and the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edgewright_model::names::DeviceId;
use edgewright_model::run::{ReleaseNumber, RolloutNumber};
use edgewright_rollout::gate::Outcomes;
use edgewright_rollout::state::{Event, Order, Status};
use edgewright_store::channels::{ChannelMove, ChannelRow};
use edgewright_store::rollouts::{MemberPart, NewRollout, RolloutKind, RolloutRow};
use edgewright_store::sources::SourceId;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::json;

use super::Rollouts;
use super::members::{Follower, Source};
use super::memory::{Active, Memory, Place};
use crate::ControlError;
use crate::reconcile::{Outcome, Reconciler};

/// How often rollouts are compared with channels, the inventory and the fleet, at least.
const PERIOD: Duration = Duration::from_mins(1);

impl Rollouts {
    /// Makes memory from the rows, if it is not good.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) async fn load(&self) -> Result<(), ControlError> {
        if self.memory().is_good {
            return Ok(());
        }
        // Nothing is written meanwhile.
        let _gate = self.0.gate.write().await;
        let mut memory = Memory { is_good: true, ..Memory::default() };
        for source in self.0.store.sources().await? {
            let channels = self.0.store.channels(source.id).await?;
            let fleet = self.0.store.fleet(source.id).await?.into_iter();
            let seen: BTreeMap<DeviceId, Timestamp> =
                fleet.filter_map(|device| Some((device.id, device.seen_at?))).collect();
            let floor = |row: &RolloutRow| {
                channels.iter().find(|channel| channel.name == row.channel).map(|channel| channel.floor)
            };
            for row in self.0.store.newest_rollouts(source.id).await? {
                // It came from a backup: devices may be further.
                if floor(&row).is_none_or(|floor| row.release <= floor) {
                    continue;
                }
                let mut active = self.read(row, &source).await?;
                active.see(|device| seen.get(device).copied());
                memory.add(active);
            }
        }
        memory.quarantine = self.quarantined().await?;
        *self.memory() = memory;
        Ok(())
    }

    pub(super) async fn read(
        &self,
        row: RolloutRow,
        source: &edgewright_store::sources::SourceRow,
    ) -> Result<Active, ControlError> {
        let members = self.0.store.rollout_members(row.number).await?;
        let history = self.0.store.rollout_events(row.number).await?;
        Active::new(row, source.name.clone(), members, &history, self.0.clock.now())
    }

    /// Reads the quarantine again.
    pub(crate) async fn read_quarantine(&self) -> Result<(), ControlError> {
        let quarantine = self.quarantined().await?;
        self.memory().quarantine = quarantine;
        Ok(())
    }

    async fn quarantined(&self) -> Result<BTreeSet<(SourceId, edgewright_model::Digest)>, ControlError> {
        let rows = self.0.store.quarantine().await?;
        Ok(rows.into_iter().map(|row| (row.source, row.digest)).collect())
    }

    /// Brings all rollouts to what follows from channels, inventory, fleet and time. Gives how many began,
    /// and when time alone changes something next.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub(crate) async fn advance(&self) -> Result<(usize, Option<Timestamp>), ControlError> {
        self.load().await?;
        let mut began = 0;
        for source in self.0.store.sources().await? {
            let source = Source::load(&self.0.store, source.id).await?;
            for channel in &source.channels {
                began += usize::from(self.follow(&source, channel).await?);
            }
            self.places(&source);
        }
        // After rollbacks began: what their devices run is not taken from them at once.
        self.read_quarantine().await?;
        let numbers: Vec<RolloutNumber> = self.memory().rollouts.keys().copied().collect();
        for number in numbers {
            self.record(number, Vec::new()).await?;
        }
        let now = self.0.clock.now();
        let next = self.memory().rollouts.values().filter_map(|active| active.engine.wake(now)).min();
        Ok((began, next))
    }

    /// Applies events to a rollout, and writes them with what follows.
    pub(super) async fn record(
        &self,
        number: RolloutNumber,
        events: Vec<(Event, Option<String>)>,
    ) -> Result<(), ControlError> {
        let _gate = self.0.gate.read().await;
        let batch = {
            let mut memory = self.memory();
            let Some(active) = memory.rollouts.get_mut(&number) else { return Ok(()) };
            active.step(events, self.0.clock.now())
        };
        self.write(batch).await
    }

    /// One channel: whether a rollout began.
    async fn follow(&self, source: &Source, channel: &ChannelRow) -> Result<bool, ControlError> {
        let last = self.memory().newest(source.row.id, channel);
        let Some(target) = channel.target.filter(|target| *target > channel.floor) else { return Ok(false) };
        let policy = source.policy(channel).filter(|_| channel.removed_at.is_none());
        let is_there = last.as_ref().is_some_and(|last| last.release == target);
        if let Some(last) = last.filter(|_| !(is_there && policy.is_some())) {
            let is_taken_back =
                self.0.store.taken_back_by(source.row.id, target).await? == Some(last.release);
            let order = if is_taken_back { Order::RollBack } else { Order::Supersede };
            if !last.is_final || (is_taken_back && !last.is_rolled_back) {
                let event = Event::Ordered { order, at: self.0.clock.now() };
                self.record(last.number, vec![(event, None)]).await?;
            }
        }
        let Some(spec) = policy else { return Ok(false) };
        if is_there {
            let newest = self.memory().newest(source.row.id, channel);
            if let Some(last) = newest {
                self.keep_up(source, channel, last.number).await?;
            }
            return Ok(false);
        }
        self.begin(source, channel, target, spec).await
    }

    /// Begins the rollout of a channel's target; without devices whose digest would change, the channel
    /// has it at once.
    async fn begin(
        &self,
        source: &Source,
        channel: &ChannelRow,
        target: ReleaseNumber,
        mut spec: edgewright_model::spec::RolloutSpec,
    ) -> Result<bool, ControlError> {
        let taken_back = self.0.store.taken_back_by(source.row.id, target).await?;
        if taken_back.is_some() {
            // These digests have passed their rollout: all devices are one stage.
            spec.stages.clear();
        }
        let members = {
            let memory = self.memory();
            let last = memory.newest(source.row.id, channel);
            let last = last.and_then(|last| memory.rollouts.get(&last.number));
            source.members(channel, &spec, last)
        };
        if !members.iter().any(|member| member.part == MemberPart::First) {
            return self.complete(source, channel, target).await.map(|()| false);
        }
        let new = NewRollout {
            source: source.row.id,
            channel: channel.name.clone(),
            release: target,
            before: channel.completed,
            kind: if taken_back.is_some() { RolloutKind::Rollback } else { RolloutKind::Release },
            policy: channel.spec.rollout.clone(),
            spec,
            baseline: json!(self.baseline(source.row.id).await?),
            reason: match taken_back {
                Some(bad) => format!("takes back release {bad}"),
                None => format!("channel {} takes release {target}", channel.name),
            },
            members,
        };
        let now = self.0.clock.now();
        let Some(number) = self.0.store.start_rollout(&new, now).await? else {
            self.wake().wake("the channel changed");
            return Ok(false);
        };
        let Some(row) = self.0.store.rollout(number).await? else { return Ok(false) };
        let active = self.read(row, &source.row).await?;
        tracing::info!(
            source.name = %source.row.name,
            channel.name = %channel.name,
            rollout.number = number.0,
            release.number = target.0,
            devices = active.members.len(),
            "rollout began"
        );
        self.memory().add(active);
        if taken_back.is_some() {
            let order = Event::Ordered { order: Order::Urgent, at: now };
            self.record(number, vec![(order, None)]).await?;
        }
        Ok(true)
    }

    /// Moves the tag of a channel whose target changes no device.
    async fn complete(
        &self,
        source: &Source,
        channel: &ChannelRow,
        target: ReleaseNumber,
    ) -> Result<(), ControlError> {
        if channel.completed == Some(target) {
            return Ok(());
        }
        let decided = ChannelMove {
            channel: channel.name.clone(),
            generation: channel.generation,
            release: target,
            reason: "it changes no enrolled device".to_owned(),
            is_staged: false,
        };
        let moved = self.0.store.move_channels(source.row.id, &[decided], self.0.clock.now()).await?;
        self.0.tags.refresh(&self.0.store).await?;
        if !moved.is_empty() {
            self.0.channels.wake("a channel moved");
        }
        Ok(())
    }

    async fn baseline(&self, source: SourceId) -> Result<Outcomes, ControlError> {
        let mut sum = Outcomes::default();
        for outcomes in self.0.store.completed_outcomes(source).await? {
            let Outcomes { good, failed, late } = serde_json::from_value(outcomes)?;
            sum.good = sum.good.saturating_add(good);
            sum.failed = sum.failed.saturating_add(failed);
            sum.late = sum.late.saturating_add(late);
        }
        Ok(sum)
    }

    /// Devices that came, and devices that left.
    async fn keep_up(
        &self,
        source: &Source,
        channel: &ChannelRow,
        number: RolloutNumber,
    ) -> Result<(), ControlError> {
        let now = self.0.clock.now();
        let (left, joining) = {
            let mut memory = self.memory();
            let Some(active) = memory.rollouts.get_mut(&number) else { return Ok(()) };
            let is_open = matches!(
                active.engine.status(),
                Status::Active | Status::Paused | Status::Stopped(_) | Status::Complete
            );
            if !is_open {
                return Ok(());
            }
            active.see(|device| source.device(device)?.seen_at);
            let joining = source.joining(channel, active);
            let mut left = left(source, channel, active, now);
            // A device that comes back has a new number, and counts once.
            left.extend(joining.iter().filter_map(|member| {
                let device = active.member_of(&member.device)?;
                Some((Event::Left { device, is_gone: true, at: now }, None))
            }));
            (left, joining)
        };
        if !joining.is_empty() {
            let _gate = self.0.gate.read().await;
            self.0.store.add_rollout_members(number, &joining).await?;
            if let Some(active) = self.memory().rollouts.get_mut(&number) {
                active.join(joining);
            }
        }
        if left.is_empty() { Ok(()) } else { self.record(number, left).await }
    }

    /// Where the answer of each device of a source comes from.
    fn places(&self, source: &Source) {
        let mut memory = self.memory();
        let memory = &mut *memory;
        memory.devices.retain(|device, _| source.device(device).is_none());
        for channel in &source.channels {
            let policy = source.policy(channel);
            for follower in source.followers(&channel.name).filter(Follower::is_free) {
                let place = if policy.is_some() {
                    let place = memory.member_place(source.row.id, channel, &follower.device.id);
                    place.or_else(|| settled(source, channel, follower))
                } else {
                    let image = source.image(channel.completed, follower.variant);
                    let reason = format!("channel {} has no rollout policy", channel.name);
                    image.map(|image| Place::Plain { image, reason })
                };
                if let Some(place) = place {
                    memory.devices.insert(follower.device.id.clone(), place);
                }
            }
        }
    }
}

/// The place of a device that a rollout does not change.
fn settled(source: &Source, channel: &ChannelRow, follower: Follower<'_>) -> Option<Place> {
    let image = source.settled(channel, follower)?;
    Some(Place::Plain { image, reason: "the device has this release already".to_owned() })
}

/// Members that do not get the release any more.
fn left(
    source: &Source,
    channel: &ChannelRow,
    active: &Active,
    at: Timestamp,
) -> Vec<(Event, Option<String>)> {
    let mut events = Vec::new();
    for member in active.members.iter().filter(|member| active.engine.is_member(member.member)) {
        match source.is_still(&channel.name, member) {
            Some(true) => {}
            still => {
                let event = Event::Left { device: member.member, is_gone: still.is_none(), at };
                events.push((event, None));
            }
        }
    }
    events
}

/// A channel's newest rollout, in short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newest {
    pub(super) number: RolloutNumber,
    release: ReleaseNumber,
    is_final: bool,
    is_rolled_back: bool,
}

impl Memory {
    /// The newest rollout of a channel.
    pub(super) fn newest(&self, source: SourceId, channel: &ChannelRow) -> Option<Newest> {
        let is_of = |active: &&Active| active.row.source == source && active.row.channel == channel.name;
        self.rollouts.values().rev().find(is_of).map(|active| Newest {
            number: active.row.number,
            release: active.row.release,
            is_final: active.engine.status().is_final(),
            is_rolled_back: *active.engine.status() == Status::RolledBack,
        })
    }

    /// Takes a rollout in the place of the one before of its channel.
    pub(super) fn add(&mut self, active: Active) {
        let is_other =
            |other: &Active| other.row.source != active.row.source || other.row.channel != active.row.channel;
        self.rollouts.retain(|_, other| is_other(other));
        let rollout = active.row.number;
        for member in &active.members {
            let place = Place::Member { rollout, member: member.member };
            self.devices.insert(member.device.clone(), place);
        }
        self.rollouts.insert(rollout, active);
    }

    fn member_place(&self, source: SourceId, channel: &ChannelRow, device: &DeviceId) -> Option<Place> {
        let newest = self.newest(source, channel)?;
        let active = self.rollouts.get(&newest.number)?;
        let member = *active.index.get(device)?;
        active.engine.is_member(member).then_some(Place::Member { rollout: newest.number, member })
    }
}

impl Reconciler for Rollouts {
    fn name(&self) -> String {
        "rollouts".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let (began, next) = self.advance().await?;
            let outcome = Outcome::counted(began, "began", "rollout");
            let wait = next.map(|at| at.duration_since(self.0.clock.now()).try_into().unwrap_or_default());
            Ok(wait.map_or(outcome.clone(), |wait| outcome.then(wait)))
        }
        .boxed()
    }
}
