//! Collects errors, and which parts of the source they break.

use std::collections::{BTreeMap, BTreeSet};

use super::{Diagnostic, Place};
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

/// Errors that are kept per file: a broken file may have a million.
pub(super) const MOST_PER_FILE: usize = 100;

/// Characters that are kept of a message or hint: both may quote a key or a value of a megabyte.
const LONGEST_TEXT: usize = 600;

/// All errors so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Warnings, which break nothing.
    warnings: Vec<Diagnostic>,
    /// The number of errors per file, including those that are not kept.
    counts: BTreeMap<TreePath, usize>,
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
        if let Some(count) = self.counts.get_mut(file) {
            *count += 1;
        } else {
            self.counts.insert(file.clone(), 1);
        }
        if self.counts.get(file).is_some_and(|count| *count > MOST_PER_FILE) {
            return;
        }
        self.diagnostics.push(Diagnostic {
            file: Some(file.clone()),
            place,
            message: clip(message.into()),
            hint: Some(clip(hint.into())),
        });
    }

    /// Adds a warning, which breaks nothing.
    pub(super) fn warn(
        &mut self,
        file: &TreePath,
        place: Option<Place>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.warnings.iter().filter(|known| known.file.as_ref() == Some(file)).count() < MOST_PER_FILE {
            let (message, hint) = (clip(message.into()), Some(clip(hint.into())));
            self.warnings.push(Diagnostic { file: Some(file.clone()), place, message, hint });
        }
    }

    /// All warnings in file order.
    pub(super) fn take_warnings(&mut self) -> Vec<Diagnostic> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
        warnings
    }

    /// All errors in file order; errors that were not kept are counted in a last error of their file.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics;
        diagnostics.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
        let more =
            self.counts.into_iter().filter(|(_, count)| *count > MOST_PER_FILE).map(|(file, count)| {
                let message = format!("{} more errors in this file are not shown", count - MOST_PER_FILE);
                let hint = Some("correct the errors above first: often one mistake causes many".to_owned());
                Diagnostic { file: Some(file), place: None, message, hint }
            });
        diagnostics.extend(more);
        diagnostics
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

/// The text, cut to [`LONGEST_TEXT`].
fn clip(text: String) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The allowed word that `word` was probably meant to be, if one is similar.
pub fn nearest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().take(LONGEST_TEXT).count() / 3).max(1);
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
