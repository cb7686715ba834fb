//! Documents stay true: the README shows the two commands, every link leads somewhere, every path that is named exists.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;

use crate::workspace;

/// What the README promises to work on a fresh clone.
const README_COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];

/// Checks every document of the repository.
pub(super) fn check() -> anyhow::Result<()> {
    let root = workspace::root();
    let mut faults = String::new();
    let readme = std::fs::read_to_string(root.join("README.md"))?;
    for command in README_COMMANDS {
        if !readme.lines().any(|line| line.split('#').next().unwrap_or_default().trim() == command) {
            writeln!(faults, "README.md does not show `{command}` on a line of its own")?;
        }
    }
    for path in workspace::files_below(root)? {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let folder = path.parent().unwrap_or(root);
        let name = workspace::shown(&path);
        for target in links(&text).filter(|target| !folder.join(target).exists()) {
            writeln!(faults, "{name}: the link to `{target}` leads nowhere")?;
        }
        for named in named_paths(&text).filter(|named| !exists(root, named)) {
            writeln!(faults, "{name}: there is no `{named}`")?;
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.trim_end()) }
}

/// Targets of links inside the repository, without their anchors.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        (!target.is_empty() && !target.contains("://")).then_some(target)
    })
}

/// Words in backticks that are paths of code.
fn named_paths(text: &str) -> impl Iterator<Item = &str> {
    let in_backticks = text.split('`').skip(1).step_by(2);
    in_backticks.filter(|word| word.starts_with("crates/") || word.starts_with("xtask/"))
}

/// A path may end in `::item`: then its file must say that word, too.
fn exists(root: &Path, named: &str) -> bool {
    match named.split_once("::") {
        None => root.join(named).exists(),
        Some((file, item)) => std::fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(item)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_are_found() {
        let text = "[a](docs/a.md#x) [b](https://h/b) [c](#d) `crates/x/src/y.rs` `z` `xtask/a::b`";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md"]);
        assert_eq!(named_paths(text).collect::<Vec<_>>(), ["crates/x/src/y.rs", "xtask/a::b"]);
    }

    #[test]
    fn an_item_must_stand_in_its_file() {
        let root = workspace::root();
        assert!(exists(root, "xtask/src/check/docs.rs::named_paths"));
        assert!(!exists(root, "xtask/src/check/docs.rs::no_such_".repeat(2).as_str()));
        assert!(!exists(root, "xtask/src/no.rs"));
    }
}
