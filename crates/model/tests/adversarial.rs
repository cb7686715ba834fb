//! Inputs made to be slow: large files of one thing repeated. Reading them, and printing what is wrong, must
//! end, with an answer of bounded size. Nothing here looks at a clock: a quadratic step shows as a test that
//! does not end.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fmt::Write as _;

use edgewright_model::format::{parse, render};
use edgewright_model::tree::EntryKind;

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
