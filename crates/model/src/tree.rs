//! A commit's files as data: `source` reads them once, every pure crate works on them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::InvalidName;

/// A path inside the repository: relative, `/`-separated UTF-8, without empty, `.` or `..` components.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

const PATH_RULE: &str = "use a relative path without empty, `.` or `..` components and control characters";

impl TreePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This path with another one below it.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self(format!("{}/{}", self.0, below.0))
    }

    /// The rest of this path below `folder`; `None` if it is not below it.
    pub fn below(&self, folder: &Self) -> Option<Self> {
        self.0.strip_prefix(&folder.0)?.strip_prefix('/').map(|rest| Self(rest.to_owned()))
    }

    /// The folder that holds this path; none at the top.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// The text after the last dot of the last component; `None` without a dot.
    pub fn extension(&self) -> Option<&str> {
        self.file_name().rsplit_once('.').map(|(_, extension)| extension)
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for TreePath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_valid = |part: &str| {
            !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains(char::is_control)
        };
        if text.len() <= 4096 && text.split('/').all(is_valid) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("path", PATH_RULE, text))
        }
    }
}

impl TryFrom<String> for TreePath {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.0
    }
}

/// A content's identity: git's object id in hex. Equal ids mean equal bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentId(Arc<str>);

impl ContentId {
    /// An object id as git prints it.
    pub fn new(hex: &str) -> Self {
        Self(hex.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A regular file with the executable bit.
    Executable,
    /// A symbolic link; its content is the target.
    Link,
    /// A submodule: its files are not part of this tree.
    Submodule,
}

/// One file, link or submodule of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The identity of its bytes.
    pub content: ContentId,
    /// Length in bytes; 0 for submodules.
    pub size: u64,
}

impl Entry {
    /// Whether its bytes are in another repository.
    pub fn is_submodule(&self) -> bool {
        self.kind == EntryKind::Submodule
    }
}

/// Files up to this size are loaded with the tree if [`is_loaded`] is true; larger ones are rejected by
/// `format`.
pub const LOADED_LIMIT: u64 = 1024 * 1024;

/// Maximum number of files and folders of a commit.
pub const MAX_TREE_ENTRIES: usize = 500_000;

/// Maximum number of components of a path of a commit.
pub const MAX_TREE_DEPTH: usize = 128;

/// Maximum length of all paths of a commit together, folders included, in bytes.
pub const MAX_TREE_PATH_BYTES: u64 = 64 * 1024 * 1024;

/// Maximum size of all files of a commit together that planning reads (see [`is_loaded`]), in bytes.
pub const MAX_TREE_LOADED_BYTES: u64 = 256 * 1024 * 1024;

/// Maximum characters that are kept of a path that no image can hold.
const MAX_INVALID_PATH: usize = 600;

/// The name of git's attribute files, which list the files that Git LFS stores.
pub const ATTRIBUTES: &str = ".gitattributes";

/// The name of folders whose small files are loaded, too: they hold the scripts of checks.
pub const CHECKS_FOLDER: &str = "checks";

/// A commit's files. Every entry is listed; the bytes are there only for what planning reads (see
/// [`is_loaded`]).
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// All entries, in path order.
    pub entries: BTreeMap<TreePath, Entry>,
    /// The bytes of the entries that planning reads.
    pub contents: HashMap<ContentId, Arc<[u8]>>,
    /// Paths of the commit that no image can hold. They are not among the entries.
    pub invalid: Vec<InvalidPath>,
}

/// A path of a commit that is not a valid [`TreePath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvalidPath {
    /// The longest valid leading part; `None` if the first component is invalid.
    pub folder: Option<TreePath>,
    /// Whether the invalid component is a folder's name, not the file's.
    pub is_folder: bool,
    /// The path, escaped; a long one is cut.
    pub escaped: String,
}

impl InvalidPath {
    /// Parses a path.
    pub fn parse(bytes: &[u8]) -> Result<TreePath, Self> {
        let text = std::str::from_utf8(bytes).ok();
        text.and_then(|text| text.parse().ok()).ok_or_else(|| Self::new(bytes))
    }

    fn new(bytes: &[u8]) -> Self {
        let mut folder: Option<TreePath> = None;
        let mut parts = bytes.split(|&byte| byte == b'/');
        for part in parts.by_ref() {
            let text = std::str::from_utf8(part).unwrap_or_default();
            let longer = folder.as_ref().map_or_else(|| text.to_owned(), |folder| format!("{folder}/{text}"));
            let Ok(longer) = longer.parse() else { break };
            folder = Some(longer);
        }
        let mut letters = bytes.utf8_chunks().flat_map(|chunk| {
            let invalid = chunk.invalid().iter().flat_map(|byte| byte.escape_ascii()).map(char::from);
            chunk.valid().escape_debug().chain(invalid)
        });
        let mut escaped: String = letters.by_ref().take(MAX_INVALID_PATH).collect();
        if letters.next().is_some() {
            escaped.push('…');
        }
        Self { folder, is_folder: parts.next().is_some(), escaped }
    }
}

/// Whether planning reads an entry's bytes: definitions, locks, templates, Containerfiles, ignore and
/// attribute files, scripts of checks, link targets.
pub fn is_loaded(path: &TreePath, entry: &Entry) -> bool {
    let name = path.file_name();
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    entry.size <= LOADED_LIMIT
        && match entry.kind {
            EntryKind::Link => true,
            EntryKind::Submodule => false,
            EntryKind::File | EntryKind::Executable => {
                matches!(extension, Some("yaml" | "j2" | "lock"))
                    || is_containerfile(name)
                    || matches!(name, ".containerignore" | ".dockerignore" | ATTRIBUTES)
                    || (entry.size <= crate::spec::SCRIPT_LIMIT
                        && path.as_str().split('/').rev().skip(1).any(|part| part == CHECKS_FOLDER))
            }
        }
}

/// Whether a file has the name of a Containerfile: `Containerfile`, `Containerfile.hmi`, `hmi.containerfile`,
/// `Dockerfile`.
pub fn is_containerfile(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("containerfile") || name.contains("dockerfile")
}

/// The attribute of files that Git LFS stores.
const LFS_FILTER: &[u8] = b"filter=lfs";

/// The first bytes of a Git LFS pointer.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Whether the bytes are a Git LFS pointer.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(LFS_POINTER)
}

/// Whether an entry may be a pointer of Git LFS: a version, a SHA-256 and a length have 126 to 145 bytes.
/// Pointers with extensions are longer, but rare: they are found when they are packed.
pub fn is_pointer_sized(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File | EntryKind::Executable) && (100..=200).contains(&entry.size)
}

impl Tree {
    /// The entry at a path.
    pub fn entry(&self, path: &TreePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The loaded bytes of the file or link at a path.
    pub fn content(&self, path: &TreePath) -> Option<&Arc<[u8]>> {
        self.contents.get(&self.entries.get(path)?.content)
    }

    /// All entries below a folder, with their path relative to it, in path order.
    pub fn below<'a>(&'a self, folder: &'a TreePath) -> impl Iterator<Item = (TreePath, &'a Entry)> + 'a {
        let first = TreePath(format!("{folder}/"));
        self.entries.range(first..).map_while(|(path, entry)| path.below(folder).map(|rest| (rest, entry)))
    }

    /// Whether any entry lies below this path, so that it is a folder.
    pub fn is_folder(&self, path: &TreePath) -> bool {
        self.below(path).next().is_some()
    }

    /// Whether the commit's attributes give any file to Git LFS. Only then are files tested for being
    /// pointers, so that other repositories do not pay for it; a pointer without attributes is found when it
    /// is packed.
    pub fn uses_lfs(&self) -> bool {
        let files = self.entries.iter().filter(|(path, _)| path.file_name() == ATTRIBUTES);
        let mut contents = files.filter_map(|(_, entry)| self.contents.get(&entry.content));
        contents.any(|bytes| bytes.windows(LFS_FILTER.len()).any(|part| part == LFS_FILTER))
    }

    /// The invalid paths below a folder.
    pub fn invalid_below<'a>(&'a self, folder: &'a TreePath) -> impl Iterator<Item = &'a InvalidPath> + 'a {
        self.invalid.iter().filter(move |path| {
            path.folder.as_ref().is_some_and(|at| at == folder || at.below(folder).is_some())
        })
    }

    /// Adds a file with its bytes: how tests build trees. The content id is not git's.
    pub fn insert(&mut self, path: TreePath, kind: EntryKind, bytes: &[u8]) {
        let content = ContentId::new(crate::Digest::of(bytes).hex());
        let size = bytes.len() as u64;
        self.contents.insert(content.clone(), bytes.into());
        self.entries.insert(path, Entry { kind, content, size });
    }
}
