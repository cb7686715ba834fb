//! Collects errors, and who is broken by them.

use std::collections::BTreeSet;

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

/// All errors so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) diagnostics: Vec<Diagnostic>,
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
        self.diagnostics.push(Diagnostic {
            file: Some(file.clone()),
            place,
            message: message.into(),
            hint: Some(hint.into()),
        });
        self.breaks(owner);
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

/// `did you mean …?` where a word is near, and all that is allowed.
pub(super) fn suggest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let limit = (word.chars().count() / 3).max(1);
    let near = allowed
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min();
    let list = match allowed.len() {
        0 => "there are none".to_owned(),
        1..=24 => format!("known: {}", allowed.join(", ")),
        count => format!("{count} are known, such as {}", allowed[..8].join(", ")),
    };
    near.map_or_else(|| list.clone(), |(_, near)| format!("did you mean `{near}`? {list}"))
}

/// Edit distance with neighbours swapped counting once (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    // Names are short; a longer word is no typing error of one.
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
