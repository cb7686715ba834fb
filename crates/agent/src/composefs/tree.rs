//! What an image's root file system has for booting: its kernel, its name, its kernel arguments, its `/etc`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use composefs::fsverity::{FsVerityHashValue as _, Sha256HashValue, compute_verity};
use composefs::generic_tree::Stat;
use composefs::tree::{Directory, DirectoryRef, FileSystem, Inode, LeafContent, RegularFile};

use super::etc_files::is_content;
use super::etc_merge::{Kind, Meta, Node, Tree};

/// Bytes of a text file of an image (`os-release`, kernel arguments) that are read.
pub const MAX_IMAGE_TEXT_BYTES: u64 = 65_536;
/// Kernel arguments that an image may have.
pub const MAX_IMAGE_KERNEL_ARGUMENTS: usize = 100;
/// Folders inside of each other in an image's `/etc` and `/var`.
pub const MAX_IMAGE_DEPTH: usize = 64;

type File = RegularFile<Sha256HashValue>;

/// The tree of a root file system.
#[derive(Debug)]
pub struct BootTree {
    tree: FileSystem<Sha256HashValue>,
}

/// A kernel of an image.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its version: the name of its folder.
    pub version: String,
    /// The kernel.
    pub linux: File,
    /// The initramfs.
    pub initrd: File,
}

impl BootTree {
    pub(super) fn new(tree: FileSystem<Sha256HashValue>) -> Self {
        Self { tree }
    }

    fn folder(&self, path: &str) -> Option<DirectoryRef<'_, Sha256HashValue>> {
        self.tree.as_dir().get_directory_ref(OsStr::new(path)).ok()
    }

    /// A regular file, by its absolute path.
    pub fn file(&self, path: &str) -> Option<&File> {
        let (folder, name) = path.rsplit_once('/')?;
        let folder = if folder.is_empty() { self.tree.as_dir() } else { self.folder(folder)? };
        folder.get_file(OsStr::new(name)).ok()
    }

    /// The newest kernel with an initramfs.
    ///
    /// # Errors
    /// There is none; the text names what is missing.
    pub fn kernel(&self) -> Result<Kernel, String> {
        const MODULES: &str = "/usr/lib/modules";
        let modules = self.folder(MODULES).ok_or_else(|| format!("it has no kernel in {MODULES}"))?;
        let mut best: Option<Kernel> = None;
        let mut without = None;
        for (name, inode) in modules.entries() {
            let Inode::Directory(folder) = inode else { continue };
            let Some(version) = name.to_str() else { continue };
            let folder = DirectoryRef::from_parts(folder, self.tree.as_dir().leaves());
            let Ok(linux) = folder.get_file(OsStr::new("vmlinuz")) else { continue };
            let Ok(initrd) = folder.get_file(OsStr::new("initramfs.img")) else {
                without = Some(version.to_owned());
                continue;
            };
            let is_newer = best.as_ref().is_none_or(|best| compare_versions(version, &best.version).is_gt());
            if is_newer {
                let (linux, initrd) = (linux.clone(), initrd.clone());
                best = Some(Kernel { version: version.to_owned(), linux, initrd });
            }
        }
        best.ok_or_else(|| match without {
            Some(version) => format!("it has no {MODULES}/{version}/initramfs.img"),
            None => format!("it has no {MODULES}/VERSION/vmlinuz"),
        })
    }

    /// Paths of files directly in a folder, sorted.
    pub fn files_in(&self, folder: &str) -> Vec<String> {
        let Some(found) = self.folder(folder) else { return Vec::new() };
        found
            .entries()
            .filter(|(_, inode)| matches!(inode, Inode::Leaf(..)))
            .filter_map(|(name, _)| Some(format!("{folder}/{}", name.to_str()?)))
            .collect()
    }

    /// The image's `/etc`; empty if it has none.
    ///
    /// # Errors
    /// It has too many folders inside of each other.
    pub fn etc(&self) -> Result<Tree, String> {
        self.below("etc")
    }

    /// A folder of the image's root, by paths relative to it; empty if it has none.
    ///
    /// # Errors
    /// It has too many folders inside of each other.
    pub fn below(&self, name: &str) -> Result<Tree, String> {
        let mut tree = Tree::new();
        if let Some(Inode::Directory(folder)) = self.tree.root.lookup(OsStr::new(name)) {
            self.read_folder(folder, Path::new(""), 0, &mut tree)?;
        }
        Ok(tree)
    }

    fn read_folder(
        &self,
        folder: &Directory<Sha256HashValue>,
        below: &Path,
        depth: usize,
        tree: &mut Tree,
    ) -> Result<(), String> {
        if depth > MAX_IMAGE_DEPTH {
            return Err(format!("it has more than {MAX_IMAGE_DEPTH} folders inside of each other"));
        }
        for (name, inode) in folder.entries() {
            let path: PathBuf = below.join(name);
            match inode {
                Inode::Directory(inner) => {
                    let node = Node { kind: Kind::Directory, meta: meta(&inner.stat) };
                    tree.insert(path.clone(), node);
                    self.read_folder(inner, &path, depth + 1, tree)?;
                }
                Inode::Leaf(id, _) => {
                    let leaf = self.tree.leaf(*id);
                    tree.insert(path, Node { kind: kind(&leaf.content), meta: meta(&leaf.stat) });
                }
            }
        }
        Ok(())
    }
}

fn meta(stat: &Stat) -> Meta {
    let xattrs = stat.xattrs.iter().filter(|(name, _)| is_content(name.as_bytes()));
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        xattrs: xattrs.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect(),
    }
}

fn kind(content: &LeafContent<Sha256HashValue>) -> Kind {
    let special = |device| Kind::Special(content.file_type_bits(), device);
    match content {
        LeafContent::Regular(file) => Kind::File(match file {
            RegularFile::Inline(bytes) => compute_verity::<Sha256HashValue>(bytes).to_hex(),
            RegularFile::External(id, _) | RegularFile::ExternalNoVerity(id, _) => id.to_hex(),
            RegularFile::Sparse(size) => format!("sparse {size}"),
        }),
        LeafContent::Symlink(target) => Kind::Link(target.as_bytes().to_vec()),
        LeafContent::BlockDevice(device) | LeafContent::CharacterDevice(device) => special(*device),
        LeafContent::Fifo | LeafContent::Socket => special(0),
    }
}

/// Compares versions as package managers do: digits as numbers, everything else as text.
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (parts(a), parts(b));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return std::cmp::Ordering::Equal,
            (Some(a), Some(b)) => {
                let number = |part: &str| part.parse::<u64>().ok();
                match (number(a), number(b)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    (a_number, b_number) => a_number.is_some().cmp(&b_number.is_some()).then(a.cmp(b)),
                }
            }
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn parts(version: &str) -> impl Iterator<Item = &str> {
    let mut rest = version;
    std::iter::from_fn(move || {
        let is_digit = rest.chars().next()?.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part)
    })
}

/// The name of a system for people, from the text of its `os-release`.
pub fn pretty_name(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?;
    let name = line.trim().trim_matches(['"', '\'']).trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The kernel arguments of one file of `/usr/lib/bootc/kargs.d`, if they are for this architecture.
///
/// # Errors
/// Not TOML, or not of this form.
pub fn kernel_arguments(text: &str, architecture: &str) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Document {
        kargs: Vec<String>,
        match_architectures: Option<Vec<String>>,
    }
    let document: Document = toml::from_str(text).map_err(|e| e.message().to_owned())?;
    let matches = document.match_architectures.is_none_or(|list| list.iter().any(|a| a == architecture));
    Ok(if matches { document.kargs } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_by_numbers() {
        let mut versions = ["6.12.9-1", "6.12.10-1", "6.2", "6.12.10-1-cloud"];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(versions, ["6.2", "6.12.9-1", "6.12.10-1", "6.12.10-1-cloud"]);
    }

    #[test]
    fn the_name_of_the_system_is_read() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"Debian 13\"\n").as_deref(), Some("Debian 13"));
        assert_eq!(pretty_name("PRETTY_NAME=\"\""), None);
    }

    #[test]
    fn kernel_arguments_are_those_of_the_architecture() {
        let text = "kargs = [\"console=ttyS0\"]\nmatch-architectures = [\"x86_64\"]";
        assert_eq!(kernel_arguments(text, "x86_64").unwrap(), ["console=ttyS0"]);
        assert_eq!(kernel_arguments(text, "aarch64").unwrap(), Vec::<String>::new());
        assert!(kernel_arguments("kargs = 3", "x86_64").is_err());
    }
}
