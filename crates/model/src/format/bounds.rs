//! Limits of what a source declares, checked by counting before anything is made of it: a few thousand small
//! files can declare millions of variants.

use std::collections::{BTreeMap, BTreeSet};

use super::Diagnostic;
use super::report::{Owner, Report};
use crate::names::ImageName;
use crate::spec::{Definition, From, Per};
use crate::tree::TreePath;

/// Maximum number of variants of a source.
pub const MAX_VARIANTS: usize = 50_000;

/// Maximum number of images in a line of `from`, the image itself included.
pub const MAX_IMAGE_LINE: usize = 128;

/// Maximum size of all files together that are read as YAML, in bytes.
pub const MAX_DEFINITION_BYTES: u64 = 32 * 1024 * 1024;

/// An image with its ancestors, in numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    images: usize,
    per_slot: usize,
    per_site: usize,
}

/// Whether the definition is within the limits; if not, this breaks the source.
pub(super) fn check(report: &mut Report, file: &TreePath, definition: &Definition) -> bool {
    let lines = lines(definition);
    let count = variants(definition, &lines);
    if count > MAX_VARIANTS {
        let message = format!(
            "the source has {} images and {} sites, which make {count} variants or more, at most {MAX_VARIANTS}",
            definition.images.len(),
            definition.sites.len()
        );
        let hint = "declare fewer images as `per: slot` and `per: site`, or split the source";
        report.add(&Owner::Source, file, None, message, hint);
        return false;
    }
    let long = lines.iter().find(|(_, line)| line.images > MAX_IMAGE_LINE);
    if let Some((image, line)) = long {
        let message =
            format!("image `{image}` is built on a line of {} images, at most {MAX_IMAGE_LINE}", line.images);
        let hint = "put the steps of several images into one";
        report.add(&Owner::Source, file, None, message, hint);
        return false;
    }
    true
}

/// The lines of all images that end in a base: others have no variant. Linear, whatever the lines are.
fn lines(definition: &Definition) -> BTreeMap<&ImageName, Line> {
    let mut lines: BTreeMap<&ImageName, Line> = BTreeMap::new();
    for image in definition.images.values() {
        let mut above = Vec::new();
        let mut next = Some(image);
        let mut line = Line::default();
        while let Some(image) = next {
            if let Some(known) = lines.get(&image.name) {
                line = *known;
                break;
            }
            above.push(image);
            next = match &image.from {
                // A line longer than the number of images passes one of them twice.
                From::Image(parent) if above.len() <= definition.images.len() => {
                    definition.images.get(parent)
                }
                _ => None,
            };
        }
        for image in above.into_iter().rev() {
            line.images += 1;
            line.per_slot += usize::from(image.per == Per::Slot);
            line.per_site += usize::from(image.per == Per::Site);
            lines.insert(&image.name, line);
        }
    }
    lines
}

/// The number of variants; counting ends at the first site with which there are too many. Slots that `where`
/// excludes count, too: they are errors.
fn variants(definition: &Definition, lines: &BTreeMap<&ImageName, Line>) -> usize {
    let mut count = definition.images.values().filter(|image| image.per == Per::Image).count();
    for site in definition.sites.values() {
        let mut seen: BTreeSet<&ImageName> = BTreeSet::new();
        for slot in &site.slots {
            let Some(line) = lines.get(&slot.image) else { continue };
            count += line.per_slot;
            // The line until an image that is counted, or until all that follow are the same everywhere.
            let mut next = definition.images.get(&slot.image);
            while let Some(image) = next {
                let is_finer = lines.get(&image.name).is_some_and(|line| line.per_slot + line.per_site > 0);
                if !is_finer || !seen.insert(&image.name) {
                    break;
                }
                count += usize::from(image.per == Per::Site);
                next = match &image.from {
                    From::Image(parent) => definition.images.get(parent),
                    From::Scratch | From::External(_) => None,
                };
            }
        }
        if count > MAX_VARIANTS {
            break;
        }
    }
    count
}

/// Counts the bytes of a file that is about to be read; with too many the source is broken, and the file is
/// not read.
pub(super) fn admit(report: &mut Report, file: &TreePath, size: u64) -> bool {
    let before = report.definition_bytes;
    report.definition_bytes = before.saturating_add(size);
    if report.definition_bytes <= MAX_DEFINITION_BYTES {
        return true;
    }
    if before <= MAX_DEFINITION_BYTES {
        let message = format!(
            "the definitions up to this file have {} bytes, at most {MAX_DEFINITION_BYTES}",
            report.definition_bytes
        );
        report.add(&Owner::Source, file, None, message, "split the source; put content into files of a step");
    }
    false
}

/// The last entry of a list that is cut.
pub(super) fn more(file: Option<TreePath>, count: usize, what: &str) -> Diagnostic {
    let message = format!("and {count} more {what}");
    let hint = Some("correct those above first: often one mistake causes many".to_owned());
    Diagnostic { file, place: None, message, hint }
}
