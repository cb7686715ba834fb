//! Collects errors, and which parts of the source they break.

use std::collections::{BTreeMap, BTreeSet};

use super::{Diagnostic, Place, bounds};
use crate::names::{ImageName, SiteName};
use crate::tree::TreePath;

/// The part of the source that an error breaks.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    /// `edgewright.yaml`, and so the whole source.
    Source,
    /// One image (and its descendants, which the graph derives).
    Image(ImageName),
    /// One site.
    Site(SiteName),
    /// No part: the error has no effect on any build.
    Nothing,
}

/// Maximum number of errors, and of warnings, that are kept per file: a broken file may have a million.
pub(super) const MAX_DIAGNOSTICS_PER_FILE: usize = 100;

/// Maximum number of errors, and of warnings, that are kept of a commit.
pub const MAX_DIAGNOSTICS: usize = 1_000;

/// Maximum characters that are kept of a message or hint: both may quote a key or a value of a megabyte.
const MAX_MESSAGE: usize = 600;

/// Diagnostics of one kind, cut.
#[derive(Debug, Default)]
struct Cut {
    kept: Vec<Diagnostic>,
    /// The number of those per file, including those that are not kept.
    counts: BTreeMap<TreePath, usize>,
    /// The number of those that are not kept because other files have too many.
    beyond: usize,
}

impl Cut {
    fn is_full(&self, file: &TreePath) -> bool {
        self.kept.len() >= MAX_DIAGNOSTICS
            || self.counts.get(file).is_some_and(|count| *count >= MAX_DIAGNOSTICS_PER_FILE)
    }

    /// Counts one; whether it is to be kept.
    fn count(&mut self, file: &TreePath) -> bool {
        let is_full = self.is_full(file);
        let is_cut = self.kept.len() >= MAX_DIAGNOSTICS;
        match self.counts.get_mut(file) {
            Some(count) if !is_cut || *count > MAX_DIAGNOSTICS_PER_FILE => *count += 1,
            None if !is_cut => drop(self.counts.insert(file.clone(), 1)),
            Some(_) | None => self.beyond += 1,
        }
        !is_full
    }

    /// All in file order; those that were not kept are counted in a last one.
    fn finish(self, what: &str) -> Vec<Diagnostic> {
        let mut diagnostics = self.kept;
        diagnostics.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
        for (file, count) in self.counts {
            if let Some(count @ 1..) = count.checked_sub(MAX_DIAGNOSTICS_PER_FILE) {
                diagnostics.push(bounds::more(Some(file), count, &format!("{what} in this file")));
            }
        }
        if self.beyond > 0 {
            diagnostics.push(bounds::more(None, self.beyond, what));
        }
        diagnostics
    }
}

/// All errors and warnings so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: Cut,
    /// These break nothing.
    warnings: Cut,
    /// The size of all files that were read.
    pub(super) definition_bytes: u64,
    pub(super) source: bool,
    pub(super) images: BTreeSet<ImageName>,
    pub(super) sites: BTreeSet<SiteName>,
}

impl Report {
    /// Adds an error, which breaks its owner.
    pub(super) fn add(
        &mut self,
        owner: &Owner,
        file: &TreePath,
        place: Option<Place>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.breaks(owner);
        if self.errors.count(file) {
            let (message, hint) = (clip(message.into()), Some(clip(hint.into())));
            self.errors.kept.push(Diagnostic { file: Some(file.clone()), place, message, hint });
        }
    }

    /// Whether further errors of a file are only counted: their texts need not be made.
    pub(super) fn is_full(&self, file: &TreePath) -> bool {
        self.errors.is_full(file)
    }

    /// Adds a warning, which breaks nothing.
    pub(super) fn warn(
        &mut self,
        file: &TreePath,
        place: Option<Place>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.warnings.count(file) {
            let (message, hint) = (clip(message.into()), Some(clip(hint.into())));
            self.warnings.kept.push(Diagnostic { file: Some(file.clone()), place, message, hint });
        }
    }

    /// All warnings in file order.
    pub(super) fn take_warnings(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.warnings).finish("warnings")
    }

    /// All errors in file order; errors that were not kept are counted in a last error.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.errors.finish("errors")
    }

    /// Marks a further owner of an error as broken.
    pub(super) fn breaks(&mut self, owner: &Owner) {
        match owner {
            Owner::Source => self.source = true,
            Owner::Image(name) => drop(self.images.insert(name.clone())),
            Owner::Site(name) => drop(self.sites.insert(name.clone())),
            Owner::Nothing => {}
        }
    }
}

/// The text, cut to [`MAX_MESSAGE`].
fn clip(text: String) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The allowed word that `word` was probably meant to be, if one is similar.
pub fn nearest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().take(MAX_MESSAGE).count() / 3).max(1);
    let near = allowed.into_iter().map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// `did you mean …?` if a word is similar, and all allowed words.
pub(super) fn suggest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let list = match allowed.len() {
        0 => "known: none".to_owned(),
        1..=24 => format!("known: {}", allowed.join(", ")),
        count => format!("known: {count}, such as {}", allowed[..8].join(", ")),
    };
    let near = nearest(word, allowed.iter().copied());
    near.map_or_else(|| list.clone(), |near| format!("did you mean `{near}`? {list}"))
}

/// Edit distance with neighbours swapped counting once (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    /// The longest word that is compared with known names, in characters.
    const LONGEST: usize = 64;
    let left: Vec<char> = left.chars().take(LONGEST).collect();
    let right: Vec<char> = right.chars().take(LONGEST).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, l) in left.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, r) in right.iter().enumerate() {
            let mut best =
                (last[column] + usize::from(l != r)).min(last[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && *l == right[column - 1] && left[row - 1] == *r {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[right.len()]
}
