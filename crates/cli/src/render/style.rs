//! Colours: few, and never the only carrier of a meaning.

/// A style's escape code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style(&'static str);

/// Failed.
pub(crate) const RED: Style = Style("\x1b[1;31m");
/// Passed.
pub(crate) const GREEN: Style = Style("\x1b[32m");
/// Waits, or wants attention.
pub(crate) const YELLOW: Style = Style("\x1b[33m");
/// What to do.
pub(crate) const HINT: Style = Style("\x1b[36m");
/// Headings.
pub(crate) const BOLD: Style = Style("\x1b[1m");
/// What matters less.
pub(crate) const DIM: Style = Style("\x1b[2m");

/// A text in a style.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{}{text}\x1b[0m", style.0)
}

/// How many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

/// A text from outside without control characters, so that it cannot steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
