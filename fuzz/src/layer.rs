//! Layers of foreign images.

use std::collections::BTreeSet;
use std::io::{Cursor, Read as _};

use edgewright_oci::files::{Operation, plan};
use edgewright_oci::index::{Index, LayerIndex, Node};
use edgewright_oci::layer::{Entry, Kind, decompress, read_entries, write_tar};
use edgewright_oci::media::{LAYER_GZIP, LAYER_TAR, LAYER_ZSTD};
use jiff::Timestamp;

use crate::selected;

const BLOCK: usize = 512;
/// What a compressed input may unpack to, in bytes.
const MAX_FUZZED_BYTES: u64 = 16 * 1024 * 1024;

/// The first byte selects the compression; tars that are not compressed get right checksums, because no
/// mutation finds those.
pub fn layer(data: &[u8]) {
    let Some((how, data)) = selected(data) else { return };
    let media_type = match how {
        b'g' => LAYER_GZIP,
        b'z' => LAYER_ZSTD,
        b'r' => LAYER_TAR,
        _ => return tar(&with_checksums(data)),
    };
    if let Ok((_, left)) = LayerIndex::scan_blob(data, media_type, MAX_FUZZED_BYTES, || false) {
        assert!(left <= MAX_FUZZED_BYTES);
    }
}

fn tar(tar: &[u8]) {
    let mut entries = Vec::new();
    let read = read_entries(tar, |entry, _| {
        entries.push(entry);
        Ok(())
    });
    for entry in &entries {
        assert!(entry.path.split(|byte| *byte == b'/').all(|part| part != b".."), "{entry:?}");
        assert!(!entry.path.starts_with(b"/") && !entry.path.ends_with(b"/"), "{entry:?}");
        assert!(entry.path.len() <= 4096 && entry.link.len() <= 4096, "{entry:?}");
    }
    let index = LayerIndex::scan(tar);
    assert_eq!(read.is_ok(), index.is_ok());
    let Ok(index) = index else { return };
    is_canonical(tar);
    copies_stay_inside(&entries, &index);
}

/// A layer that was written is read as it was meant, and written again in the same way.
fn is_canonical(tar: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("layer");
    let Ok(epoch) = Timestamp::from_second(1_700_000_000) else { return };
    // The end of the last file may be missing: readers of names do not notice.
    let Ok(written) = write_tar(tar, &path, epoch) else { return };
    let Ok(blob) = std::fs::read(&path) else { return };
    let mut unpacked = Vec::new();
    let mut reader = decompress(blob.as_slice(), LAYER_ZSTD).expect("our own layer");
    reader.read_to_end(&mut unpacked).expect("our own layer");
    assert_eq!(unpacked.len() as u64, written.uncompressed_size);
    let index = LayerIndex::scan(unpacked.as_slice()).expect("our own layer is read");
    assert_eq!(index, written.index);
    let again = write_tar(Cursor::new(unpacked), &path, epoch).expect("our own layer is written");
    assert_eq!((again.diff_id, again.digest), (written.diff_id, written.digest));
}

/// Copies every entry of the tar over an image that the same tar makes, and over a usual one.
fn copies_stay_inside(entries: &[Entry], own: &LayerIndex) {
    let usual = usual();
    let images = [Index::merge([own]), Index::merge([&usual]), Index::merge([&usual, own])];
    let delete: Vec<String> =
        entries.iter().take(2).map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
    for image in &images {
        for delete in [&[][..], &delete] {
            let Ok(plan) = plan(entries, delete, image) else { continue };
            let mut links = BTreeSet::new();
            for operation in &plan.operations {
                let (path, kind) = match operation {
                    Operation::Add(entry) => (String::from_utf8_lossy(&entry.path).into_owned(), entry.kind),
                    Operation::Entry { source, path, .. } => (path.clone(), entries[*source].kind),
                };
                assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
                let through =
                    parents(&path).find(|parent| links.contains(*parent) || is_link(image, delete, parent));
                assert_eq!(through, None, "{path:?} is written through a link");
                links.remove(&path);
                if kind == Kind::Link {
                    links.insert(path);
                }
            }
        }
    }
}

/// Whether a path of the image is a link that is not deleted.
fn is_link(image: &Index, deleted: &[String], path: &str) -> bool {
    deleted.is_empty() && matches!(image.get(path), Some(Node::Link(_)))
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// The directories and links of a usual system.
fn usual() -> LayerIndex {
    let mut tar = Vec::new();
    let directory = |path: &str| (path.to_owned(), tar::EntryType::Directory, "");
    let link = |path: &str, target| (path.to_owned(), tar::EntryType::Symlink, target);
    for (path, kind, target) in [
        directory("usr/"),
        directory("usr/bin/"),
        link("bin", "usr/bin"),
        link("lib", "/usr/lib"),
        link("loop", "loop/a"),
        link("up", "../../etc"),
        directory("etc/"),
        link("etc/alternatives", "../var/lib/x"),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(0);
        // Short names always fit.
        let _ = header.set_path(path).and_then(|()| header.set_link_name(target));
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
    }
    LayerIndex::scan(tar.as_slice()).unwrap_or_default()
}

/// The input with right checksums in all headers, in the places where a reader looks for them.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..).and_then(|rest| rest.get_mut(..BLOCK)) {
        at += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let header = tar::Header::from_byte_slice(block);
        let mut header = header.clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok());
        let Some(next) =
            size.and_then(|size| size.checked_next_multiple_of(BLOCK)).and_then(|size| at.checked_add(size))
        else {
            break;
        };
        at = next;
    }
    tar
}
