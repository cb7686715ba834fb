//! Admission to one machine: a fair queue for its slots, then a check of the disk.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::{Disk, Floor, Ledger, Need, Room, forecast, room};
use crate::executor::{Admission, Capacity, Demand, Permit};

/// How long a job without room waits before it asks again. Jobs take minutes.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The resources of a machine for jobs.
#[derive(Debug, Clone)]
pub struct AdmissionSettings {
    /// How many trusted jobs run at the same time.
    pub slots: NonZeroUsize,
    /// How many untrusted jobs run beside them.
    pub untrusted_slots: NonZeroUsize,
    /// A folder on the disk that jobs fill.
    pub folder: PathBuf,
    /// The space that stays free on that disk.
    pub floor: Floor,
}

/// Admits jobs to one machine. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Inner>);

/// Slots of an executor: trusted jobs take them first come, first served; untrusted ones have slots of their
/// own, which their sources take in turn. Clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    all: NonZeroUsize,
    trusted: Arc<Semaphore>,
    untrusted: Arc<Turns>,
}

impl Slots {
    /// Slots for this many trusted jobs, and for this many untrusted ones beside them.
    pub fn new(trusted: NonZeroUsize, untrusted: NonZeroUsize) -> Self {
        let semaphore = Arc::new(Semaphore::new(trusted.get()));
        Self { all: trusted, trusted: semaphore, untrusted: Arc::new(Turns::new(untrusted)) }
    }

    /// Waits for a free slot; it is free again when the result is dropped.
    pub async fn take(&self, demand: &Demand) -> OwnedSemaphorePermit {
        match demand.untrusted {
            None => slot(&self.trusted).await,
            Some(source) => self.untrusted.slot(source).await,
        }
    }

    /// How many trusted jobs hold a slot, and how many could.
    pub fn capacity(&self) -> Capacity {
        capacity(self.all, &self.trusted)
    }
}

#[derive(Debug)]
struct Inner {
    settings: AdmissionSettings,
    slots: Slots,
    ledger: Mutex<Ledger>,
}

impl Gate {
    pub(crate) fn new(settings: AdmissionSettings) -> Self {
        let slots = Slots::new(settings.slots, settings.untrusted_slots);
        Self(Arc::new(Inner { settings, slots, ledger: Mutex::default() }))
    }

    /// Waits for a slot, then checks the disk.
    pub(crate) async fn admit(&self, demand: &Demand) -> Admission {
        let slot = self.0.slots.take(demand).await;
        let needed = Need { bytes: forecast(demand), trusted: demand.untrusted.is_none() };
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
        self.0.slots.capacity()
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

/// Slots that sources take in turn: only one job of each source waits in the queue, so that a source with
/// many jobs delays another by one.
#[derive(Debug)]
pub(crate) struct Turns {
    slots: Arc<Semaphore>,
    /// The place in the queue of each source that ever asked.
    places: Mutex<BTreeMap<u64, Arc<Semaphore>>>,
}

impl Turns {
    pub(crate) fn new(slots: NonZeroUsize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots.get())), places: Mutex::default() }
    }

    /// The next slot that is a source's turn.
    pub(crate) async fn slot(&self, source: u64) -> OwnedSemaphorePermit {
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry(source).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let _place = slot(&place).await;
        slot(&self.slots).await
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
        let untrusted_slots = NonZeroUsize::MIN;
        let folder = std::env::temp_dir();
        Gate::new(AdmissionSettings { slots, untrusted_slots, folder, floor: Floor::Bytes(floor) })
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
        let gate = Gate::new(AdmissionSettings {
            slots,
            untrusted_slots: slots,
            folder,
            floor: Floor::Bytes(u64::MAX),
        });
        assert!(matches!(gate.admit(&image()).await, Admission::Now(_)));
    }

    fn untrusted(source: u64) -> Demand {
        Demand { untrusted: Some(source), ..image() }
    }

    #[tokio::test]
    async fn untrusted_jobs_take_no_slot_of_trusted_ones() {
        let gate = gate(0);
        let mut held = Vec::new();
        let Admission::Now(first) = gate.admit(&untrusted(1)).await else { panic!("a slot is free") };
        held.push(first);
        let other = untrusted(1);
        let waiting = gate.admit(&other);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        for _ in 0..2 {
            let Admission::Now(permit) = gate.admit(&image()).await else { panic!("trusted jobs start") };
            held.push(permit);
        }
        assert_eq!(gate.capacity(), Capacity { slots: 2, in_use: 2 });
        held.remove(0);
        assert!(matches!(waiting.await, Admission::Now(_)));
    }

    #[tokio::test]
    async fn sources_take_untrusted_slots_in_turn() {
        let gate = gate(0);
        let (flooding, calm) = (untrusted(1), untrusted(2));
        let Admission::Now(first) = gate.admit(&flooding).await else { panic!("a slot is free") };
        let flood: Vec<_> = (0..300).map(|_| gate.admit(&flooding)).collect();
        let mut flood: Vec<_> = flood.into_iter().map(Box::pin).collect();
        for waiting in &mut flood {
            assert!(futures::poll!(waiting).is_pending());
        }
        let other = gate.admit(&calm);
        tokio::pin!(other);
        assert!(futures::poll!(&mut other).is_pending());
        drop(first);
        // One job of the flood is before the other source's, and 299 are behind it.
        let Admission::Now(second) = flood.remove(0).await else { panic!("it is its turn") };
        drop(second);
        assert!(matches!(other.await, Admission::Now(_)));
    }
}
