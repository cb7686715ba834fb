//! Locks that go to git: an update check pushes a commit instead of adding overlays. What is built follows
//! from that commit, when it is merged, or at once if the followed branch is pushed to.
//!
//! The branch as it is decides what is written: a lock that is there already, or newer, stays. Nothing is
//! forced; a branch that moves meanwhile is fetched, and the commit made again on top of it.

use std::collections::BTreeMap;

use edgewright_model::format;
use edgewright_model::lock::LOCK_FILE;
use edgewright_model::moves::LockMoves;
use edgewright_model::names::CommitId;
use edgewright_model::tree::{Tree, TreePath};
use edgewright_plan::lock_request;
use edgewright_source::{NewCommit, Pushed, Remote, SourceError};
use edgewright_store::runs::RunRow;

use super::Locks;
use super::keep::same_inputs;
use super::resolve::Proposed;
use crate::ControlError;
use crate::settings::CommitLocks;
use crate::sources::SourceHandle;

/// How often a commit is made again because the branch moved meanwhile; then the next check tries.
const TRIES: u32 = 3;
/// How much of a commit's id is shown.
const SHORT_ID: usize = 12;

/// The files of a commit of locks, and what they move, in words.
struct Change {
    files: BTreeMap<TreePath, Vec<u8>>,
    words: Vec<String>,
}

impl Locks {
    /// Pushes locks as a commit, and wakes the source's polling; returns what was pushed, if anything.
    pub(super) async fn commit(
        &self,
        run: &RunRow,
        handle: &SourceHandle,
        policy: &CommitLocks,
        wanted: &Proposed,
    ) -> Result<Option<String>, ControlError> {
        let branch = policy.branch.as_ref().unwrap_or(&run.branch);
        let pushed = self.push(run, handle, (policy, branch), wanted).await.map_err(|error| {
            let why = format!("the locks were not pushed to `{branch}`");
            ControlError::Push { why, source: Box::new(error) }
        })?;
        let Some((commit, words)) = pushed else { return Ok(None) };
        handle.wake.wake("locks were pushed");
        let commit = commit.as_str().get(..SHORT_ID).unwrap_or(commit.as_str());
        Ok(Some(format!("pushed {commit} to `{branch}`: {}", words.join("; "))))
    }

    /// Pushes the locks that the branch does not hold yet; none where it holds all.
    async fn push(
        &self,
        run: &RunRow,
        handle: &SourceHandle,
        (policy, branch): (&CommitLocks, &str),
        wanted: &Proposed,
    ) -> Result<Option<(CommitId, Vec<String>)>, SourceError> {
        let mirror = &handle.mirror;
        for _ in 0..TRIES {
            mirror.fetch().await?;
            let parent = mirror.head(branch).await?.unwrap_or_else(|| run.commit.clone());
            let Change { files, words } = change(&mirror.read_tree(&parent).await?, wanted);
            if files.is_empty() {
                return Ok(None);
            }
            let message = format!("{}\n\n{}\n", policy.message.trim_end(), words.join("\n"));
            let new = NewCommit {
                parent: &parent,
                files: &files,
                author: &policy.author,
                message: &message,
                at: self.jobs.clock.now(),
            };
            let commit = mirror.commit(&new).await?;
            match mirror.push(&remote(mirror.remote(), policy).await?, &commit, branch).await? {
                Pushed::Done => return Ok(Some((commit, words))),
                Pushed::Moved => tracing::info!(branch, "the branch moved while locks were committed"),
            }
        }
        Err(SourceError::Busy { remote: mirror.remote().clone(), branch: branch.to_owned() })
    }
}

/// What a commit on top of a tree writes: locks that answer what its images ask, differ from those that it
/// holds, and move nothing backwards.
fn change(tree: &Tree, wanted: &Proposed) -> Change {
    let mut change = Change { files: BTreeMap::new(), words: Vec::new() };
    let Some(definition) = format::parse(tree).definition else { return change };
    for (image, lock) in wanted {
        let Some(spec) = definition.images.get(image) else { continue };
        let request = lock_request(spec, &definition.source);
        if request.digest() != lock.request {
            continue;
        }
        let words = match spec.lock.as_ref().filter(|held| held.request == lock.request) {
            None => "locked for the first time".to_owned(),
            Some(held) => {
                let mut moves = LockMoves::between(held, lock);
                moves.refreshed = request.is_due(held.epoch, lock.epoch);
                let same = same_inputs(held, lock) && !moves.refreshed;
                if same || held.epoch > lock.epoch || moves.backwards().is_some() {
                    continue;
                }
                moves.to_string()
            }
        };
        let folder = spec.file.parent();
        let path = folder.and_then(|folder| Some(folder.join(&LOCK_FILE.parse().ok()?)));
        if let Some(path) = path {
            change.files.insert(path, lock.to_file().into_bytes());
            change.words.push(format!("{image}: {words}"));
        }
    }
    change
}

/// The remote with the credentials that pushing needs.
async fn remote(remote: &Remote, policy: &CommitLocks) -> Result<Remote, SourceError> {
    let Some(file) = &policy.token_file else { return Ok(remote.clone()) };
    let io = |source| SourceError::Io { path: file.clone(), source };
    let token = tokio::fs::read_to_string(file).await.map_err(io)?;
    // Other ways than https have credentials of their own.
    Ok(remote.with_credentials(&policy.user, token.trim()).unwrap_or_else(|| remote.clone()))
}
