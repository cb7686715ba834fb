//! The files of a source, as text: `== PATH`, then the file's lines; `== PATH link TARGET` is a link.

use edgewright_model::format::{Diagnostic, MAX_DIAGNOSTICS, parse, render, render_warning};
use edgewright_model::resolve;
use edgewright_model::tree::{EntryKind, Tree};
use edgewright_plan::{Locks, graph};

/// Maximum number of variants whose graph is made: work for each is bounded, but an input may ask for all.
const MAX_FUZZED_VARIANTS: usize = 200;

/// Reads the files as those of a commit, down to its graph.
pub fn definition(data: &[u8]) {
    let tree = tree(data);
    let parsed = parse(&tree);
    // With the counts of what is left out, one for each file and one for all.
    let most = MAX_DIAGNOSTICS + tree.entries.len() + 1;
    assert!(parsed.diagnostics.len() <= most && parsed.warnings.len() <= most);
    for diagnostic in &parsed.diagnostics {
        assert!(render(diagnostic, &tree).starts_with("error: "));
        is_within(diagnostic, &tree);
    }
    for (diagnostic, _) in parsed.warnings.iter().zip(0..MAX_DIAGNOSTICS) {
        assert!(render_warning(diagnostic, &tree).starts_with("warning: "));
        is_within(diagnostic, &tree);
    }
    let Some(definition) = &parsed.definition else {
        assert!(!parsed.diagnostics.is_empty(), "without a definition there is an error");
        return;
    };
    let variants = resolve::variants(definition);
    for variant in &variants {
        let _ = resolve::vars(definition, variant);
        let _ = resolve::checks(definition, variant);
        let _ = resolve::parent(definition, variant);
        assert_eq!(resolve::broken(definition, &variant.image), None);
    }
    if variants.len() <= MAX_FUZZED_VARIANTS {
        let graph = graph(definition, &tree, &Locks::default());
        for diagnostic in &graph.diagnostics {
            assert!(render(diagnostic, &tree).starts_with("error: "));
            is_within(diagnostic, &tree);
        }
    }
}

/// The tree of an input. Paths that no image can hold are listed as such.
fn tree(data: &[u8]) -> Tree {
    let mut tree = Tree::default();
    let mut file: Option<(&[u8], EntryKind, Vec<u8>)> = None;
    let mut finish = |file: Option<(&[u8], EntryKind, Vec<u8>)>| {
        let Some((path, kind, content)) = file else { return };
        match edgewright_model::tree::InvalidPath::parse(path) {
            Ok(path) => tree.insert(path, kind, &content),
            Err(invalid) => tree.invalid.push(invalid),
        }
    };
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let Some(head) = line.strip_prefix(b"== ") else {
            if let Some((_, _, content)) = &mut file {
                content.extend_from_slice(line);
            }
            continue;
        };
        let head = head.strip_suffix(b"\n").unwrap_or(head);
        let mark: &[u8] = b" link ";
        let at = head.windows(mark.len()).position(|part| part == mark);
        let next = match at {
            Some(at) => (&head[..at], EntryKind::Link, head[at + mark.len()..].to_vec()),
            None => (head, EntryKind::File, Vec::new()),
        };
        finish(file.replace(next));
    }
    finish(file);
    tree
}

fn is_within(diagnostic: &Diagnostic, tree: &Tree) {
    let (Some(file), Some(place)) = (&diagnostic.file, diagnostic.place) else { return };
    // The content of a link is its target, and the place is in the file that it leads to.
    if tree.entry(file).is_none_or(|entry| entry.kind == EntryKind::Link) {
        return;
    }
    let Some(bytes) = tree.content(file) else { return };
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    assert!((1..=lines.len()).contains(&(place.line as usize)), "{diagnostic:?} in {text:?}");
    // A carriage return ends a line in YAML, and is a character of it in a Containerfile.
    let width = text.split('\n').map(|line| line.chars().count()).max().unwrap_or(0);
    assert!((1..=width + 1).contains(&(place.column as usize)), "{diagnostic:?} in {text:?}");
    assert!(
        place.length >= 1 && (place.column + place.length) as usize <= width + 2,
        "{diagnostic:?} in {text:?}"
    );
}
