//! Colours: few, and never the only sign of a meaning.

use unicode_width::UnicodeWidthStr as _;

/// A style's escape code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style(&'static str);

/// Failed.
pub(crate) const RED: Style = Style("\x1b[1;31m");
/// Passed.
pub(crate) const GREEN: Style = Style("\x1b[32m");
/// Waits, or needs attention.
pub(crate) const YELLOW: Style = Style("\x1b[33m");
/// What to do.
pub(crate) const HINT: Style = Style("\x1b[36m");
/// Headings.
pub(crate) const BOLD: Style = Style("\x1b[1m");
/// Less important.
pub(crate) const DIM: Style = Style("\x1b[2m");

/// A text in a style.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{}{text}\x1b[0m", style.0)
}

/// How many columns of a terminal a text takes: none for escape codes and combining marks, two for wide
/// letters.
pub(crate) fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().width()
}

/// A text from outside without control characters, so that it cannot steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A text with its digests shortened to what people compare.
pub(crate) fn short_digests(text: &str) -> String {
    const PREFIX: &str = "sha256:";
    const SHORT: usize = 12;
    let mut parts = text.split(PREFIX);
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let hex = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        short.push_str(PREFIX);
        short.push_str(&part[..hex.min(SHORT)]);
        short.push_str(&part[hex..]);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_a_terminal() {
        for (text, columns) in [
            ("", 0),
            ("plain", 5),
            ("größe", 5),
            // With combining marks.
            ("gro\u{308}\u{df}e", 5),
            ("工厂", 4),
            ("🚀 start", 8),
            (&paint(RED, "failed"), 6),
            (&paint(DIM, "工"), 2),
        ] {
            assert_eq!(width(text), columns, "{text}");
        }
    }

    #[test]
    fn digests_are_shortened_wherever_they_are() {
        let digest = "sha256:23005385f5ed5c73ed545638612c87d26f2ccdbe7e538d725c096a3ebacf67ac";
        assert_eq!(
            short_digests(&format!("a@{digest} b {digest}")),
            "a@sha256:23005385f5ed b sha256:23005385f5ed"
        );
        assert_eq!(short_digests("sha256:äb"), "sha256:äb");
    }
}
