//! What the Containerfiles of all images use. Their platforms must be known, so this is after all files are
//! read.

use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use super::report::{Owner, Report};
use crate::containerfile::{
    Containerfile, Fault, ForeignImage, Inputs, context_sources, read, resolve as resolve_text,
};
use crate::names::Platform;
use crate::spec::{ContainerfileStep, Definition, Step};
use crate::tree::{EntryKind, MAX_TREE_DEPTH, Tree, TreePath};

/// Maximum size of the Containerfiles of all steps of a commit together, in bytes; a file counts for each step
/// and platform.
pub const MAX_CONTAINERFILE_BYTES: u64 = 64 * 1024 * 1024;

/// Maximum number of links that are followed in the path of a `COPY`.
const MAX_CONTEXT_LINKS: usize = 16;

/// Maximum characters that are underlined of a line.
const MAX_UNDERLINED: usize = 120;

/// Finds the images that Containerfiles use, and reports Containerfiles that cannot be steps.
pub(super) fn resolve(tree: &Tree, report: &mut Report, definition: &mut Definition) {
    let mut faults: BTreeSet<(TreePath, usize, String)> = BTreeSet::new();
    let mut bytes = 0;
    for (name, image) in &mut definition.images {
        let owner = Owner::Image(name.clone());
        let platforms =
            if image.platforms.is_empty() { &definition.source.platforms } else { &image.platforms };
        for step in &mut image.steps {
            let Step::Containerfile(step) = step else { continue };
            // A file that cannot be read is reported where it is named.
            let text = tree.content(&step.file).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let Some(text) = text else { continue };
            bytes += text.len() as u64 * (platforms.len() as u64 + 1);
            if bytes > MAX_CONTAINERFILE_BYTES {
                let message = format!(
                    "the Containerfiles of all steps and platforms have more than {} MiB together",
                    MAX_CONTAINERFILE_BYTES / (1024 * 1024)
                );
                report.add(&owner, &step.file, None, message, "shorten them, or remove steps");
                return;
            }
            let found = of_step(tree, step, &read(text), platforms);
            step.images = found.images;
            for fault in found.faults {
                report.breaks(&owner);
                if report.is_full(&step.file) {
                    continue;
                }
                if faults.insert((step.file.clone(), fault.line, fault.message.clone())) {
                    let place = Some(place(text, fault.line));
                    report.add(&owner, &step.file, place, fault.message, fault.hint);
                }
            }
        }
    }
}

#[derive(Default)]
struct Found {
    images: BTreeMap<Platform, Vec<ForeignImage>>,
    faults: Vec<Fault>,
}

fn of_step(tree: &Tree, step: &ContainerfileStep, file: &Containerfile, platforms: &[Platform]) -> Found {
    let mut found = Found::default();
    for platform in platforms {
        let inputs = Inputs { platform, args: &step.args, target: step.target.as_deref() };
        match resolve_text(file, &inputs) {
            Ok(resolved) => {
                let images: Vec<ForeignImage> = resolved.images().into_iter().cloned().collect();
                if !images.is_empty() {
                    found.images.insert(platform.clone(), images);
                }
                for (line, source) in context_sources(file, &resolved) {
                    found
                        .faults
                        .extend(leads_out(tree, &step.context, &source).map(|link| outside(line, &link)));
                }
            }
            Err(faults) => found.faults.extend(faults),
        }
    }
    found
}

fn outside(line: usize, link: &TreePath) -> Fault {
    let message = format!("`{link}` leads out of the build context");
    let hint = "replace the link by the files; or let a link in this folder name the folder that holds all files, and write that link after `context:`";
    Fault { line, message, hint: hint.to_owned() }
}

/// The link that leads a path of the context out of it.
fn leads_out(tree: &Tree, context: &TreePath, source: &str) -> Option<TreePath> {
    let mut pending: Vec<String> = source.split('/').rev().map(str::to_owned).collect();
    let mut done: Vec<String> = Vec::new();
    let mut followed: Option<TreePath> = None;
    let mut links = 0;
    while let Some(part) = pending.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                if done.pop().is_none() {
                    return followed;
                }
                continue;
            }
            _ => done.push(part),
        }
        if done.len() > MAX_TREE_DEPTH {
            return None;
        }
        let here = context.join(&done.join("/").parse().ok()?);
        if tree.entry(&here).is_none_or(|entry| entry.kind != EntryKind::Link) {
            continue;
        }
        links += 1;
        if links > MAX_CONTEXT_LINKS {
            return None;
        }
        let target = std::str::from_utf8(tree.content(&here)?).ok()?;
        if target.starts_with('/') {
            done.clear();
        } else {
            done.pop();
        }
        followed.get_or_insert(here);
        pending.extend(target.split('/').rev().map(str::to_owned));
    }
    None
}

/// The text of a line.
fn place(text: &str, line: usize) -> Place {
    let content = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim_start_matches('\u{feff}');
    let indented = content.len() - content.trim_start().len();
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Place {
        line: number(line),
        column: number(content[..indented].chars().count() + 1),
        length: number(content.trim().chars().take(MAX_UNDERLINED).count().max(1)),
    }
}
