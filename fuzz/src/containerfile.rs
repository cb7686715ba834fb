//! Containerfiles, and the ignore files beside them.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::containerfile::{
    Containerfile, Inputs, MAX_FOREIGN_IMAGES, Origin, context_sources, read, resolve, rewrite, root, stages,
};
use edgewright_model::names::Platform;
use edgewright_plan::ignore::Ignore;

use crate::selected;

/// The mark between a Containerfile and an ignore file.
const IGNORE: &str = "\n== ignore\n";

/// The name of the base.
const BASE_NAME: &str = "localhost/base:step";

/// The first byte selects the platform and the stage to build.
pub fn containerfile(data: &[u8]) {
    let Some((how, data)) = selected(data) else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, rules) = text.split_once(IGNORE).unwrap_or((text, ""));
    let file = read(text);
    lines_are_in_order(text, &file);
    let platform = if how & 1 == 0 { "linux/amd64" } else { "linux/arm/v7" };
    let Ok(platform) = platform.parse::<Platform>() else { return };
    let args = BTreeMap::from([("TAG".to_owned(), "9".to_owned())]);
    let target = [None, Some("build"), Some("0")][usize::from(how >> 1) % 3];
    match resolve(&file, &Inputs { platform: &platform, args: &args, target }) {
        Ok(resolved) => {
            let paths: Vec<String> =
                context_sources(&file, &resolved).into_iter().map(|(_, path)| path).collect();
            ignored(rules, &paths);
            let written = rewrite(&file, &resolved, name_of);
            let images = resolved.images().into_iter().map(|image| name_of(&Origin::Image(image.clone())));
            let names: BTreeSet<String> = images.collect();
            if names.len() < MAX_FOREIGN_IMAGES {
                buildah_sees_only(&written, &names, resolved.needed.len(), &platform);
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            let count = text.lines().count().max(1);
            assert!(faults.iter().all(|fault| (1..=count).contains(&fault.line)), "{faults:?}");
            ignored(rules, &[]);
        }
    }
}

/// A local name, such as the job gives buildah.
fn name_of(origin: &Origin) -> String {
    match origin {
        Origin::Image(image) => {
            let digest = edgewright_model::Digest::of(format!("{image:?}"));
            format!("localhost/foreign:{}", digest.short())
        }
        _ => BASE_NAME.to_owned(),
    }
}

fn lines_are_in_order(text: &str, file: &Containerfile) {
    let count = text.lines().count();
    let mut before = 0;
    for instruction in &file.instructions {
        assert!(before < instruction.line, "{instruction:?}");
        assert!(instruction.line <= instruction.last && instruction.last <= count, "{instruction:?}");
        assert!(!instruction.keyword.contains(char::is_whitespace), "{instruction:?}");
        before = instruction.last;
    }
    assert!(file.faults.iter().all(|fault| (1..=count).contains(&fault.line)), "{:?}", file.faults);
    let all = stages(&file.instructions);
    for position in 0..all.len().min(64) {
        assert!(root(&all, position).is_some_and(|root| root.line <= all[position].line));
    }
}

/// What buildah reads has no more stages, and names no image but those of the plan.
fn buildah_sees_only(written: &str, names: &BTreeSet<String>, needed: usize, platform: &Platform) {
    let file = read(written);
    assert!(file.faults.is_empty(), "{:?} in {written:?}", file.faults);
    let stages = stages(&file.instructions);
    assert!(stages.len() <= needed, "{written:?}");
    let Some(last) = stages.last().and_then(|stage| stage.name.as_ref()) else {
        panic!("no stage with a name in {written:?}");
    };
    // A further stage makes it a Containerfile of its own, in which the base is an image as well.
    let directive = if file.escape == '\\' { 0 } else { written.find('\n').map_or(0, |end| end + 1) };
    let (directive, rest) = written.split_at(directive);
    let text =
        format!("{directive}ARG BASE\n{rest}FROM ${{BASE}} AS last-of-all\nCOPY --from={last} /a /a\n");
    let inputs = Inputs { platform, args: &BTreeMap::new(), target: None };
    let file = read(&text);
    match resolve(&file, &inputs) {
        Ok(resolved) => {
            let names_in_it = resolved.images().into_iter().map(|image| image.reference.to_string());
            for name in names_in_it {
                assert!(name == BASE_NAME || names.contains(&name), "{name} in {text:?}");
            }
        }
        Err(faults) => panic!("{faults:?} in {text:?}"),
    }
}

/// A rule at the end of an ignore file decides.
fn ignored(rules: &str, paths: &[String]) {
    let Ok(ignore) = Ignore::parse(rules) else { return };
    for path in paths.iter().take(8) {
        let _ = ignore.ignores(path);
    }
    let all = Ignore::parse(&format!("{rules}\n*"));
    assert!(all.is_ok_and(|all| all.ignores("a/b")), "{rules:?}");
    let none = Ignore::parse(&format!("{rules}\n!*"));
    assert!(none.is_ok_and(|none| !none.ignores("a/b")), "{rules:?}");
}
