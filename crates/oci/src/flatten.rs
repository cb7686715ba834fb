//! The layers of an image as one tar of its root file system, without unpacking anything.
//!
//! Layers are added from the top down, so that one pass is enough: what an upper layer replaced or deleted is
//! known when a lower one is read. A hidden file is kept aside while its layer is read, because a hard link
//! to it may be visible.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::path::Path;

use crate::index::{Directory, Index, Node, OPAQUE, WHITEOUT};
use crate::layer::{Entry, Kind, LayerError, pax, read_entries};

/// Attributes of overlay file systems, which mean something to the kernel and nothing in an image.
const OVERLAY: [&str; 2] = ["trusted.overlay.", "user.overlay."];
const BLOCK: u64 = 512;

/// What upper layers have at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Something below it: a lower layer's directory still gives its attributes.
    Parent,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Writes the root file system of an image as one tar. Blocking.
#[derive(Debug)]
pub struct Flattener<W> {
    out: W,
    folder: std::path::PathBuf,
    taken: HashMap<Vec<u8>, Taken>,
    deleted: HashSet<Vec<u8>>,
    opaque: HashSet<Vec<u8>>,
    /// Directories that are written already.
    made: HashSet<Vec<u8>>,
}

/// What is known about the layer that is being read.
#[derive(Debug, Default)]
struct Own {
    taken: HashMap<Vec<u8>, Taken>,
    deleted: Vec<Vec<u8>>,
    opaque: Vec<Vec<u8>>,
    /// Hidden files by path: their entry, and where their content is.
    hidden: HashMap<Vec<u8>, (Entry, u64)>,
    /// Hidden paths by the visible path with the same content.
    alias: HashMap<Vec<u8>, Vec<u8>>,
    aside: Option<File>,
    end: u64,
}

impl<W: Write> Flattener<W> {
    /// Writes to `out`; contents are kept aside in nameless files of `folder`.
    pub fn new(out: W, folder: &Path) -> Self {
        let (taken, deleted, opaque) = (HashMap::new(), HashSet::new(), HashSet::new());
        Self { out, folder: folder.to_owned(), taken, deleted, opaque, made: HashSet::new() }
    }

    /// Writes all directories of the finished root file system first, for readers that need a directory
    /// before what is in it.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn directories(&mut self, index: &Index) -> Result<(), LayerError> {
        for (path, node) in index.iter() {
            for (end, _) in path.match_indices('/') {
                // A layer may omit the directories of its files.
                self.directory(&path[..end], None)?;
            }
            if let Node::Directory(directory) = node {
                self.directory(path, Some(directory))?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &str, known: Option<&Directory>) -> Result<(), LayerError> {
        if !self.made.insert(path.as_bytes().to_vec()) {
            return Ok(());
        }
        let mut entry = Entry::new(path, Kind::Directory, 0o755);
        if let Some(directory) = known {
            (entry.mode, entry.user, entry.group) = (directory.mode, directory.user, directory.group);
            entry.time = directory.time;
            entry.xattrs.clone_from(&directory.xattrs);
            without_overlay(&mut entry);
        }
        self.write(&entry, &mut std::io::empty())
    }

    /// Adds the next layer below, an uncompressed tar.
    ///
    /// # Errors
    /// It cannot be read, has an entry that no image may contain, or the output cannot be written.
    pub fn layer(&mut self, tar: impl Read) -> Result<(), LayerError> {
        let mut own = Own::default();
        read_entries(tar, |entry, content| self.entry(entry, content, &mut own))?;
        self.deleted.extend(own.deleted);
        self.opaque.extend(own.opaque);
        for (path, taken) in own.taken {
            let known = self.taken.entry(path).or_insert(taken);
            if *known == Taken::Parent {
                *known = taken;
            }
        }
        Ok(())
    }

    /// Writes the end of the tar.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(mut self) -> Result<W, LayerError> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).map_err(unwritten)?;
        Ok(self.out)
    }

    fn entry(&mut self, mut entry: Entry, content: &mut dyn Read, own: &mut Own) -> Result<(), LayerError> {
        let (parent, name) = split(&entry.path);
        if name == OPAQUE.as_bytes() {
            own.opaque.push(parent.to_vec());
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT.as_bytes()) {
            own.deleted.push(join(parent, hidden));
            return Ok(());
        }
        without_overlay(&mut entry);
        let is_hidden = self.is_hidden(&entry);
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, is_hidden, own);
        }
        if is_hidden {
            return if entry.kind == Kind::File {
                own.keep_aside(entry, content, &self.folder)
            } else {
                Ok(())
            };
        }
        own.take(&entry);
        if entry.kind == Kind::Directory && self.made.contains(&entry.path) {
            return Ok(());
        }
        self.write(&entry, content)
    }

    /// A link to a file of the same layer, which may be hidden itself.
    fn hard_link(&mut self, mut entry: Entry, is_hidden: bool, own: &mut Own) -> Result<(), LayerError> {
        if let Some(visible) = own.alias.get(&entry.link) {
            entry.link.clone_from(visible);
        }
        if is_hidden {
            // A later link to this one means the same file.
            if let Some((file, at)) = own.hidden.get(&entry.link).cloned() {
                own.hidden.insert(entry.path, (file, at));
            } else {
                own.alias.insert(entry.path, entry.link);
            }
            return Ok(());
        }
        if let Some((file, at)) = own.hidden.get(&entry.link).cloned() {
            let file = Entry { path: entry.path.clone(), ..file };
            own.alias.insert(entry.link, entry.path);
            own.take(&file);
            let mut aside =
                own.aside.as_ref().ok_or_else(|| unwritten(std::io::ErrorKind::NotFound.into()))?;
            aside.seek(SeekFrom::Start(at)).map_err(unwritten)?;
            let written = self.write(&file, &mut aside.take(file.size));
            return written;
        }
        if !own.taken.contains_key(&entry.link) {
            return Err(LayerError::Entry {
                path: String::from_utf8_lossy(&entry.path).into_owned(),
                problem: "a hard link to a file that its layer does not have before it",
            });
        }
        own.take(&entry);
        self.write(&entry, &mut std::io::empty())
    }

    fn is_hidden(&self, entry: &Entry) -> bool {
        let path = &entry.path;
        let is_taken = match self.taken.get(path) {
            None => false,
            Some(Taken::Parent) => entry.kind != Kind::Directory,
            Some(Taken::Directory | Taken::Other) => true,
        };
        let above = |end: usize| {
            let ancestor = &path[..end];
            self.deleted.contains(ancestor)
                || self.opaque.contains(ancestor)
                || self.taken.get(ancestor) == Some(&Taken::Other)
        };
        is_taken
            || self.deleted.contains(path)
            || (!path.is_empty() && self.opaque.contains(&b""[..]))
            || path.iter().enumerate().any(|(end, byte)| *byte == b'/' && above(end))
    }

    fn write(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        self.out.write_all(&pax::header(entry)).map_err(unwritten)?;
        if entry.size == 0 {
            return Ok(());
        }
        let mut content = content.take(entry.size);
        let copied = std::io::copy(&mut content, &mut self.out).map_err(LayerError::Read)?;
        if copied != entry.size {
            return Err(LayerError::Read(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let padding = usize::try_from((BLOCK - copied % BLOCK) % BLOCK).unwrap_or(0);
        self.out.write_all(&[0; 512][..padding]).map_err(unwritten)
    }
}

impl Own {
    fn take(&mut self, entry: &Entry) {
        let taken = if entry.kind == Kind::Directory { Taken::Directory } else { Taken::Other };
        self.taken.insert(entry.path.clone(), taken);
        let mut path = entry.path.as_slice();
        while let (parent, true) = (split(path).0, !path.is_empty()) {
            if self.taken.contains_key(parent) {
                break;
            }
            self.taken.insert(parent.to_vec(), Taken::Parent);
            path = parent;
        }
    }

    fn keep_aside(&mut self, entry: Entry, content: &mut dyn Read, folder: &Path) -> Result<(), LayerError> {
        let file = match &mut self.aside {
            Some(file) => file,
            none => none.insert(nameless(folder).map_err(unwritten)?),
        };
        file.seek(SeekFrom::Start(self.end)).map_err(unwritten)?;
        let copied = std::io::copy(&mut content.take(entry.size), file).map_err(LayerError::Read)?;
        self.hidden.insert(entry.path.clone(), (entry, self.end));
        self.end += copied;
        Ok(())
    }
}

fn without_overlay(entry: &mut Entry) {
    entry.xattrs.retain(|name, _| !OVERLAY.iter().any(|prefix| name.starts_with(prefix)));
}

/// A file that ends with its handle.
fn nameless(folder: &Path) -> std::io::Result<File> {
    let name = format!(".aside-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = folder.join(name);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn unwritten(source: std::io::Error) -> LayerError {
    LayerError::Write { path: "of the root file system".into(), source }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::index::LayerIndex;

    /// `d path`, `f path content`, `l path target`, `h path target`.
    fn tar(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let kind = match words[0] {
                "d" => Kind::Directory,
                "f" => Kind::File,
                "l" => Kind::Link,
                _ => Kind::HardLink,
            };
            let mut entry = Entry::new(words[1], kind, 0o755);
            let text = words.get(2).copied().unwrap_or_default();
            if kind == Kind::File {
                entry.size = text.len() as u64;
            } else {
                entry.link = text.into();
            }
            bytes.extend(pax::header(&entry));
            if kind == Kind::File {
                bytes.extend(text.as_bytes());
                bytes.resize(bytes.len().next_multiple_of(512), 0);
            }
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    /// The result of layers, given from the bottom up: kind and content by path, hard links followed.
    fn flat(layers: &[&[&str]]) -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut flattener = Flattener::new(Vec::new(), folder.path());
        for layer in layers.iter().rev() {
            flattener.layer(tar(layer).as_slice()).unwrap();
        }
        let bytes = flattener.finish().unwrap();
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        read_entries(bytes.as_slice(), |entry, content| {
            let path = String::from_utf8(entry.path).unwrap();
            let link = String::from_utf8(entry.link).unwrap();
            let shown = match entry.kind {
                Kind::Directory => "/".to_owned(),
                Kind::HardLink => found[&link].clone(),
                Kind::Link => format!("-> {link}"),
                _ => {
                    let mut text = String::new();
                    content.read_to_string(&mut text).unwrap();
                    text
                }
            };
            assert!(found.insert(path.clone(), shown).is_none(), "{path} is there twice");
            Ok(())
        })
        .unwrap();
        found
    }

    fn expect(layers: &[&[&str]], want: &[(&str, &str)]) {
        let want: BTreeMap<String, String> =
            want.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert_eq!(flat(layers), want, "{layers:?}");
    }

    #[test]
    fn upper_layers_replace_and_delete() {
        let base: &[&str] = &["d etc", "f etc/a old", "f etc/b b", "d var", "f var/log x", "l lib usr/lib"];
        expect(
            &[base, &["f etc/a new", "d var", "f var/.wh.log "]],
            &[("etc", "/"), ("etc/a", "new"), ("etc/b", "b"), ("var", "/"), ("lib", "-> usr/lib")],
        );
        // A whiteout hides what is below it, and only in lower layers.
        expect(
            &[base, &["f .wh.etc ", "d etc", "f etc/c c"]],
            &[("etc", "/"), ("etc/c", "c"), ("var", "/"), ("var/log", "x"), ("lib", "-> usr/lib")],
        );
        expect(
            &[base, &["d etc", "f etc/.wh..wh..opq ", "f etc/c c"], &["f var y"]],
            &[("etc", "/"), ("etc/c", "c"), ("var", "y"), ("lib", "-> usr/lib")],
        );
        expect(&[&["f a 1"], &["f .wh.a "], &["f a 2"]], &[("a", "2")]);
        expect(&[&["f a 1", "d d", "f d/x x"], &["f .wh..wh..opq ", "f b 2"]], &[("b", "2")]);
        // A file becomes a directory.
        expect(&[&["f a 1"], &["f a/b 2"]], &[("a/b", "2")]);
    }

    #[test]
    fn directories_can_come_first() {
        let layers: [&[&str]; 2] =
            [&["d etc", "f etc/a a", "d gone", "f no/parent x"], &["f etc/b b", "f .wh.gone "]];
        let indexes: Vec<LayerIndex> =
            layers.iter().map(|layer| LayerIndex::scan(tar(layer).as_slice()).unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut flattener = Flattener::new(Vec::new(), folder.path());
        flattener.directories(&Index::merge(&indexes)).unwrap();
        for layer in layers.iter().rev() {
            flattener.layer(tar(layer).as_slice()).unwrap();
        }
        let mut paths = Vec::new();
        read_entries(flattener.finish().unwrap().as_slice(), |entry, _| {
            paths.push(String::from_utf8(entry.path).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(paths, ["etc", "no", "etc/b", "etc/a", "no/parent"]);
    }

    #[test]
    fn hard_links_keep_their_content() {
        let base: &[&str] = &["f a one", "h b a", "h c b"];
        expect(&[base], &[("a", "one"), ("b", "one"), ("c", "one")]);
        expect(&[base, &["f a two"]], &[("a", "two"), ("b", "one"), ("c", "one")]);
        expect(&[base, &["f .wh.a "]], &[("b", "one"), ("c", "one")]);
        expect(&[base, &["f .wh.a ", "f b two"]], &[("b", "two"), ("c", "one")]);
        expect(&[base, &["f b two"]], &[("a", "one"), ("b", "two"), ("c", "one")]);
        let folder = tempfile::tempdir().unwrap();
        let mut flattener = Flattener::new(Vec::new(), folder.path());
        assert!(flattener.layer(tar(&["h b elsewhere"]).as_slice()).is_err());
    }
}
