//! Words: quotes, flags and the marks of here-documents.

use std::ops::Range;

/// Why a text has no words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordError {
    /// A quote is not closed.
    OpenQuote,
}

/// The words of a text, each with its first byte; quotes and escapes are kept.
pub(super) fn split(text: &str, escape: char) -> Result<Vec<(usize, &str)>, WordError> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() && quote.is_none() {
            words.extend(start.take().map(|start| (start, &text[start..at])));
            continue;
        }
        start.get_or_insert(at);
        match quote {
            _ if c == escape && quote != Some('\'') => drop(chars.next()),
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if open == c => quote = None,
            Some(_) | None => {}
        }
    }
    if quote.is_some() {
        return Err(WordError::OpenQuote);
    }
    words.extend(start.map(|start| (start, &text[start..])));
    Ok(words)
}

/// A flag in front of an instruction's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    /// The bytes of the arguments that it takes.
    pub(super) range: Range<usize>,
    /// Its name, without dashes.
    pub(super) name: String,
    /// Its value, quotes removed.
    pub(super) value: String,
}

/// The flags of an instruction, and the first byte behind them.
pub(super) fn flags(arguments: &str, escape: char) -> (Vec<Flag>, usize) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        let rest = &arguments[at..];
        let start = at + (rest.len() - rest.trim_start().len());
        if !arguments[start..].starts_with("--") {
            return (flags, start);
        }
        let (length, word) = unquoted(&arguments[start..], escape);
        at = start + length;
        if word == "--" {
            return (flags, at);
        }
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        flags.push(Flag {
            range: start..at,
            name: name.trim_start_matches('-').to_ascii_lowercase(),
            value: value.to_owned(),
        });
    }
}

/// The length of the first word of a text, and the word without its quotes and escapes.
fn unquoted(text: &str, escape: char) -> (usize, String) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            _ if c == escape => word.extend(chars.next().map(|(_, c)| c)),
            Some(open) if open == c => quote = None,
            None if c.is_whitespace() => return (at, word),
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(_) | None => word.push(c),
        }
    }
    (text.len(), word)
}

/// The mark of a here-document.
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) strips_tabs: bool,
    pub(super) attached: Option<usize>,
}

/// The mark of the here-document that a word begins: digits, `<<`, perhaps `-`, and a name that may be
/// quoted. What a shell ends the name at is no part of it. As in buildah, a word with a further `<` begins
/// none.
pub(super) fn here_document(start: usize, word: &str) -> Option<Mark> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    if rest.contains('<') {
        return None;
    }
    let (rest, strips_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let mut name = String::new();
    let mut quote = None;
    let mut attached = None;
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            _ if c == '\\' && quote != Some('\'') => name.extend(chars.next().map(|(_, c)| c)),
            Some(open) if open == c => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if matches!(c, '>' | '|' | '&' | ';' | '(' | ')') => {
                attached = Some(start + word.len() - rest.len() + at);
                break;
            }
            Some(_) | None => name.push(c),
        }
    }
    (!name.is_empty()).then_some(Mark { name, strips_tabs, attached })
}
