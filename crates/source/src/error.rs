//! What can go wrong with git, and what to do about it.

use std::io;
use std::path::PathBuf;

use edgewright_model::error::ErrorClass;
use edgewright_model::names::CommitId;
use edgewright_process::CommandError;

use crate::meaning::{Meaning, meaning};
use crate::remote::Remote;

/// Why a repository could not be polled, fetched or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The remote does not answer.
    #[error("cannot reach {remote}: {detail}")]
    Unreachable {
        /// Which remote.
        remote: Remote,
        /// In git's words.
        detail: String,
    },
    /// The remote says that there is no such repository, or hides it.
    #[error("there is no repository at {remote}: {detail}")]
    NoRepository {
        /// Which remote.
        remote: Remote,
        /// In git's words.
        detail: String,
    },
    /// The remote wants credentials, or other ones.
    #[error("{remote} refuses access: {detail}")]
    Refused {
        /// Which remote.
        remote: Remote,
        /// In git's words.
        detail: String,
    },
    /// There is a repository, but no commit in it.
    #[error("the repository at {remote} has no commits")]
    Empty {
        /// Which remote.
        remote: Remote,
    },
    /// The branch is not there.
    #[error("{remote} has no branch `{branch}`; it has {}", some_of(.known))]
    NoBranch {
        /// Which remote.
        remote: Remote,
        /// The branch.
        branch: String,
        /// Branches that are there.
        known: Vec<String>,
    },
    /// The commit is neither in the mirror nor to be had from the remote.
    #[error("commit {commit} is no longer in {remote}")]
    CommitGone {
        /// The commit.
        commit: CommitId,
        /// Which remote.
        remote: Remote,
    },
    /// Somebody else pushes all the time.
    #[error("branch `{branch}` of {remote} moves faster than a commit can be pushed to it")]
    Busy {
        /// Which remote.
        remote: Remote,
        /// The branch.
        branch: String,
    },
    /// A revision that names no commit.
    #[error("`{revision}` is no commit here")]
    UnknownRevision {
        /// As given.
        revision: String,
    },
    /// The folder is a bare repository, which has no working files.
    #[error("{} is a bare repository", .folder.display())]
    Bare {
        /// The folder.
        folder: PathBuf,
    },
    /// The local repository is broken.
    #[error("the git repository in {} is damaged: {detail}", .folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// In git's words.
        detail: String,
    },
    /// Git failed in another way.
    #[error("cannot {doing}")]
    Git {
        /// What was being done.
        doing: &'static str,
        /// How it failed.
        source: CommandError,
    },
    /// Git printed what this version does not understand.
    #[error("git's answer to `{doing}` is not understood: {text}")]
    Answer {
        /// What was asked.
        doing: &'static str,
        /// The part that is not understood.
        text: String,
    },
    /// A file of ours could not be read or written.
    #[error("cannot access {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Items named in a message.
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
            Self::Empty { .. } | Self::UnknownRevision { .. } | Self::Bare { .. } => ErrorClass::UserFault,
            Self::Git { source, .. } => source.class(),
            Self::Answer { .. } => ErrorClass::Bug,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Unreachable { .. } => "check the address and the network; the next poll tries again",
            Self::NoRepository { .. } => "check the address; private repositories may need credentials",
            Self::Refused { .. } => {
                "give credentials in the address (https://USER:TOKEN@HOST/…); for ssh, `ssh_key` and `known_hosts` of the source in the server's settings, or those of the account"
            }
            Self::Empty { .. } => "commit and push something; `edgewright init DIR` makes a sample",
            Self::NoBranch { .. } => "push the branch, or let the channel follow another one",
            Self::Busy { .. } => "the next look tries again; another branch may be pushed to instead",
            Self::CommitGone { .. } => {
                "it was force-pushed away; the branch's present commit is built instead"
            }
            Self::UnknownRevision { .. } => "give a branch, a tag or a commit id of this repository",
            Self::Bare { .. } => "give its address as file://PATH, or a folder with files",
            Self::Damaged { .. } => {
                "`git fsck` in it says more; mirrors of the server are fetched anew by themselves"
            }
            Self::Git { source, .. } if meaning(source.stderr_tail()) == Meaning::DiskFull => {
                "make room on the disk"
            }
            Self::Git { source, .. } => return source.hint(),
            Self::Answer { .. } => "please report this, with the version of git",
            Self::Io { .. } => "check the permissions and the room on the disk",
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
