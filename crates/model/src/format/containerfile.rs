//! The rule for a Containerfile: the stage that is built starts from `${BASE}`, the previous step.

use crate::containerfile::{instructions, root, stages};
use crate::tree::{Tree, TreePath};

/// The `FROM` (line from 1, base) of the target stage if it certainly does not lead to `${BASE}`.
pub(super) fn astray(tree: &Tree, file: &TreePath, target: Option<&str>) -> Option<(usize, String)> {
    let text = std::str::from_utf8(tree.content(file)?).ok()?;
    let stages = stages(&instructions(text));
    let position = match target {
        None => stages.len().checked_sub(1)?,
        Some(target) => stages.iter().position(|stage| stage.is_named(target))?,
    };
    let stage = root(&stages, position)?;
    let base = stage.from.as_str();
    let from_base =
        matches!(base, "$BASE" | "${BASE}") || (base.starts_with("${BASE:") && base.ends_with('}'));
    (!from_base).then(|| (stage.line, stage.from.clone()))
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
            ("FROM ${BASE}\nRUN <<X\nFROM debian\nX\n", None, None),
            ("FROM \\\n  debian\nRUN <<X\nX\n", None, Some((1, "debian"))),
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
