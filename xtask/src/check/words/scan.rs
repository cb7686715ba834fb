//! Text as words: identifiers are split at `_` and where the case changes.

use std::ops::Range;

/// A word in lower case, and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Range<usize>,
    /// Counted from 1.
    pub(super) line: usize,
}

/// All words of a text, in order.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut line = 1;
    let mut open: Option<usize> = None;
    let mut close = |open: &mut Option<usize>, end: usize, line: usize| {
        if let Some(start) = open.take() {
            words.push(Word { text: text[start..end].to_lowercase(), span: start..end, line });
        }
    };
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    for (position, &(at, char)) in chars.iter().enumerate() {
        let before = position.checked_sub(1).map(|before| chars[before].1);
        let after = chars.get(position + 1).map(|after| after.1);
        if !char.is_alphabetic() || is_escape(before, char) {
            close(&mut open, at, line);
        } else if open.is_none() || before.is_some_and(|before| is_border(before, char, after)) {
            close(&mut open, at, line);
            open = Some(at);
        }
        if char == '\n' {
            line += 1;
        }
    }
    close(&mut open, text.len(), line);
    words
}

/// The letter of `\n` and its like: the word begins after it.
fn is_escape(before: Option<char>, char: char) -> bool {
    before == Some('\\') && matches!(char, 'n' | 'r' | 't')
}

/// Whether a new word begins at a letter after a letter: `isOpen`, `HTTPError`.
fn is_border(before: char, char: char, after: Option<char>) -> bool {
    char.is_uppercase() && (before.is_lowercase() || after.is_some_and(char::is_lowercase))
}

/// Whether what is between two words joins them to a phrase: nothing, `_`, `-`, blanks, or the end of a line
/// in a comment or a string.
pub(super) fn joins(between: &str) -> bool {
    let is_gap = match between.matches('\n').count() {
        0 => between.chars().all(char::is_whitespace),
        1 => between.chars().all(|c| c.is_whitespace() || "/!#*>\\".contains(c)),
        _ => false,
    };
    matches!(between, "_" | "-") || is_gap
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn identifiers_are_split() {
        for (text, want) in [
            ("is_open", vec!["is", "open"]),
            ("IsOpen, isOpen2", vec!["is", "open", "is", "open"]),
            ("HTTPError REFUSED", vec!["http", "error", "refused"]),
            ("\"\\nred\\tso\"", vec!["red", "so"]),
            ("l'été", vec!["l", "été"]),
            ("", vec![]),
        ] {
            assert_eq!(texts(text), want, "{text}");
        }
    }

    #[test]
    fn lines_are_counted() {
        let lines: Vec<usize> = words("a\nb c\n\nd").iter().map(|word| word.line).collect();
        assert_eq!(lines, [1, 2, 2, 4]);
    }

    #[test]
    fn phrases_end_with_a_sentence_or_a_paragraph() {
        for between in ["", "_", "-", " ", "  ", "\n", "\n    /// ", "\n//! ", " \\\n   "] {
            assert!(joins(between), "{between:?}");
        }
        for between in [". ", ", ", "\n\n", "::", "(", "\", \""] {
            assert!(!joins(between), "{between:?}");
        }
    }

    proptest! {
        #[test]
        fn words_are_in_order_and_are_what_their_span_holds(text in "[a-zA-Z_ \\n\\\\.é0-9]{0,60}") {
            let mut end = 0;
            for word in words(&text) {
                prop_assert!(end <= word.span.start && word.span.start < word.span.end);
                end = word.span.end;
                prop_assert_eq!(text[word.span].to_lowercase(), word.text);
            }
        }

        #[test]
        fn the_spelling_of_an_identifier_does_not_matter(parts in prop::collection::vec("[b-m]{2,6}", 1..5)) {
            let snake = parts.join("_");
            let camel: String = parts.iter().map(|part| part[..1].to_uppercase() + &part[1..]).collect();
            prop_assert_eq!(&texts(&snake), &parts);
            prop_assert_eq!(&texts(&camel), &parts);
            prop_assert_eq!(&texts(&snake.to_uppercase()), &parts);
        }
    }
}
