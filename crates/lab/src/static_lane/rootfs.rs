//! The tree that an image's layers make, and the secrets in any of them.
//!
//! Pure except for the readers that are passed in. Only the facts that the `static` lane needs are kept:
//! names and link targets of everything, the content of very few small files.

mod damage;
mod elf;
mod leaks;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use edgewright_oci::layer::{Entry, Kind, LayerError, read_entries};

use damage::{Damage, Hidden};

/// The largest file whose content is read, in bytes: keys and quadlets are short.
const READ: u64 = 64 * 1024;
/// The limit of all kept content, in bytes.
const KEPT: usize = 16 * 1024 * 1024;
/// The limit of paths of an image.
const MOST_PATHS: usize = 4_000_000;
/// The number of links that are followed before a path counts as a loop.
const MOST_LINKS: usize = 40;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// The entry at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    Link(String),
    File(File),
    Other,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// In bytes; none for further hard links to the same file.
    size: u64,
    /// The index of its layer, from 0.
    layer: usize,
    /// Its text, if a rule needs it.
    text: Option<String>,
    /// `e_machine` of a program or library.
    machine: Option<u16>,
}

/// The tree that layers make.
#[derive(Debug, Default)]
pub(super) struct RootFs {
    nodes: BTreeMap<String, Node>,
    /// Files with a secret in any layer, and the kind of secret.
    secrets: BTreeSet<(String, &'static str)>,
    damage: Damage,
    layers: usize,
    kept: usize,
}

impl RootFs {
    /// Applies an uncompressed layer.
    pub(super) fn apply(&mut self, layer: impl Read) -> Result<(), LayerError> {
        let mut added = BTreeMap::new();
        let mut hidden = Hidden::default();
        read_entries(layer, |entry, content| {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == OPAQUE {
                if self.has_below(folder) {
                    hidden.empty(folder);
                }
                self.remove(folder, false);
            } else if let Some(name) = name.strip_prefix(WHITEOUT) {
                let name = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                if self.nodes.contains_key(&name) || self.has_below(&name) {
                    hidden.delete(&name);
                }
                self.remove(&name, true);
            } else if !path.is_empty() {
                let node = self.read_node(&path, &entry, content, &added)?;
                added.insert(path, node);
            }
            Ok(())
        })?;
        self.damage.add(self.layers, hidden, |path| added.contains_key(path));
        for (path, node) in added {
            if node != Node::Directory {
                self.remove(&path, true);
            }
            self.nodes.insert(path, node);
        }
        if self.nodes.len() > MOST_PATHS {
            return Err(LayerError::Limit { problem: "more files than any image has (4,000,000)" });
        }
        self.layers += 1;
        self.note_links();
        Ok(())
    }

    /// Remembers the links of a merged `/usr` that lead to a folder.
    fn note_links(&mut self) {
        for name in damage::MERGED {
            if let Some(Node::Link(target)) = self.nodes.get(name)
                && self.resolve(name).is_some_and(|place| self.is_folder(&place))
            {
                let target = target.clone();
                self.damage.links.entry(name).or_insert(target);
            }
        }
    }

    fn read_node(
        &mut self,
        path: &str,
        entry: &Entry,
        content: &mut dyn Read,
        added: &BTreeMap<String, Node>,
    ) -> Result<Node, LayerError> {
        let layer = self.layers;
        Ok(match entry.kind {
            Kind::Directory => Node::Directory,
            Kind::Link => Node::Link(String::from_utf8_lossy(&entry.link).into_owned()),
            Kind::HardLink => {
                let target = String::from_utf8_lossy(&entry.link);
                let text = match added.get(target.as_ref()).or_else(|| self.nodes.get(target.as_ref())) {
                    Some(Node::File(file)) => file.text.clone(),
                    _ => None,
                };
                Node::File(File { size: 0, layer, text, machine: None })
            }
            Kind::File => self.read_file(path, entry, content)?,
            _ => Node::Other,
        })
    }

    fn read_file(&mut self, path: &str, entry: &Entry, content: &mut dyn Read) -> Result<Node, LayerError> {
        let (is_searched, is_kept) = (leaks::is_searched(path), is_kept(path));
        let reads_all = entry.size <= READ && (is_searched || is_kept);
        let is_candidate = elf::is_candidate(path, entry.mode);
        let wanted = match (reads_all, is_candidate) {
            (true, _) => READ,
            (false, true) => elf::HEAD as u64,
            (false, false) => 0,
        };
        let mut bytes = Vec::new();
        content.take(wanted).read_to_end(&mut bytes).map_err(LayerError::Read)?;
        let machine = if is_candidate { elf::machine(&bytes) } else { None };
        let mut text = None;
        if reads_all {
            let found = String::from_utf8_lossy(&bytes).into_owned();
            if is_searched && let Some(what) = leaks::secret(path, &found, entry.mode) {
                self.secrets.insert((path.to_owned(), what));
            }
            self.kept += if is_kept { found.len() } else { 0 };
            text = Some(found).filter(|_| is_kept && self.kept <= KEPT);
        }
        Ok(Node::File(File { size: entry.size, layer: self.layers, text, machine }))
    }

    /// Removes everything below a path, and the path itself if wanted.
    fn remove(&mut self, path: &str, itself: bool) {
        if itself {
            self.nodes.remove(path);
        }
        let first = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below: Vec<String> = self
            .nodes
            .range(first.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&first))
            .cloned()
            .collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// The path with all links followed; none if there is nothing.
    pub(super) fn resolve(&self, path: &str) -> Option<String> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            match self.nodes.get(&done.join("/")) {
                Some(Node::Link(target)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return None;
                    }
                    done.pop();
                    if target.starts_with('/') {
                        done.clear();
                    }
                    rest.extend(target.split('/').rev().map(str::to_owned));
                }
                Some(Node::File(_) | Node::Other) if !rest.is_empty() => return None,
                Some(_) => {}
                // Layers may omit the parent folders of their files.
                None if self.has_below(&done.join("/")) => {}
                None => return None,
            }
        }
        Some(done.join("/"))
    }

    fn has_below(&self, path: &str) -> bool {
        let first = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.nodes.range(first.clone()..).next().is_some_and(|(path, _)| path.starts_with(&first))
    }

    /// The names in a folder, in order; links on the way are not followed.
    pub(super) fn children(&self, folder: &str) -> Vec<&str> {
        let first = format!("{folder}/");
        let below = self.nodes.range(first.clone()..).take_while(|(path, _)| path.starts_with(&first));
        let mut names: Vec<&str> =
            below.filter_map(|(path, _)| path[first.len()..].split('/').next()).collect();
        names.dedup();
        names
    }

    /// The links below a folder, given with a `/` at its end: path and target.
    pub(super) fn links_below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let below =
            self.nodes.range(folder.to_owned()..).take_while(move |(path, _)| path.starts_with(folder));
        below.filter_map(|(path, node)| match node {
            Node::Link(target) => Some((path.as_str(), target.as_str())),
            _ => None,
        })
    }

    /// Whether there is a symbolic link at a path.
    pub(super) fn is_link(&self, path: &str) -> bool {
        matches!(self.nodes.get(path), Some(Node::Link(_)))
    }

    /// The text of one of the files that are kept, links followed.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match self.nodes.get(&self.resolve(path)?)? {
            Node::File(file) => file.text.as_deref(),
            _ => None,
        }
    }

    /// Whether there is a folder at a path, links not followed.
    fn is_folder(&self, path: &str) -> bool {
        match self.nodes.get(path) {
            Some(Node::Directory) => true,
            Some(_) => false,
            None => self.has_below(path),
        }
    }

    /// The links of a merged `/usr` that layers have replaced: path, former target, and what is there now.
    pub(super) fn broken_links(&self) -> Vec<(&str, &str, &'static str)> {
        let broken = self.damage.links.iter().filter_map(|(path, target)| {
            let now = match self.nodes.get(*path) {
                // A layer with an entry below a link has a folder in its place, even if it does not list it.
                Some(Node::Link(_)) if self.has_below(path) => "a folder",
                Some(Node::Link(_)) if self.resolve(path).is_some_and(|place| self.is_folder(&place)) => {
                    return None;
                }
                Some(Node::Link(_)) => "a link to no folder",
                Some(Node::File(_) | Node::Other) => "a file",
                Some(Node::Directory) => "a folder",
                None if self.has_below(path) => "a folder",
                None => "gone",
            };
            Some((*path, target.as_str(), now))
        });
        broken.collect()
    }

    /// Top-level folders that layers hide: the layer's index, from 0, and a text.
    pub(super) fn hidden(&self) -> &[(usize, String)] {
        self.damage.hidden()
    }

    /// Programs and libraries that a system of this architecture does not execute, with theirs.
    pub(super) fn foreign_programs(&self, architecture: &str) -> Vec<(&str, String)> {
        let foreign = self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File(File { machine: Some(machine), .. }) => {
                Some((path.as_str(), elf::foreign(path, *machine, architecture)?))
            }
            _ => None,
        });
        foreign.collect()
    }

    /// Files with a secret in any layer, and the kind of secret.
    pub(super) const fn secrets(&self) -> &BTreeSet<(String, &'static str)> {
        &self.secrets
    }

    /// The bytes of the finished tree that come from each of the first `layers` layers.
    pub(super) fn sizes(&self, layers: usize) -> Vec<u64> {
        let mut sizes = vec![0_u64; layers];
        for node in self.nodes.values() {
            if let Node::File(file) = node
                && let Some(size) = sizes.get_mut(file.layer)
            {
                *size = size.saturating_add(file.size);
            }
        }
        sizes
    }
}

/// Whether a rule needs the text.
fn is_kept(path: &str) -> bool {
    let is_quadlet = [".image", ".container"].iter().any(|suffix| path.ends_with(suffix));
    is_quadlet || path.ends_with("/machine-id")
}

#[cfg(test)]
pub(super) mod testing {
    use super::RootFs;

    pub(in crate::static_lane) use super::elf::testing::program;

    /// A header of root's file, to be made another kind of entry.
    pub(super) fn header(size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header
    }

    /// A layer of files (`-> TARGET` is a link, a path with `/` at its end a folder).
    fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in entries {
            let mut header = header(0);
            if path.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, path, std::io::empty()).unwrap();
            } else if let Some(target) = text.strip_prefix("-> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target).unwrap();
            } else {
                header.set_size(text.len() as u64);
                if text.starts_with("\x7fELF") {
                    header.set_mode(0o755);
                }
                tar.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    pub(in crate::static_lane) fn rootfs(layers: &[&[(&str, &str)]]) -> RootFs {
        let mut rootfs = RootFs::default();
        for entries in layers {
            rootfs.apply(layer(entries).as_slice()).unwrap();
        }
        rootfs
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{header, rootfs};
    use super::*;

    #[test]
    fn opaque_folders_loops_and_unusual_entries() {
        let rootfs = rootfs(&[
            &[("a/", ""), ("a/old", "x"), ("b", "-> c"), ("c", "-> b"), ("d/e", "x")],
            &[("a/.wh..wh..opq", ""), ("a/new", "x"), ("d", "now a file")],
        ]);
        for (path, want) in [
            ("a/old", None),
            ("a/new", Some("a/new")),
            ("b", None),
            ("d/e", None),
            ("a/../d", Some("d")),
            ("../a", Some("a")),
        ] {
            assert_eq!(rootfs.resolve(path).as_deref(), want, "{path}");
        }
        assert_eq!(rootfs.children("a"), ["new"]);
        assert!(RootFs::default().apply(&[7_u8; 2000][..]).is_err());
    }

    #[test]
    fn a_hard_link_has_the_text_of_its_file_and_no_size() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = header(3);
        tar.append_data(&mut header, "etc/machine-id", &b"abc"[..]).unwrap();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Link);
        tar.append_link(&mut header, "var/lib/dbus/machine-id", "etc/machine-id").unwrap();
        let mut rootfs = RootFs::default();
        rootfs.apply(tar.into_inner().unwrap().as_slice()).unwrap();
        assert_eq!(rootfs.text("var/lib/dbus/machine-id"), Some("abc"));
        assert_eq!(rootfs.sizes(1), [3]);
    }
}
