//! Rollouts, as devices see them.

use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_store::sources::SourceId;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::Rollouts;
use crate::ControlError;
use crate::devices::{Evidence, RolloutAnswer, RolloutPort};

impl RolloutPort for Rollouts {
    fn answer(&self, device: &DeviceId, now: Timestamp) -> Option<RolloutAnswer> {
        self.answer(device, now)
    }

    fn first_offer<'a>(
        &'a self,
        device: &'a DeviceId,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<bool, ControlError>> {
        self.first_offer(device, now).boxed()
    }

    fn note<'a>(
        &'a self,
        device: &'a DeviceId,
        digest: &'a Digest,
        evidence: Evidence,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<(), ControlError>> {
        self.note(device, digest, evidence, at).boxed()
    }

    fn is_quarantined(&self, source: SourceId, digest: &Digest) -> bool {
        self.is_quarantined(source, digest)
    }

    fn device_changed(&self) {
        self.wake().wake("a device changed");
    }
}
