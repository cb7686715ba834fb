//! A bare mirror of a remote in the data folder.
//!
//! Invariants: only [`Mirror`] writes to the folder, one fetch at a time, and the data folder has one server; so every
//! lock file found before a fetch was left by a killed git. A mirror that turns out to be damaged is fetched anew
//! beside the old one and takes its place: what cannot be repaired is not worth repairing, the remote has it all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgewright_model::names::CommitId;
use edgewright_model::tree::Tree;
use tokio::sync::Mutex;

use crate::error::SourceError;
use crate::git::{Git, local, remote_error, suggests_damage};
use crate::remote::Remote;
use crate::repository::Repository;

/// A fetch of a large history over a slow line; a stalled one ends earlier, by `http.lowSpeedTime`.
const FETCH_WITHIN: Duration = Duration::from_hours(1);
/// Packing what many fetches left.
const PACK_WITHIN: Duration = Duration::from_mins(30);
/// What a git that was killed leaves behind.
const LEFTOVERS: [&str; 3] = [".lock", ".new", ".keep"];

/// The mirror of one remote. Clones share it.
#[derive(Debug, Clone)]
pub struct Mirror {
    git: Git,
    folder: PathBuf,
    remote: Remote,
    /// Held over a whole fetch, awaits included: that is its purpose. Whether the last git in the folder came to its end,
    /// so that there is nothing to clear.
    fetching: Arc<Mutex<bool>>,
}

impl Mirror {
    /// The mirror in `folder`, which is made at the first fetch.
    pub fn new(git: Git, folder: PathBuf, remote: Remote) -> Self {
        Self { git, folder, remote, fetching: Arc::default() }
    }

    /// What it mirrors.
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    pub(crate) const fn git(&self) -> &Git {
        &self.git
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it holds.
    pub fn repository(&self) -> Repository {
        Repository::new(self.git.clone(), self.folder.clone())
    }

    /// Brings all branches and tags up to date, whatever happened to them. Earlier commits stay readable.
    pub async fn fetch(&self) -> Result<(), SourceError> {
        let mut is_clear = self.fetching.lock().await;
        self.update(None, &mut is_clear).await
    }

    /// Makes sure that a commit, found by a poll, is here.
    pub async fn ensure(&self, commit: &CommitId) -> Result<(), SourceError> {
        let mut is_clear = self.fetching.lock().await;
        if self.is_there().await && self.repository().has(commit).await.unwrap_or(false) {
            return Ok(());
        }
        self.update(None, &mut is_clear).await?;
        if self.repository().has(commit).await? {
            return Ok(());
        }
        // Force-pushed away in between: many servers still give it out.
        let gone = |_| SourceError::CommitGone { commit: commit.clone(), remote: self.remote.clone() };
        self.update(Some(commit), &mut is_clear).await.map_err(gone)
    }

    /// A commit's files, fetched where needed; repairs a damaged mirror once.
    pub async fn read_tree(&self, commit: &CommitId) -> Result<Tree, SourceError> {
        // Nearly always it is here; what is wrong otherwise is found out below.
        if self.is_there().await
            && let Ok(tree) = self.repository().read_tree(commit).await
        {
            return Ok(tree);
        }
        self.ensure(commit).await?;
        match self.repository().read_tree(commit).await {
            Err(SourceError::Damaged { detail, .. }) => {
                tracing::warn!(source.folder = %self.folder.display(), detail, "mirror is damaged, fetching it anew");
                {
                    let _alone = self.fetching.lock().await;
                    self.rebuild().await?;
                }
                self.ensure(commit).await?;
                self.repository().read_tree(commit).await
            }
            result => result,
        }
    }

    /// Packs what many fetches left, and drops what no branch reached for 90 days. Run it now and then.
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
                // Not the network, so something here: a new mirror cures all of that.
                tracing::warn!(source.folder = %self.folder.display(), error = %source, "fetch failed, mirroring anew");
                self.rebuild().await
            }
            result => result,
        }
    }

    /// Whether it was fetched before.
    async fn is_there(&self) -> bool {
        tokio::fs::try_exists(&self.folder).await.unwrap_or(false)
    }

    /// Whether it looks like a repository. What is wrong inside shows when it is fetched into.
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

async fn blocking(
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

/// Lock files and half-written objects of a git that was killed.
fn remove_leftovers(folder: &Path, depth: usize) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            // Branch names have slashes, but not that many.
            if depth < 64 {
                remove_leftovers(&entry.path(), depth + 1)?;
            }
        } else if LEFTOVERS.iter().any(|suffix| name.ends_with(suffix)) || name.starts_with("tmp_") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
