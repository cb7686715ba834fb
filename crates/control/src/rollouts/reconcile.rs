//! The reconciler: rollouts follow the targets of channels, the inventory and the fleet.

use std::collections::{BTreeSet, HashMap};
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
use super::members::Source;
use super::memory::{Active, Memory};
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
            let seen: Vec<(DeviceId, Timestamp)> =
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
                for (device, at) in &seen {
                    active.see(device, *at);
                }
                memory.seat(active.row.number, active.seats());
                memory.rollouts.insert(active.row.number, active);
            }
        }
        memory.quarantine = self.quarantined().await?;
        let former = std::mem::replace(&mut *self.memory(), memory);
        drop(former);
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
            self.place(&source).await;
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
        let last = self.memory().newest(source.row.id, channel);
        let known = match last {
            Some(last) => self.known(source, channel, last.number).await,
            None => HashMap::new(),
        };
        let members = source.members(channel, &spec, known);
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
        self.replace(last.map(|last| last.number), active).await;
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
