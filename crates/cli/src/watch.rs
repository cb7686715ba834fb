//! `run --watch`: waits until the files of a folder may have changed.
//!
//! The kernel reports that files may have changed (inotify); what changed is found by the caller, who
//! compares trees that git read, so ignored files do not count. If the kernel allows no more watches, the
//! files are read every second.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

/// Changes belong together until nothing happens for this long: a checkout is many.
const QUIET: Duration = Duration::from_millis(200);
/// Changes are reported at the latest this long after the first one: some programs never stop writing.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often files are read if the kernel does not report changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Reports of a folder's files.
#[derive(Debug)]
pub(crate) struct Watch {
    folder: PathBuf,
    reports: Arc<Reports>,
    /// None if the files are polled.
    watcher: Option<RecommendedWatcher>,
    is_polling_announced: bool,
}

/// What the watcher's thread reports.
#[derive(Debug, Default)]
struct Reports {
    changed: Notify,
    /// Why it no longer sees all changes.
    failure: OnceLock<notify::Error>,
}

impl Watch {
    /// Of a folder; nothing is reported before [`Self::arm`].
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            reports: Arc::default(),
            watcher: None,
            is_polling_announced: false,
        }
    }

    /// Reports changes from now on. Call it again before the files are read again: another folder may have
    /// been moved to this path.
    pub(crate) fn arm(&mut self) {
        let reports = Arc::<Reports>::default();
        match watcher(&self.folder, &reports) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => self.fall_back(&error),
        }
        self.reports = reports;
    }

    /// Returns when files may have changed since [`Self::arm`] or the last call, once changes have stopped.
    pub(crate) async fn changed(&mut self) {
        let reports = Arc::clone(&self.reports);
        if let Some(error) = reports.failure.get() {
            self.fall_back(error);
        }
        if self.watcher.is_none() {
            sleep(POLL_INTERVAL).await;
            return;
        }
        reports.changed.notified().await;
        let latest = Instant::now() + LONGEST_WAIT;
        while Instant::now() < latest {
            let quiet = latest.min(Instant::now() + QUIET);
            if timeout_at(quiet, reports.changed.notified()).await.is_err() {
                return;
            }
        }
    }

    fn fall_back(&mut self, error: &notify::Error) {
        self.watcher = None;
        if !self.is_polling_announced {
            self.is_polling_announced = true;
            tracing::warn!(
                folder = %self.folder.display(),
                %error,
                "cannot watch the files, reading them every second; raise fs.inotify.max_user_watches"
            );
        }
    }
}

/// Starts to watch a folder and all below it.
fn watcher(folder: &Path, reports: &Arc<Reports>) -> notify::Result<RecommendedWatcher> {
    let (reports, root) = (Arc::clone(reports), folder.to_owned());
    let report = move |event: notify::Result<Event>| {
        match event {
            Ok(event) if !matters(&root, &event) => return,
            Ok(_) => {}
            // Only the first failure is kept; others follow from it.
            Err(error) => drop(reports.failure.set(error)),
        }
        reports.changed.notify_one();
    };
    let mut watcher = RecommendedWatcher::new(report, Config::default().with_follow_symlinks(false))?;
    watcher.watch(folder, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// Whether an event may be a change of the source's files. Reads and git's own files are not.
fn matters(folder: &Path, event: &Event) -> bool {
    let is_of_git = |path: &PathBuf| {
        let below = path.strip_prefix(folder).unwrap_or(path);
        below.components().any(|component| component.as_os_str() == OsStr::new(".git"))
    };
    event.need_rescan()
        || (!matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(|path| !is_of_git(path)))
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, Flag, ModifyKind};

    use super::*;

    #[test]
    fn reading_and_the_files_of_git_do_not_matter() {
        let changed = EventKind::Modify(ModifyKind::Any);
        for (kind, path, want) in [
            (changed, "/s/images/base/image.yaml", true),
            (changed, "/s", true),
            (EventKind::Create(CreateKind::Folder), "/s/sites/a", true),
            (changed, "/s/.gitignore", true),
            (changed, "/s/.git/index", false),
            (changed, "/s/vendor/module/.git/HEAD", false),
            (EventKind::Access(AccessKind::Any), "/s/edgewright.yaml", false),
        ] {
            assert_eq!(matters(Path::new("/s"), &Event::new(kind).add_path(path.into())), want, "{path}");
        }
        assert!(matters(Path::new("/s"), &Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        // A source may be below a folder with this name.
        let below = Event::new(changed).add_path("/r/.git/s/edgewright.yaml".into());
        assert!(matters(Path::new("/r/.git/s"), &below));
    }

    /// Whether a change was already reported.
    async fn is_changed(watch: &mut Watch) -> bool {
        tokio::select! {
            biased;
            () = watch.changed() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn changed_files_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path());
        watch.arm();
        assert!(!is_changed(&mut watch).await);
        std::fs::create_dir(folder.path().join("new")).unwrap();
        watch.changed().await;
        // Folders that were created later are watched, too.
        std::fs::write(folder.path().join("new/file"), "x").unwrap();
        watch.changed().await;
        assert!(watch.watcher.is_some());
    }

    #[tokio::test]
    async fn many_changes_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path());
        watch.arm();
        let reports = Arc::clone(&watch.reports);
        tokio::join!(watch.changed(), async {
            for _ in 0..1000 {
                reports.changed.notify_one();
                tokio::task::yield_now().await;
            }
        });
        assert!(!is_changed(&mut watch).await, "all changes were reported at once");
    }

    #[tokio::test]
    async fn files_are_polled_if_they_cannot_be_watched() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(&folder.path().join("missing"));
        watch.arm();
        assert!(watch.watcher.is_none());
        watch.changed().await;

        // The kernel allowed the watch at first.
        let mut watch = Watch::new(folder.path());
        watch.arm();
        assert!(watch.watcher.is_some());
        watch.reports.failure.set(notify::Error::new(notify::ErrorKind::MaxFilesWatch)).unwrap();
        watch.changed().await;
        assert!(watch.watcher.is_none());
        // It may allow it again.
        watch.arm();
        assert!(watch.watcher.is_some());
    }
}
