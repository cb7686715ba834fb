//! Commits that are made here and pushed: locks that moved. Nothing is ever forced: whoever else pushed meanwhile wins.

use std::collections::BTreeMap;

use edgewright_model::names::CommitId;
use edgewright_model::tree::TreePath;
use edgewright_process::CommandError;
use jiff::Timestamp;

use crate::error::SourceError;
use crate::git::{local, remote_error};
use crate::mirror::Mirror;
use crate::remote::Remote;

/// A commit to be made of another one, with some files replaced or added.
#[derive(Debug)]
pub struct NewCommit<'a> {
    /// What it stands on.
    pub parent: &'a CommitId,
    /// The files, whole.
    pub files: &'a BTreeMap<TreePath, Vec<u8>>,
    /// Who it is by, `NAME <ADDRESS>`.
    pub author: &'a str,
    /// Its message.
    pub message: &'a str,
    /// Its time.
    pub at: Timestamp,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The remote has it.
    Done,
    /// The remote's branch stands elsewhere than the commit's parent: fetch, and make the commit anew.
    Moved,
}

impl Mirror {
    /// Where a branch stands, as of the last fetch.
    pub async fn head(&self, branch: &str) -> Result<Option<CommitId>, SourceError> {
        match self.repository().resolve(&format!("refs/heads/{branch}")).await {
            Ok(commit) => Ok(Some(commit)),
            Err(SourceError::UnknownRevision { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a commit in the mirror. No branch points to it: equal input gives an equal commit, and one that is never pushed
    /// is cleared away in time.
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

    /// Pushes a commit to a branch, which is made where it is missing. `to` is the mirror's remote, with the credentials
    /// that writing needs.
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
            Verdict::Unsaid => {
                let (command, stderr_tail) = ("git push".to_owned(), pushed.output.stderr_tail);
                let error = CommandError::Exit { command, ended: pushed.ended, stderr_tail };
                Err(remote_error("push to the remote", to, error))
            }
        }
    }
}

/// What `git push --porcelain` says of the one ref.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Moved,
    Declined(String),
    Unsaid,
}

fn verdict(output: &str) -> Verdict {
    let Some(line) = output.lines().find_map(|line| line.strip_prefix("!\t")) else { return Verdict::Unsaid };
    let said = line.split_once('\t').map_or(line, |(_, said)| said);
    // `remote rejected` is also what a ref says that somebody else moved between the look and the write.
    let races = ["[rejected]", "cannot lock ref", "failed to update ref", "stale info"];
    if races.iter().any(|word| said.contains(word)) {
        return Verdict::Moved;
    }
    Verdict::Declined(said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_that_moved_is_told_from_one_that_is_guarded() {
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
        assert_eq!(verdict("fatal: unable to access"), Verdict::Unsaid);
    }
}
