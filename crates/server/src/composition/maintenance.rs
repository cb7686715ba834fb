//! The registry's maintenance as a reconciler.

use std::time::Duration;

use edgewright_control::ControlError;
use edgewright_control::hosting::HostingError;
use edgewright_control::reconcile::{Outcome, Reconciler};
use edgewright_process::Clock;
use edgewright_registry::Registry;
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// How often the registry removes abandoned uploads and unreferenced blobs.
const MAINTENANCE_INTERVAL: Duration = Duration::from_hours(1);

/// Removes what the registry no longer needs.
pub(super) struct RegistryMaintenance {
    pub(super) registry: Registry,
    pub(super) clock: Clock,
}

impl Reconciler for RegistryMaintenance {
    fn name(&self) -> String {
        "registry maintenance".to_owned()
    }

    fn period(&self) -> Duration {
        MAINTENANCE_INTERVAL
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let maintained = self.registry.maintenance(self.clock.now()).await;
            Ok(match maintained.map_err(HostingError::maintenance)?.expired_uploads {
                0 => Outcome::idle(),
                expired => Outcome::done(format!("removed {expired} abandoned uploads")),
            })
        }
        .boxed()
    }
}
