//! Locks that go to git: a look at the outside pushes a commit instead of adding overlays. What is built follows from that
//! commit, when somebody merges it or at once where the followed branch is pushed to.
//!
//! The branch as it stands decides what is written: a lock that is there already, or newer, stays. Nothing is forced; a
//! branch that moves meanwhile is fetched, and the commit made anew on top of it.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use edgewright_model::format;
use edgewright_model::lock::{LOCK_FILE, Lock};
use edgewright_model::moves::LockMoves;
use edgewright_model::names::{CommitId, ImageName};
use edgewright_model::run::{RunState, Trigger};
use edgewright_model::tree::{Tree, TreePath};
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::{LockOrigin, Locks, lock_request};
use edgewright_source::{NewCommit, Pushed, Remote, SourceError};

use super::resolve::same_inputs;
use crate::ControlError;
use crate::runs::Driver;
use crate::settings::{CommitLocks, LockPolicy};

/// How often a commit is made anew because the branch moved meanwhile; then the next look tries.
const TRIES: u32 = 3;

/// Locks that a look would write.
pub(crate) type Proposed = BTreeMap<ImageName, Lock>;

/// The files of a commit of locks, and what they move, in words.
struct Change {
    files: BTreeMap<TreePath, Vec<u8>>,
    words: Vec<String>,
}

impl Driver<'_> {
    /// Whether this run's only output is a commit of locks.
    pub(crate) fn commits_locks(&self) -> bool {
        self.run.trigger == Trigger::Lock && matches!(self.watched.settings.locks, LockPolicy::Commit(_))
    }

    pub(crate) fn proposed(&self) -> MutexGuard<'_, Proposed> {
        self.proposed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the outside, pushes what moved, and ends the run.
    pub(crate) async fn look_and_commit(&self) -> Result<RunState, ControlError> {
        let LockPolicy::Commit(policy) = &self.watched.settings.locks else { return self.look().await };
        let Some(looked) = self.look_at_all().await? else { return Ok(RunState::Failed) };
        // What the server keeps of its own goes to git as well: overlays are for until the committed lock catches up.
        let locks = Locks::choose(&looked.definition, &self.overlays().await?, COMPRESSOR_VERSION);
        let kept = locks.images.into_iter().filter(|(_, lock)| matches!(lock.origin, LockOrigin::Overlay(_)));
        let mut wanted: Proposed = kept.map(|(image, lock)| (image, lock.lock)).collect();
        wanted.append(&mut self.proposed().clone());
        wanted.retain(|image, _| looked.images.contains(image));
        let branch = policy.branch.as_ref().unwrap_or(&self.run.branch);
        match self.push_locks(policy, branch, &wanted).await {
            Ok(pushed) => {
                let said = pushed.map(|(commit, words)| {
                    let images = words.join("; ");
                    format!("pushed {} to `{branch}`: {images}", &commit.as_str()[..12])
                });
                if said.is_some() {
                    self.watched.wake.wake("locks were pushed");
                }
                self.looked(&looked.failures, said).await
            }
            Err(error) => {
                let why = format!("the locks were not pushed to `{branch}`");
                Err(ControlError::Push { why, source: Box::new(error) })
            }
        }
    }

    /// Pushes the locks that the branch does not hold yet; none where it holds all.
    async fn push_locks(
        &self,
        policy: &CommitLocks,
        branch: &str,
        wanted: &Proposed,
    ) -> Result<Option<(CommitId, Vec<String>)>, SourceError> {
        let mirror = &self.watched.mirror;
        for _ in 0..TRIES {
            mirror.fetch().await?;
            let parent = mirror.head(branch).await?.unwrap_or_else(|| self.run.commit.clone());
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
                at: self.clock.now(),
            };
            let commit = mirror.commit(&new).await?;
            match mirror.push(&remote(mirror.remote(), policy)?, &commit, branch).await? {
                Pushed::Done => return Ok(Some((commit, words))),
                Pushed::Moved => tracing::info!(branch, "the branch moved while locks were committed"),
            }
        }
        Err(SourceError::Busy { remote: mirror.remote().clone(), branch: branch.to_owned() })
    }
}

/// What a commit on top of a tree writes: locks that answer what its images ask, differ from those that it holds, and move
/// nothing backwards.
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
fn remote(remote: &Remote, policy: &CommitLocks) -> Result<Remote, SourceError> {
    let Some(file) = &policy.token_file else { return Ok(remote.clone()) };
    let io = |source| SourceError::Io { path: file.clone(), source };
    let token = std::fs::read_to_string(file).map_err(io)?;
    // Other ways than https have credentials of their own.
    Ok(remote.with_credentials(&policy.user, token.trim()).unwrap_or_else(|| remote.clone()))
}
