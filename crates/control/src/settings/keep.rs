//! What is kept, and for how long.

use std::time::Duration;

/// What is kept, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Job logs of runs that ended longer ago are removed.
    pub logs_for: Duration,
    /// Job logs in bytes; the oldest runs' go first.
    pub logs_bytes: u64,
    /// Caches of jobs (package archives and lists, layer indexes) in bytes; what was not used for longest
    /// goes first.
    pub cache_bytes: u64,
    /// How long variants that are no longer declared are shown and kept.
    pub retired_for: Duration,
    /// How long releases are kept that no channel points to and that are not the newest of their branch.
    pub releases_for: Duration,
    /// How long is kept what a run built and no release needs: the next commit may.
    pub builds_for: Duration,
    /// How long evidence is kept of verdicts that newer ones took the place of.
    pub evidence_for: Duration,
}

impl Default for Keep {
    /// Logs for 90 days and up to 2 GiB, 10 GiB of caches, releases for 90 days, retired variants and old
    /// evidence for 30 days, builds of no release for 14 days.
    fn default() -> Self {
        const GIB: u64 = 1024 * 1024 * 1024;
        const DAY: Duration = Duration::from_hours(24);
        Self {
            logs_for: DAY * 90,
            logs_bytes: 2 * GIB,
            cache_bytes: 10 * GIB,
            retired_for: DAY * 30,
            releases_for: DAY * 90,
            builds_for: DAY * 14,
            evidence_for: DAY * 30,
        }
    }
}
