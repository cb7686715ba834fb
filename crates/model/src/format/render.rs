//! A diagnostic for a terminal, in the style of rustc. Plain text: the command line adds colour. No layout
//! engine is used, because each message has one place, and the output must be the same in logs, pull requests
//! and tests.

use std::fmt::Write as _;

use super::{Diagnostic, paths, yaml};
use crate::tree::Tree;

/// The widest part of a source line that is shown, in characters.
const WIDTH: usize = 160;

/// Prints an error with its source line, without a line end at its end.
pub fn render(diagnostic: &Diagnostic, tree: &Tree) -> String {
    render_as("error", diagnostic, tree)
}

/// Prints a warning with its source line, without a line end at its end.
pub fn render_warning(diagnostic: &Diagnostic, tree: &Tree) -> String {
    render_as("warning", diagnostic, tree)
}

fn render_as(severity: &str, diagnostic: &Diagnostic, tree: &Tree) -> String {
    let mut out = format!("{severity}: {}", diagnostic.message);
    let (Some(file), place) = (&diagnostic.file, diagnostic.place) else {
        return with_hint(out, diagnostic);
    };
    let Some(place) = place else {
        let _ = write!(out, "\n --> {file}");
        return with_hint(out, diagnostic);
    };
    let gutter = place.line.to_string().len();
    let _ = write!(out, "\n{:gutter$}--> {file}:{}:{}", "", place.line, place.column);
    // A definition that is a link is read through it, and so are its lines.
    let read = paths::follow(tree, file).ok();
    let content = read.and_then(|path| tree.content(&path)).map(|bytes| String::from_utf8_lossy(bytes));
    let line = content.as_ref().and_then(|text| {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        yaml::lines(text).nth(place.line as usize - 1)
    });
    if let Some(line) = line {
        let column = place.column as usize - 1;
        // A long line is shown from shortly before the place.
        let skip = if column >= WIDTH { column - WIDTH / 2 } else { 0 };
        let shown: String =
            line.chars().skip(skip).take(WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let length = (place.length as usize).min(WIDTH - (column - skip)).max(1);
        let _ = write!(out, "\n{:gutter$} |\n{} | {}", "", place.line, shown.trim_end());
        let _ = write!(out, "\n{:gutter$} | {:2$}{3}", "", "", column - skip, "^".repeat(length));
    }
    with_hint(out, diagnostic)
}

fn with_hint(mut out: String, diagnostic: &Diagnostic) -> String {
    if let Some(hint) = &diagnostic.hint {
        let _ = write!(out, "\nhint: {hint}");
    }
    out
}
