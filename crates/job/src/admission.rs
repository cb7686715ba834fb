//! Whether a job may start: slots by processors and memory, and a forecast of the disk. A job that fills the
//! disk would stop everything else, too.
//!
//! The decision is pure ([`forecast`], [`Ledger`], [`room`]); [`crate::gate`] measures the machine.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use edgewright_model::outcome::{FailureKind, JobFailure, Phase};
use edgewright_model::spec::Lane;

use crate::executor::{Demand, StepKind};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// An image exists up to three times while it is built: unpacked or as a tar, compressed in the job's folder,
/// and in the registry. Unpacked, it is about two and a half times as large as compressed.
const COPIES: u64 = 4;
/// An image's size in the container storage of a lane, in halves of its compressed size: two and a half
/// times.
const UNPACKED_HALVES: u64 = 5;
/// The estimate of what a step adds, compressed, if there is no earlier build.
const BOOTSTRAP: u64 = 250 * MIB;
const CONTAINERFILE: u64 = 150 * MIB;
const FILES: u64 = 8 * MIB;
/// The default estimate of a job's memory.
const JOB_MEMORY: u64 = GIB;

/// The space that stays free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// 2 GiB, but on small disks 5 % of them.
    Default,
    /// This many bytes.
    Bytes(u64),
}

impl Floor {
    const fn of(self, total: u64) -> u64 {
        match self {
            Self::Default if total / 20 < 2 * GIB => total / 20,
            Self::Default => 2 * GIB,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

impl Disk {
    /// The file system that holds a folder; none if its size cannot be read.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Self { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }
}

/// The disk space that a job takes at its peak, in bytes.
pub(crate) fn forecast(demand: &Demand) -> u64 {
    build(demand).saturating_add(lanes(demand))
}

fn build(demand: &Demand) -> u64 {
    // `files` steps are streamed: nothing is unpacked, even for a large base.
    let only_files = demand.steps.iter().all(|step| *step == StepKind::Files);
    let size = match demand.image_bytes {
        Some(size) if !only_files => size,
        _ => guess(&demand.steps),
    };
    size.saturating_mul(COPIES)
}

/// Lanes run one after the other on the same unpacked image.
fn lanes(demand: &Demand) -> u64 {
    // The static lane reads layers as a stream, but bootc's own check runs in a container of the image.
    let unpacks = |lane: &Lane| *lane != Lane::External;
    if !demand.lanes.iter().any(unpacks) {
        return 0;
    }
    // Without a bootstrap step the image starts from a base, which is at least an operating system.
    let size = demand.image_bytes.unwrap_or_else(|| guess(&demand.steps).max(BOOTSTRAP));
    // The root file system of virtual machines is not that of containers.
    let copies = 1 + u64::from(demand.lanes.iter().any(|lane| lane.has_kernel()) && demand.lanes.len() > 1);
    // The disk of a device has two images, and is made from another two.
    let copies = copies + u64::from(demand.lanes.iter().any(|lane| lane.is_update())) * 4;
    size.saturating_mul(UNPACKED_HALVES * copies) / 2
}

fn guess(steps: &[StepKind]) -> u64 {
    let added = |step: &StepKind| match step {
        StepKind::Bootstrap => BOOTSTRAP,
        StepKind::Containerfile => CONTAINERFILE,
        StepKind::Files => FILES,
    };
    steps.iter().map(added).sum()
}

/// The space that a job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) bytes: u64,
    pub(crate) trusted: bool,
}

/// The space that admitted jobs have not written yet.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: u64,
    /// What each job may still write.
    jobs: BTreeMap<u64, Need>,
    /// The free space at the last measurement.
    free: Option<u64>,
}

impl Ledger {
    /// Attributes what was written since the last measurement to the jobs that started first, up to the
    /// forecast of each.
    pub(crate) fn observe(&mut self, free: u64) {
        let mut written = self.free.map_or(0, |before| before.saturating_sub(free));
        for left in self.jobs.values_mut() {
            let own = written.min(left.bytes);
            left.bytes -= own;
            written -= own;
        }
        self.free = Some(free);
    }

    /// Adds a job; the number is for [`Ledger::leave`].
    pub(crate) fn enter(&mut self, need: Need) -> u64 {
        self.next += 1;
        self.jobs.insert(self.next, need);
        self.next
    }

    /// Removes a job that has ended.
    pub(crate) fn leave(&mut self, job: u64) {
        self.jobs.remove(&job);
    }

    /// What a job has to leave for others: a trusted one does not wait for what untrusted ones may still
    /// write.
    fn outstanding(&self, trusted: bool) -> u64 {
        let counts = |left: &&Need| left.trusted || !trusted;
        self.jobs.values().filter(counts).fold(0, |sum, left| sum.saturating_add(left.bytes))
    }
}

/// Whether there is room for a job on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is.
    Enough,
    /// Not until a running job has ended.
    Busy(String),
    /// Not even without other jobs.
    Full(JobFailure),
}

/// Whether a job that needs so much may start beside the jobs of the ledger.
pub(crate) fn room(disk: Disk, floor: Floor, need: Need, ledger: &Ledger) -> Room {
    let needed = need.bytes;
    let (floor, outstanding) = (floor.of(disk.total), ledger.outstanding(need.trusted));
    let wanted = outstanding.saturating_add(needed).saturating_add(floor);
    // A job that writes next to nothing, such as a lock's, always starts.
    if needed == 0 || disk.free >= wanted {
        return Room::Enough;
    }
    let (free, job, floor) = (shown(disk.free), shown(needed), shown(floor));
    if !ledger.jobs.is_empty() {
        return Room::Busy(format!(
            "the disk of the data folder has {free} free, running jobs need about {} more, this job needs about {job}, and \
             {floor} stay free",
            shown(outstanding)
        ));
    }
    Room::Full(JobFailure {
        kind: FailureKind::Infrastructure,
        phase: Phase::Build,
        message: format!(
            "cannot start the job: the disk of the data folder has {free} free, the job needs about {job}, and {floor} must stay free"
        ),
        hint: Some(
            "free space on the disk or move the data folder; `[disk] floor_mib` sets what must stay free"
                .to_owned(),
        ),
        output: Vec::new(),
    })
}

/// How many jobs a machine can run at the same time: its cores, bounded by what its available memory (the
/// text of `/proc/meminfo`) holds at `memory_mib` each.
pub fn slots(cores: NonZeroUsize, meminfo: &str, memory_mib: Option<u32>) -> NonZeroUsize {
    let each = memory_mib.map_or(JOB_MEMORY, |mib| u64::from(mib) * MIB);
    match jobs_in_memory(meminfo, each) {
        // Even with less memory, one job at a time is tried.
        Some(jobs) => cores.min(NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN)),
        None => cores,
    }
}

/// How many jobs of a size fit in the available memory; none if the text does not contain it.
fn jobs_in_memory(meminfo: &str, bytes_per_job: u64) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    usize::try_from(kib.saturating_mul(1024) / bytes_per_job.max(1)).ok()
}

fn shown(bytes: u64) -> String {
    if bytes >= GIB {
        format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
    } else {
        format!("{} MiB", bytes / MIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(bytes: u64) -> Need {
        Need { bytes, trusted: true }
    }

    #[test]
    fn a_trusted_job_does_not_wait_for_the_disk_of_untrusted_ones() {
        let disk = Disk { free: 10 * GIB, total: 100 * GIB };
        let mut ledger = Ledger::default();
        ledger.enter(Need { bytes: 8 * GIB, trusted: false });
        let trusted = need(4 * GIB);
        assert_eq!(room(disk, Floor::Bytes(GIB), trusted, &ledger), Room::Enough);
        let other = Need { trusted: false, ..trusted };
        assert!(matches!(room(disk, Floor::Bytes(GIB), other, &ledger), Room::Busy(_)));
        // What untrusted jobs wrote comes back when they end: no failure.
        let low = Disk { free: 2 * GIB, ..disk };
        assert!(matches!(room(low, Floor::Bytes(GIB), trusted, &ledger), Room::Busy(_)));
    }

    #[test]
    fn the_forecast_counts_copies_of_the_build_and_the_image_that_lanes_unpack() {
        use StepKind::{Bootstrap, Containerfile, Files};
        type Case = (&'static [StepKind], &'static [Lane], Option<u64>, u64);
        let cases: &[Case] = &[
            // A lock.
            (&[], &[], None, 0),
            (&[Bootstrap], &[], None, 1000),
            (&[Bootstrap, Containerfile, Files], &[], None, 4 * 408),
            // The size of an earlier build is better than an estimate,
            (&[Bootstrap, Containerfile], &[], Some(100), 400),
            // except for files, which are added to an image that is not unpacked.
            (&[Files, Files], &[], Some(100), 64),
            // Lanes unpack the whole image, once.
            (&[Files], &[Lane::Static, Lane::Container], Some(100), 32 + 250),
            (&[Containerfile], &[Lane::Container], Some(100), 400 + 250),
            (&[Bootstrap, Containerfile], &[Lane::Container], None, 4 * 400 + 1000),
            // A base of unknown size is an operating system.
            (&[Files], &[Lane::Container], None, 32 + 625),
            // Only the lanes of an existing digest.
            (&[], &[Lane::Container], Some(100), 250),
            (&[], &[Lane::Static], None, 625),
            (&[], &[Lane::Vm], Some(100), 250),
            (&[], &[Lane::Container, Lane::Vm], Some(100), 500),
            // The verdict comes from another system.
            (&[], &[Lane::External], Some(100), 0),
        ];
        for (steps, lanes, mib, expected) in cases {
            let demand = Demand {
                steps: steps.to_vec(),
                lanes: lanes.to_vec(),
                image_bytes: mib.map(|mib| mib * MIB),
                untrusted: None,
            };
            assert_eq!(forecast(&demand), expected * MIB, "{demand:?}");
        }
    }

    #[test]
    fn a_job_starts_only_if_the_floor_stays_free() {
        let disk = |free, total| Disk { free, total };
        let cases = [
            (disk(10 * GIB, 100 * GIB), GIB, Floor::Default, true),
            (disk(3 * GIB - 1, 100 * GIB), GIB, Floor::Default, false),
            (disk(3 * GIB, 100 * GIB), GIB, Floor::Default, true),
            // 5 % of a small disk.
            (disk(GIB, 10 * GIB), GIB / 2, Floor::Default, true),
            (disk(GIB, 10 * GIB), GIB, Floor::Default, false),
            (disk(GIB, 10 * GIB), GIB, Floor::Bytes(0), true),
            // A job that writes nothing always starts.
            (disk(0, 10 * GIB), 0, Floor::Default, true),
        ];
        for (disk, needed, floor, starts) in cases {
            let found = room(disk, floor, need(needed), &Ledger::default());
            assert_eq!(found == Room::Enough, starts, "{disk:?} {needed} {floor:?}");
        }
        let Room::Full(failure) = room(disk(GIB, 100 * GIB), Floor::Default, need(GIB), &Ledger::default())
        else {
            panic!("the disk is full")
        };
        assert_eq!(failure.kind, FailureKind::Infrastructure);
        assert!(failure.message.contains("1.0 GiB free"), "{}", failure.message);
        assert!(Disk::of(Path::new("/")).unwrap().total > 0);
    }

    #[test]
    fn running_jobs_count_with_their_unwritten_bytes() {
        let mut ledger = Ledger::default();
        let find = |ledger: &Ledger, free| {
            room(Disk { free, total: 100 * GIB }, Floor::Bytes(GIB), need(2 * GIB), ledger)
        };
        ledger.observe(8 * GIB);
        let first = ledger.enter(need(4 * GIB));
        // 8 free, 4 are the first job's, 1 stays free.
        assert_eq!(find(&ledger, 8 * GIB), Room::Enough);
        let second = ledger.enter(need(2 * GIB));
        let Room::Busy(reason) = find(&ledger, 8 * GIB) else { panic!("the job must wait") };
        assert!(reason.contains("6.0 GiB more"), "{reason}");
        // The first has written 3 of its 4: it needs only one more.
        ledger.observe(5 * GIB);
        assert_eq!(ledger.outstanding(true), 3 * GIB);
        // What exceeds the first's forecast counts for the second; what exceeds both is ignored.
        ledger.observe(GIB);
        assert_eq!(ledger.outstanding(true), 0);
        assert!(matches!(find(&ledger, GIB), Room::Busy(_)));
        // Deleted files do not reduce what was written.
        ledger.observe(2 * GIB);
        assert_eq!(ledger.outstanding(true), 0);
        ledger.leave(first);
        ledger.leave(second);
        assert!(matches!(find(&ledger, 2 * GIB), Room::Full(_)));
        assert_eq!(find(&ledger, 3 * GIB), Room::Enough);
    }

    #[test]
    fn slots_are_bounded_by_cores_and_memory() {
        let cores = NonZeroUsize::new(8).unwrap();
        let meminfo = "MemTotal:       24000000 kB\nMemAvailable:    4194304 kB\nBuffers: 1 kB\n";
        for (memory, expected) in [(None, 4), (Some(2048), 2), (Some(16), 8), (Some(8192), 1)] {
            assert_eq!(slots(cores, meminfo, memory).get(), expected, "{memory:?}");
        }
        for incomplete in ["", "MemTotal: 1 kB"] {
            assert_eq!(slots(cores, incomplete, None), cores);
        }
    }
}
