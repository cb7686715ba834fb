//! Fetching the pinned commits of submodules into repositories inside of the mirror.
//!
//! What a commit that is not trusted names is fetched without credentials, and only from addresses that a
//! trusted commit names, too: else a pull request could read what the source's credentials can, and make
//! the server send requests anywhere.

use std::path::PathBuf;

use edgewright_model::Digest;
use edgewright_model::names::CommitId;
use edgewright_model::tree::{Tree, TreePath};

use super::{Expanded, MAX_SUBMODULE_DEPTH, Missing};
use crate::error::SourceError;
use crate::git::{local, remote_error};
use crate::mirror::{FETCH_WITHIN, Mirror, blocking, remove_leftovers};
use crate::remote::Remote;
use crate::repository::Repository;

/// The folder of submodules in a mirror.
const FOLDER: &str = "modules";

impl Mirror {
    /// A commit's files, with its submodules, which are fetched where they are missing.
    pub(crate) async fn read_pinned(&self, commit: &CommitId) -> Result<Tree, SourceError> {
        let repository = self.repository();
        let what = format!("commit {commit}");
        let mut is_trusted = None;
        // Every round may show submodules of submodules.
        for _ in 0..=MAX_SUBMODULE_DEPTH {
            let expanded = repository.read_expanded(commit.as_str(), &what, Some(self.remote())).await?;
            let Expanded { tree, missing } = expanded;
            if missing.is_empty() {
                return Ok(tree);
            }
            let is_trusted = match is_trusted {
                Some(known) => known,
                None => *is_trusted.insert(self.is_trusted(commit).await?),
            };
            let mut is_clear = self.fetching.lock().await;
            *is_clear = false;
            for missing in &missing {
                self.fetch_submodule(missing, is_trusted).await.map_err(|error| match error {
                    error @ SourceError::Submodule { .. } => error,
                    error => {
                        SourceError::SubmoduleFetch { path: missing.path.clone(), source: Box::new(error) }
                    }
                })?;
            }
            *is_clear = true;
        }
        repository.read_complete(commit.as_str(), &what).await
    }

    async fn fetch_submodule(&self, missing: &Missing, is_trusted: bool) -> Result<(), SourceError> {
        let Missing { path, commit, remote } = missing;
        let Some(remote) = remote else {
            return Err(SourceError::submodule(path, "its address is not known"));
        };
        let name = format!("{}.git", &Digest::of(remote.address().as_bytes()).hex()[..32]);
        let folder = self.folder().join(FOLDER).join(&name);
        let is_known = tokio::fs::try_exists(folder.join("HEAD")).await.unwrap_or(false);
        let mut remote = remote.clone();
        if !is_trusted {
            if !is_known {
                let reason = format!(
                    "the commit is not on a trusted branch, and no trusted commit has a submodule at {remote}"
                );
                return Err(SourceError::submodule(path, reason));
            }
            remote = remote.without_credentials();
        }
        if is_known {
            let folder = folder.clone();
            blocking(self.folder(), move || remove_leftovers(&folder, 0)).await?;
        } else {
            let init = self.git().command().args(["init", "--quiet", "--bare", "--template="]).arg(&folder);
            local("make a submodule's repository", &folder, init).await?;
        }
        let store = Repository::new(self.git().clone(), folder.clone());
        if !store.has(commit).await? {
            self.fetch_commit(&folder, &store, &remote, (path, commit, is_trusted)).await?;
        }
        self.repository().borrow(&format!("../{FOLDER}/{name}/objects")).await
    }

    /// Where a source in a folder of this machine may have a submodule: a temporary repository of a working
    /// folder has the objects itself, a clone has a checkout.
    fn checked_out(&self, path: &TreePath) -> Vec<Remote> {
        let Some(folder) = self.remote().folder() else { return Vec::new() };
        let checkout = folder.join(path.as_str());
        [Some(self.remote().clone()), Remote::from_path(&checkout).ok()].into_iter().flatten().collect()
    }

    async fn fetch_commit(
        &self,
        folder: &PathBuf,
        store: &Repository,
        remote: &Remote,
        (path, commit, is_trusted): (&TreePath, &CommitId, bool),
    ) -> Result<(), SourceError> {
        let fetch = || {
            let command = self.git().command_as(remote, self.remote(), is_trusted);
            let command = command.arg("--git-dir").arg(folder).args([
                "fetch",
                "--quiet",
                "--no-write-fetch-head",
                "--no-auto-gc",
                "--no-tags",
                "--recurse-submodules=no",
                "--update-shallow",
            ]);
            command.deadline(FETCH_WITHIN)
        };
        let kept = format!("refs/edgewright/{commit}");
        let one = |from: &str| fetch().args(["--depth=1", "--", from, &format!("+{commit}:{kept}")]);
        for place in self.checked_out(path) {
            if one(place.address()).run().await.is_ok() {
                return Ok(());
            }
        }
        let Err(first) = one(remote.address()).run().await else { return Ok(()) };
        // Not every server serves a commit by its id, or a part of the history.
        let all = ["--", remote.address(), "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        if let Err(error) = fetch().args(["--force"]).args(all).run().await {
            return Err(remote_error("fetch the submodule", remote, error));
        }
        if store.has(commit).await? {
            let command = store.command().args(["update-ref", &kept, commit.as_str()]);
            return local("keep the submodule's commit", folder, command).await.map(drop);
        }
        tracing::debug!(error = %first, "submodule commit is in no branch");
        Err(SourceError::CommitGone { commit: commit.clone(), remote: remote.clone() })
    }
}
