//! Errors of git, with hints.

use std::io;
use std::path::PathBuf;

use edgewright_model::error::ErrorClass;
use edgewright_model::names::CommitId;
use edgewright_model::tree::TreePath;
use edgewright_process::CommandError;

use crate::bounds::Excess;
use crate::meaning::{Meaning, meaning};
use crate::remote::Remote;

/// Why a repository cannot be polled, fetched or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The remote does not respond.
    #[error("cannot reach {remote}: {detail}")]
    Unreachable {
        /// The remote.
        remote: Remote,
        /// Git's message.
        detail: String,
    },
    /// The remote has no such repository, or hides it.
    #[error("no repository at {remote}: {detail}")]
    NoRepository {
        /// The remote.
        remote: Remote,
        /// Git's message.
        detail: String,
    },
    /// The remote requires credentials, or other ones.
    #[error("access to {remote} denied: {detail}")]
    Refused {
        /// The remote.
        remote: Remote,
        /// Git's message.
        detail: String,
    },
    /// The repository has no commit.
    #[error("the repository at {remote} has no commits")]
    Empty {
        /// The remote.
        remote: Remote,
    },
    /// The branch does not exist.
    #[error("{remote} has no branch `{branch}`; it has {}", some_of(.known))]
    NoBranch {
        /// The remote.
        remote: Remote,
        /// The branch.
        branch: String,
        /// The existing branches.
        known: Vec<String>,
    },
    /// The commit is neither in the mirror nor in the remote.
    #[error("commit {commit} is no longer in {remote}")]
    CommitGone {
        /// The commit.
        commit: CommitId,
        /// The remote.
        remote: Remote,
    },
    /// Other clients push faster.
    #[error("cannot push to branch `{branch}` of {remote}: it moved before every attempt")]
    Busy {
        /// The remote.
        remote: Remote,
        /// The branch.
        branch: String,
    },
    /// A revision that does not name a commit.
    #[error("no commit `{revision}` in this repository")]
    UnknownRevision {
        /// The revision as given.
        revision: String,
    },
    /// The commit is larger than the limits of this program.
    #[error("cannot read {what}: {excess}")]
    TooLarge {
        /// The commit or folder, in words.
        what: String,
        /// The limit.
        excess: Excess,
    },
    /// A submodule cannot be read.
    #[error("cannot read the submodule `{path}`: {reason}")]
    Submodule {
        /// Its folder.
        path: TreePath,
        /// The cause.
        reason: String,
    },
    /// A submodule cannot be fetched.
    #[error("cannot fetch the submodule `{path}`")]
    SubmoduleFetch {
        /// Its folder.
        path: TreePath,
        /// The cause.
        source: Box<Self>,
    },
    /// The folder is a bare repository, which has no working files.
    #[error("cannot read files from {}: it is a bare repository", .folder.display())]
    Bare {
        /// The folder.
        folder: PathBuf,
    },
    /// The local repository is broken.
    #[error("the git repository in {} is damaged: {detail}", .folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// Git's message.
        detail: String,
    },
    /// Git failed in another way.
    #[error("cannot {doing}")]
    Git {
        /// The operation.
        doing: &'static str,
        /// The error of the process.
        source: CommandError,
    },
    /// Git printed output that this version cannot parse.
    #[error("unexpected output of git (`{doing}`): {text}")]
    Answer {
        /// The operation.
        doing: &'static str,
        /// The output that cannot be parsed.
        text: String,
    },
    /// A local file cannot be read or written.
    #[error("cannot access {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Number of items that are listed in a message.
const NAMED: usize = 8;

fn some_of(items: &[String]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let shown = items.iter().take(NAMED).map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl SourceError {
    pub(crate) fn submodule(path: &TreePath, reason: impl Into<String>) -> Self {
        Self::Submodule { path: path.clone(), reason: reason.into() }
    }

    /// Whether it is about a submodule, not about the repository.
    pub(crate) const fn is_of_submodule(&self) -> bool {
        matches!(self, Self::Submodule { .. } | Self::SubmoduleFetch { .. })
    }

    /// Whether reading the same commit again gives the same error: it exceeds a limit, or has a submodule
    /// that cannot be fetched for another reason than the network.
    pub fn is_of_commit(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::Submodule { .. } => true,
            Self::SubmoduleFetch { source, .. } => {
                matches!(source.class(), ErrorClass::NotFound | ErrorClass::Denied | ErrorClass::UserFault)
            }
            _ => false,
        }
    }

    /// The class.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::Damaged { .. } | Self::Io { .. } => {
                ErrorClass::Unavailable
            }
            Self::NoRepository { .. } | Self::NoBranch { .. } | Self::CommitGone { .. } => {
                ErrorClass::NotFound
            }
            Self::Refused { .. } => ErrorClass::Denied,
            Self::Empty { .. }
            | Self::UnknownRevision { .. }
            | Self::TooLarge { .. }
            | Self::Submodule { .. }
            | Self::Bare { .. } => ErrorClass::UserFault,
            Self::SubmoduleFetch { source, .. } => source.class(),
            Self::Git { source, .. } => source.class(),
            Self::Answer { .. } => ErrorClass::Bug,
        }
    }

    /// The next action, if it is known.
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Unreachable { .. } => "check the address and the network; the next poll tries again",
            Self::NoRepository { .. } => "check the address; a private repository needs credentials",
            Self::Refused { .. } => {
                "set credentials in the address (https://USER:TOKEN@HOST/…); for ssh, set `ssh_key` and `known_hosts` of the source in the server's settings, or add a key to the account"
            }
            Self::Empty { .. } => "push a commit; `edgewright init DIR` writes a sample",
            Self::NoBranch { .. } => "push the branch, or let the channel follow another one",
            Self::Busy { .. } => "wait for the next update check, or choose another branch to push to",
            Self::CommitGone { .. } => {
                "push the commit again if it is needed: a force-push removed it; the branch's present commit is built instead"
            }
            Self::UnknownRevision { .. } => "use a branch, a tag or a commit id of this repository",
            Self::TooLarge { excess, .. } => excess.hint(),
            Self::Submodule { .. } => {
                "correct .gitmodules; in a working folder, run `git submodule update --init --recursive`"
            }
            Self::SubmoduleFetch { source, .. } => return source.hint(),
            Self::Bare { .. } => "use its address file://PATH, or a folder with files",
            Self::Damaged { .. } => {
                "run `git fsck` in it for details; a mirror of the server is fetched again automatically"
            }
            Self::Git { source, .. } if meaning(source.stderr_tail()) == Meaning::DiskFull => {
                "free space on the disk"
            }
            Self::Git { source, .. } => return source.hint(),
            Self::Answer { .. } => "report this as a bug, with the version of git",
            Self::Io { .. } => "check the permissions and the free space on the disk",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        assert!(some_of(&names).ends_with("`7` and 12 more"));
        assert_eq!(some_of(&[]), "none");
    }
}
