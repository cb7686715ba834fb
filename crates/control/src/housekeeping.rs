//! Keeping the data folder small: logs, caches, images, packages and mirrors are bounded by age and size, at start and
//! every hour.
//!
//! Nothing here is needed for correctness: what is removed is either a convenience for people (logs) or can be made again
//! (caches, builds that nobody needs). What releases need is held by pins, and a pin goes only when the database says that
//! nobody needs it (`collection.rs`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use edgewright_model::error::Chain;
use edgewright_model::run::RunNumber;

use crate::collection::Removed;
use crate::{Control, ControlError};

/// How often.
const INTERVAL: Duration = Duration::from_hours(1);
/// Folders are not looked at deeper: links or loops would never end.
const DEEPEST: usize = 16;

/// What is kept, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Job logs of runs that ended longer ago are removed.
    pub logs_for: Duration,
    /// Job logs in bytes; the oldest runs' go first.
    pub logs_bytes: u64,
    /// Caches of jobs (package archives and lists, layer indexes) in bytes; what was not used for longest goes first.
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
    /// Logs for 90 days and up to 2 GiB, 10 GiB of caches, releases for 90 days, retired variants and old evidence for 30
    /// days, builds of no release for 14 days.
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

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Runs whose logs are gone.
    pub logs: usize,
    /// Files of caches.
    pub cached: usize,
    /// Keys whose packages are not held any more.
    pub packages: usize,
    /// Builds that nobody needs.
    pub builds: usize,
    /// Variants that were retired, for each platform.
    pub variants: usize,
    /// Verdicts whose evidence is gone.
    pub evidence: usize,
    /// Manifests that left the registry.
    pub manifests: u64,
    /// Blobs that left the disk.
    pub blobs: u64,
    /// Mirrors of sources that have another name by now.
    pub mirrors: usize,
}

/// Something that may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// What goes: all that is older than `limit`, then the oldest until the rest fits.
fn excess(mut items: Vec<Item>, oldest: Option<SystemTime>, bytes: u64) -> Vec<PathBuf> {
    items.sort_by(|a, b| a.used.cmp(&b.used).then_with(|| a.path.cmp(&b.path)));
    let mut total: u64 = items.iter().map(|item| item.bytes).sum();
    let mut gone = Vec::new();
    for item in items {
        if oldest.is_some_and(|oldest| item.used < oldest) || total > bytes {
            total -= item.bytes;
            gone.push(item.path);
        }
    }
    gone
}

/// All files below a folder; a folder that does not exist has none.
fn files(folder: &Path, depth: usize) -> Vec<Item> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() && depth < DEEPEST {
            found.extend(files(&entry.path(), depth + 1));
        } else if metadata.is_file() {
            let used = metadata.accessed().ok().max(metadata.modified().ok());
            let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Item { path: entry.path(), bytes: metadata.len(), used });
        }
    }
    found
}

/// The log folder of each run, dated by its newest file.
fn logs(folder: &Path, open: &[RunNumber]) -> Vec<Item> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let run = entry.file_name().to_str().and_then(|name| name.parse::<RunNumber>().ok());
        if run.is_none_or(|run| open.contains(&run)) {
            continue;
        }
        let inside = files(&entry.path(), 0);
        let written = |item: &Item| std::fs::metadata(&item.path).and_then(|found| found.modified()).ok();
        let used = inside.iter().filter_map(written).max().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Item { path: entry.path(), bytes: inside.iter().map(|item| item.bytes).sum(), used });
    }
    found
}

/// Removes logs and cached files beyond their bounds.
fn tidy_files(data: &Path, keep: &Keep, open: &[RunNumber], now: SystemTime) -> Tidied {
    let mut tidied = Tidied::default();
    let oldest = now.checked_sub(keep.logs_for);
    for path in excess(logs(&data.join("logs/runs"), open), oldest, keep.logs_bytes) {
        match std::fs::remove_dir_all(&path) {
            Ok(()) => tidied.logs += 1,
            Err(error) => tracing::warn!(path = %path.display(), %error, "old logs stay"),
        }
    }
    // A job that looks for a file that just went makes it again.
    for path in excess(files(&data.join("work/cache"), 0), None, keep.cache_bytes) {
        match std::fs::remove_file(&path) {
            Ok(()) => tidied.cached += 1,
            Err(error) => tracing::warn!(path = %path.display(), %error, "a cached file stays"),
        }
    }
    tidied
}

/// Removes mirrors of no source: it was renamed, or a fetch was killed. One that is made now has its row already.
fn tidy_mirrors(sources: &Path, known: &BTreeSet<String>) -> usize {
    let mut gone = 0;
    for entry in std::fs::read_dir(sources).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((source, _)) = name.to_str().and_then(|name| name.split_once(".git")) else { continue };
        if known.contains(source) {
            continue;
        }
        match std::fs::remove_dir_all(entry.path()) {
            Ok(()) => gone += 1,
            Err(error) => tracing::warn!(path = %entry.path().display(), %error, "an old mirror stays"),
        }
    }
    gone
}

impl Control {
    /// Tidies up at start and every hour, until shutdown.
    pub(crate) async fn reconcile_housekeeping(&self) {
        let inner = &*self.0;
        loop {
            match self.tidy().await {
                Ok(tidied) if tidied == Tidied::default() => {}
                Ok(tidied) => tracing::info!(?tidied, "tidied up"),
                Err(error) => tracing::error!(error = %Chain(&error), "housekeeping failed"),
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = inner.shutdown.cancelled() => return,
            }
        }
    }

    /// Removes what is beyond its bounds.
    ///
    /// # Errors
    /// The database or the registry does not answer. Files that cannot be removed are logged.
    pub async fn tidy(&self) -> Result<Tidied, ControlError> {
        let inner = &*self.0;
        let open: Vec<RunNumber> = inner.store.open_runs().await?.into_iter().map(|run| run.number).collect();
        let (data, keep, now) = (inner.settings.data.clone(), inner.settings.keep.clone(), inner.clock.now());
        let tidied =
            tokio::task::spawn_blocking(move || tidy_files(&data, &keep, &open, SystemTime::from(now))).await;
        let Removed { forgotten, collected, packages, evidence } = self.collect(now).await?;
        let known = inner.store.sources().await?.into_iter().map(|source| source.name.to_string()).collect();
        let sources = inner.settings.data.join("sources");
        let mirrors = tokio::task::spawn_blocking(move || tidy_mirrors(&sources, &known)).await;
        let tidied = Tidied {
            packages,
            builds: forgotten.builds,
            variants: forgotten.variants,
            evidence,
            manifests: collected.manifests,
            blobs: collected.blobs,
            mirrors: mirrors.unwrap_or_default(),
            ..tidied.unwrap_or_default()
        };
        for source in self.sources() {
            if let Some(watched) = self.watched(source)
                && let Err(error) = watched.mirror.maintain().await
            {
                tracing::warn!(source.name = %watched.settings.name, error = %Chain(&error), "a mirror was not packed");
            }
        }
        Ok(tidied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(hours)
    }

    #[test]
    fn the_old_go_first_then_the_oldest_until_the_rest_fits() {
        type Case = (&'static [u64], Option<u64>, u64, &'static [&'static str]);
        let items = |ages: &[u64]| -> Vec<Item> {
            ages.iter()
                .map(|hours| Item { path: hours.to_string().into(), bytes: 10, used: at(*hours) })
                .collect()
        };
        let cases: [Case; 5] = [
            (&[], None, 0, &[]),
            (&[3, 1, 2], None, 30, &[]),
            (&[3, 1, 2], None, 29, &["1"]),
            (&[3, 1, 2], Some(3), 100, &["1", "2"]),
            (&[3, 1, 2], Some(2), 5, &["1", "2", "3"]),
        ];
        for (ages, oldest, bytes, expected) in cases {
            let gone = excess(items(ages), oldest.map(at), bytes);
            let gone: Vec<_> = gone.iter().map(|path| path.display().to_string()).collect();
            assert_eq!(gone, expected, "{ages:?} {oldest:?} {bytes}");
        }
    }

    #[test]
    fn logs_of_open_runs_and_what_is_no_run_stay() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1", "2", "notes"] {
            let run = folder.path().join("logs/runs").join(name);
            std::fs::create_dir_all(&run).unwrap();
            std::fs::write(run.join("base.log"), [0; 10]).unwrap();
        }
        let cache = folder.path().join("work/cache/apt/archives");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join("a.deb"), [0; 10]).unwrap();
        let keep = Keep { logs_bytes: 0, cache_bytes: 10, ..Keep::default() };
        let tidied = tidy_files(folder.path(), &keep, &[RunNumber(2)], SystemTime::now());
        assert_eq!(tidied, Tidied { logs: 1, ..Tidied::default() });
        let left = |name: &str| folder.path().join("logs/runs").join(name).exists();
        assert_eq!((left("1"), left("2"), left("notes")), (false, true, true));
        let all = Keep { cache_bytes: 0, ..Keep::default() };
        let tidied = tidy_files(folder.path(), &all, &[], SystemTime::now());
        assert_eq!(tidied, Tidied { cached: 1, ..Tidied::default() });
    }

    #[test]
    fn mirrors_of_no_source_go() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["plants.git", "plants.git.new", "old.git", "old.git.broken", "home"] {
            std::fs::create_dir_all(folder.path().join(name).join("objects")).unwrap();
        }
        assert_eq!(tidy_mirrors(folder.path(), &BTreeSet::from(["plants".to_owned()])), 2);
        let left = |name: &str| folder.path().join(name).exists();
        assert!(left("plants.git") && left("plants.git.new") && left("home") && !left("old.git"));
    }
}
