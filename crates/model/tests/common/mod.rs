//! Repositories as text: `== PATH` begins a file; `link TARGET`, `submodule`, `size N` and `invalid` (with
//! `%` for a byte that no path has) behind the path give its kind.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use edgewright_model::format::{Parsed, parse};
use edgewright_model::tree::{ContentId, Entry, EntryKind, InvalidPath, Tree};

/// A tree from its text.
pub(crate) fn tree(text: &str) -> Tree {
    let mut tree = Tree::default();
    for file in text.split("== ").skip(1) {
        let (head, body) = file.split_once('\n').unwrap_or((file, ""));
        let mut words = head.split(' ');
        let path = words.next().unwrap();
        if words.clone().next() == Some("invalid") {
            let bytes: Vec<u8> = path.bytes().map(|byte| if byte == b'%' { 0xe9 } else { byte }).collect();
            tree.invalid.push(InvalidPath::parse(&bytes).unwrap_err());
            continue;
        }
        let path = path.parse().unwrap();
        match (words.next(), words.next()) {
            (None, _) => tree.insert(path, EntryKind::File, body.as_bytes()),
            (Some("absent"), _) => {}
            (Some("link"), Some(target)) => tree.insert(path, EntryKind::Link, target.as_bytes()),
            (Some(kind), size) => {
                let kind = if kind == "submodule" { EntryKind::Submodule } else { EntryKind::File };
                let size = size.map_or(0, |size| size.parse().unwrap());
                tree.entries.insert(path, Entry { kind, content: ContentId::new("0"), size });
            }
        }
    }
    tree
}

#[allow(dead_code, reason = "not every test binary needs it")]
/// All errors as `FILE:LINE:COLUMN+LENGTH MESSAGE | HINT`, one a line.
pub(crate) fn errors(parsed: &Parsed) -> String {
    let line = |diagnostic: &edgewright_model::format::Diagnostic| {
        let file = diagnostic.file.as_ref().map(ToString::to_string).unwrap_or_default();
        let place =
            diagnostic.place.map(|p| format!(":{}:{}+{}", p.line, p.column, p.length)).unwrap_or_default();
        format!("{file}{place} {} | {}", diagnostic.message, diagnostic.hint.as_deref().unwrap_or("-"))
    };
    parsed.diagnostics.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Parses a repository's text.
#[allow(dead_code, reason = "not every test binary needs it")]
pub(crate) fn read(text: &str) -> Parsed {
    parse(&tree(text))
}
