//! Room on the disk and in memory, before a job starts: a job that fills the disk stops everything else, too.

use std::path::Path;

use edgewright_model::order::{StepAction, StepOrder};
use edgewright_model::outcome::{FailureKind, JobFailure, Phase};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// An image exists up to three times while it is built: unpacked or as a tar, compressed in the job's folder, and in the
/// registry. Unpacked, it is about two and a half times as large as compressed.
const COPIES: u64 = 4;
/// What a step adds, compressed, where nothing is known of an earlier build.
const BOOTSTRAP: u64 = 250 * MIB;
const CONTAINERFILE: u64 = 150 * MIB;
const FILES: u64 = 8 * MIB;

/// What is left free at least.
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

/// What a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

impl Disk {
    /// The one that holds a folder; none where it does not say.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Self { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    /// Whether a job of this estimate may start; the failure that it meets otherwise.
    pub(crate) fn refuse(self, estimate: u64, floor: Floor) -> Option<JobFailure> {
        let floor = floor.of(self.total);
        if self.free >= estimate.saturating_add(floor) {
            return None;
        }
        let (free, needed) = (shown(self.free), shown(estimate));
        Some(JobFailure {
            kind: FailureKind::Infrastructure,
            phase: Phase::Build,
            message: format!(
                "not started: the data folder's disk has {free} free, the job takes about {needed}, and {} stay free",
                shown(floor)
            ),
            hint: Some(
                "make room, or move the data folder; `[disk] floor_mib` sets what stays free".to_owned(),
            ),
            output: Vec::new(),
        })
    }
}

/// What a job's steps take on the disk; `before` is the compressed size of an earlier build of the same node.
pub(crate) fn estimate(steps: &[StepOrder], before: Option<u64>) -> u64 {
    let guess = || {
        steps
            .iter()
            .map(|step| match step.action {
                StepAction::Bootstrap { .. } => BOOTSTRAP,
                StepAction::Containerfile { .. } => CONTAINERFILE,
                StepAction::Files { .. } => FILES,
            })
            .sum()
    };
    // Steps of files alone are streamed: nothing is unpacked, however large the base.
    let only_files = steps.iter().all(|step| matches!(step.action, StepAction::Files { .. }));
    match before {
        Some(size) if !only_files => size.saturating_mul(COPIES),
        _ => u64::saturating_mul(guess(), COPIES),
    }
}

/// How many jobs of a size fit in what `/proc/meminfo` says is available; none where it does not say.
pub fn jobs_in_memory(meminfo: &str, bytes_per_job: u64) -> Option<usize> {
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

    #[test]
    fn a_job_starts_only_where_the_floor_stays_free() {
        let disk = |free, total| Disk { free, total };
        let cases = [
            (disk(10 * GIB, 100 * GIB), GIB, Floor::Default, true),
            (disk(3 * GIB - 1, 100 * GIB), GIB, Floor::Default, false),
            (disk(3 * GIB, 100 * GIB), GIB, Floor::Default, true),
            // 5 % of a small disk.
            (disk(GIB, 10 * GIB), GIB / 2, Floor::Default, true),
            (disk(GIB, 10 * GIB), GIB, Floor::Default, false),
            (disk(GIB, 10 * GIB), GIB, Floor::Bytes(0), true),
        ];
        for (disk, estimate, floor, starts) in cases {
            assert_eq!(disk.refuse(estimate, floor).is_none(), starts, "{disk:?} {estimate} {floor:?}");
        }
        let failure = disk(GIB, 100 * GIB).refuse(GIB, Floor::Default).unwrap();
        assert_eq!(failure.kind, FailureKind::Infrastructure);
        assert!(failure.message.contains("1.0 GiB free"), "{}", failure.message);
        assert!(Disk::of(Path::new("/")).unwrap().total > 0);
    }

    #[test]
    fn memory_bounds_the_number_of_jobs() {
        let meminfo = "MemTotal:       24000000 kB\nMemAvailable:    3145728 kB\nBuffers: 1 kB\n";
        assert_eq!(jobs_in_memory(meminfo, GIB), Some(3));
        assert_eq!(jobs_in_memory(meminfo, 4 * GIB), Some(0));
        assert_eq!(jobs_in_memory("MemTotal: 1 kB", GIB), None);
    }
}
