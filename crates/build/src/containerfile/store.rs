//! Container storage: a shared one for base images, and one for each job.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_process::{Command, kill_inside};

use crate::context::BuildContext;
use crate::failure;
use crate::image_state::blocking;

/// The number of bases in the shared storage; the least recently used is removed first.
const KEPT_BASES: usize = 8;
/// Bases that no build used for longer are removed, even if there are few.
const UNUSED: Duration = Duration::from_hours(14 * 24);
/// Bases that were used more recently are not removed: a job may be about to build on them.
const RECENT: Duration = Duration::from_hours(2);
/// The time between two attempts to lock.
const LOOK: Duration = Duration::from_millis(50);
/// The time limit of cleaning up.
const CLEAN_LIMIT: Duration = Duration::from_mins(1);

pub(super) struct Store {
    root: PathBuf,
    runroot: PathBuf,
    temporary: PathBuf,
    shared: PathBuf,
}

impl Store {
    pub(super) fn new(ctx: &BuildContext, folder: &Path) -> Self {
        Self {
            root: folder.join("storage"),
            runroot: folder.join("run"),
            temporary: folder.join("tmp"),
            shared: ctx.storage.clone(),
        }
    }

    /// buildah on the job's own storage.
    pub(super) fn buildah(&self, ctx: &BuildContext) -> Command {
        // buildah reports a folder that cannot be created.
        let _ = std::fs::create_dir_all(&self.temporary);
        Command::new("buildah")
            .arg("--root")
            .arg(&self.root)
            .arg("--runroot")
            .arg(&self.runroot)
            .args(["--storage-driver", "overlay", "--storage-opt"])
            .arg(format!("overlay.imagestore={}", self.shared.display()))
            .context(&ctx.process)
            .env("TMPDIR", &self.temporary)
    }

    fn shared(&self, ctx: &BuildContext) -> Command {
        let _ = std::fs::create_dir_all(&self.temporary);
        Command::new("buildah")
            .arg("--root")
            .arg(&self.shared)
            .arg("--runroot")
            .arg(&ctx.runroot)
            .args(["--storage-driver", "overlay"])
            .context(&ctx.process)
            .env("TMPDIR", &self.temporary)
    }

    /// Pulls the base into the shared storage if needed, and gives its name there.
    pub(super) async fn pull_base(
        &self,
        ctx: &BuildContext,
        base: &ManifestRef,
    ) -> Result<String, JobFailure> {
        let name = format!("{}/{}@{}", ctx.client.host(), base.repository, base.digest);
        let _turn = turn(&ctx.storage.with_file_name("pulling")).await;
        let auth = ctx.client.write_auth_file(&ctx.scratch).await;
        self.shared(ctx)
            .args(["pull", "--quiet", "--policy=missing", "--authfile"])
            .arg(auth.map_err(|error| failure::local(Phase::Fetch, &error))?)
            .arg(format!("--tls-verify={}", !ctx.client.is_plain_http()))
            .arg(format!("docker://{name}"))
            .deadline(ctx.step_limit)
            .run()
            .await
            .map_err(|error| failure::command(Phase::Fetch, &error))?;
        self.forget_old_bases(ctx, base, &name).await;
        Ok(name)
    }

    /// Marks the base as used now, and removes the least recently used ones beyond the limit. buildah does
    /// not remove a base that is in use.
    async fn forget_old_bases(&self, ctx: &BuildContext, base: &ManifestRef, name: &str) {
        // Beside the storage, not in the cache: if its mark were deleted, an image would never be removed.
        let marks = ctx.storage.with_file_name("bases");
        let mark = marks.join(base.digest.hex());
        let name = name.to_owned();
        let Ok(Ok(surplus)) = blocking(move || mark_as_used(&marks, &mark, &name)).await else { return };
        for (path, old) in surplus {
            let removed = self.shared(ctx).arg("rmi").arg(&old).deadline(CLEAN_LIMIT).run_status().await;
            if removed.is_ok_and(|finished| finished.success()) {
                let _ = tokio::fs::remove_file(&path).await;
            }
        }
    }

    /// Removes everything that the build made. After a failure, processes may still run and file systems be
    /// mounted.
    pub(super) async fn clean(&self, ctx: &BuildContext, failed: bool) {
        if failed {
            // Processes of a RUN whose buildah was killed.
            let root = self.root.clone();
            drop(tokio::task::spawn_blocking(move || kill_inside(&root)).await);
        }
        let containers = self.buildah(ctx).args(["rm", "--all"]).deadline(CLEAN_LIMIT).run_status().await;
        if let Err(error) = containers {
            tracing::debug!(%error, "cannot remove working containers");
        }
        for mount in self.mounts() {
            let _ = Command::new("umount").arg("--lazy").arg(&mount).deadline(CLEAN_LIMIT).run_status().await;
        }
        for folder in [&self.root, &self.runroot, &self.temporary] {
            if let Err(error) = tokio::fs::remove_dir_all(folder).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, folder = %folder.display(), "cannot remove a build's folder");
            }
        }
    }

    /// Mounts below the job's storage, innermost first.
    fn mounts(&self) -> Vec<String> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let roots = [self.root.display().to_string(), self.runroot.display().to_string()];
        let mut found: Vec<String> = text
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|place| roots.iter().any(|root| place.starts_with(root.as_str())))
            .map(str::to_owned)
            .collect();
        found.reverse();
        found
    }
}

/// Updates a base's mark; gives the marks beyond the limit, each with the name of its base.
fn mark_as_used(marks: &Path, mark: &Path, name: &str) -> std::io::Result<Vec<(PathBuf, String)>> {
    std::fs::create_dir_all(marks)?;
    std::fs::write(mark, name)?;
    let entries = std::fs::read_dir(marks)?.flatten();
    let mut known: Vec<(SystemTime, PathBuf)> =
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    known.sort();
    let surplus = known.len().saturating_sub(KEPT_BASES);
    let is_older = |used: &SystemTime, limit| used.elapsed().is_ok_and(|age| age > limit);
    let gone = known
        .into_iter()
        .enumerate()
        .filter(|(place, (used, _))| is_older(used, UNUSED) || *place < surplus && is_older(used, RECENT));
    Ok(gone.filter_map(|(_, (_, path))| Some((path.clone(), std::fs::read_to_string(path).ok()?))).collect())
}

/// Waits until no other job pulls: two jobs would otherwise both download and unpack the same base. None if
/// the file system has no locks.
async fn turn(path: &Path) -> Option<File> {
    let file = File::options().create(true).append(true).open(path).ok()?;
    loop {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "cannot lock the pull of a base; continuing without a lock");
                return None;
            }
        }
    }
}
