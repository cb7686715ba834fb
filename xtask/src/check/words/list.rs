//! The list: the lines of the fenced block `words`, each `phrase, phrase: what to write instead`.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context as _, ensure};

use super::scan::{joins, words};

/// Phrases by their first word, each with what to write instead.
#[derive(Debug)]
pub(super) struct List(HashMap<String, Vec<(Vec<String>, String)>>);

/// A listed phrase in a text.
#[derive(Debug)]
pub(super) struct Hit<'a> {
    pub(super) line: usize,
    pub(super) phrase: String,
    pub(super) instead: &'a str,
    pub(super) span: Range<usize>,
}

impl List {
    /// Reads the block of a document.
    pub(super) fn parse(document: &str) -> anyhow::Result<Self> {
        let mut list: HashMap<String, Vec<(Vec<String>, String)>> = HashMap::new();
        let block = document.lines().skip_while(|line| *line != "```words").skip(1);
        for line in block.take_while(|line| *line != "```").filter(|line| !line.trim().is_empty()) {
            let (phrases, instead) = line.split_once(": ").with_context(|| format!("no `: ` in `{line}`"))?;
            for phrase in phrases.split(',') {
                let parts: Vec<String> = words(phrase).into_iter().map(|word| word.text).collect();
                let first = parts.first().with_context(|| format!("an empty phrase in `{line}`"))?;
                list.entry(first.clone()).or_default().push((parts, instead.trim().to_owned()));
            }
        }
        ensure!(!list.is_empty(), "no block that begins with ```words");
        for phrases in list.values_mut() {
            // The longest phrase has the best advice.
            phrases.sort_by_key(|(parts, _)| std::cmp::Reverse(parts.len()));
        }
        Ok(Self(list))
    }

    /// All listed phrases of a text, in order.
    pub(super) fn hits(&self, text: &str) -> Vec<Hit<'_>> {
        let found = words(text);
        let mut hits = Vec::new();
        for (at, word) in found.iter().enumerate() {
            let Some(phrases) = self.0.get(&word.text) else { continue };
            let is_here = |(parts, _): &&(Vec<String>, String)| {
                let Some(here) = found.get(at..at + parts.len()) else { return false };
                here.iter().zip(parts).all(|(word, part)| word.text == *part)
                    && here.windows(2).all(|pair| joins(&text[pair[0].span.end..pair[1].span.start]))
            };
            if let Some((parts, instead)) = phrases.iter().find(is_here) {
                let span = word.span.start..found[at + parts.len() - 1].span.end;
                hits.push(Hit { line: word.line, phrase: parts.join(" "), instead, span });
            }
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Words\n```sh\nls: x\n```\n```words\nfoo, foos: bar\n\nfoo on: baz on\nnot a foo: no bar\n```\nrest: x\n";

    fn found(text: &str) -> Vec<(usize, String, String)> {
        let list = List::parse(DOCUMENT).unwrap();
        list.hits(text).into_iter().map(|hit| (hit.line, hit.phrase, hit.instead.to_owned())).collect()
    }

    #[test]
    fn phrases_are_found_in_any_spelling() {
        for (text, line, phrase, instead) in [
            ("a foo.", 1, "foo", "bar"),
            ("\nfn is_foos() {}", 2, "foos", "bar"),
            ("struct FooOn;", 1, "foo on", "baz on"),
            ("/// It must foo\n/// on.", 1, "foo on", "baz on"),
            ("\"a\\nfoo\"", 1, "foo", "bar"),
            ("FOO", 1, "foo", "bar"),
        ] {
            assert_eq!(found(text), [(line, phrase.to_owned(), instead.to_owned())], "{text}");
        }
    }

    #[test]
    fn longer_words_and_other_blocks_are_not_found() {
        for text in ["food", "afoo", "ls rest", "not a bar", "f_oo"] {
            assert_eq!(found(text), [], "{text}");
        }
        // A sentence ends between the two.
        assert_eq!(found("foo. On")[0].1, "foo");
    }

    #[test]
    fn a_malformed_list_is_an_error() {
        for document in ["", "```words\n```", "```words\nfoo\n```", "```words\nfoo,: bar\n```"] {
            assert!(List::parse(document).is_err(), "{document}");
        }
    }
}
