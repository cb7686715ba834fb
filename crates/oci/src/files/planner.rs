//! The plan of a `files` layer: its operations in writing order.

use std::collections::{BTreeMap, BTreeSet};

use super::{FilesError, resolve};
use crate::index::{Directory, Index, Node, join};
use crate::layer::{Entry, Kind};

/// Mode of new parent directories.
const NEW_DIRECTORY_MODE: u32 = 0o755;

/// One entry of the layer to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// An entry without content: a parent directory, a whiteout.
    Add(Entry),
    /// The declared entry number `source`, at its path in the image.
    Entry {
        /// Index of the declared entry.
        source: usize,
        /// Its path in the image.
        path: String,
        /// The path of a hard link's target.
        link: Option<String>,
    },
}

/// The content of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In writing order.
    pub operations: Vec<Operation>,
    /// Notes for the job's log: deletions of paths that do not exist.
    pub notes: Vec<String>,
}

/// Plans a layer of declared entries and deletions over an image. Deletions come first: an entry may take
/// their place.
pub fn plan(entries: &[Entry], delete: &[String], base: &Index) -> Result<Plan, FilesError> {
    let mut planner = Planner {
        index: base.clone(),
        written: BTreeSet::new(),
        places: BTreeMap::new(),
        deleted: BTreeMap::new(),
        operations: Vec::new(),
        notes: Vec::new(),
    };
    for path in delete {
        planner.delete(path)?;
    }
    for (source, entry) in entries.iter().enumerate() {
        planner.place(source, entry)?;
    }
    Ok(planner.finish())
}

struct Planner {
    /// The image with the operations so far applied.
    index: Index,
    /// Directories that the layer has already.
    written: BTreeSet<String>,
    /// Declared files by their declared path, for hard links.
    places: BTreeMap<String, String>,
    /// Deleted paths, and whether they were directories.
    deleted: BTreeMap<String, bool>,
    operations: Vec<Operation>,
    notes: Vec<String>,
}

impl Planner {
    fn delete(&mut self, declared: &str) -> Result<(), FilesError> {
        let path = declared.trim_matches('/');
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(FilesError::BadDeletion { path: declared.to_owned() });
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.starts_with(".wh.") {
            return Err(FilesError::Reserved { path: declared.to_owned() });
        }
        let place = join(&resolve::directory(&self.index, parent, declared)?, name);
        let Some(node) = self.index.get(&place) else {
            self.notes.push(format!("`{declared}` was not deleted: it is not in the image"));
            return Ok(());
        };
        let was_directory = matches!(node, Node::Directory(_));
        self.index.remove(&place);
        // A directory's whiteout hides everything below it.
        let below = format!("{place}/");
        self.deleted.retain(|path, _| !path.starts_with(&below));
        self.deleted.insert(place, was_directory);
        Ok(())
    }

    fn place(&mut self, source: usize, entry: &Entry) -> Result<(), FilesError> {
        let declared = String::from_utf8_lossy(&entry.path).into_owned();
        if declared.is_empty() {
            // The root's own metadata belongs to the base.
            return Ok(());
        }
        if declared.split('/').any(|part| part.starts_with(".wh.")) {
            return Err(FilesError::Reserved { path: declared });
        }
        if entry.kind == Kind::Directory {
            let path = resolve::directory(&self.index, &declared, &declared)?;
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            self.parents(parent, &declared)?;
            self.index.insert(&path, Node::Directory(metadata(entry)));
            self.operations.push(Operation::Entry { source, path: path.clone(), link: None });
            self.written.insert(path);
            return Ok(());
        }
        let (parent, name) = declared.rsplit_once('/').unwrap_or(("", &declared));
        let parent = resolve::directory(&self.index, parent, &declared)?;
        let path = join(&parent, name);
        let kind = if entry.kind == Kind::Link { "link" } else { "file" };
        self.check_place(&path, &declared, kind)?;
        let link = (entry.kind == Kind::HardLink).then(|| {
            let target = String::from_utf8_lossy(&entry.link).into_owned();
            let place = self.places.get(&target).cloned();
            place.ok_or_else(|| FilesError::HardLink { path: declared.clone(), target })
        });
        let link = link.transpose()?;
        self.parents(&parent, &declared)?;
        let node = match entry.kind {
            Kind::Link => Node::Link(String::from_utf8_lossy(&entry.link).into_owned()),
            _ => Node::Other,
        };
        self.index.insert(&path, node);
        self.places.insert(declared, path.clone());
        self.operations.push(Operation::Entry { source, path, link });
        Ok(())
    }

    /// A file or link may replace neither a directory, nor a file a link to one: with /lib as a file, nothing in
    /// the image starts. A link may replace a link, as that is its purpose.
    fn check_place(&self, path: &str, declared: &str, kind: &'static str) -> Result<(), FilesError> {
        let declared = || declared.to_owned();
        if self.index.is_directory(path) {
            return Err(FilesError::ReplacesDirectory { path: declared(), kind, found: path.to_owned() });
        }
        if kind == "file"
            && matches!(self.index.get(path), Some(Node::Link(_)))
            && let Some(found) = resolve::place(&self.index, path)
            && (found.is_empty() || self.index.is_directory(&found))
        {
            return Err(FilesError::ReplacesLink { path: declared(), link: path.to_owned(), found });
        }
        Ok(())
    }

    /// Adds the directory `path` and its parents, with the metadata that they have in the image.
    fn parents(&mut self, path: &str, entry: &str) -> Result<(), FilesError> {
        if path.is_empty() || self.written.contains(path) {
            return Ok(());
        }
        self.parents(path.rsplit_once('/').map_or("", |(parent, _)| parent), entry)?;
        let mut parent = Entry::new(path, Kind::Directory, NEW_DIRECTORY_MODE);
        match self.index.get(path) {
            Some(Node::Directory(known)) => {
                parent.mode = known.mode;
                parent.user = known.user;
                parent.group = known.group;
                parent.time = known.time;
                parent.xattrs.clone_from(&known.xattrs);
            }
            // No lower layer has it: extraction creates such directories in the same way.
            None => parent.time = u64::MAX,
            Some(Node::Link(_) | Node::Other) => {
                return Err(FilesError::ReplacesFile { path: entry.to_owned(), found: path.to_owned() });
            }
        }
        self.index.insert(path, Node::Directory(metadata(&parent)));
        self.operations.push(Operation::Add(parent));
        self.written.insert(path.to_owned());
        Ok(())
    }

    /// Whiteouts come first; a directory that is deleted and added again is opaque instead.
    fn finish(mut self) -> Plan {
        let entries = std::mem::take(&mut self.operations);
        self.written.clear();
        let mut opaque = BTreeSet::new();
        for (path, was_directory) in std::mem::take(&mut self.deleted) {
            match self.index.get(&path) {
                None => self.whiteout(&path),
                Some(Node::Directory(_)) if was_directory => drop(opaque.insert(path)),
                Some(_) => {}
            }
        }
        for operation in entries {
            let directory = match &operation {
                Operation::Add(entry) => String::from_utf8_lossy(&entry.path).into_owned(),
                Operation::Entry { path, .. } => path.clone(),
            };
            if matches!(operation, Operation::Add(_)) && self.written.contains(&directory) {
                continue;
            }
            self.operations.push(operation);
            if opaque.remove(&directory) {
                let marker = join(&directory, ".wh..wh..opq");
                self.operations.push(Operation::Add(Entry::new(marker, Kind::File, 0o644)));
            }
        }
        Plan { operations: self.operations, notes: self.notes }
    }

    fn whiteout(&mut self, path: &str) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        // A deleted path was in a directory that entries cannot have replaced, so adding the directory cannot
        // fail.
        if self.parents(parent, path).is_ok() {
            let whiteout = join(parent, &format!(".wh.{name}"));
            self.operations.push(Operation::Add(Entry::new(whiteout, Kind::File, 0o644)));
        }
    }
}

fn metadata(entry: &Entry) -> Directory {
    Directory {
        mode: entry.mode,
        user: entry.user,
        group: entry.group,
        time: entry.time,
        xattrs: entry.xattrs.clone(),
    }
}
