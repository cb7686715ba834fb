//! `[keep]` and `[disk]`: how much of the disk the data folder uses.

use std::time::Duration;

use edgewright_control::Keep;
use edgewright_job::Floor;
use edgewright_model::duration::Span;
use serde::Deserialize;

use super::described::described;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// Container storage that stays after a job by default, in MiB: a few operating systems with their child
/// images.
pub const DEFAULT_STORAGE_MIB: u64 = 30 * 1024;

/// A duration in days, for the defaults of the reference.
fn days(of: impl Fn(&Keep) -> Duration) -> String {
    format!("{}d", of(&Keep::default()).as_secs() / 86_400)
}

/// An amount in GiB, for the defaults of the reference.
fn gib(of: impl Fn(&Keep) -> u64) -> String {
    (of(&Keep::default()) / GIB).to_string()
}

described! {
    /// `[keep]`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct KeepOptions: "keep", layered {
        /// How long job logs are kept after the end of their run.
        pub logs: Option<Span> { Restart, default: days(|keep| keep.logs_for), example: "\"90d\"" }
        /// Total size of job logs. The logs of the oldest runs are removed first.
        pub logs_gib: Option<u32> { Restart, default: gib(|keep| keep.logs_bytes), range: "GiB" }
        /// Total size of caches: package archives, package lists, layer indexes. The least recently used are
        /// removed first.
        pub cache_gib: Option<u32> { Restart, default: gib(|keep| keep.cache_bytes), range: "GiB" }
        /// Total unpacked size of container storage. The least recently used images are removed first, except
        /// those used in the last 6 hours.
        pub storage_gib: Option<u32> { Restart, default: (DEFAULT_STORAGE_MIB / 1024).to_string(), range: "GiB", example: "30" }
        /// How long variants that are no longer declared are shown, and their images kept.
        pub retired: Option<Span> { Restart, default: days(|keep| keep.retired_for), example: "\"30d\"" }
        /// How long releases are kept that no channel points to and that are not the newest of their branch.
        pub releases: Option<Span> { Restart, default: days(|keep| keep.releases_for), example: "\"90d\"" }
        /// How long builds are kept that no release contains: failed ones, and those of pull requests.
        pub builds: Option<Span> { Restart, default: days(|keep| keep.builds_for), example: "\"14d\"" }
        /// How long the evidence of verdicts is kept after newer ones replaced them.
        pub evidence: Option<Span> { Restart, default: days(|keep| keep.evidence_for), example: "\"30d\"" }
    }
}

described! {
    /// `[disk]`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
    #[serde(default)]
    pub struct DiskOptions: "disk", layered {
        /// Space that stays free on the data folder's disk. A job that would use it waits, or fails as
        /// `infrastructure` if no other job runs.
        pub floor_mib: Option<u32> {
            Restart,
            default: "2048, or 5 % of a disk smaller than 40 GiB",
            range: "MiB",
            example: "2048"
        }
    }
}

impl KeepOptions {
    /// How much container storage stays after a job, in MiB. Jobs remove the rest.
    pub fn storage_mib(&self) -> u64 {
        self.storage_gib.map_or(DEFAULT_STORAGE_MIB, |gib| u64::from(gib) * 1024)
    }

    /// The bounds.
    pub fn resolve(&self) -> Keep {
        let default = Keep::default();
        let bytes = |gib: Option<u32>, default| gib.map_or(default, |gib| u64::from(gib) * GIB);
        Keep {
            logs_for: self.logs.map_or(default.logs_for, Span::get),
            logs_bytes: bytes(self.logs_gib, default.logs_bytes),
            cache_bytes: bytes(self.cache_gib, default.cache_bytes),
            retired_for: self.retired.map_or(default.retired_for, Span::get),
            releases_for: self.releases.map_or(default.releases_for, Span::get),
            builds_for: self.builds.map_or(default.builds_for, Span::get),
            evidence_for: self.evidence.map_or(default.evidence_for, Span::get),
        }
    }
}

impl DiskOptions {
    /// The space that stays free.
    pub fn resolve(&self) -> Floor {
        self.floor_mib.map_or(Floor::Default, |mib| Floor::Bytes(u64::from(mib) * MIB))
    }
}
