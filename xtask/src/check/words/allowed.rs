//! Exceptions: lines `path: phrase`. A path that ends in `/` means all files below it, `*` all files; the
//! phrase `*` means all words.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context as _, ensure};

/// The exceptions, each with its line.
#[derive(Debug)]
pub(super) struct Allowed(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    line: usize,
    path: String,
    phrase: String,
}

impl Allowed {
    /// Reads the list; lines that begin with `#` are comments.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut entries = Vec::new();
        for (position, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (path, phrase) = line.split_once(": ").with_context(|| format!("no `: ` in `{line}`"))?;
            ensure!(!path.is_empty() && !phrase.trim().is_empty(), "an empty path or phrase in `{line}`");
            entries.push(Entry {
                line: position + 1,
                path: path.to_owned(),
                phrase: phrase.trim().to_owned(),
            });
        }
        Ok(Self(entries))
    }

    /// The exception that allows the word at this place: its phrase is in the text there and contains the
    /// word.
    pub(super) fn entry_for(&self, path: &str, text: &str, span: &Range<usize>) -> Option<usize> {
        let allows = |entry: &&Entry| {
            let covers =
                |(start, phrase): (usize, &str)| start <= span.start && span.end <= start + phrase.len();
            entry.is_for(path) && (entry.phrase == "*" || text.match_indices(&entry.phrase).any(covers))
        };
        self.0.iter().find(allows).map(|entry| entry.line)
    }

    /// The lines of exceptions that were not used.
    pub(super) fn lines_except(&self, used: &BTreeSet<usize>) -> impl Iterator<Item = usize> {
        self.0.iter().map(|entry| entry.line).filter(|line| !used.contains(line))
    }
}

impl Entry {
    fn is_for(&self, path: &str) -> bool {
        self.path == "*" || self.path == path || (self.path.ends_with('/') && path.starts_with(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "the foo of bar, a foo";

    #[test]
    fn a_phrase_allows_the_words_inside_of_it() {
        let allowed = Allowed::parse("# why\na.rs: foo of bar\n\nb/: *\n*: a foo\n").unwrap();
        for (path, span, entry) in [
            ("a.rs", 4..7, Some(2)),
            ("c.rs", 4..7, None),
            ("b/x/y.rs", 4..7, Some(4)),
            ("c.rs", 18..21, Some(5)),
        ] {
            assert_eq!(allowed.entry_for(path, TEXT, &span), entry, "{path} {span:?}");
        }
        assert_eq!(allowed.lines_except(&BTreeSet::from([2, 5])).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn malformed_exceptions_are_errors() {
        for text in ["a.rs", "a.rs:", ": foo", "a.rs:  "] {
            assert!(Allowed::parse(text).is_err(), "{text}");
        }
    }
}
