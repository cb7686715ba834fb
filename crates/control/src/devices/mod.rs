//! Devices: enrolment, credentials, what each is answered with, and what is known about the images on them.
//!
//! ```text
//!  poll ─▶ credential ─▶ offer (memory) ─┬─ as before ─▶ answer
//!                                        └─ new ─▶ row ─▶ answer
//!  blobs, beacons, reports ─▶ notes (memory) ─▶ reconciler `devices` ─▶ rows, rollouts
//! ```
//!
//! A poll whose answer is the one before costs no write and no read. A row is written before the first answer
//! of a new digest: after a crash the server never forgets what a device may have.

mod change;
mod clones;
mod downloads;
mod enrol;
mod memory;
mod notes;
mod offers;
mod port;
mod reconcile;
mod resolver;
mod show;
mod turns;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use edgewright_model::names::{DeviceId, SiteName, SourceName};
use edgewright_model::role::Scope;
use edgewright_process::Clock;
use edgewright_registry::AccessToken;
use edgewright_store::Store;
use edgewright_store::fleet::FleetDevice;
use edgewright_store::fleet_evidence::DeviceFact;

use crate::ControlError;
use crate::reconcile::Wake;
pub use change::Change;
pub use clones::Sighting;
pub use enrol::{EnrolmentRequest, Exchange, TokenRequest};
use memory::{Credential, Memory, SourceFacts};
use notes::Notes;
pub use port::{Evidence, RolloutAnswer, RolloutPort};
pub use reconcile::DeviceEvent;
pub(crate) use reconcile::DeviceKeeper;
pub use resolver::{Beacon, Names, VIRTUAL, Virtual};
pub use show::DeviceStatus;
use turns::Turns;

/// Where a device is, as far as it is known: for the scopes of users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    source: Option<SourceName>,
    site: Option<SiteName>,
}

impl Whereabouts {
    /// As the scope of an operation. Its image and channel can change at any time, so grants that are limited
    /// to one do not cover it.
    pub fn scope(&self) -> Scope<'_> {
        let site = self.site.as_ref().map(SiteName::as_str);
        Scope { source: self.source.as_ref(), site, ..Scope::default() }
    }
}

/// Devices. Clones share them.
#[derive(Debug, Clone)]
pub struct Devices(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    rollouts: Arc<dyn RolloutPort>,
    memory: RwLock<Memory>,
    notes: Notes,
    turns: Turns,
    /// The state of sources that memory was made from.
    read_at: tokio::sync::Mutex<String>,
    wake: Wake,
}

impl Devices {
    /// None in memory yet: [`Devices::reload`] reads them.
    pub fn new(store: Store, clock: Clock, rollouts: Arc<dyn RolloutPort>) -> Self {
        let (memory, notes, turns) = (RwLock::default(), Notes::default(), Turns::default());
        let (read_at, wake) = (tokio::sync::Mutex::default(), Wake::default());
        Self(Arc::new(Inner { store, clock, rollouts, memory, notes, turns, read_at, wake }))
    }

    /// Where a device is; nothing is known of one that is not enrolled.
    pub fn whereabouts(&self, device: &DeviceId) -> Whereabouts {
        let memory = self.read();
        let row = memory.devices.get(device).map(|member| &member.row);
        row.map(|row| memory.whereabouts(row.source, &row.site)).unwrap_or_default()
    }

    /// Reads all devices, credentials and what offers are made from.
    ///
    /// # Errors
    /// The database cannot be read; what is in memory stays.
    pub async fn reload(&self) -> Result<(), ControlError> {
        let store = &self.0.store;
        let mut read = Memory::default();
        for source in store.sources().await? {
            for row in store.fleet(source.id).await? {
                read.put(row);
            }
        }
        for (device, digest) in store.failed_images().await? {
            if let Some(member) = read.devices.get_mut(&device) {
                member.failed.insert(digest);
            }
        }
        let rows = store.device_credentials().await?;
        let credential = |device, expires_at| Credential { device, expires_at };
        read.credentials = rows
            .into_iter()
            .map(|row| (AccessToken::of_hash(row.hash), credential(row.device, row.expires_at)))
            .collect();
        {
            let mut memory = self.write();
            read.sources = std::mem::take(&mut memory.sources);
            *memory = read;
        }
        self.refresh().await
    }

    /// Reads again what sources declare and have released, if it changed.
    ///
    /// # Errors
    /// The database cannot be read; what is in memory stays.
    pub(crate) async fn refresh_if_changed(&self) -> Result<(), ControlError> {
        // Those that see the same change wait for the one that reads: what is read is large.
        let mut read_at = self.0.read_at.lock().await;
        let stamp = self.0.store.fleet_stamp().await?;
        if *read_at != stamp {
            self.read_sources().await?;
            *read_at = stamp;
        }
        Ok(())
    }

    /// Reads again what sources declare and have released.
    async fn refresh(&self) -> Result<(), ControlError> {
        let _reading = self.0.read_at.lock().await;
        self.read_sources().await
    }

    /// Who calls this holds [`Inner::read_at`].
    async fn read_sources(&self) -> Result<(), ControlError> {
        let mut sources = std::collections::BTreeMap::new();
        for source in self.0.store.sources().await? {
            let pins = {
                let memory = self.read();
                let members = memory.devices.values().filter(|member| member.row.source == source.id);
                members.filter_map(|member| Some(member.row.pin.as_ref()?.release)).collect()
            };
            sources.insert(source.id, SourceFacts::load(&self.0.store, &source, &pins).await?);
        }
        // A source that was adopted by another row took its devices with it.
        let moved: Vec<DeviceId> = {
            let memory = self.read();
            let members = memory.devices.values().map(|member| &member.row);
            members.filter(|row| !sources.contains_key(&row.source)).map(|row| row.id.clone()).collect()
        };
        // What was there before is large, too: it ends without the lock.
        let former = std::mem::replace(&mut self.write().sources, sources);
        drop(former);
        for device in moved {
            self.reread(&device).await?;
        }
        Ok(())
    }

    /// The device of a credential, if it is valid now.
    pub fn holder(&self, token: &AccessToken) -> Option<DeviceId> {
        self.read().holder(token, self.0.clock.now()).cloned()
    }

    /// Whether a device of this id is or was enrolled.
    pub fn is_enrolled(&self, device: &DeviceId) -> bool {
        self.read().devices.contains_key(device)
    }

    /// Wakes the reconciler.
    pub(crate) fn wake(&self) -> &Wake {
        &self.0.wake
    }

    /// What was noted about a device, as stored.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn facts(&self, device: &DeviceId) -> Result<Vec<DeviceFact>, ControlError> {
        Ok(self.0.store.device_facts(device).await?)
    }

    /// Takes over a device's row after it changed. Several at once end with the last one: each reads the row
    /// again after it was taken over.
    async fn reread(&self, device: &DeviceId) -> Result<FleetDevice, ControlError> {
        let read = async || {
            let row = self.0.store.fleet_device(device).await?;
            row.ok_or_else(|| ControlError::NoDevice { device: device.clone() })
        };
        let mut row = read().await?;
        loop {
            self.take_row(device, &row);
            let again = read().await?;
            if again == row {
                return Ok(row);
            }
            row = again;
        }
    }

    fn take_row(&self, device: &DeviceId, row: &FleetDevice) {
        let mut memory = self.write();
        if !row.state.is_in_slot() {
            memory.credentials.retain(|_, credential| credential.device != *device);
        }
        // What was noted since is newer than the row.
        let noted = memory.devices.get(device).and_then(|member| member.row.seen_at);
        memory.put(FleetDevice { seen_at: row.seen_at.max(noted), ..row.clone() });
    }

    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.0.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.0.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}
