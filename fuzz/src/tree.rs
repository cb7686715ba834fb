//! What git prints of a hostile repository.

use std::collections::BTreeSet;

use edgewright_model::digest::hex;
use edgewright_model::format::{parse, render};
use edgewright_model::names::CommitId;
use edgewright_model::tree::{InvalidPath, MAX_TREE_DEPTH, Tree, TreePath, is_loaded};
use edgewright_source::fuzzing::{self, longest_text};

use crate::selected;

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The bytes of an object id in a tree object.
const ID_LENGTH: usize = 20;
/// The mark between the objects of an input.
const OBJECT: &[u8] = b"\n==\n";
/// Maximum number of folders that are read: more are only slow.
const MAX_FUZZED_FOLDERS: usize = 200;

/// The first byte selects the reader.
pub fn tree(data: &[u8]) {
    let Some((reader, data)) = selected(data) else { return };
    match reader {
        b'o' => objects(data),
        b'l' => {
            if let Some(tree) = fuzzing::ls_tree(data) {
                is_safe(&tree);
            }
        }
        b'c' => commits(data),
        _ => refs(data),
    }
}

/// Tree objects: an id's first byte is the number of the object.
fn objects(data: &[u8]) {
    let objects = split(data);
    let object = |id: &str| {
        let number =
            id.get(..2).and_then(|digits| usize::from_str_radix(digits, 16).ok()).unwrap_or_default();
        objects[number % objects.len()]
    };
    let reads = std::cell::Cell::new(0);
    let root = "00".repeat(ID_LENGTH);
    let read = fuzzing::tree(&root, |id| {
        reads.set(reads.get() + 1);
        // What is beyond the limit is no tree object.
        if reads.get() > MAX_FUZZED_FOLDERS { b"x".to_vec() } else { object(id).to_vec() }
    });
    let Some(mut tree) = read else { return };
    is_safe(&tree);
    let mut printed = Vec::new();
    let mut seen = BTreeSet::new();
    // Of a path that comes twice, either reader keeps the one that it sees last.
    if list(&object, (&root, b""), &mut printed, &mut seen) {
        let other = fuzzing::ls_tree(&printed);
        let other = other.expect("what one reader lists, the other one lists, too");
        assert_eq!(tree.entries, other.entries);
        assert_eq!(tree.invalid, other.invalid);
    }
    let entries: Vec<_> = tree.entries.values().cloned().collect();
    for entry in entries {
        let content = object(entry.content.as_str());
        tree.contents.insert(entry.content, content.into());
    }
    let parsed = parse(&tree);
    for diagnostic in parsed.diagnostics.iter().take(20) {
        let _ = render(diagnostic, &tree);
    }
}

/// Prints what `git ls-tree -r -t -z -l` prints; false if a path comes twice.
fn list<'a>(
    object: &impl Fn(&str) -> &'a [u8],
    (id, folder): (&str, &[u8]),
    printed: &mut Vec<u8>,
    seen: &mut BTreeSet<Vec<u8>>,
) -> bool {
    let mut bytes = object(id);
    while !bytes.is_empty() {
        let (Some(space), Some(head)) =
            (bytes.iter().position(|byte| *byte == b' '), bytes.iter().position(|byte| *byte == 0))
        else {
            return false;
        };
        let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        let path = [folder, separator, &bytes[space + 1..head]].concat();
        let id = hex(&bytes[head + 1..=head + ID_LENGTH]);
        let mode = String::from_utf8_lossy(&bytes[..space]).into_owned();
        bytes = &bytes[head + 1 + ID_LENGTH..];
        let (kind, size) = match mode.as_str() {
            "40000" => ("tree", "-"),
            "160000" => ("commit", "-"),
            _ => ("blob", "0"),
        };
        printed.extend(format!("{mode:0>6} {kind} {id} {size:>7}\t").into_bytes());
        printed.extend([path.as_slice(), b"\0"].concat());
        if !seen.insert(path.clone()) || kind == "tree" && !list(object, (&id, &path), printed, seen) {
            return false;
        }
    }
    true
}

fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut objects = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(OBJECT.len()).position(|part| part == OBJECT) {
        objects.push(&rest[..at]);
        rest = &rest[at + OBJECT.len()..];
    }
    objects.push(rest);
    objects
}

/// Paths can be files of an image, and those that cannot be are safe to print.
fn is_safe(tree: &Tree) {
    for (path, entry) in &tree.entries {
        assert_eq!(path.as_str().parse::<TreePath>().as_ref(), Ok(path));
        let parts: Vec<&str> = path.as_str().split('/').collect();
        assert!(parts.len() <= MAX_TREE_DEPTH, "{path}");
        assert!(parts.iter().all(|part| !matches!(*part, "" | "." | "..")), "{path}");
        let _ = is_loaded(path, entry);
    }
    for InvalidPath { folder, is_folder: _, escaped } in &tree.invalid {
        assert!(!escaped.contains(char::is_control) && escaped.chars().count() <= 601, "{escaped}");
        assert!(folder.as_ref().is_none_or(|folder| folder.as_str().parse::<TreePath>().is_ok()));
    }
}

fn commits(data: &[u8]) {
    let Ok(id) = ID.parse::<CommitId>() else { return };
    let read = [fuzzing::commit(&id, data).map(|(info, _)| info), fuzzing::commit_info(data)];
    for info in read.into_iter().flatten() {
        for text in [&info.author, &info.email, &info.subject] {
            assert!(text.chars().count() <= longest_text(), "{text}");
            assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text:?}");
        }
    }
}

fn refs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(refs) = fuzzing::ls_remote(&text) {
        assert!(refs.default_branch.is_none_or(|branch| refs.branches.contains_key(&branch)));
    }
    let count = fuzzing::pull_requests(&text).unwrap_or_default();
    assert!(count <= text.lines().count());
}
