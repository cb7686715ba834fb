//! Documents stay true and readable: the README shows the two commands, every link has a target, and lines
//! are short.

use std::fmt::Write as _;

use anyhow::bail;

use super::columns::{wide_in_doc_comments, wide_in_document};
use super::files::rust_files;
use crate::workspace;

/// Commands that the README shows and that work on a fresh clone.
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
            writeln!(faults, "{name}: broken link: `{target}` does not exist")?;
        }
        for line in wide_in_document(&text) {
            writeln!(faults, "{name}:{line}: longer than 100 columns: break the line")?;
        }
    }
    for path in rust_files()? {
        for line in wide_in_doc_comments(&std::fs::read_to_string(&path)?) {
            let name = workspace::shown(&path);
            writeln!(faults, "{name}:{line}: doc comment longer than 110 columns: break the line")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_without_their_anchors() {
        let text = "[a](docs/a.md#x) [b](https://h/b) [c](#d) `e`";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md"]);
    }
}
