//! What buildah and its runtime leave in a layer that no instruction wrote: the places where they mounted
//! files and folders while a `RUN` was executed.
//!
//! They mount `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` and `/run/.containerenv`, so a `RUN` cannot
//! change these. If the image has no such file, the runtime creates an empty one as the place of the mount,
//! where a link of the image leads, too. Such files, and folders made only for them, are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use edgewright_oci::files::real_place;
use edgewright_oci::index::{Index, Node};
use edgewright_oci::layer::{Entry, Kind, Layer, LayerError, LayerWriter, decompress, read_entries};
use jiff::Timestamp;

/// Files that are mounted into the container of a `RUN`.
const FILES: [&str; 4] = ["etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"];
/// Folders that are mounted there.
const FOLDERS: [&str; 8] = ["dev", "dev/mqueue", "dev/pts", "dev/shm", "proc", "run", "run/secrets", "sys"];

/// Writes the layer in the tar `blob` without what the builder left; `below` are the entries of the layers
/// below. None if nothing is left of it. Blocking.
pub(super) fn write_without(
    blob: &Path,
    media_type: &str,
    below: &Index,
    (target, epoch): (&Path, Timestamp),
) -> Result<Option<Layer>, LayerError> {
    let open = || decompress(File::open(blob).map_err(LayerError::Read)?, media_type);
    let mut places = Places::of(below);
    read_entries(open()?, |entry, _| {
        places.see(entry);
        Ok(())
    })?;
    let left = places.leftovers(below);
    let mut writer = LayerWriter::create(target, epoch)?;
    let mut is_empty = true;
    read_entries(open()?, |entry, content| {
        if left.contains(entry.path.as_slice()) {
            return Ok(());
        }
        is_empty = false;
        writer.append(&entry, content)
    })?;
    let layer = writer.finish()?;
    Ok((!is_empty).then_some(layer))
}

/// The places that the builder may have created.
struct Places {
    /// Where the mounted files are, with links of the image followed.
    files: BTreeSet<String>,
    /// The mounted folders, and the parents of all others.
    folders: BTreeSet<String>,
    /// The layer's entries at these places.
    entries: BTreeMap<String, Entry>,
    /// Those of the folders with any other entry of the layer in them.
    used: BTreeSet<String>,
}

impl Places {
    fn of(below: &Index) -> Self {
        let files: BTreeSet<String> = FILES.iter().filter_map(|path| real_place(below, path)).collect();
        let mut folders: BTreeSet<String> =
            FOLDERS.iter().filter_map(|path| real_place(below, path)).collect();
        let parents: Vec<String> =
            files.iter().chain(&folders).flat_map(|path| parents(path)).map(str::to_owned).collect();
        folders.extend(parents);
        folders.remove("");
        Self { files, folders, entries: BTreeMap::new(), used: BTreeSet::new() }
    }

    fn see(&mut self, entry: Entry) {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let is_place = match entry.kind {
            Kind::File => self.files.contains(&path),
            Kind::Directory => self.folders.contains(&path),
            _ => false,
        };
        if is_place {
            self.entries.insert(path, entry);
        } else {
            self.mark(&path);
        }
    }

    /// Notes that the folders above an entry have content.
    fn mark(&mut self, path: &str) {
        let used: Vec<&str> = parents(path).filter(|folder| self.folders.contains(*folder)).collect();
        self.used.extend(used.into_iter().map(str::to_owned));
    }

    /// The paths to leave out.
    fn leftovers(mut self, below: &Index) -> BTreeSet<Vec<u8>> {
        let mut left = BTreeSet::new();
        // Children before their folders.
        for (path, entry) in std::mem::take(&mut self.entries).into_iter().rev() {
            let is_left = match (entry.kind, below.get(&path)) {
                // A file of the image is never executable here, except for the place of a mount.
                (Kind::File, None) => entry.size == 0 && entry.mode & 0o111 != 0,
                (Kind::Directory, None) => !self.used.contains(&path) && !below.has_below(&path),
                (Kind::Directory, Some(Node::Directory(known))) => {
                    !self.used.contains(&path)
                        && (known.mode, known.user, known.group, &known.xattrs)
                            == (entry.mode, entry.user, entry.group, &entry.xattrs)
                }
                _ => false,
            };
            if is_left {
                left.insert(entry.path);
            } else {
                self.mark(&path);
            }
        }
        left
    }
}

/// The folders above a path, without the root.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use edgewright_oci::index::LayerIndex;
    use edgewright_oci::media;

    use super::*;

    /// A tar of entries: `d` a directory, `l` a link, `f` a file with content, `e` an empty one.
    fn tar(entries: &[(&str, char, u32)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_size(if *kind == 'f' { 1 } else { 0 });
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_entry_type(match kind {
                'd' => tar::EntryType::Directory,
                'l' => tar::EntryType::Symlink,
                _ => tar::EntryType::Regular,
            });
            match path.split_once(" -> ") {
                Some((path, target)) => tar.append_link(&mut header, path, target).unwrap(),
                None => {
                    tar.append_data(&mut header, path, if *kind == 'f' { &b"x"[..] } else { b"" }).unwrap()
                }
            }
        }
        tar.into_inner().unwrap()
    }

    fn kept(below: &[(&str, char, u32)], layer: &[(&str, char, u32)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let below = Index::merge([&LayerIndex::scan(tar(below).as_slice()).unwrap()]);
        let (blob, target) = (folder.path().join("blob"), folder.path().join("layer"));
        std::fs::write(&blob, tar(layer)).unwrap();
        let written =
            write_without(&blob, media::LAYER_TAR, &below, (&target, Timestamp::UNIX_EPOCH)).unwrap();
        if written.is_none() {
            return Vec::new();
        }
        let mut paths = Vec::new();
        read_entries(decompress(File::open(&target).unwrap(), media::LAYER_ZSTD).unwrap(), |entry, _| {
            paths.push(String::from_utf8(entry.path).unwrap());
            Ok(())
        })
        .unwrap();
        paths
    }

    #[test]
    fn places_of_mounts_that_the_image_does_not_have_are_left_out() {
        let base = [("etc", 'd', 0o755), ("etc/resolv.conf", 'f', 0o644), ("run", 'd', 0o755)];
        // As buildah 1.28 with runc, and 1.39 with crun, write the layer of `RUN true`.
        for mode in [0o755, 0o700] {
            let of_run = [("etc", 'd', 0o755), ("etc/hosts", 'e', mode), ("run", 'd', 0o755)];
            assert_eq!(kept(&base, &of_run), [""; 0]);
            let with = [of_run.as_slice(), &[("etc/x", 'f', 0o644), ("run/sshd", 'd', 0o755)]].concat();
            assert_eq!(kept(&base, &with), ["etc", "run", "etc/x", "run/sshd"]);
        }
        let changed = [("etc", 'd', 0o700), ("etc/hosts", 'e', 0o755), ("run/.wh.lock", 'e', 0)];
        assert_eq!(kept(&base, &changed), ["etc", "run/.wh.lock"]);
    }

    #[test]
    fn links_of_the_image_lead_to_the_places() {
        let base = [
            ("etc", 'd', 0o755),
            ("etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf", 'l', 0o777),
            ("etc/hosts -> ../usr/lib/hosts", 'l', 0o777),
            ("usr/lib", 'd', 0o755),
        ];
        let layer = [
            ("dev", 'd', 0o1755),
            ("etc", 'd', 0o755),
            ("etc/hostname", 'e', 0o755),
            ("proc", 'd', 0o755),
            ("run", 'd', 0o755),
            ("run/secrets", 'd', 0o755),
            ("run/systemd", 'd', 0o755),
            ("run/systemd/resolve", 'd', 0o755),
            ("run/systemd/resolve/stub-resolv.conf", 'e', 0o755),
            ("usr/lib", 'd', 0o755),
            ("usr/lib/hosts", 'e', 0o755),
        ];
        assert_eq!(kept(&base, &layer), [""; 0]);
        let with = [layer.as_slice(), &[("run/systemd/x", 'd', 0o755)]].concat();
        assert_eq!(kept(&base, &with), ["run", "run/systemd", "run/systemd/x"]);
    }

    #[test]
    fn what_an_instruction_wrote_stays() {
        let base = [("etc", 'd', 0o755), ("etc/hostname", 'e', 0o755)];
        let copied = [
            ("etc/hosts", 'f', 0o644),
            ("etc/resolv.conf", 'e', 0o644),
            ("etc/hostname", 'e', 0o755),
            ("run/app", 'd', 0o755),
        ];
        assert_eq!(kept(&base, &copied), ["etc/hosts", "etc/resolv.conf", "etc/hostname", "run/app"]);
        assert_eq!(kept(&base, &[("etc/resolv.conf -> x", 'l', 0o777)]), ["etc/resolv.conf"]);
    }
}
