//! A bare mirror of a remote in the data folder.
//!
//! Invariants: only [`Mirror`] writes to the folder, one fetch at a time, and the data folder has one server;
//! so every lock file found before a fetch was left by a killed git. A damaged mirror is fetched again beside
//! the old one and replaces it: a repair is not worth it, because the remote has everything.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edgewright_model::names::CommitId;
use edgewright_model::tree::Tree;
use tokio::sync::Mutex;

use crate::error::SourceError;
use crate::git::{Git, local, remote_error, suggests_damage};
use crate::remote::Remote;
use crate::repository::Repository;

/// Time limit of a fetch: a large history over a slow connection; a stalled one ends earlier, by
/// `http.lowSpeedTime`.
pub(crate) const FETCH_WITHIN: Duration = Duration::from_hours(1);
/// Time limit of packing after many fetches.
const PACK_WITHIN: Duration = Duration::from_mins(30);
/// Temporary files of a killed git.
const LEFTOVERS: [&str; 3] = [".lock", ".new", ".keep"];

/// The mirror of one remote. Clones share it.
#[derive(Debug, Clone)]
pub struct Mirror {
    git: Git,
    folder: PathBuf,
    remote: Remote,
    /// Held during a whole fetch, across awaits: that is its purpose. The value: whether the last git in the
    /// folder ended, so that there is nothing to clean up.
    pub(crate) fetching: Arc<Mutex<bool>>,
    /// The branches whose commits may use the remote's credentials for submodules.
    trusted: Arc<std::sync::Mutex<BTreeSet<String>>>,
}

impl Mirror {
    /// The mirror in `folder`, which is created by the first fetch.
    pub fn new(git: Git, folder: PathBuf, remote: Remote) -> Self {
        Self { git, folder, remote, fetching: Arc::default(), trusted: Arc::default() }
    }

    /// The mirrored remote.
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    pub(crate) const fn git(&self) -> &Git {
        &self.git
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its repository.
    pub fn repository(&self) -> Repository {
        Repository::new(self.git.clone(), self.folder.clone())
    }

    /// Sets the branches whose commits are trusted: submodules of other commits are fetched without
    /// credentials, and only from addresses that a trusted commit names.
    pub fn trust(&self, branches: BTreeSet<String>) {
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = branches;
    }

    /// Whether a commit is on a trusted branch, or is of a working folder.
    pub(crate) async fn is_trusted(&self, commit: &CommitId) -> Result<bool, SourceError> {
        if self.remote.is_displayed() {
            return Ok(true);
        }
        let branches = self.trusted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let repository = self.repository();
        for branch in branches {
            let Ok(tip) = repository.resolve(&format!("refs/heads/{branch}")).await else { continue };
            if repository.is_ancestor(commit, &tip).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Updates all branches and tags, including deleted and force-pushed ones. Earlier commits stay readable.
    pub async fn fetch(&self) -> Result<(), SourceError> {
        let mut is_clear = self.fetching.lock().await;
        self.update(None, &mut is_clear).await
    }

    /// Ensures that a commit that a poll found is in the mirror.
    pub async fn ensure(&self, commit: &CommitId) -> Result<(), SourceError> {
        let mut is_clear = self.fetching.lock().await;
        if self.is_there().await && self.repository().has(commit).await.unwrap_or(false) {
            return Ok(());
        }
        self.update(None, &mut is_clear).await?;
        if self.repository().has(commit).await? {
            return Ok(());
        }
        // A force-push removed it in the meantime: many servers still serve it.
        let gone = |_| SourceError::CommitGone { commit: commit.clone(), remote: self.remote.clone() };
        self.update(Some(commit), &mut is_clear).await.map_err(gone)
    }

    /// A commit's files; fetches the commit if needed, and repairs a damaged mirror once.
    pub async fn read_tree(&self, commit: &CommitId) -> Result<Tree, SourceError> {
        // The commit is almost always in the mirror; other cases are handled below.
        if self.is_there().await {
            let read = self.read_pinned(commit).await;
            let is_final = |error: &SourceError| {
                error.is_of_submodule() || matches!(error, SourceError::TooLarge { .. })
            };
            if read.as_ref().map_or_else(is_final, |_| true) {
                return read;
            }
        }
        self.ensure(commit).await?;
        match self.read_pinned(commit).await {
            Err(SourceError::Damaged { detail, .. }) => {
                tracing::warn!(source.folder = %self.folder.display(), detail, "mirror is damaged, fetching it again");
                {
                    let _alone = self.fetching.lock().await;
                    self.rebuild().await?;
                }
                self.ensure(commit).await?;
                self.read_pinned(commit).await
            }
            result => result,
        }
    }

    /// Packs the objects of many fetches, and deletes objects that no branch reached for 90 days. Call it
    /// periodically.
    pub async fn maintain(&self) -> Result<(), SourceError> {
        let mut is_clear = self.fetching.lock().await;
        if !self.is_there().await {
            return Ok(());
        }
        *is_clear = false;
        let command = self
            .git
            .command()
            .args(["-c", "gc.auto=2000", "-c", "gc.autoDetach=false", "--git-dir"])
            .arg(&self.folder);
        let command = command.args(["gc", "--auto", "--quiet", "--prune=90.days.ago"]);
        local("pack the mirror", &self.folder, command.deadline(PACK_WITHIN)).await.map(|_| ())
    }

    async fn update(&self, commit: Option<&CommitId>, is_clear: &mut bool) -> Result<(), SourceError> {
        if !self.is_usable().await {
            return self.rebuild().await;
        }
        if !std::mem::take(is_clear) {
            let folder = self.folder.clone();
            blocking(&self.folder, move || remove_leftovers(&folder, 0)).await?;
        }
        let fetched = fetch_into(&self.git, &self.folder, &self.remote, commit).await;
        *is_clear = fetched.is_ok();
        match fetched {
            Err(SourceError::Git { source, .. }) if commit.is_none() && suggests_damage(&source) => {
                // The network is not the cause, so it is local: a new mirror fixes that.
                tracing::warn!(source.folder = %self.folder.display(), error = %source, "fetch failed, creating the mirror again");
                self.rebuild().await
            }
            result => result,
        }
    }

    /// Whether it was fetched before.
    async fn is_there(&self) -> bool {
        tokio::fs::try_exists(&self.folder).await.unwrap_or(false)
    }

    /// Whether it looks like a repository. Damage inside of it is found by the next fetch.
    async fn is_usable(&self) -> bool {
        let head = tokio::fs::metadata(self.folder.join("HEAD")).await;
        let objects = tokio::fs::metadata(self.folder.join("objects")).await;
        head.is_ok_and(|metadata| metadata.is_file()) && objects.is_ok_and(|metadata| metadata.is_dir())
    }

    async fn rebuild(&self) -> Result<(), SourceError> {
        let beside = |suffix: &str| {
            let mut name = self.folder.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (fresh, broken, folder) = (beside(".new"), beside(".broken"), self.folder.clone());
        let leftovers = [fresh.clone(), broken.clone()];
        blocking(&self.folder, move || leftovers.iter().try_for_each(|path| remove(path))).await?;
        let command = self.git.command().args(["init", "--quiet", "--bare", "--template="]).arg(&fresh);
        local("make the mirror", &fresh, command).await?;
        fetch_into(&self.git, &fresh, &self.remote, None).await?;
        blocking(&self.folder, move || {
            if folder.exists() {
                std::fs::rename(&folder, &broken)?;
            }
            std::fs::rename(&fresh, &folder)?;
            remove(&broken)
        })
        .await
    }
}

async fn fetch_into(
    git: &Git,
    folder: &Path,
    remote: &Remote,
    commit: Option<&CommitId>,
) -> Result<(), SourceError> {
    let command = git
        .command_to(remote)
        .arg("--git-dir")
        .arg(folder)
        .args(["fetch", "--quiet", "--no-write-fetch-head", "--no-auto-gc", "--recurse-submodules=no"])
        // A remote may be a shallow clone itself.
        .arg("--update-shallow")
        .deadline(FETCH_WITHIN);
    let command = match commit {
        Some(commit) => command.args(["--", remote.address(), commit.as_str()]),
        None => command.args([
            "--prune",
            "--force",
            "--no-tags",
            "--",
            remote.address(),
            "+refs/heads/*:refs/heads/*",
            "+refs/tags/*:refs/tags/*",
        ]),
    };
    command.run().await.map(|_| ()).map_err(|error| remote_error("fetch the remote", remote, error))
}

pub(crate) async fn blocking(
    path: &Path,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), SourceError> {
    let done =
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| Err(io::Error::other(failure)));
    done.map_err(|source| SourceError::Io { path: path.to_owned(), source })
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Lock files and partial objects of a killed git.
pub(crate) fn remove_leftovers(folder: &Path, depth: usize) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            // Branch names have slashes, but fewer than this.
            if depth < 64 {
                remove_leftovers(&entry.path(), depth + 1)?;
            }
        } else if LEFTOVERS.iter().any(|suffix| name.ends_with(suffix)) || name.starts_with("tmp_") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
