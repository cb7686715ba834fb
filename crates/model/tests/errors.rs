//! Every error and warning of the format, with its place, its hint and what it breaks. The cases are in
//! `errors.txt`: a repository, and the text that a terminal shows for it.

mod common;

use std::fmt::Write as _;

use edgewright_model::format::{parse, render, render_warning};
use edgewright_model::tree::Tree;

const CASES: &str = include_str!("errors.txt");

/// Added to each case that has no such file.
const DEFAULTS: [(&str, &str); 2] = [
    ("edgewright.yaml", "edgewright: 1\nname: s\n"),
    (
        "images/base/image.yaml",
        "from: scratch\nsteps: [{bootstrap: {suite: trixie}}]\nchecks: [{id: up, systemd: running}]\n",
    ),
];

fn tree(case: &str) -> Tree {
    let mut text = case.to_owned();
    for (path, content) in DEFAULTS {
        if !case.contains(&format!("== {path}")) {
            let _ = write!(text, "== {path}\n{content}");
        }
    }
    common::tree(&text)
}

fn shown(tree: &Tree) -> String {
    let parsed = parse(tree);
    let mut out = String::new();
    for diagnostic in &parsed.diagnostics {
        let _ = writeln!(out, "{}", render(diagnostic, tree));
    }
    for warning in &parsed.warnings {
        let _ = writeln!(out, "{}", render_warning(warning, tree));
    }
    match parsed.definition {
        None => out.push_str("breaks: everything\n"),
        Some(definition) => {
            let images = definition.broken_images.iter().map(|image| format!("image {image}"));
            let sites = definition.broken_sites.iter().map(|site| format!("site {site}"));
            let broken: Vec<String> = images.chain(sites).collect();
            let _ = writeln!(
                out,
                "breaks: {}",
                if broken.is_empty() { "nothing".to_owned() } else { broken.join(", ") }
            );
        }
    }
    out
}

#[test]
fn every_error_has_its_place_and_hint() {
    let mut actual = String::new();
    for case in CASES.split("#### ").skip(1) {
        let (input, _) = case.split_once("\n--\n").unwrap_or((case.trim_end(), ""));
        let (title, files) = input.split_once('\n').unwrap();
        let _ = write!(actual, "#### {title}\n{files}\n--\n{}\n", shown(&tree(&format!("{files}\n"))));
    }
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/errors.txt");
    std::fs::write(path, &actual).unwrap();
    assert!(
        actual.trim_end() == CASES.trim_end(),
        "the output differs from errors.txt: compare it with {path}, and copy that file if it is correct"
    );
}
