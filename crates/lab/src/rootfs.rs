//! What an image's layers say without running it: the tree that they make, and what leaks out of any of them.
//!
//! Pure but for the readers that it is given. Only what the `static` lane asks about is kept: names and link targets of
//! everything, the content of very few small files.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::EntryType;

/// Longest file that is searched for a secret, in bytes: keys are short.
const SEARCHED: u64 = 64 * 1024;
/// Folders whose files are a machine's own; test keys of packages under `usr/share` are nobody's secret.
const SEARCHED_FOLDERS: [&str; 6] = ["etc/", "root/", "home/", "var/", "srv/", "opt/"];
/// What may stand in `etc/machine-id` of an image: the first boot sets it.
const UNSET_MACHINE_IDS: [&str; 2] = ["", "uninitialized"];
/// Links that are followed before a path counts as a loop.
const MOST_LINKS: usize = 40;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Where unit files are.
const UNIT_FOLDERS: [&str; 3] = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    Link(String),
    /// A regular file; its text where it is one of the few that matter.
    File(Option<String>),
    Other,
}

/// The tree that layers make, laid one over the other.
#[derive(Debug, Default)]
pub(crate) struct RootFs {
    nodes: BTreeMap<String, Node>,
    /// Private keys in any layer, even where a later one deletes them: whoever pulls the image has them.
    keys: Vec<String>,
}

impl RootFs {
    /// Lays an uncompressed layer over.
    pub(crate) fn apply(&mut self, layer: impl Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(layer);
        let mut added = BTreeMap::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = normal(&String::from_utf8_lossy(&entry.path_bytes()));
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == OPAQUE {
                self.remove(folder, false);
            } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
                let hidden = if folder.is_empty() { hidden.to_owned() } else { format!("{folder}/{hidden}") };
                self.remove(&hidden, true);
            } else if !path.is_empty() {
                let node = self.read_node(&path, &mut entry)?;
                added.insert(path, node);
            }
        }
        for (path, node) in added {
            if node != Node::Directory {
                self.remove(&path, true);
            }
            self.nodes.insert(path, node);
        }
        Ok(())
    }

    fn read_node<R: Read>(&mut self, path: &str, entry: &mut tar::Entry<'_, R>) -> io::Result<Node> {
        Ok(match entry.header().entry_type() {
            EntryType::Directory => Node::Directory,
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                Node::Link(String::from_utf8_lossy(&target).into_owned())
            }
            EntryType::Regular | EntryType::Continuous if entry.size() <= SEARCHED => {
                if !SEARCHED_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
                    return Ok(Node::File(None));
                }
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                let text = String::from_utf8_lossy(&bytes);
                if has_private_key(&text) {
                    self.keys.push(path.to_owned());
                }
                Node::File(path.ends_with("machine-id").then(|| text.trim().to_owned()))
            }
            EntryType::Regular | EntryType::Continuous | EntryType::Link => Node::File(None),
            _ => Node::Other,
        })
    }

    /// Forgets what is below a path, and the path itself where wanted.
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

    /// The path with every link on the way followed; none where it leads nowhere.
    fn resolve(&self, path: &str) -> Option<String> {
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
                // Layers may leave out the folders above their files.
                None if self.has_below(&done.join("/")) => {}
                None => return None,
            }
        }
        Some(done.join("/"))
    }

    fn has_below(&self, path: &str) -> bool {
        let first = format!("{path}/");
        self.nodes.range(first.clone()..).next().is_some_and(|(path, _)| path.starts_with(&first))
    }

    /// The kernel versions under `usr/lib/modules` that have a kernel and an initramfs beside it, and those that lack one.
    pub(crate) fn kernels(&self) -> (Vec<String>, Vec<String>) {
        let prefix = "usr/lib/modules/";
        let below = self.nodes.range(prefix.to_owned()..).take_while(|(path, _)| path.starts_with(prefix));
        let mut versions: Vec<&str> =
            below.filter_map(|(path, _)| path[prefix.len()..].split('/').next()).collect();
        versions.dedup();
        let is_whole = |version: &&str| {
            ["vmlinuz", "initramfs.img"]
                .iter()
                .all(|file| self.resolve(&format!("{prefix}{version}/{file}")).is_some())
        };
        let (whole, incomplete): (Vec<&str>, Vec<&str>) = versions.into_iter().partition(is_whole);
        let owned = |versions: Vec<&str>| versions.into_iter().map(str::to_owned).collect();
        (owned(whole), owned(incomplete))
    }

    /// Private keys in any layer.
    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Files that give every machine the same id.
    pub(crate) fn machine_ids(&self) -> Vec<&str> {
        let is_set = |path: &&str| match self.nodes.get(*path) {
            Some(Node::File(Some(text))) => !UNSET_MACHINE_IDS.contains(&text.as_str()),
            _ => false,
        };
        ["etc/machine-id", "var/lib/dbus/machine-id"].into_iter().filter(is_set).collect()
    }

    /// Enabled units (`*.wants/`, `*.requires/`) that the image does not have.
    pub(crate) fn dangling_units(&self) -> Vec<&str> {
        let folder = "etc/systemd/system/";
        let below = self.nodes.range(folder.to_owned()..).take_while(|(path, _)| path.starts_with(folder));
        let dangling = |(path, node): (&'_ String, &Node)| {
            let Node::Link(target) = node else { return false };
            let Some((wants, name)) = path[folder.len()..].split_once('/') else { return false };
            let is_enabling = matches!(wants.rsplit_once('.'), Some((_, "wants" | "requires")));
            is_enabling && target != "/dev/null" && self.resolve(path).is_none() && !self.has_unit(name)
        };
        below.filter(|&(path, node)| dangling((path, node))).map(|(path, _)| path.as_str()).collect()
    }

    /// Whether there is a unit of this name, or its template: systemd goes by the link's name, not by its target.
    fn has_unit(&self, name: &str) -> bool {
        let template = name
            .split_once('@')
            .and_then(|(unit, rest)| rest.rsplit_once('.').map(|(_, suffix)| format!("{unit}@.{suffix}")));
        let names = std::iter::once(name.to_owned()).chain(template);
        names
            .into_iter()
            .any(|name| UNIT_FOLDERS.iter().any(|folder| self.resolve(&format!("{folder}/{name}")).is_some()))
    }
}

/// A path of a tar as we keep it: without `./`, `/` at either end, or empty components.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}

/// Whether a text holds a private key in PEM armour, at the start of a line.
fn has_private_key(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with("PRIVATE KEY-----"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";

    /// A layer of files (`-> TARGET` is a link, a path with `/` at its end a folder).
    fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            if path.ends_with('/') {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, path, io::empty()).unwrap();
            } else if let Some(target) = text.strip_prefix("-> ") {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, path, target).unwrap();
            } else {
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    fn rootfs(layers: &[&[(&str, &str)]]) -> RootFs {
        let mut rootfs = RootFs::default();
        for entries in layers {
            rootfs.apply(layer(entries).as_slice()).unwrap();
        }
        rootfs
    }

    #[test]
    fn kernels_need_an_initramfs_beside_them() {
        let rootfs = rootfs(&[&[
            ("./usr/lib/modules/6.12/vmlinuz", "k"),
            ("usr/lib/modules/6.12/initramfs.img", "-> /boot/initrd"),
            ("boot/initrd", "i"),
            ("usr/lib/modules/6.13/vmlinuz", "k"),
            ("usr/lib/modules/6.13/initramfs.img", "-> nowhere"),
        ]]);
        assert_eq!(rootfs.kernels(), (vec!["6.12".to_owned()], vec!["6.13".to_owned()]));
        assert_eq!(RootFs::default().kernels(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_key_leaks_even_where_a_later_layer_deletes_it() {
        let rootfs = rootfs(&[
            &[
                ("etc/ssh/ssh_host_key", KEY),
                ("usr/share/doc/example.key", KEY),
                ("etc/ssl/cert.pem", "-----BEGIN CERTIFICATE-----"),
            ],
            &[("etc/ssh/.wh.ssh_host_key", "")],
        ]);
        assert_eq!(rootfs.keys(), ["etc/ssh/ssh_host_key"]);
        assert!(rootfs.resolve("etc/ssh/ssh_host_key").is_none());
    }

    #[test]
    fn machine_ids_are_set_at_first_boot() {
        let id = "b08dfa6083e7567a1921a715000001fb\n";
        for (text, want) in [("", 0), ("uninitialized\n", 0), (id, 1)] {
            assert_eq!(rootfs(&[&[("etc/machine-id", text)]]).machine_ids().len(), want, "{text}");
        }
        let link = ("var/lib/dbus/machine-id", "-> /etc/machine-id");
        assert!(
            rootfs(&[&[("etc/machine-id", id)], &[("etc/machine-id", ""), link]]).machine_ids().is_empty()
        );
    }

    #[test]
    fn enabled_units_that_are_not_there() {
        let wants = |name: &str| format!("etc/systemd/system/multi-user.target.wants/{name}");
        let (there, by_name, instance, masked, gone) = (
            wants("there.service"),
            wants("by-name.service"),
            wants("web@80.service"),
            wants("masked.service"),
            wants("gone.service"),
        );
        let rootfs = rootfs(&[&[
            ("lib", "-> usr/lib"),
            ("usr/lib/systemd/system/there.service", "x"),
            ("usr/lib/systemd/system/web@.service", "x"),
            ("etc/systemd/system/by-name.service", "x"),
            (&there, "-> /lib/systemd/system/there.service"),
            (&by_name, "-> /moved/by-name.service"),
            (&instance, "-> ../web@.service"),
            (&masked, "-> /dev/null"),
            (&gone, "-> /lib/systemd/system/gone.service"),
        ]]);
        assert_eq!(rootfs.dangling_units(), [gone.as_str()]);
    }

    #[test]
    fn opaque_folders_loops_and_rubbish() {
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
        assert!(RootFs::default().apply(&[7_u8; 2000][..]).is_err());
    }
}
