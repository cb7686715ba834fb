//! Collects errors, and who is broken by them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Diagnostic, Place};
use crate::names::{ImageName, SiteName};
use crate::tree::TreePath;

/// Who an error breaks.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    /// `edgewright.yaml`, and so the whole source.
    Source,
    /// One image (and its descendants, which the graph derives).
    Image(ImageName),
    /// One site.
    Site(SiteName),
    /// Nobody: what is wrong has no effect on any build.
    Nobody,
}

/// Errors of one file that are kept: nobody reads more, and a broken file may have a million.
pub(super) const MOST_PER_FILE: usize = 100;

/// Characters of a message or hint that are kept: both may quote a key or a value of a megabyte.
const LONGEST_TEXT: usize = 600;

/// All errors so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// How many errors each file has, those that are not kept included.
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

    /// All errors in file order; the ones that were not kept are counted in one more for their file.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics;
        diagnostics.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
        let more =
            self.counts.into_iter().filter(|(_, count)| *count > MOST_PER_FILE).map(|(file, count)| {
                let message = format!("{} more errors in this file are not shown", count - MOST_PER_FILE);
                let hint = Some("correct the ones above first: often one mistake causes many".to_owned());
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
            Owner::Nobody => {}
        }
    }
}

/// A text without what nobody would read of it.
fn clip(text: String) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The word that another was probably meant to be, where one is near.
pub fn nearest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().take(LONGEST_TEXT).count() / 3).max(1);
    let near = allowed.into_iter().map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// `did you mean …?` where a word is near, and all that is allowed.
pub(super) fn suggest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let list = match allowed.len() {
        0 => "there are none".to_owned(),
        1..=24 => format!("known: {}", allowed.join(", ")),
        count => format!("{count} are known, such as {}", allowed[..8].join(", ")),
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
