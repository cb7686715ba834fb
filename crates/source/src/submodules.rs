//! Pinned submodules: the files of the commits that a tree records, as a part of that tree.
//!
//! ```text
//! tree ─▶ its submodules, their addresses ─▶ commits that are here: their files, and again their submodules
//!                                        └─▶ the others: missing ─▶ fetched by a mirror, or lent by a folder
//! ```
//!
//! Only if `submodules: true` is in the commit's `edgewright.yaml`. The objects are in repositories of their
//! own inside of the mirror, which borrows them: contents have the same ids as all others.

mod address;
mod fetch;

use std::collections::BTreeMap;

use edgewright_model::format::reads_submodules;
use edgewright_model::names::CommitId;
use edgewright_model::tree::{Entry, EntryKind, MAX_TREE_ENTRIES, Tree, TreePath};

use crate::bounds::{Excess, Files};
use crate::error::SourceError;
use crate::git::{local, local_error};
use crate::remote::Remote;
use crate::repository::Repository;

/// Maximum number of submodules of a commit, those of submodules included.
pub(crate) const MAX_SUBMODULES: usize = 64;
/// Maximum number of submodules inside each other.
pub(crate) const MAX_SUBMODULE_DEPTH: usize = 4;
/// Maximum size of what git prints of a `.gitmodules` file, in bytes.
const MAX_GITMODULES_BYTES: usize = 256 * 1024;

/// The file that lists the addresses of submodules.
const GITMODULES: &str = ".gitmodules";
/// Folders whose own folders define images and the like: those are in the repository itself.
const DEFINITIONS: [&str; 3] = ["images", "sites", "exceptions"];

/// A submodule whose commit is not in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Its folder.
    pub(crate) path: TreePath,
    /// The recorded commit.
    pub(crate) commit: CommitId,
    /// Where it comes from; `None` if the repository's own address is not known.
    pub(crate) remote: Option<Remote>,
}

/// A tree with the files of its submodules, as far as they are here.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub(crate) tree: Tree,
    pub(crate) missing: Vec<Missing>,
}

/// A folder that is the top of a repository: the tree's own, or a submodule's.
struct Level {
    path: Option<TreePath>,
    remote: Option<Remote>,
    depth: usize,
}

/// The path of an entry below a folder; the top has none.
fn below(folder: Option<&TreePath>, path: &TreePath) -> TreePath {
    folder.map_or_else(|| path.clone(), |folder| folder.join(path))
}

/// Whether a submodule here stays what it is: an error of the definition.
fn is_definition(path: &TreePath) -> bool {
    let mut parts = path.as_str().split('/');
    parts.next().is_some_and(|top| DEFINITIONS.contains(&top)) && parts.nth(1).is_none()
}

impl Repository {
    /// A tree with its submodules. `remote` is the repository's own address.
    pub(crate) async fn read_expanded(
        &self,
        id: &str,
        what: &str,
        remote: Option<&Remote>,
    ) -> Result<Expanded, SourceError> {
        let too_large = |excess| SourceError::TooLarge { what: what.to_owned(), excess };
        let tree = self.read_tree_alone(id, what).await?;
        let has_submodules = tree.entries.values().any(Entry::is_submodule);
        if !has_submodules || !reads_submodules(&tree) {
            return Ok(Expanded { tree, missing: Vec::new() });
        }
        let mut expansion = Expansion::new(tree).map_err(too_large)?;
        let mut levels = vec![Level { path: None, remote: remote.cloned(), depth: 0 }];
        while let Some(level) = levels.pop() {
            let addresses = self.addresses(&expansion.tree, level.path.as_ref()).await?;
            for (path, commit) in expansion.submodules(level.path.as_ref()) {
                expansion.count(&path)?;
                if level.depth == MAX_SUBMODULE_DEPTH {
                    let reason = format!("more than {MAX_SUBMODULE_DEPTH} submodules are inside each other");
                    return Err(SourceError::submodule(&path, reason));
                }
                let own = level.path.as_ref().map_or_else(|| Some(path.clone()), |top| path.below(top));
                let url = own.and_then(|own| addresses.get(own.as_str()));
                let Some(url) = url else {
                    let reason = format!("{GITMODULES} has no `url` for it");
                    return Err(SourceError::submodule(&path, reason));
                };
                let resolved = level.remote.as_ref().map(|base| address::resolve(url, base, remote));
                let resolved =
                    resolved.transpose().map_err(|reason| SourceError::submodule(&path, reason))?;
                if !self.has(&commit).await? {
                    expansion.missing.push(Missing { path, commit, remote: resolved });
                    continue;
                }
                let files = self.list(commit.as_str()).await?.map_err(too_large)?;
                expansion.add(&path, files).map_err(too_large)?;
                levels.push(Level { path: Some(path), remote: resolved, depth: level.depth + 1 });
            }
        }
        let Expansion { tree, missing, .. } = expansion;
        Ok(Expanded { tree: self.with_contents(tree, what).await?, missing })
    }

    /// The addresses in a `.gitmodules` file, by path. Git reads it, without other files that it includes.
    async fn addresses(
        &self,
        tree: &Tree,
        folder: Option<&TreePath>,
    ) -> Result<BTreeMap<String, String>, SourceError> {
        let file = GITMODULES.parse().ok().map(|file| below(folder, &file));
        let entry = file.and_then(|file| tree.entry(&file));
        let Some(entry) = entry.filter(|entry| matches!(entry.kind, EntryKind::File | EntryKind::Executable))
        else {
            return Ok(BTreeMap::new());
        };
        let blob = entry.content.as_str();
        let command = self
            .command()
            .args(["config", "--null", "--no-includes", "--blob", blob, "--get-regexp"])
            .arg("^submodule\\..*\\.(path|url)$")
            .stdout_limit(MAX_GITMODULES_BYTES);
        let finished = command
            .run_status()
            .await
            .map_err(|error| local_error("read .gitmodules", &self.folder, error))?;
        // Nothing that matches, or a file that git cannot read: no submodule has an address.
        Ok(if finished.success() { paired(&finished.output.stdout) } else { BTreeMap::new() })
    }

    /// A tree whose submodules must be here.
    pub(crate) async fn read_complete(&self, id: &str, what: &str) -> Result<Tree, SourceError> {
        let Expanded { tree, missing } = self.read_expanded(id, what, None).await?;
        match missing.first() {
            None => Ok(tree),
            Some(Missing { path, commit, .. }) => {
                Err(SourceError::submodule(path, format!("commit {commit} is not checked out")))
            }
        }
    }

    /// Borrows the objects of another repository, by the path of its objects: absolute, or relative to this
    /// repository's own.
    pub(crate) async fn borrow(&self, objects: &str) -> Result<(), SourceError> {
        let file = self.folder.join("objects/info/alternates");
        let io_error = |source| SourceError::Io { path: file.clone(), source };
        let old = match tokio::fs::read_to_string(&file).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(io_error)?,
        };
        if old.lines().any(|line| line == objects) {
            return Ok(());
        }
        let fresh = file.with_extension("new");
        tokio::fs::create_dir_all(self.folder.join("objects/info")).await.map_err(io_error)?;
        tokio::fs::write(&fresh, format!("{old}{objects}\n")).await.map_err(io_error)?;
        tokio::fs::rename(&fresh, &file).await.map_err(io_error)
    }

    /// Borrows the objects of the submodules that are checked out in a folder, then reads its files again.
    pub(crate) async fn read_checked_out(
        &self,
        id: &str,
        what: &str,
        folder: &std::path::Path,
    ) -> Result<Tree, SourceError> {
        for _ in 0..=MAX_SUBMODULE_DEPTH {
            let Expanded { tree, missing } = self.read_expanded(id, what, None).await?;
            if missing.is_empty() {
                return Ok(tree);
            }
            for Missing { path, .. } in missing {
                let folder = folder.join(path.as_str());
                // In an empty folder git would find the repository around it.
                if !tokio::fs::try_exists(folder.join(".git")).await.unwrap_or(false) {
                    continue;
                }
                let command = self.git.command().arg("-C").arg(&folder);
                let command = command.args(["rev-parse", "--git-path", "objects"]);
                let objects = local("find the submodule's objects", &folder, command).await?.text();
                if let Ok(objects) = tokio::fs::canonicalize(folder.join(objects)).await {
                    self.borrow(&objects.display().to_string()).await?;
                }
            }
        }
        self.read_complete(id, what).await
    }
}

/// What `git config --null --get-regexp` prints: the `url` of each `path`.
fn paired(printed: &[u8]) -> BTreeMap<String, String> {
    let (mut paths, mut urls) = (BTreeMap::new(), BTreeMap::new());
    for record in printed.split(|byte| *byte == 0) {
        let Ok(record) = std::str::from_utf8(record) else { continue };
        let Some((key, value)) = record.split_once('\n') else { continue };
        let Some((name, key)) = key.rsplit_once('.') else { continue };
        let all = if key == "path" { &mut paths } else { &mut urls };
        all.insert(name.to_owned(), value.to_owned());
    }
    paths.into_iter().filter_map(|(name, path)| Some((path, urls.remove(&name)?))).collect()
}

/// A tree that grows within the limits of a commit.
struct Expansion {
    tree: Tree,
    files: Files,
    missing: Vec<Missing>,
    count: usize,
}

impl Expansion {
    fn new(tree: Tree) -> Result<Self, Excess> {
        let mut files = Files::default();
        tree.entries.keys().try_for_each(|path| files.count(path.as_str().as_bytes()))?;
        Ok(Self { tree, files, missing: Vec::new(), count: 0 })
    }

    /// The submodules of a repository in the tree that are still to be read, with their commits.
    fn submodules(&self, folder: Option<&TreePath>) -> Vec<(TreePath, CommitId)> {
        let is_here = |path: &TreePath| folder.is_none_or(|folder| path.below(folder).is_some());
        let all = self.tree.entries.iter().filter(|(_, entry)| entry.is_submodule());
        let submodules = all.filter(|(path, _)| is_here(path) && !is_definition(path));
        let is_missing = |path: &TreePath| self.missing.iter().any(|missing| missing.path == *path);
        submodules
            .filter(|(path, _)| !is_missing(path))
            .filter_map(|(path, entry)| Some((path.clone(), entry.content.as_str().parse().ok()?)))
            .collect()
    }

    fn count(&mut self, path: &TreePath) -> Result<(), SourceError> {
        self.count += 1;
        if self.count > MAX_SUBMODULES {
            return Err(SourceError::submodule(
                path,
                format!("there are more than {MAX_SUBMODULES} submodules"),
            ));
        }
        Ok(())
    }

    /// Puts the files of a submodule in the place of its entry.
    fn add(&mut self, folder: &TreePath, files: Tree) -> Result<(), Excess> {
        self.tree.entries.remove(folder);
        for (path, entry) in files.entries {
            let text = format!("{folder}/{path}");
            self.files.count(text.as_bytes())?;
            match text.parse() {
                Ok(path) => drop(self.tree.entries.insert(path, entry)),
                // Valid alone, but too long here.
                Err(_) => return Err(Excess::Entries(MAX_TREE_ENTRIES)),
            }
        }
        self.tree.invalid.extend(files.invalid.into_iter().map(|mut invalid| {
            invalid.folder = Some(invalid.folder.map_or_else(|| folder.clone(), |at| folder.join(&at)));
            invalid.escaped = format!("{folder}/{}", invalid.escaped);
            invalid
        }));
        self.tree.invalid.sort();
        Ok(())
    }
}
