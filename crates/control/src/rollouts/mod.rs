//! Rollouts: releases on their way to the devices of channels. The decisions are those of crate `rollout`;
//! here its engines are made from the rows of their histories, asked, and written to.
//!
//! ```text
//!  poll ──▶ answer (memory) ── first of a release? ──▶ first_offer (a row) ──▶ the answer is given
//!  report ─▶ note ─▶ engine ─▶ moves ─┬─▶ rows, in one transaction
//!  order ──▶ order ─▶ engine ─▶ moves ┘
//!  reconciler: channel targets, inventory, devices, and what time alone changes
//! ```
//!
//! An event gets its number, and is applied in memory, under one lock; then its row is written. If the row
//! cannot be written, memory is made again from the rows. A device gets no answer before its row is there.

mod approve;
mod fleet;
mod keep;
mod members;
mod memory;
mod orders;
mod port;
mod reconcile;
mod show;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_process::Clock;
use edgewright_rollout::state::Event;
pub use edgewright_rollout::state::Rung;
use edgewright_store::Store;
use edgewright_store::sources::SourceId;
use jiff::Timestamp;

use self::memory::{Memory, Place};
pub use self::orders::{RolloutChoice, RolloutOrder};
pub use self::show::{DeviceState, RolloutState, StageState};
use crate::ControlError;
pub use crate::devices::{Evidence, RolloutAnswer};
use crate::reconcile::Wake;
use crate::releases::tags::ChannelTags;

/// Rolls releases out. Clones share it.
#[derive(Debug, Clone)]
pub struct Rollouts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    tags: ChannelTags,
    /// Of the reconciler that moves channels.
    channels: Wake,
    wake: Wake,
    /// Read by everything that writes rows, written by what makes memory again from the rows.
    gate: tokio::sync::RwLock<()>,
    memory: Mutex<Memory>,
}

impl Rollouts {
    /// None in memory yet: control reads them when it is put together.
    pub fn new(store: Store, clock: Clock, tags: ChannelTags) -> Self {
        let (channels, wake) = (Wake::default(), Wake::default());
        let (gate, memory) = (tokio::sync::RwLock::default(), Mutex::default());
        Self(Arc::new(Inner { store, clock, tags, channels, wake, gate, memory }))
    }

    /// Wakes the reconciler.
    pub(crate) fn wake(&self) -> &Wake {
        &self.0.wake
    }

    /// Wakes the reconciler that moves channels.
    pub(crate) fn channels_wake(&self) -> &Wake {
        &self.0.channels
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the rollout of a device's channel has for it; from memory. None if it is in no rollout.
    pub fn answer(&self, device: &DeviceId, now: Timestamp) -> Option<RolloutAnswer> {
        let mut memory = self.memory();
        let memory = &mut *memory;
        match memory.devices.get(device)? {
            Place::Plain { image, reason } => Some(RolloutAnswer {
                repository: image.repository.clone(),
                digest: image.digest.clone(),
                is_new: true,
                is_first: false,
                reason: reason.clone(),
            }),
            Place::Member { rollout, member } => {
                memory.rollouts.get_mut(rollout)?.answer(*member, now, &memory.quarantine)
            }
        }
    }

    /// Whether a digest is quarantined in a source: no device is to be answered with it, unless it is all
    /// that the device ever had. What devices of a rollback still run is theirs until it is their turn:
    /// both machines of a redundancy group would go back at once otherwise.
    pub fn is_quarantined(&self, source: SourceId, digest: &Digest) -> bool {
        let memory = self.memory();
        memory.quarantine.contains(&(source, digest.clone()))
            && !memory.rollouts.values().any(|active| active.is_leaving(source, digest))
    }

    /// Records that a device is answered with a release for the first time, before it is. False if it is no
    /// longer its turn.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn first_offer(&self, device: &DeviceId, now: Timestamp) -> Result<bool, ControlError> {
        let gate = self.0.gate.read().await;
        let batch = {
            let mut memory = self.memory();
            let memory = &mut *memory;
            let Some(Place::Member { rollout, member }) = memory.devices.get(device) else {
                return Ok(false);
            };
            let Some(active) = memory.rollouts.get_mut(rollout) else { return Ok(false) };
            match active.answer(*member, now, &memory.quarantine) {
                None => return Ok(false),
                Some(answer) if !answer.is_new => return Ok(false),
                Some(answer) if !answer.is_first => return Ok(true),
                // Its row is being written for another request of the same device.
                Some(_) if active.pending.contains(member) => None,
                Some(_) => {
                    active.pending.insert(*member);
                    let event = Event::Offered { device: *member, at: now };
                    Some((*member, active.step(vec![(event, None)], now)))
                }
            }
        };
        let Some((member, batch)) = batch else {
            // All rows that are being written now are there afterwards.
            drop(gate);
            drop(self.0.gate.write().await);
            return Ok(self.answer(device, now).is_some_and(|answer| answer.is_new && !answer.is_first));
        };
        let number = batch.rollout;
        let written = self.write(batch).await;
        if written.is_ok()
            && let Some(active) = self.memory().rollouts.get_mut(&number)
        {
            active.pending.remove(&member);
        }
        written.map(|()| true)
    }

    /// Records evidence about a device and a digest, and moves what follows from it. Evidence about other
    /// digests than the release that the device was offered, and what is known already, changes nothing.
    ///
    /// # Errors
    /// The database cannot be written; then nothing was recorded.
    pub async fn note(
        &self,
        device: &DeviceId,
        digest: &Digest,
        evidence: Evidence,
        at: Timestamp,
    ) -> Result<(), ControlError> {
        let _gate = self.0.gate.read().await;
        let batch = {
            let mut memory = self.memory();
            let memory = &mut *memory;
            let Some(Place::Member { rollout, member }) = memory.devices.get(device) else { return Ok(()) };
            let Some(active) = memory.rollouts.get_mut(rollout) else { return Ok(()) };
            let Some(event) = active.news(*member, digest, evidence, at) else { return Ok(()) };
            active.step(vec![(event, None)], self.0.clock.now())
        };
        self.write(batch).await
    }
}
