//! A folder with its uncommitted files.
//!
//! A temporary bare repository borrows the objects of the folder's own one, if it has one; index and new
//! objects live in the temporary one. Nothing in the user's repository is written. `.gitignore` files in the
//! folder are respected.

use std::path::{Path, PathBuf};

use edgewright_model::names::CommitId;
use edgewright_model::tree::Tree;

use crate::error::SourceError;
use crate::git::{Git, local, local_error};
use crate::repository::Repository;

/// A folder's files at one moment.
#[derive(Debug, Clone)]
pub struct Worktree {
    /// All files that git does not ignore.
    pub tree: Tree,
    /// The tree's object id.
    tree_id: String,
    /// Their contents; temporary, removed with the last clone.
    pub repository: Repository,
    /// The checked-out commit, if the folder is in a git repository with a commit.
    pub head: Option<CommitId>,
    /// The checked-out branch.
    pub branch: Option<String>,
    /// Whether the files differ from that commit; true without one.
    pub dirty: bool,
}

/// The state of the folder's own repository.
#[derive(Debug, Default)]
struct Own {
    objects: Option<PathBuf>,
    index: Option<PathBuf>,
    exclude: Option<PathBuf>,
    format: String,
    head: Option<CommitId>,
    branch: Option<String>,
    /// The committed tree of this folder.
    tree: Option<String>,
}

impl Worktree {
    /// Reads a folder, which may be in a repository, be one, or be outside of git.
    pub async fn read(git: &Git, folder: &Path) -> Result<Self, SourceError> {
        let io_error = |source| SourceError::Io { path: folder.to_owned(), source };
        let folder = tokio::fs::canonicalize(folder).await.map_err(io_error)?;
        drop(tokio::fs::read_dir(&folder).await.map_err(io_error)?);
        if Git::looks_bare(&folder) {
            return Err(SourceError::Bare { folder });
        }
        let own = Own::ask(git, &folder).await?;
        let place = tempfile::Builder::new().prefix("edgewright-worktree-").tempdir().map_err(io_error)?;
        let shadow = place.path().to_owned();
        let init = git.command().args(["init", "--quiet", "--bare", "--template="]);
        let init = init.arg(format!("--object-format={}", own.format)).arg(&shadow);
        local("make a temporary repository", &shadow, init).await?;
        own.lend(&shadow).map_err(io_error)?;

        let command =
            || git.command().arg("--git-dir").arg(&shadow).arg("--work-tree").arg(&folder).cwd(&folder);
        let add = command().args([
            "-c",
            "core.bare=false",
            "-c",
            "advice.addEmbeddedRepo=false",
            "add",
            "--all",
            "--",
            ".",
        ]);
        local("read the folder's files", &folder, add).await?;
        let tree_id = local("write a tree", &folder, command().arg("write-tree")).await?.text();
        let repository = Repository::temporary(git.clone(), shadow, place);
        let tree = repository.read_checked_out(&tree_id, "the folder's files", &folder).await?;
        Ok(Self {
            tree,
            tree_id: tree_id.clone(),
            repository,
            dirty: own.tree.as_ref() != Some(&tree_id),
            head: own.head,
            branch: own.branch,
        })
    }

    /// The object id of the tree: equal for equal files.
    pub fn tree_id(&self) -> &str {
        &self.tree_id
    }

    /// The branch that [`Worktree::publish`] creates if none is checked out.
    const DETACHED: &str = "worktree";

    /// Puts the files as a commit on a branch of the temporary repository, so that a mirror can fetch them:
    /// the commit that is checked out if nothing differs from it, else a commit on top of it. Equal files
    /// give an equal commit.
    pub async fn publish(&self, git: &Git) -> Result<(String, CommitId), SourceError> {
        let folder = self.repository.folder();
        let branch = self.branch.clone().unwrap_or_else(|| Self::DETACHED.to_owned());
        // A repository for one command need not survive a loss of power.
        let git_here = || git.command().args(["-c", "core.fsync=none"]);
        let command = || git_here().arg("--git-dir").arg(folder);
        let commit = match &self.head {
            Some(head) if !self.dirty => head.clone(),
            head => {
                let mut message = "uncommitted changes".to_owned();
                let mut commit = command().arg("commit-tree");
                if let Some(head) = head {
                    message = format!("uncommitted changes on {}", &head.as_str()[..12]);
                    commit = commit.args(["-p", head.as_str()]);
                }
                let commit = commit.args(["-m", &message]).arg(&self.tree_id);
                let commit = ["AUTHOR", "COMMITTER"].into_iter().fold(commit, |commit, who| {
                    commit
                        .env(format!("GIT_{who}_NAME"), "working tree")
                        .env(format!("GIT_{who}_EMAIL"), "nobody@localhost")
                        .env(format!("GIT_{who}_DATE"), SNAPSHOT_DATE)
                });
                let id = local("commit the folder's files", folder, commit).await?.text();
                id.parse().map_err(|_| SourceError::Answer { doing: "commit-tree", text: id })?
            }
        };
        let name = format!("refs/heads/{branch}");
        local("name the commit", folder, command().args(["update-ref", &name, commit.as_str()])).await?;
        local("name the branch", folder, command().args(["symbolic-ref", "HEAD", &name])).await?;
        Ok((branch, commit))
    }
}

/// The date of commits of uncommitted files: constant, so that equal files give an equal commit.
const SNAPSHOT_DATE: &str = "@1704067200 +0000";

impl Own {
    async fn ask(git: &Git, folder: &Path) -> Result<Self, SourceError> {
        let ask = async |arguments: &[&str]| {
            let finished = git.command().arg("-C").arg(folder).args(arguments).run_status().await;
            let finished = finished.map_err(|error| local_error("inspect the folder", folder, error))?;
            Ok::<_, SourceError>(finished.success().then(|| finished.output.text()))
        };
        let paths = [
            "rev-parse",
            "--show-object-format",
            "--git-path",
            "objects",
            "--git-path",
            "index",
            "--git-path",
            "info/exclude",
        ];
        let Some(answer) = ask(&paths).await? else {
            return Ok(Self { format: "sha1".to_owned(), ..Self::default() });
        };
        let mut lines = answer.lines();
        let format = lines.next().unwrap_or("sha1").to_owned();
        let mut path = || lines.next().map(|line| folder.join(line));
        let (objects, index, exclude) = (path(), path(), path());
        // The index describes exactly this folder only at the top.
        let top = ask(&["rev-parse", "--show-prefix"]).await?.is_some_and(|prefix| prefix.is_empty());
        Ok(Self {
            objects,
            index: index.filter(|_| top),
            exclude: exclude.filter(|_| top),
            format,
            head: ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
                .await?
                .and_then(|text| text.parse().ok()),
            branch: ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]).await?,
            tree: ask(&["rev-parse", "--verify", "--quiet", if top { "HEAD^{tree}" } else { "HEAD:./" }])
                .await?,
        })
    }

    /// Borrows objects, and copies the index with its file states, so that unchanged files are not read
    /// again.
    fn lend(&self, shadow: &Path) -> std::io::Result<()> {
        if let Some(objects) = &self.objects {
            let mut line = objects.canonicalize()?.into_os_string();
            line.push("\n");
            std::fs::create_dir_all(shadow.join("objects/info"))?;
            std::fs::write(shadow.join("objects/info/alternates"), line.as_encoded_bytes())?;
        }
        let copies = [(&self.index, "index"), (&self.exclude, "info/exclude")];
        for (from, to) in copies {
            if let Some(from) = from.as_ref().filter(|from| from.is_file()) {
                std::fs::create_dir_all(shadow.join("info"))?;
                let copy = shadow.join(to);
                // git reads a file again that is not older than the index: it may have changed after it was
                // added, without a difference in size or time. Should the index change now, its time is not later
                // than what is copied.
                let modified = std::fs::metadata(from)?.modified()?;
                std::fs::copy(from, &copy)?;
                std::fs::File::options().append(true).open(&copy)?.set_modified(modified)?;
            }
        }
        Ok(())
    }
}
