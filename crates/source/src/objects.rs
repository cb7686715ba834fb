//! A session with `git cat-file --batch-command` (git 2.36 or newer): a commit with everything that a run
//! reads of it, from one process that is started while the commit is being fetched.
//!
//! ```text
//!  Reader ──CommitId──▶ blocking thread ──contents, info──▶ git
//!         ◀─Commit────                  ◀─────────────────
//! ```
//!
//! A failure here is not an error: the caller then reads the commit in the usual way, which reports the
//! error.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead as _, BufReader, PipeWriter, Read, Write as _};
use std::sync::{Arc, PoisonError};

use edgewright_model::format::reads_submodules;
use edgewright_model::names::CommitId;
use edgewright_model::tree::{ContentId, Entry, Tree, TreePath, is_loaded, is_pointer_sized};
use edgewright_process::OwnedTask;
use tokio::sync::{mpsc, oneshot};

use crate::bounds::{Files, check_loaded};
use crate::git::Git;
use crate::parse;
use crate::repository::{CommitInfo, Repository};

/// Number of queued requests; further callers wait until there is room.
const QUEUE: usize = 4;
/// Number of names requested before responses are read: fewer bytes than a pipe holds.
const WINDOW: usize = 256;
/// The largest directory or loaded file, in bytes.
const OBJECT_LIMIT: u64 = 64 * 1024 * 1024;
/// New contents up to this size in bytes are kept for packing.
const SMALL: u64 = 64 * 1024;
/// The size of all of them together, in bytes.
const SMALL_TOTAL: u64 = 4 * 1024 * 1024;

/// A commit with everything that a run reads of it.
#[derive(Debug)]
pub struct Commit {
    /// Author, time and subject.
    pub info: CommitInfo,
    /// Its files.
    pub tree: Tree,
}

/// Served in turn; an error ends the session.
type Question = Box<dyn FnOnce(&mut Objects) -> io::Result<()> + Send>;

/// A git process that reads commits; it ends with this value.
pub struct Reader {
    questions: mpsc::Sender<Question>,
    git: Git,
    _process: OwnedTask<()>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn start(repository: &Repository) -> Self {
        let (questions, mut asked) = mpsc::channel::<Question>(QUEUE);
        let command = repository.command().args(["cat-file", "--batch-command", "--buffer"]);
        let dialogue = command.run_dialogue(move |ask, answers| {
            let mut objects = Objects { ask, answers: BufReader::new(answers) };
            // The caller receives the end of the channel.
            while asked.blocking_recv().is_some_and(|question| question(&mut objects).is_ok()) {}
        });
        let process = OwnedTask::spawn(async move {
            if let Err(error) = dialogue.await {
                tracing::debug!(%error, "commit reader ended early");
            }
        });
        Self { questions, git: repository.git.clone(), _process: process }
    }

    /// The commit of a branch; `None` if there is no such branch.
    pub async fn branch(&self, name: &str) -> Option<CommitId> {
        // Git itself rejects such names.
        if name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return None;
        }
        let name = format!("refs/heads/{name}");
        self.ask(move |objects| objects.resolve(&name)).await
    }

    /// Reads a commit; `None` if it does not exist, or cannot be read in this way.
    pub async fn read(&self, commit: &CommitId) -> Option<Commit> {
        let (commit, git) = (commit.clone(), self.git.clone());
        self.ask(move |objects| objects.commit(&commit, &git)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Objects) -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |objects| {
            // The caller may be gone; the next request is served nevertheless.
            ask(objects).map(|value| drop(answer.send(value)))
        });
        self.questions.send(question).await.ok()?;
        answered.await.ok()
    }
}

struct Objects {
    ask: PipeWriter,
    answers: BufReader<Box<dyn Read + Send>>,
}

impl Objects {
    fn resolve(&mut self, name: &str) -> io::Result<CommitId> {
        let mut commit = None;
        self.ask("info", &[name], |_, head, _| {
            commit = head.id.parse().ok();
            Ok(())
        })?;
        commit.ok_or_else(|| unusable("branch"))
    }

    fn commit(&mut self, commit: &CommitId, git: &Git) -> io::Result<Commit> {
        let mut object = Vec::new();
        self.ask("contents", &[commit.as_str()], |_, head, answers| {
            // The rest of a long message is not shown.
            let mut whole = answers.take(head.size);
            whole.by_ref().take(parse::MAX_COMMIT_BYTES).read_to_end(&mut object)?;
            io::copy(&mut whole, &mut io::sink())?;
            answers.read_exact(&mut [0])
        })?;
        let (info, root) = parse::commit(commit, &object).ok_or_else(|| unusable("commit"))?;
        let mut tree = self.tree(&root)?;
        let has_submodules = tree.entries.values().any(Entry::is_submodule);
        check_loaded(&tree, is_loaded).map_err(io::Error::other)?;
        self.load(&mut tree, git, is_loaded)?;
        if has_submodules && reads_submodules(&tree) {
            // They may have to be fetched.
            return Err(unusable("tree"));
        }
        if tree.uses_lfs() {
            self.load(&mut tree, git, |_, entry| is_pointer_sized(entry))?;
        }
        Ok(Commit { info, tree })
    }

    /// All entries, a level of folders at a time.
    fn tree(&mut self, root: &str) -> io::Result<Tree> {
        let mut files = Files::default();
        let mut level = vec![(Vec::new(), root.to_owned())];
        while !level.is_empty() {
            let ids: Vec<&str> = level.iter().map(|(_, id)| id.as_str()).collect();
            let mut below = Vec::new();
            self.contents(&ids, |position, bytes| {
                let (folder, id) = &level[position];
                parse::directory((folder, &bytes), id.len() / 2, &mut files, &mut below)
                    .map_err(|_| unusable("directory"))
            })?;
            level = below;
        }
        let mut listed = files.listed;
        let files = listed.iter().filter(|(_, entry)| !entry.is_submodule());
        let files: BTreeSet<ContentId> = files.map(|(_, entry)| entry.content.clone()).collect();
        let ids: Vec<&str> = files.iter().map(ContentId::as_str).collect();
        let mut sizes = HashMap::new();
        self.info(&ids, |position, size| {
            sizes.insert(ids[position], size);
        })?;
        for (_, entry) in &mut listed {
            entry.size = sizes.get(entry.content.as_str()).copied().unwrap_or_default();
        }
        Ok(parse::entries(listed))
    }

    /// The bytes that planning reads, and small contents that are new: those are packed next.
    fn load(
        &mut self,
        tree: &mut Tree,
        git: &Git,
        is_read: impl Fn(&TreePath, &Entry) -> bool,
    ) -> io::Result<()> {
        let mut wanted = BTreeMap::new();
        {
            let mut cache = git.cache.lock().unwrap_or_else(PoisonError::into_inner);
            let mut small = SMALL_TOTAL;
            for (path, entry) in &tree.entries {
                let is_loaded = is_read(path, entry);
                let is_small = entry.size <= SMALL.min(small) && !entry.is_submodule();
                if !is_loaded && !is_small {
                    continue;
                }
                match cache.get(&entry.content) {
                    Some(content) if is_loaded => {
                        tree.contents.insert(entry.content.clone(), content);
                    }
                    Some(_) => {}
                    None => {
                        *wanted.entry(entry.content.clone()).or_default() |= is_loaded;
                        small = small.saturating_sub(entry.size);
                    }
                }
            }
        }
        let wanted: Vec<(ContentId, bool)> = wanted.into_iter().collect();
        let ids: Vec<&str> = wanted.iter().map(|(id, _)| id.as_str()).collect();
        let mut read: Vec<Arc<[u8]>> = Vec::with_capacity(ids.len());
        self.contents(&ids, |_, bytes| {
            read.push(bytes.into());
            Ok(())
        })?;
        let mut cache = git.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for ((id, is_loaded), bytes) in wanted.into_iter().zip(read) {
            cache.insert(id.clone(), Arc::clone(&bytes));
            if is_loaded {
                tree.contents.insert(id, bytes);
            }
        }
        Ok(())
    }

    fn contents(
        &mut self,
        names: &[&str],
        mut take: impl FnMut(usize, Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.ask("contents", names, |position, head, answers| {
            if head.size > OBJECT_LIMIT {
                return Err(unusable("object"));
            }
            let mut bytes = Vec::new();
            answers.take(head.size).read_to_end(&mut bytes)?;
            answers.read_exact(&mut [0])?;
            take(position, bytes)
        })
    }

    fn info(&mut self, names: &[&str], mut take: impl FnMut(usize, u64)) -> io::Result<()> {
        self.ask("info", names, |position, head, _| {
            take(position, head.size);
            Ok(())
        })
    }

    fn ask(
        &mut self,
        verb: &str,
        names: &[&str],
        mut take: impl FnMut(usize, Head<'_>, &mut dyn Read) -> io::Result<()>,
    ) -> io::Result<()> {
        for (number, window) in names.chunks(WINDOW).enumerate() {
            let mut questions = Vec::new();
            for name in window {
                writeln!(questions, "{verb} {name}")?;
            }
            questions.extend(b"flush\n");
            self.ask.write_all(&questions)?;
            for offset in 0..window.len() {
                let mut line = String::new();
                // A head is an id, a word and a number: anything longer is not one.
                self.answers.by_ref().take(200).read_line(&mut line)?;
                let head = Head::parse(&line).ok_or_else(|| unusable("response"))?;
                take(number * WINDOW + offset, head, &mut self.answers)?;
            }
        }
        Ok(())
    }
}

/// Git's header of an object.
struct Head<'a> {
    id: &'a str,
    size: u64,
}

impl<'a> Head<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (id, _, size) = (words.next()?, words.next()?, words.next()?);
        Some(Self { id, size: size.parse().ok()? })
    }
}

fn unusable(what: &str) -> io::Error {
    io::Error::other(format!("unusable {what} from git"))
}
