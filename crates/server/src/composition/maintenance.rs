//! The registry's maintenance as a reconciler.

use std::time::Duration;

use edgewright_control::ControlError;
use edgewright_control::hosting::HostingError;
use edgewright_control::reconcile::{Outcome, Reconciler};
use edgewright_process::Clock;
use edgewright_registry::Registry;
use edgewright_store::Store;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::reserve::Reserve;

/// How often the registry removes abandoned uploads and unreferenced blobs.
const MAINTENANCE_INTERVAL: Duration = Duration::from_hours(1);

/// Removes what the registry no longer needs.
pub(super) struct RegistryMaintenance {
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) reserve: Reserve,
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
            let reserve = self.reserve.clone();
            // Without a reserve everything works, too, until the disk is full.
            drop(tokio::task::spawn_blocking(move || reserve.set_aside()).await);
            let now = self.store.confirmed_time(self.clock.now()).await?;
            let maintained = self.registry.maintenance(now).await;
            Ok(match maintained.map_err(HostingError::maintenance)?.expired_uploads {
                0 => Outcome::idle(),
                expired => Outcome::done(format!("removed {expired} abandoned uploads")),
            })
        }
        .boxed()
    }
}
