//! Whatever bytes a repository holds, reading it does not panic, and every place lies within its file.

mod common;

use edgewright_model::format::{SchemaKind, parse, render, schema};
use edgewright_model::names::VariantName;
use edgewright_model::resolve;
use edgewright_model::tree::{EntryKind, Tree, TreePath};
use proptest::prelude::*;

const GOOD: &str = include_str!("good.txt");

/// Reads a tree, goes through all that follows from it, and looks at every place.
fn survives(tree: &Tree) {
    let parsed = parse(tree);
    for diagnostic in &parsed.diagnostics {
        assert!(render(diagnostic, tree).starts_with("error: "));
        let (Some(file), Some(place)) = (&diagnostic.file, diagnostic.place) else { continue };
        let Some(bytes) = tree.content(file) else { continue };
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<&str> = text.split(['\n', '\r']).collect();
        assert!((1..=lines.len()).contains(&(place.line as usize)), "{diagnostic:?} in {text:?}");
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!((1..=width + 1).contains(&(place.column as usize)), "{diagnostic:?} in {text:?}");
        assert!(place.length >= 1 && (place.column + place.length) as usize <= width + 2, "{diagnostic:?}");
    }
    if let Some(definition) = &parsed.definition {
        for variant in resolve::variants(definition) {
            let _ = resolve::vars(definition, &variant);
            let _ = resolve::checks(definition, &variant);
            let _ = resolve::parent(definition, &variant);
            assert_eq!(resolve::broken(definition, &variant.image), None);
        }
    } else {
        assert!(!parsed.diagnostics.is_empty());
    }
}

/// The files that `format` reads.
fn definitions(tree: &Tree) -> Vec<TreePath> {
    tree.entries.keys().filter(|path| matches!(path.extension(), Some("yaml" | "lock"))).cloned().collect()
}

/// Pieces that mean something to YAML or to the format.
const PIECES: [&str; 24] = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "&a ",
    "*a",
    "!!str ",
    "---\n",
    "...\n",
    "# ",
    "|\n",
    ">-\n",
    "? ",
    "\r",
    "\t",
    "\u{feff}",
    "ä→",
    "from: base\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_no_harm(which in 0usize..8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut tree = common::tree(GOOD);
        let files = definitions(&tree);
        tree.insert(files[which % files.len()].clone(), EntryKind::File, &bytes);
        survives(&tree);
    }

    #[test]
    fn arbitrary_yaml_does_no_harm(which in 0usize..8, pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
        let mut tree = common::tree(GOOD);
        let files = definitions(&tree);
        tree.insert(files[which % files.len()].clone(), EntryKind::File, pieces.concat().as_bytes());
        survives(&tree);
    }

    #[test]
    fn mutated_files_do_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..12, prop::sample::select(&PIECES[..])), 1..4)
    ) {
        let mut tree = common::tree(GOOD);
        let files = definitions(&tree);
        for (file, place, cut, piece) in edits {
            let path = file.get(&files);
            let text = String::from_utf8(tree.content(path).unwrap().to_vec()).unwrap();
            let chars: Vec<char> = text.chars().collect();
            let at = place.index(chars.len() + 1);
            let after = (at + cut).min(chars.len());
            let text: String = chars[..at].iter().copied().chain(piece.chars()).chain(chars[after..].iter().copied()).collect();
            tree.insert(path.clone(), EntryKind::File, text.as_bytes());
        }
        survives(&tree);
    }
}

#[test]
fn a_thousand_variants_are_read_and_resolved() {
    use std::fmt::Write as _;
    let mut text = "== edgewright.yaml\nedgewright: 1\nname: s\n== images/base/image.yaml\nfrom: scratch\nsteps: [{bootstrap: {suite: trixie}}]\n".to_owned();
    for image in 0..10 {
        let _ = write!(
            text,
            "== images/role-{image}/image.yaml\nfrom: base\nper: site\ndeclare: {{plc: {{type: string}}, n: {{type: integer, default: 1}}}}\nsteps: [{{files: files}}]\n\
             checks: [{{id: up, systemd: running}}]\n== images/role-{image}/files/etc/x\nx\n"
        );
    }
    for site in 0..100 {
        let _ = write!(
            text,
            "== sites/plant-{site}/site.yaml\nid: s-{site}\nvars: {{plc: 10.0.0.{site}}}\nslots:\n"
        );
        for image in 0..10 {
            let _ = writeln!(text, "  - {{id: slot-{image}, image: role-{image}, labels: {{ring: lab}}}}");
        }
    }
    let tree = common::tree(&text);
    let start = std::time::Instant::now();
    let parsed = parse(&tree);
    let read = start.elapsed();
    assert_eq!(common::errors(&parsed), "");
    let definition = parsed.definition.unwrap();
    let variants = resolve::variants(&definition);
    for variant in &variants {
        assert_eq!(
            resolve::vars(&definition, variant).unwrap().len(),
            if variant.site.is_some() { 2 } else { 0 }
        );
    }
    // Printed, not asserted: time is the benchmark's business.
    eprintln!("{} variants: read in {read:?}, read and resolved in {:?}", variants.len(), start.elapsed());
    assert_eq!(variants.len(), 1001);
    assert!(variants.contains(&"role-3/plant-42".parse::<VariantName>().unwrap()));
}

#[test]
fn schemas_know_the_keys_of_the_decoder() {
    // The good repository uses nearly every key; each must be in the schema of its file, at any depth.
    let tree = common::tree(GOOD);
    for (path, kind) in [
        ("edgewright.yaml", SchemaKind::Source),
        ("images/hmi/image.yaml", SchemaKind::Image),
        ("sites/plant-b/site.yaml", SchemaKind::Site),
        ("exceptions/gpu.yaml", SchemaKind::Exception),
    ] {
        let schema = schema(kind);
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let text = String::from_utf8(tree.content(&path.parse().unwrap()).unwrap().to_vec()).unwrap();
        let keys = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, _)| key)
            .filter(|key| key.chars().all(char::is_alphabetic));
        for key in keys {
            assert!(schema["properties"][key].is_object(), "{path}: {key}");
        }
    }
    // A key that only the schema knew would be refused by the decoder, and the other way round: both read one
    // description.
    let unknown = common::read("== edgewright.yaml\nedgewright: 1\nname: s\nx: 1\n");
    let hint = unknown.diagnostics[0].hint.clone().unwrap();
    let known =
        schema(SchemaKind::Source)["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(known.iter().all(|key| hint.contains(key.as_str())), "{hint}");
}
