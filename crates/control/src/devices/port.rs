//! What devices need from rollouts: the answer to a device, leave to give a first answer, and a place for
//! evidence. Rollouts implement it.

use std::fmt;

use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_model::reference::RepoName;
use edgewright_rollout::state::Rung;
use edgewright_store::sources::SourceId;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::ControlError;

/// What a rollout answers a device with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutAnswer {
    pub repository: RepoName,
    /// The index.
    pub digest: Digest,
    /// Whether it is the rollout's release, and not what the device had before.
    pub is_new: bool,
    /// Whether [`RolloutPort::first_offer`] is to be asked before the answer is given.
    pub is_first: bool,
    /// Why, in words.
    pub reason: String,
}

/// What is known about a device and a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The device came this far with it.
    Reached(Rung),
    /// The device could not run it, or left it.
    Failed,
}

/// Rollouts, as devices see them.
pub trait RolloutPort: fmt::Debug + Send + Sync + 'static {
    /// What a device is answered with now, from memory. None: it is in no rollout.
    fn answer(&self, device: &DeviceId, now: Timestamp) -> Option<RolloutAnswer>;

    /// Records the first offer of a rollout to a device before it is answered. False: it is not the device's
    /// turn any more.
    fn first_offer<'a>(
        &'a self,
        device: &'a DeviceId,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<bool, ControlError>>;

    /// Takes evidence. Repeating it changes nothing; if it could not be written, it is to be repeated.
    fn note<'a>(
        &'a self,
        device: &'a DeviceId,
        digest: &'a Digest,
        evidence: Evidence,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Whether no device of a source is to be answered with this digest any more.
    fn is_quarantined(&self, source: SourceId, digest: &Digest) -> bool;

    /// A person changed a device: whether it takes releases may have changed with it.
    fn device_changed(&self);
}
