//! Reading a local object store: trees, contents, commits. Nothing here writes.

use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};

use edgewright_model::names::CommitId;
use edgewright_model::tree::{ContentId, Entry, Tree, TreePath, is_loaded, is_pointer_sized};
use edgewright_process::Command;
use jiff::Timestamp;

use crate::bounds::{Excess, check_loaded};
use crate::error::SourceError;
use crate::git::{Git, local, local_error};
use crate::objects::Reader;
use crate::parse::{self, Unlisted};

/// A commit's metadata, for display.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CommitInfo {
    /// Its id.
    pub commit: CommitId,
    /// The author's name.
    pub author: String,
    /// The author's email address.
    pub email: String,
    /// The commit time according to the commit.
    pub committed_at: Timestamp,
    /// The first line of its message.
    pub subject: String,
}

/// A git repository to read from. Clones share it; a temporary one is removed with its last clone.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) git: Git,
    pub(crate) folder: PathBuf,
    /// Removed with the last clone.
    #[expect(dead_code, reason = "held for its destructor, which removes the folder")]
    temporary: Option<Arc<tempfile::TempDir>>,
}

impl Repository {
    /// The repository (its `.git`, or the bare folder itself).
    pub(crate) const fn new(git: Git, folder: PathBuf) -> Self {
        Self { git, folder, temporary: None }
    }

    pub(crate) fn temporary(git: Git, folder: PathBuf, place: tempfile::TempDir) -> Self {
        Self { git, folder, temporary: Some(Arc::new(place)) }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a process that reads commits, including commits that are added later.
    pub fn reader(&self) -> Reader {
        Reader::start(self)
    }

    pub(crate) fn command(&self) -> Command {
        self.git.command().arg("--git-dir").arg(&self.folder)
    }

    /// The commit that a revision names: a branch, a tag, `HEAD~2`, a (shortened) id.
    pub async fn resolve(&self, revision: &str) -> Result<CommitId, SourceError> {
        let unknown = || SourceError::UnknownRevision { revision: revision.chars().take(200).collect() };
        if revision.is_empty() || revision.starts_with('-') || revision.contains(['\0', '\n']) {
            return Err(unknown());
        }
        let command = self.command().args([
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{revision}^{{commit}}"),
        ]);
        let finished = command
            .run_status()
            .await
            .map_err(|error| local_error("resolve a revision", &self.folder, error))?;
        // Some versions print `--end-of-options`, too.
        let text = finished.output.text();
        let last = text.lines().last().unwrap_or_default();
        if finished.success() { last.parse().map_err(|_| unknown()) } else { Err(unknown()) }
    }

    /// Author, time and subject of a commit.
    pub async fn commit_info(&self, commit: &CommitId) -> Result<CommitInfo, SourceError> {
        let command = self.command().args([
            "-c",
            "i18n.logOutputEncoding=UTF-8",
            "log",
            "-1",
            "--no-show-signature",
            parse::COMMIT_FORMAT,
            commit.as_str(),
            "--",
        ]);
        let (printed, _) = command
            .run_reader(|output| {
                let mut printed = Vec::new();
                output.take(parse::MAX_COMMIT_BYTES).read_to_end(&mut printed).map(|_| printed)
            })
            .await
            .map_err(|error| local_error("read a commit", &self.folder, error))?;
        let printed = printed.map_err(|source| SourceError::Io { path: self.folder.clone(), source })?;
        parse::commit_info(&printed)
    }

    /// Whether `new` contains `old`: if not, the branch was force-pushed.
    pub async fn is_ancestor(&self, old: &CommitId, new: &CommitId) -> Result<bool, SourceError> {
        let command = self.command().args(["merge-base", "--is-ancestor", old.as_str(), new.as_str()]);
        let finished = command
            .run_status()
            .await
            .map_err(|error| local_error("compare commits", &self.folder, error))?;
        // Any other result means no, including a missing old commit, which is usual after a force-push.
        Ok(finished.success())
    }

    /// The number of commits of `new` that are not in `old`.
    pub async fn missing(&self, old: &CommitId, new: &CommitId) -> Result<u64, SourceError> {
        let command = self.command().args(["rev-list", "--count", new.as_str(), &format!("^{old}"), "--"]);
        let output = local("count commits", &self.folder, command).await?;
        let text = output.text();
        text.parse().map_err(|_| SourceError::Answer { doing: "rev-list", text })
    }

    /// Whether the commit exists.
    pub async fn has(&self, commit: &CommitId) -> Result<bool, SourceError> {
        let command = self.command().args(["cat-file", "-e", &format!("{commit}^{{commit}}")]);
        let finished =
            command.run_status().await.map_err(|error| local_error("find a commit", &self.folder, error))?;
        Ok(finished.success())
    }

    /// All entries of a commit (or tree), with the bytes of those that planning reads.
    pub async fn read_tree(&self, commit: &CommitId) -> Result<Tree, SourceError> {
        self.read_complete(commit.as_str(), &format!("commit {commit}")).await
    }

    /// The tree of an object, its submodules left as they are; `what` names it in errors.
    pub(crate) async fn read_tree_alone(&self, id: &str, what: &str) -> Result<Tree, SourceError> {
        let too_large = |excess| SourceError::TooLarge { what: what.to_owned(), excess };
        let tree = self.list(id).await?.map_err(too_large)?;
        self.with_contents(tree, what).await
    }

    /// A listed tree with the bytes of the entries that planning reads; `what` names it in errors.
    pub(crate) async fn with_contents(&self, mut tree: Tree, what: &str) -> Result<Tree, SourceError> {
        let too_large = |excess| SourceError::TooLarge { what: what.to_owned(), excess };
        check_loaded(&tree, is_loaded).map_err(too_large)?;
        self.load(&mut tree, is_loaded).await?;
        if tree.uses_lfs() {
            self.load(&mut tree, |_, entry| is_pointer_sized(entry)).await?;
        }
        Ok(tree)
    }

    /// Lists a tree until it exceeds a limit.
    pub(crate) async fn list(&self, id: &str) -> Result<Result<Tree, Excess>, SourceError> {
        let command = self.command().args(["ls-tree", "-r", "-t", "-z", "-l", "--full-tree", id]);
        // Git may fail in folders beyond the limit: the limit is the cause to report.
        let found = Arc::new(OnceLock::new());
        let excess = Arc::clone(&found);
        let listed = command
            .run_reader(move |output| {
                let listed = parse::ls_tree(BufReader::new(output));
                if let Ok(Err(Unlisted::Excess(excess))) = listed {
                    found.get_or_init(|| excess);
                }
                listed
            })
            .await;
        if let Some(excess) = excess.get() {
            return Ok(Err(*excess));
        }
        let (listed, _) =
            listed.map_err(|error| local_error("list a commit's files", &self.folder, error))?;
        match listed {
            Ok(Ok(tree)) => Ok(Ok(tree)),
            Ok(Err(Unlisted::Excess(excess))) => Ok(Err(excess)),
            Ok(Err(Unlisted::Answer(text))) => Err(SourceError::Answer { doing: "ls-tree", text }),
            Err(source) => Err(SourceError::Io { path: self.folder.clone(), source }),
        }
    }

    /// Puts the bytes of some entries into the tree.
    async fn load(
        &self,
        tree: &mut Tree,
        is_wanted: impl Fn(&TreePath, &Entry) -> bool,
    ) -> Result<(), SourceError> {
        let mut missing = Vec::new();
        {
            let mut cache = self.git.cache.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, entry) in tree.entries.iter().filter(|(path, entry)| is_wanted(path, entry)) {
                if tree.contents.contains_key(&entry.content) {
                    continue;
                }
                if let Some(content) = cache.get(&entry.content) {
                    tree.contents.insert(entry.content.clone(), content);
                } else {
                    missing.push(entry.content.clone());
                }
            }
        }
        missing.sort_unstable();
        missing.dedup();
        let loaded = self
            .stream(missing, |contents| {
                let mut loaded: Vec<(ContentId, Arc<[u8]>)> = Vec::new();
                while let Some(content) = contents.next_with(|id, _, content| {
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes)?;
                    Ok((id.clone(), bytes.into()))
                })? {
                    loaded.push(content);
                }
                Ok(loaded)
            })
            .await?;
        let mut cache = self.git.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, bytes) in loaded {
            cache.insert(id.clone(), Arc::clone(&bytes));
            tree.contents.insert(id, bytes);
        }
        Ok(())
    }

    /// One content's bytes.
    pub async fn read(&self, id: &ContentId, limit: usize) -> Result<Vec<u8>, SourceError> {
        let command = self.command().args(["cat-file", "blob", id.as_str()]).stdout_limit(limit);
        Ok(local("read a file", &self.folder, command).await?.stdout)
    }

    /// Passes contents in the requested order to a blocking closure, one after the other, without keeping
    /// them.
    pub async fn stream<T: Send + 'static>(
        &self,
        ids: Vec<ContentId>,
        read: impl FnOnce(&mut Contents) -> io::Result<T> + Send + 'static,
    ) -> Result<T, SourceError> {
        let io_error = |source| SourceError::Io { path: self.folder.clone(), source };
        if ids.is_empty() {
            let mut none = Contents { stream: BufReader::new(Box::new(io::empty())), left: ids.into_iter() };
            return read(&mut none).map_err(io_error);
        }
        if let Some(kept) = self.kept(&ids) {
            let mut kept =
                Contents { stream: BufReader::new(Box::new(io::Cursor::new(kept))), left: ids.into_iter() };
            return read(&mut kept).map_err(io_error);
        }
        let mut input = Vec::with_capacity(ids.len() * 65);
        for id in &ids {
            input.extend_from_slice(id.as_str().as_bytes());
            input.push(b'\n');
        }
        let (result, _) = self
            .command()
            .args(["cat-file", "--batch"])
            .stdin_bytes(input)
            .run_reader(move |stream| {
                read(&mut Contents { stream: BufReader::new(stream), left: ids.into_iter() })
            })
            .await
            .map_err(|error| local_error("read files", &self.folder, error))?;
        result.map_err(|source| {
            if is_missing(&source) {
                return SourceError::Damaged { folder: self.folder.clone(), detail: source.to_string() };
            }
            io_error(source)
        })
    }

    /// The contents as git would print them, if all of them are in memory.
    fn kept(&self, ids: &[ContentId]) -> Option<Vec<u8>> {
        let mut cache = self.git.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut printed = Vec::new();
        for id in ids {
            let content = cache.get(id)?;
            printed.extend_from_slice(format!("{} blob {}\n", id.as_str(), content.len()).as_bytes());
            printed.extend_from_slice(&content);
            printed.push(b'\n');
        }
        Some(printed)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("object {0} is missing")]
struct Missing(String);

/// Whether the error means that a requested content is not in the repository.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Missing>)
}

/// Contents as printed by `git cat-file --batch`.
pub struct Contents {
    stream: BufReader<Box<dyn Read + Send>>,
    left: std::vec::IntoIter<ContentId>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("left", &self.left.len()).finish_non_exhaustive()
    }
}

impl Contents {
    /// The next content: id, length and a reader of its bytes; `None` at the end. Unread bytes are skipped.
    pub fn next_with<T>(
        &mut self,
        read: impl FnOnce(&ContentId, u64, &mut dyn Read) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let Some(id) = self.left.next() else { return Ok(None) };
        let mut head = String::new();
        // A head is an id, a word and a number: anything longer is not one.
        self.stream.by_ref().take(200).read_line(&mut head)?;
        let missing = || io::Error::other(Missing(id.as_str().to_owned()));
        let mut words = head.split_ascii_whitespace();
        let (Some(_), Some("blob"), Some(size)) = (words.next(), words.next(), words.next()) else {
            return Err(missing());
        };
        let size: u64 = size.parse().map_err(|_| missing())?;
        let mut content = self.stream.by_ref().take(size);
        let value = read(&id, size, &mut content)?;
        io::copy(&mut content, &mut io::sink())?;
        let mut end = [0];
        self.stream.read_exact(&mut end)?;
        Ok(Some(value))
    }
}
