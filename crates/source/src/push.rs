//! Commits made by Edgewright and pushed: locks that moved. Never a force-push: a concurrent push wins.

use std::collections::BTreeMap;

use edgewright_model::names::CommitId;
use edgewright_model::tree::TreePath;
use edgewright_process::CommandError;
use jiff::Timestamp;

use crate::error::SourceError;
use crate::git::{local, remote_error};
use crate::mirror::Mirror;
use crate::remote::Remote;

/// A new commit on top of another one, with some files replaced or added.
#[derive(Debug)]
pub struct NewCommit<'a> {
    /// Its parent.
    pub parent: &'a CommitId,
    /// The files with their whole contents.
    pub files: &'a BTreeMap<TreePath, Vec<u8>>,
    /// The author, `NAME <ADDRESS>`.
    pub author: &'a str,
    /// Its message.
    pub message: &'a str,
    /// Its time.
    pub at: Timestamp,
}

/// The result of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The remote accepted it.
    Done,
    /// The remote's branch is not at the commit's parent: fetch, and create the commit again.
    Moved,
}

impl Mirror {
    /// The commit of a branch, as of the last fetch.
    pub async fn head(&self, branch: &str) -> Result<Option<CommitId>, SourceError> {
        match self.repository().resolve(&format!("refs/heads/{branch}")).await {
            Ok(commit) => Ok(Some(commit)),
            Err(SourceError::UnknownRevision { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a commit in the mirror. No branch points to it: equal input gives an equal commit, and a
    /// commit that is never pushed is removed by garbage collection.
    pub async fn commit(&self, new: &NewCommit<'_>) -> Result<CommitId, SourceError> {
        let (git, folder) = (self.git(), self.folder());
        let place = tempfile::tempdir_in(git.home())
            .map_err(|source| SourceError::Io { path: git.home().to_owned(), source })?;
        let index = place.path().join("index");
        let command = || git.command().env("GIT_INDEX_FILE", &index).arg("--git-dir").arg(folder);
        local("read the commit", folder, command().args(["read-tree", new.parent.as_str()])).await?;
        for (path, bytes) in new.files {
            let hash = command().args(["hash-object", "-w", "--stdin"]).stdin_bytes(bytes.clone());
            let id = local("store a file", folder, hash).await?.text();
            let entry = format!("100644,{id},{path}");
            let add = command().args(["update-index", "--add", "--cacheinfo", &entry]);
            local("add a file", folder, add).await?;
        }
        let tree = local("write the files", folder, command().arg("write-tree")).await?.text();
        let (name, address) = match new.author.split_once('<') {
            Some((name, address)) => (name.trim(), address.trim_end_matches('>').trim()),
            None => (new.author.trim(), "edgewright@localhost"),
        };
        let commit = ["AUTHOR", "COMMITTER"].into_iter().fold(
            command().args(["commit-tree", &tree, "-p", new.parent.as_str(), "-F", "-"]),
            |commit, who| {
                commit
                    .env(format!("GIT_{who}_NAME"), name)
                    .env(format!("GIT_{who}_EMAIL"), address)
                    .env(format!("GIT_{who}_DATE"), format!("@{} +0000", new.at.as_second()))
            },
        );
        let id = local("make the commit", folder, commit.stdin_bytes(new.message)).await?.text();
        id.parse().map_err(|_| SourceError::Answer { doing: "commit-tree", text: id })
    }

    /// Pushes a commit to a branch, which is created if it is missing. `to` is the mirror's remote, with the
    /// credentials for writing.
    pub async fn push(&self, to: &Remote, commit: &CommitId, branch: &str) -> Result<Pushed, SourceError> {
        let command = self
            .git()
            .command_to(to)
            .arg("--git-dir")
            .arg(self.folder())
            .args(["push", "--porcelain", "--no-verify", "--recurse-submodules=no", "--", to.address()])
            .arg(format!("{commit}:refs/heads/{branch}"));
        let pushed =
            command.run_status().await.map_err(|error| remote_error("push to the remote", to, error))?;
        if pushed.success() {
            return Ok(Pushed::Done);
        }
        match verdict(&pushed.output.text()) {
            Verdict::Moved => Ok(Pushed::Moved),
            Verdict::Declined(detail) => Err(SourceError::Refused { remote: to.clone(), detail }),
            Verdict::Unknown => {
                let (command, stderr_tail) = ("git push".to_owned(), pushed.output.stderr_tail);
                let error = CommandError::Exit { command, ended: pushed.ended, stderr_tail };
                Err(remote_error("push to the remote", to, error))
            }
        }
    }
}

/// The result for the ref in the output of `git push --porcelain`.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Moved,
    Declined(String),
    Unknown,
}

fn verdict(output: &str) -> Verdict {
    let Some(line) = output.lines().find_map(|line| line.strip_prefix("!\t")) else {
        return Verdict::Unknown;
    };
    let reason = line.split_once('\t').map_or(line, |(_, reason)| reason);
    // `remote rejected` is also printed for a ref that another client moved between the check and the write.
    let races = ["[rejected]", "cannot lock ref", "failed to update ref", "stale info"];
    if races.iter().any(|word| reason.contains(word)) {
        return Verdict::Moved;
    }
    Verdict::Declined(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_branch_is_distinguished_from_a_protected_one() {
        let of = |line: &str| verdict(&format!("To /srv/a.git\n{line}\nDone\n"));
        let refs = "!\t0123:refs/heads/main";
        assert_eq!(of(&format!("{refs}\t[rejected] (fetch first)")), Verdict::Moved);
        assert_eq!(of(&format!("{refs}\t[rejected] (non-fast-forward)")), Verdict::Moved);
        assert_eq!(
            of(&format!("{refs}\t[remote rejected] (cannot lock ref 'refs/heads/main')")),
            Verdict::Moved
        );
        assert_eq!(
            of(&format!("{refs}\t[remote rejected] (protected branch hook declined)")),
            Verdict::Declined("[remote rejected] (protected branch hook declined)".to_owned())
        );
        assert_eq!(verdict("fatal: unable to access"), Verdict::Unknown);
    }
}
