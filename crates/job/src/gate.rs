//! Admission to one machine: a fair queue for its slots, then a check of the disk.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::{Disk, Floor, Ledger, Room, forecast, room};
use crate::executor::{Admission, Capacity, Demand, Permit};

/// How long a job without room waits before it asks again. Jobs take minutes.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The resources of a machine for jobs.
#[derive(Debug, Clone)]
pub struct AdmissionSettings {
    /// How many jobs run at the same time.
    pub slots: NonZeroUsize,
    /// A folder on the disk that jobs fill.
    pub folder: PathBuf,
    /// The space that stays free on that disk.
    pub floor: Floor,
}

/// Admits jobs to one machine. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: AdmissionSettings,
    slots: Arc<Semaphore>,
    ledger: Mutex<Ledger>,
}

impl Gate {
    pub(crate) fn new(settings: AdmissionSettings) -> Self {
        let slots = Arc::new(Semaphore::new(settings.slots.get()));
        Self(Arc::new(Inner { settings, slots, ledger: Mutex::default() }))
    }

    /// Waits for a slot in order of arrival, then checks the disk.
    pub(crate) async fn admit(&self, demand: &Demand) -> Admission {
        let slot = slot(&self.0.slots).await;
        let needed = forecast(demand);
        let mut ledger = self.0.ledger();
        // If the free space cannot be read, the job starts.
        if let Some(disk) = self.0.look(&mut ledger) {
            match room(disk, self.0.settings.floor, needed, &ledger) {
                Room::Enough => {}
                Room::Busy(reason) => return Admission::Later { reason, retry_after: RETRY_AFTER },
                Room::Full(failure) => return Admission::Never(failure),
            }
        }
        let job = ledger.enter(needed);
        Admission::Now(Permit::new(Share { gate: Arc::clone(&self.0), job, _slot: slot }))
    }

    pub(crate) fn capacity(&self) -> Capacity {
        capacity(self.0.settings.slots, &self.0.slots)
    }
}

impl Inner {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, ledger: &mut Ledger) -> Option<Disk> {
        let disk = Disk::of(&self.settings.folder)?;
        ledger.observe(disk.free);
        Some(disk)
    }
}

/// A slot and a part of the disk.
struct Share {
    gate: Arc<Inner>,
    job: u64,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut ledger = self.gate.ledger();
        // What the job wrote until now must not count for the others.
        self.gate.look(&mut ledger);
        ledger.leave(self.job);
    }
}

/// The next free slot, first come, first served.
pub(crate) async fn slot(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(slots).acquire_owned().await.expect("this semaphore is never closed")
}

pub(crate) fn capacity(all: NonZeroUsize, slots: &Semaphore) -> Capacity {
    Capacity { slots: all.get(), in_use: all.get().saturating_sub(slots.available_permits()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::StepKind;

    fn gate(floor: u64) -> Gate {
        let slots = NonZeroUsize::new(2).unwrap();
        Gate::new(AdmissionSettings { slots, folder: std::env::temp_dir(), floor: Floor::Bytes(floor) })
    }

    fn image() -> Demand {
        Demand { steps: vec![StepKind::Files], ..Demand::default() }
    }

    #[tokio::test]
    async fn a_full_disk_is_a_failure_and_a_busy_one_is_not() {
        let gate = gate(u64::MAX);
        let Admission::Never(failure) = gate.admit(&image()).await else { panic!("the disk stays full") };
        assert!(
            failure.message.starts_with("cannot start the job: the disk of the data folder has"),
            "{failure:?}"
        );
        // A lock writes nothing.
        let Admission::Now(lock) = gate.admit(&Demand::default()).await else { panic!("locks start") };
        let Admission::Later { reason, .. } = gate.admit(&image()).await else { panic!("a job runs") };
        assert!(reason.contains("free, running jobs need about 0 MiB more"), "{reason}");
        // A rejected job holds nothing.
        assert_eq!(gate.capacity(), Capacity { slots: 2, in_use: 1 });
        drop(lock);
        assert_eq!(gate.capacity(), Capacity { slots: 2, in_use: 0 });
        assert!(matches!(gate.admit(&image()).await, Admission::Never(_)));
    }

    #[tokio::test]
    async fn a_disk_of_unknown_size_admits_every_job() {
        let slots = NonZeroUsize::MIN;
        let folder = "/no/such/folder".into();
        let gate = Gate::new(AdmissionSettings { slots, folder, floor: Floor::Bytes(u64::MAX) });
        assert!(matches!(gate.admit(&image()).await, Admission::Now(_)));
    }
}
