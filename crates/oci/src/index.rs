//! The entries of a root file system: directories with their owner and mode, symbolic links, and the names of
//! all others.
//!
//! A [`LayerIndex`] is built while a layer is compressed and cached by layer digest ([`Cache`]); merged in
//! layer order, they give the [`Index`] of a root file system, which `files` steps are resolved against
//! without unpacking anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use edgewright_model::Digest;
use serde::{Deserialize, Serialize};

use crate::layer::{Entry, Guard, Kind, LayerError, decompress, read_entries};

pub(crate) const WHITEOUT: &str = ".wh.";
pub(crate) const OPAQUE: &str = ".wh..wh..opq";
/// Version of the cache's format: part of the file names.
const CACHE_FORMAT: u32 = 2;

/// The entry at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A directory.
    #[serde(rename = "d")]
    Directory(Directory),
    /// A symbolic link with its target.
    #[serde(rename = "l")]
    Link(String),
    /// Any other entry.
    #[serde(rename = "f")]
    Other,
}

/// A directory's own metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Permission bits.
    #[serde(rename = "m")]
    pub mode: u32,
    /// Numeric owner.
    #[serde(rename = "u")]
    pub user: u64,
    /// Numeric group.
    #[serde(rename = "g")]
    pub group: u64,
    /// Modification time in seconds since 1970.
    #[serde(rename = "t")]
    pub time: u64,
    /// Extended attributes.
    #[serde(rename = "x", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// Permission bits and owner of an entry that is not a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits.
    #[serde(rename = "m")]
    pub mode: u32,
    /// Numeric owner.
    #[serde(rename = "u")]
    pub user: u64,
    /// Numeric group.
    #[serde(rename = "g")]
    pub group: u64,
}

impl Attributes {
    /// Most files' attributes, which an index does not hold.
    const COMMON: Self = Self { mode: 0o644, user: 0, group: 0 };
}

/// The entries and whiteouts of one layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerIndex {
    nodes: BTreeMap<String, Node>,
    whiteouts: BTreeSet<String>,
    opaque: BTreeSet<String>,
    /// Of files with others than [`Attributes::COMMON`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, Attributes>,
}

impl LayerIndex {
    /// Reads an uncompressed tar to its end. Blocking.
    pub fn scan(tar: impl Read) -> Result<Self, LayerError> {
        let mut index = Self::default();
        read_entries(tar, |entry, _| {
            index.record(&entry);
            Ok(())
        })?;
        Ok(index)
    }

    /// Reads a compressed layer to its end, as long as `is_over` is false; gives what is left of `limit`
    /// bytes, too. Blocking.
    pub fn scan_blob(
        blob: impl Read + Send,
        media_type: &str,
        limit: u64,
        is_over: impl Fn() -> bool,
    ) -> Result<(Self, u64), LayerError> {
        let mut tar = Guard::new(decompress(blob, media_type)?, limit, is_over);
        let index = Self::scan(&mut tar)?;
        Ok((index, tar.left()))
    }

    pub(crate) fn record(&mut self, entry: &Entry) {
        // A step cannot refer to names that are not UTF-8; they are only kept as names.
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == OPAQUE {
            self.opaque.insert(parent.to_owned());
            return;
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            self.whiteouts.insert(join(parent, hidden));
            return;
        }
        let node = match entry.kind {
            Kind::Directory => Node::Directory(Directory {
                mode: entry.mode,
                user: entry.user,
                group: entry.group,
                time: entry.time,
                xattrs: entry.xattrs.clone(),
            }),
            Kind::Link => Node::Link(String::from_utf8_lossy(&entry.link).into_owned()),
            _ => Node::Other,
        };
        if node == Node::Other {
            let own = Attributes { mode: entry.mode, user: entry.user, group: entry.group };
            // The headers of hard links are not always right; their file's is.
            let target = String::from_utf8_lossy(&entry.link);
            let known = self.attributes.get(&*target).filter(|_| entry.kind == Kind::HardLink);
            match *known.unwrap_or(&own) {
                Attributes::COMMON => drop(self.attributes.remove(&path)),
                other => drop(self.attributes.insert(path.clone(), other)),
            }
        } else {
            self.attributes.remove(&path);
        }
        self.nodes.insert(path, node);
    }
}

/// The entries of a root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    nodes: BTreeMap<String, Node>,
    /// Of files with others than [`Attributes::COMMON`].
    attributes: BTreeMap<String, Attributes>,
}

impl Index {
    /// The index of layers, lowest first.
    pub fn merge<'a>(layers: impl IntoIterator<Item = &'a LayerIndex>) -> Self {
        let mut index = Self::default();
        for layer in layers {
            index.apply(layer);
        }
        index
    }

    /// Applies a layer on top. Its whiteouts hide only entries of lower layers.
    pub fn apply(&mut self, layer: &LayerIndex) {
        for path in &layer.opaque {
            self.remove_below(path);
        }
        for path in &layer.whiteouts {
            self.remove(path);
        }
        for (path, node) in &layer.nodes {
            self.insert(path, node.clone());
        }
        self.attributes.extend(layer.attributes.iter().map(|(path, known)| (path.clone(), *known)));
    }

    /// The entry at a path; links are not followed.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The attributes of the file at a path; `None` if there is none. Links are not followed.
    pub fn attributes(&self, path: &str) -> Option<Attributes> {
        let is_file = matches!(self.nodes.get(path), Some(Node::Other));
        is_file.then(|| self.attributes.get(path).copied().unwrap_or(Attributes::COMMON))
    }

    /// Whether there are entries below a path; layers may omit the directories of their files.
    pub fn has_below(&self, path: &str) -> bool {
        let first = format!("{path}/");
        let below = self.nodes.range::<str, _>((Bound::Included(first.as_str()), Bound::Unbounded));
        below.map(|(path, _)| path).next().is_some_and(|path| path.starts_with(&first))
    }

    /// Whether there is a directory at a path; links are not followed.
    pub fn is_directory(&self, path: &str) -> bool {
        match self.get(path) {
            Some(Node::Directory(_)) => true,
            Some(_) => false,
            None => self.has_below(path),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All paths with their entries, in path order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    pub(crate) fn insert(&mut self, path: &str, node: Node) {
        if !matches!(node, Node::Directory(_)) && matches!(self.nodes.get(path), Some(Node::Directory(_))) {
            self.remove_below(path);
        }
        self.attributes.remove(path);
        self.nodes.insert(path.to_owned(), node);
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        self.attributes.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, path: &str) {
        let first = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.nodes.range::<str, _>((Bound::Included(first.as_str()), Bound::Unbounded));
        let doomed: Vec<String> = below
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&first))
            .filter(|path| !path.is_empty())
            .cloned()
            .collect();
        for path in doomed {
            self.nodes.remove(&path);
            self.attributes.remove(&path);
        }
    }
}

/// `name` in the directory `parent`, where the root is the empty path.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// Number of indexes of each kind that are kept in memory: some bases with their layers, a few MiB each.
const RECENT: usize = 16;

/// Layer indexes in a folder, by layer digest. A damaged entry counts as missing. Clones share the memory
/// cache.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    layers: Arc<Mutex<Recent<Digest, LayerIndex>>>,
    merged: Arc<Mutex<Recent<Vec<Digest>, Index>>>,
    merging: Arc<Mutex<()>>,
}

/// The most recently used indexes, the newest last.
#[derive(Debug)]
struct Recent<K, V>(VecDeque<(K, Arc<V>)>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: PartialEq, V> Recent<K, V> {
    fn get(&mut self, key: &K) -> Option<Arc<V>> {
        let position = self.0.iter().position(|(known, _)| known == key)?;
        let used = self.0.remove(position)?;
        let value = Arc::clone(&used.1);
        self.0.push_back(used);
        Some(value)
    }

    fn put(&mut self, key: K, value: Arc<V>) {
        if self.0.len() == RECENT {
            self.0.pop_front();
        }
        self.0.push_back((key, value));
    }
}

impl Cache {
    /// The cache in `folder`, which is created when it is first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            layers: Arc::default(),
            merged: Arc::default(),
            merging: Arc::default(),
        }
    }

    /// The index of a layer, by the digest of its blob. Blocking.
    pub fn get(&self, layer: &Digest) -> Option<Arc<LayerIndex>> {
        let recent = || self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = recent().get(layer) {
            return Some(index);
        }
        let file = std::fs::File::open(self.path(layer)).ok()?;
        let mut json = Vec::new();
        zstd::stream::read::Decoder::new(file).ok()?.read_to_end(&mut json).ok()?;
        let index: Arc<LayerIndex> = Arc::new(serde_json::from_slice(&json).ok()?);
        recent().put(layer.clone(), Arc::clone(&index));
        Some(index)
    }

    /// The index of layers, lowest first, if all of them are cached. Blocking.
    pub fn merge(&self, layers: &Vec<Digest>) -> Option<Arc<Index>> {
        // One at a time: images mostly share their lower layers, and the next one finds them in memory.
        let _alone = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner).get(layers);
        if merged.is_some() {
            return merged;
        }
        let mut index = Index::default();
        for layer in layers {
            index.apply(&*self.get(layer)?);
        }
        let index = Arc::new(index);
        self.put_merged(layers.clone(), &index);
        Some(index)
    }

    /// Keeps the index of layers in memory.
    pub fn put_merged(&self, layers: Vec<Digest>, index: &Arc<Index>) {
        self.merged.lock().unwrap_or_else(PoisonError::into_inner).put(layers, Arc::clone(index));
    }

    /// Keeps the index of a layer. Blocking.
    pub fn put(&self, layer: &Digest, index: &LayerIndex) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let json = serde_json::to_vec(index).map_err(std::io::Error::other)?;
        let path = self.path(layer);
        let partial = self.folder.join(format!("{}.{}.partial", layer.hex(), std::process::id()));
        write_compressed(&partial, &json)?;
        std::fs::rename(&partial, &path)
    }

    fn path(&self, layer: &Digest) -> PathBuf {
        self.folder.join(format!("{}.v{CACHE_FORMAT}.json.zst", layer.hex()))
    }
}

fn write_compressed(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(path, zstd::stream::encode_all(bytes, 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(entries: &[(&str, Kind)]) -> LayerIndex {
        let mut index = LayerIndex::default();
        for (path, kind) in entries {
            index.record(&Entry::new(*path, *kind, 0o755));
        }
        index
    }

    fn paths(index: &Index) -> Vec<&str> {
        index.iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide_lower_layers() {
        use Kind::{Directory, File};
        let base = layer(&[
            ("a", Directory),
            ("a/x", File),
            ("a/y", File),
            ("a-b", File),
            ("b", Directory),
            ("b/c", Directory),
            ("b/c/d", File),
            ("e", Directory),
            ("e/f", File),
        ]);
        let top = layer(&[
            ("a/.wh..wh..opq", File),
            ("a", Directory),
            ("a/new", File),
            ("b/.wh.c", File),
            ("e", File),
        ]);
        assert_eq!(paths(&Index::merge([&base, &top])), ["a", "a-b", "a/new", "b", "e"]);
        let all_gone = layer(&[(".wh..wh..opq", File), ("z", File)]);
        assert_eq!(paths(&Index::merge([&base, &all_gone])), ["z"]);
    }

    #[test]
    fn the_cache_returns_stored_indexes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("indexes"));
        let index = layer(&[("a", Kind::Directory), ("a/.wh.b", Kind::File)]);
        let digest = Digest::of("layer");
        assert_eq!(cache.get(&digest), None);
        cache.put(&digest, &index).unwrap();
        assert_eq!(cache.get(&digest).as_deref(), Some(&index));
        std::fs::write(cache.path(&digest), "damaged").unwrap();
        // An index that was read once is in memory; a new cache finds the damage.
        assert_eq!(cache.get(&digest).as_deref(), Some(&index));
        assert_eq!(Cache::new(&cache.folder).get(&digest), None);
    }
}
