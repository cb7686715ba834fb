//! The one rule for a Containerfile's text: the stage that is built starts from `${BASE}`, the step before.

use crate::tree::{Tree, TreePath};

/// The line, from 1, of a `FROM` that does not lead to `${BASE}`, where the text leaves no doubt. Texts with here-documents
/// are not looked into: their lines are not all instructions.
pub(super) fn astray(tree: &Tree, file: &TreePath, target: Option<&str>) -> Option<(usize, String)> {
    let text = std::str::from_utf8(tree.content(file)?).ok()?;
    if text.contains("<<") {
        return None;
    }
    let stages: Vec<Stage<'_>> =
        text.lines().enumerate().filter_map(|(index, line)| stage(index + 1, line)).collect();
    let mut stage = match target {
        None => stages.last()?,
        Some(target) => {
            stages.iter().find(|stage| stage.name.is_some_and(|name| name.eq_ignore_ascii_case(target)))?
        }
    };
    // A stage can only start from an earlier one, so this ends.
    while let Some(earlier) = stages
        .iter()
        .find(|it| it.line < stage.line && it.name.is_some_and(|name| name.eq_ignore_ascii_case(stage.from)))
    {
        stage = earlier;
    }
    let base = stage.from.trim_matches('"');
    let from_base =
        matches!(base, "$BASE" | "${BASE}") || (base.starts_with("${BASE:") && base.ends_with('}'));
    (!from_base).then(|| (stage.line, stage.from.to_owned()))
}

/// A `FROM` line.
struct Stage<'t> {
    line: usize,
    from: &'t str,
    name: Option<&'t str>,
}

fn stage(line: usize, text: &str) -> Option<Stage<'_>> {
    let mut words = text.split_whitespace();
    if !words.next()?.eq_ignore_ascii_case("from") {
        return None;
    }
    let mut words = words.filter(|word| !word.starts_with("--"));
    let from = words.next()?;
    let name = words.next().filter(|word| word.eq_ignore_ascii_case("as")).and_then(|_| words.next());
    Some(Stage { line, from, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::EntryKind;

    #[test]
    fn the_built_stage_starts_from_base() {
        for (text, target, want) in [
            ("ARG BASE\nFROM ${BASE}\n", None, None),
            (
                "FROM golang AS build\nFROM --platform=linux/amd64 $BASE as Final\nCOPY --from=build /a /a\n",
                None,
                None,
            ),
            ("FROM \"${BASE:-scratch}\" AS a\nFROM a AS b\nFROM B\n", None, None),
            ("FROM ${BASE}\nFROM debian:trixie\n", None, Some((2, "debian:trixie"))),
            ("FROM ${BASE} AS one\nFROM debian AS two\n", Some("one"), None),
            ("FROM debian AS one\nFROM one AS two\nFROM ${BASE}\n", Some("two"), Some((1, "debian"))),
            ("RUN <<X\nFROM debian\nX\n", None, None),
            ("# FROM debian\n", None, None),
        ] {
            let mut tree = Tree::default();
            let file: TreePath = "Containerfile".parse().unwrap();
            tree.insert(file.clone(), EntryKind::File, text.as_bytes());
            let found = astray(&tree, &file, target);
            assert_eq!(found, want.map(|(line, from)| (line, from.to_owned())), "{text}");
        }
    }
}
