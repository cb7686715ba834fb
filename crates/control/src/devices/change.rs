//! What operators decide about devices.

use edgewright_model::names::DeviceId;
use edgewright_model::run::ReleaseNumber;
use edgewright_store::fleet::{DeviceChange, DevicePin, DeviceState, FleetDevice};
use serde_json::json;

use super::Devices;
use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;

/// An operator's change of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A device that waits joins the fleet.
    Approve,
    /// The device keeps what it has.
    Hold { reason: String },
    /// The hold ends. A device that is unsure after a restore is sure again.
    Release,
    /// The device gets the image of one release.
    Pin { release: ReleaseNumber, reason: String },
    /// The pin ends.
    Unpin,
    /// Its credentials are invalid from now on.
    Revoke { reason: String },
    /// It leaves the fleet, and its images are no longer kept.
    Retire { reason: String },
}

impl Change {
    const fn operation(&self) -> Operation {
        match self {
            Self::Approve => Operation::ApproveDevice,
            Self::Hold { .. } => Operation::HoldDevice,
            Self::Release => Operation::ReleaseDevice,
            Self::Pin { .. } => Operation::PinDevice,
            Self::Unpin => Operation::UnpinDevice,
            Self::Revoke { .. } => Operation::RevokeDevice,
            Self::Retire { .. } => Operation::RetireDevice,
        }
    }

    /// What is to be written; none if the device's state does not permit the change.
    fn of(self, from: &DeviceState) -> Option<DeviceChange> {
        use DeviceState as State;
        let next = match (self, from) {
            (Self::Approve, State::Waiting) | (Self::Release, State::Held { .. } | State::Active) => {
                State::Active
            }
            (Self::Hold { reason }, State::Active | State::Held { .. }) => State::Held { reason },
            (Self::Revoke { reason }, State::Waiting | State::Active | State::Held { .. }) => {
                State::Revoked { reason }
            }
            (
                Self::Retire { reason },
                State::Waiting | State::Active | State::Held { .. } | State::Revoked { .. },
            ) => State::Retired { reason },
            (Self::Pin { release, reason }, State::Active | State::Held { .. }) => {
                return Some(DeviceChange::Pin(Some(DevicePin { release, reason })));
            }
            (Self::Unpin, State::Active | State::Held { .. }) => return Some(DeviceChange::Pin(None)),
            _ => return None,
        };
        Some(DeviceChange::State(next))
    }
}

impl Devices {
    /// Changes a device. It holds for the next request of the device, and from then on.
    ///
    /// # Errors
    /// The caller may not; there is no such device, or its state does not permit the change; a pin names a
    /// release that is not there.
    pub async fn change(
        &self,
        context: &OperationContext,
        device: &DeviceId,
        change: Change,
    ) -> Result<FleetDevice, ControlError> {
        let operation = change.operation();
        let before = self.row(device)?;
        let source = self.0.store.source(before.source).await?;
        context.permit(operation, self.whereabouts(device).scope())?;
        if let Change::Pin { release, .. } = &change
            && self.0.store.entries(before.source, *release).await?.is_empty()
        {
            return Err(ControlError::NoRelease { source_name: source.name, release: *release });
        }
        let impossible = || ControlError::DeviceState { device: device.clone(), state: before.state.name() };
        let write = change.of(&before.state).ok_or_else(impossible)?;
        let after = match &write {
            DeviceChange::State(state) => json!({ "state": state.name(), "reason": state.reason() }),
            DeviceChange::Pin(pin) => json!({
                "pin": pin.as_ref().map(|pin| pin.release), "reason": pin.as_ref().map(|pin| &pin.reason),
            }),
        };
        let was = json!({
            "state": before.state.name(), "reason": before.state.reason(),
            "pin": before.pin.as_ref().map(|pin| pin.release),
        });
        let entry = context.entry(operation, format!("devices/{device}"), Some(was), Some(after));
        let now = self.0.clock.now();
        self.0.store.change_device(device, &before.state, &write, &entry, now).await?;
        let row = self.reread(device).await?;
        if matches!(write, DeviceChange::Pin(_)) {
            // The pinned release may be one that nothing else holds.
            self.refresh().await?;
        }
        self.0.rollouts.device_changed();
        tracing::info!(device.id = %device, operation = operation.name(), "device changed");
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_permits_some_changes() {
        let reason = String::new;
        let states = [
            DeviceState::Waiting,
            DeviceState::Active,
            DeviceState::Held { reason: reason() },
            DeviceState::Revoked { reason: reason() },
            DeviceState::Retired { reason: reason() },
        ];
        // Which of the states above permit it.
        let cases = [
            (Change::Approve, [true, false, false, false, false]),
            (Change::Hold { reason: reason() }, [false, true, true, false, false]),
            (Change::Release, [false, true, true, false, false]),
            (Change::Pin { release: ReleaseNumber(1), reason: reason() }, [false, true, true, false, false]),
            (Change::Unpin, [false, true, true, false, false]),
            (Change::Revoke { reason: reason() }, [true, true, true, false, false]),
            (Change::Retire { reason: reason() }, [true, true, true, true, false]),
        ];
        for (change, permitted) in cases {
            for (state, permitted) in states.iter().zip(permitted) {
                assert_eq!(change.clone().of(state).is_some(), permitted, "{change:?} {state:?}");
            }
        }
    }
}
