//! Inputs made to be slow: large files of one thing repeated. Reading them, and printing what is wrong, must
//! end, with an answer of bounded size. Nothing here looks at a clock: a quadratic step shows as a test that
//! does not end.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fmt::Write as _;

use edgewright_model::format::{parse, render};
use edgewright_model::tree::{EntryKind, Tree};

/// As large as a definition may be, in bytes.
const LARGE: usize = 1024 * 1024;

/// Most errors that are shown of one file, the count of the others included.
const MOST_ERRORS: usize = 101;

/// Reads an image.yaml with this text and prints all that is wrong with it.
fn read(text: &str) {
    let mut tree = common::tree("== edgewright.yaml\nedgewright: 1\nname: s\n");
    tree.insert("images/base/image.yaml".parse().unwrap(), EntryKind::File, text.as_bytes());
    let parsed = parse(&tree);
    assert!(
        !parsed.diagnostics.is_empty() && parsed.diagnostics.len() <= MOST_ERRORS,
        "{}",
        parsed.diagnostics.len()
    );
    for diagnostic in &parsed.diagnostics {
        let length = render(diagnostic, &tree).len();
        assert!(length < 16 * 1024, "{length} bytes for one error");
    }
}

#[test]
fn one_thing_over_and_over() {
    let pieces = [
        "[", "{", "- ", "? ", "?\n", "- ? ", "a: ", "a:\n", "{a: ", "[a, ", "[[],", "\"", "'", "&a ", "*a\n",
        "!!a\n", "|\n  a\n", "# \n", "\r", "\t", "---\n", "a: 1\n", "- a: 1\n", "? a\n", "\"a\": ", "a: |\n",
        "a: [", "\u{feff}",
    ];
    for piece in pieces {
        let text = piece.repeat(LARGE / 8 / piece.len());
        read(&text);
        read(&format!("checks:\n  - {text}"));
    }
}

#[test]
fn the_largest_files() {
    read(&"[".repeat(LARGE - 16));
    read(&"?\n".repeat(LARGE / 2));
    read(&format!("? {}\n: 1\n", "k".repeat(LARGE - 16)));
    read(&format!("\"{}\": 1\n", "k".repeat(1000)));
    read(&format!("from: {}\n", "v".repeat(LARGE - 16)));
    read(&format!("from: \"{}\"\n", "v/".repeat(LARGE / 2 - 16)));
    let mut keys = String::new();
    for number in 0..10_000 {
        let _ = writeln!(keys, "unknown-key-{number}: {number}");
    }
    read(&keys);
    let mut checks = "from: scratch\nchecks:\n".to_owned();
    for number in 0..10_000 {
        let _ = writeln!(checks, "  - {{id: c-{number}, unti: x.service}}");
    }
    read(&checks);
}

/// The first error of a source with these files.
fn refused(tree: &Tree) -> String {
    let parsed = parse(tree);
    assert!(parsed.definition.is_none());
    parsed.diagnostics[0].message.clone()
}

fn source(files: impl IntoIterator<Item = (String, String)>) -> Tree {
    let mut tree = common::tree("== edgewright.yaml\nedgewright: 1\nname: s\nplatforms: [linux/amd64]\n");
    for (path, text) in files {
        tree.insert(path.parse().unwrap(), EntryKind::File, text.as_bytes());
    }
    tree
}

fn image(number: usize, from: &str, per: &str) -> (String, String) {
    (format!("images/i{number}/image.yaml"), format!("from: {from}\nper: {per}\n"))
}

fn slots(count: usize, image: impl Fn(usize) -> usize) -> String {
    let mut text = String::new();
    for slot in 0..count {
        let _ = writeln!(text, "  - {{id: s{slot}, image: i{}}}", image(slot));
    }
    text
}

fn site(number: usize, slots: &str) -> (String, String) {
    (format!("sites/s{number}/site.yaml"), format!("id: s{number}\nslots:\n{slots}"))
}

#[test]
fn variants_are_counted_before_they_are_made() {
    // A line of a thousand images at a thousand sites.
    let line = (1..1000).map(|number| image(number, &format!("i{}", number - 1), "slot"));
    let sites = (0..1000).map(|number| site(number, "  - {id: a, image: i999}\n"));
    let bomb = source(
        [image(0, "docker.io/library/debian:12", "slot")].into_iter().chain(line.clone()).chain(sites),
    );
    let message = refused(&bomb);
    assert!(message.starts_with("the source has 1000 images and 1000 sites, which make 51000 "), "{message}");
    assert!(message.ends_with("at most 50000"), "{message}");

    // The line alone, whatever is built of it; and a circle, which has no end.
    let alone = refused(&source([image(0, "docker.io/library/debian:12", "image")].into_iter().chain(line)));
    assert_eq!(alone, "image `i128` is built on a line of 129 images, at most 128");
    let circle = (0..1000).map(|number| image(number, &format!("i{}", (number + 1) % 1000), "image"));
    assert!(refused(&source(circle)).contains("at most 128"));

    // Many slots of one site.
    let slots = slots(60_000, |_| 0);
    let (left, right) = slots.split_at(slots.len() / 2);
    let cut = right.find("  -").unwrap();
    let many = [site(0, &format!("{left}{}", &right[..cut])), site(1, &right[cut..])];
    // Each file is smaller than the limit of one.
    assert!(many.iter().all(|(_, text)| text.len() < LARGE));
    let message = refused(&source([image(0, "docker.io/library/debian:12", "slot")].into_iter().chain(many)));
    assert!(message.contains("which make 60000 variants or more"), "{message}");
}

#[test]
fn the_count_of_variants_is_exact_where_images_are_shared() {
    let images = [
        image(0, "docker.io/library/debian:12", "image"),
        image(1, "i0", "site"),
        image(2, "i1", "slot"),
        image(3, "i1", "slot"),
    ];
    // For each site one of i1 and 99 of its slots: 50,000 of 500 sites with i0 are one too many.
    let slots = slots(99, |slot| 2 + slot % 2);
    let sites = |count: usize| (0..count).map(|number| site(number, &slots)).collect::<Vec<_>>();
    let message = refused(&source(images.clone().into_iter().chain(sites(500))));
    assert!(message.contains("which make 50001 variants"), "{message}");
    let fine = parse(&source(images.into_iter().chain(sites(10))));
    assert!(fine.diagnostics.is_empty(), "{:?}", fine.diagnostics);
    assert_eq!(edgewright_model::resolve::variants(&fine.definition.unwrap()).len(), 1 + 10 * 100);
}

#[test]
fn errors_and_warnings_are_cut_per_file_and_in_all() {
    let mut keys = String::new();
    for number in 0..150 {
        let _ = writeln!(keys, "unknown-key-{number}: {number}");
    }
    let files =
        (0..100).map(|number| (format!("images/i{number}/image.yaml"), format!("from: scratch\n{keys}")));
    let diagnostics = parse(&source(files)).diagnostics;
    // A thousand, the rest of nine files, and the rest of the others.
    assert_eq!(diagnostics.len(), 1000 + 9 + 1);
    assert_eq!(diagnostics[1000].message, "and 51 more errors in this file");
    let last = diagnostics.last().unwrap();
    assert_eq!((last.file.as_ref(), last.message.as_str()), (None, "and 13641 more errors"));
}

#[test]
fn the_bytes_of_all_definitions_are_bounded() {
    let filler = format!("#{}\n", "x".repeat(LARGE - 100));
    let files = (0..40).map(|number| {
        (format!("images/i{number}/image.yaml"), format!("from: docker.io/library/debian:12\n{filler}"))
    });
    let message = refused(&source(files));
    assert!(message.starts_with("the definitions up to this file have "), "{message}");
    assert!(message.ends_with(" bytes, at most 33554432"), "{message}");
}
