//! Keeping the data folder small: logs, caches, images, packages and mirrors are bounded by age and size, at
//! start and every hour.
//!
//! Nothing here is needed for correctness: what is removed is either a convenience for people (logs) or can
//! be made again (caches, unused builds). What releases need is held by pins, and a pin is removed only when
//! the database shows that it is unused (`collection.rs`).

pub(crate) mod collection;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edgewright_model::error::Chain;
use edgewright_model::run::RunNumber;
use edgewright_process::Clock;
use edgewright_store::Store;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use self::collection::Removed;
use crate::ControlError;
use crate::hosting::Hosting;
use crate::reconcile::{Outcome, Reconciler};
use crate::settings::Keep;
use crate::sources::Sources;

/// How often.
const PERIOD: Duration = Duration::from_hours(1);
/// Folders are not searched deeper than this: links or loops would never end.
const DEEPEST: usize = 16;

/// The largest step of the time that retention works with, from one pass to the next: it follows a clock that
/// jumped ahead, or that ran while the server was stopped, at this pace.
const MAX_CLOCK_STEP: SignedDuration = SignedDuration::from_hours(6);
/// Cached files that were used within this time are kept while runs are open: a job may be using them.
const MAYBE_IN_USE: Duration = Duration::from_hours(2);

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Runs whose logs are gone.
    pub logs: usize,
    /// Files of caches.
    pub cached: usize,
    /// Keys whose packages are not held any more.
    pub packages: usize,
    /// Unused builds.
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

impl fmt::Display for Tidied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.logs as u64, "logs of runs"),
            (self.cached as u64, "cached files"),
            (self.packages as u64, "package sets"),
            (self.builds as u64, "builds"),
            (self.variants as u64, "retired variants"),
            (self.evidence as u64, "pieces of evidence"),
            (self.manifests, "manifests"),
            (self.blobs, "blobs"),
            (self.mirrors as u64, "mirrors"),
        ];
        let some: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        write!(f, "removed {}", some.join(", "))
    }
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
    // A job that misses a file makes it again, but not one that it has begun to use.
    let is_in_use =
        |item: &Item| !open.is_empty() && item.used.elapsed().map_or(true, |age| age < MAYBE_IN_USE);
    let (in_use, idle): (Vec<_>, Vec<_>) =
        files(&data.join("work/cache"), 0).into_iter().partition(is_in_use);
    let in_use: u64 = in_use.iter().map(|item| item.bytes).sum();
    for path in excess(idle, None, keep.cache_bytes.saturating_sub(in_use)) {
        match std::fs::remove_file(&path) {
            Ok(()) => tidied.cached += 1,
            Err(error) => tracing::warn!(path = %path.display(), %error, "a cached file stays"),
        }
    }
    tidied
}

/// Removes mirrors of no source: it was renamed, or a fetch was killed. One that is made now has its row
/// already.
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

/// Bounds what the data folder keeps. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Retention {
    pub(crate) data: PathBuf,
    pub(crate) keep: Keep,
    pub(crate) store: Store,
    pub(crate) hosting: Hosting,
    pub(crate) clock: Clock,
    pub(crate) sources: Arc<Sources>,
}

impl Reconciler for Retention {
    fn name(&self) -> String {
        "retention".to_owned()
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Outcome, ControlError>> {
        async {
            let tidied = self.tidy().await?;
            Ok(if tidied == Tidied::default() { Outcome::idle() } else { Outcome::done(tidied.to_string()) })
        }
        .boxed()
    }
}

impl Retention {
    /// Removes what is beyond its bounds.
    ///
    /// # Errors
    /// The database or the registry does not answer. Files that cannot be removed are logged.
    pub(crate) async fn tidy(&self) -> Result<Tidied, ControlError> {
        let open: Vec<RunNumber> = self.store.open_runs().await?.into_iter().map(|run| run.number).collect();
        let (data, keep, now) = (self.data.clone(), self.keep.clone(), self.next_time().await?);
        let tidied =
            tokio::task::spawn_blocking(move || tidy_files(&data, &keep, &open, SystemTime::from(now))).await;
        let Removed { forgotten, collected, packages, evidence } = self.collect(now).await?;
        let known = self.store.sources().await?.into_iter().map(|source| source.name.to_string()).collect();
        let sources = self.data.join("sources");
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
        for handle in self.sources.all() {
            if let Err(error) = handle.mirror.maintain().await {
                tracing::warn!(source.name = %handle.settings.name, error = %Chain(&error), "a mirror was not packed");
            }
        }
        self.store.confirm_time(now).await?;
        Ok(tidied)
    }

    /// The time of this pass: the clock's, at most one step after the pass before. So a clock that jumps by
    /// years makes nothing old, and a clock that is set back makes nothing older than it is.
    async fn next_time(&self) -> Result<Timestamp, ControlError> {
        let now = self.clock.now();
        let confirmed = self.store.confirmed_time(now).await?;
        let next = now.min(confirmed.checked_add(MAX_CLOCK_STEP).unwrap_or(Timestamp::MAX));
        if next < now {
            tracing::info!(%now, working_time = %next, "the clock is far ahead of the last pass: removing less");
        }
        Ok(next)
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
        let tidied = tidy_files(folder.path(), &all, &[RunNumber(2)], SystemTime::now());
        assert_eq!(tidied, Tidied::default(), "a job may use the file now");
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
