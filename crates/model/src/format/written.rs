//! A value as it is written in its file: `0777`, where the value is the integer 777.

use super::{Place, paths, yaml};
use crate::tree::{Tree, TreePath};

/// The characters at a place of a file; `None` if the file is not loaded.
fn written(tree: &Tree, file: &TreePath, place: Place) -> Option<String> {
    // A definition that is a link is read through it.
    let path = paths::follow(tree, file).ok()?;
    let text = std::str::from_utf8(tree.content(&path)?).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = yaml::lines(text).nth((place.line as usize).checked_sub(1)?)?;
    let written = line.chars().skip((place.column as usize).checked_sub(1)?).take(place.length as usize);
    Some(written.collect()).filter(|written: &String| !written.is_empty())
}

/// The hint for a number or a boolean where a string is expected: leading zeros and the like are kept.
pub(super) fn quoted(tree: &Tree, file: &TreePath, place: Place) -> String {
    written(tree, file, place).map_or_else(
        || "write it in quotes".to_owned(),
        |written| format!("write it in quotes: \"{written}\""),
    )
}
