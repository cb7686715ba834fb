//! Words that the project does not use, from the list in `docs/contributing/writing.md`.
//!
//! Comments, strings and identifiers are read alike: `at_once`, `AtOnce` and "at once" are the same phrase.
//! Exceptions are in `docs/contributing/words-allowed.txt`, one `path: phrase` on each line.

mod allowed;
mod list;
mod scan;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};

use crate::workspace;
use allowed::Allowed;
use list::List;

const LIST: &str = "docs/contributing/writing.md";
const ALLOWED: &str = "docs/contributing/words-allowed.txt";
/// Kinds of files that are read.
const EXTENSIONS: [&str; 6] = ["rs", "md", "toml", "yaml", "txt", "sh"];

/// Checks every file that git knows, or would add.
pub(super) fn check() -> anyhow::Result<()> {
    let root = workspace::root();
    let read =
        |name: &str| std::fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"));
    let list = List::parse(&read(LIST)?).with_context(|| format!("malformed word list in {LIST}"))?;
    let allowed = Allowed::parse(&read(ALLOWED)?).with_context(|| format!("malformed {ALLOWED}"))?;
    let mut used = BTreeSet::new();
    let mut faults = String::new();
    for name in workspace::files_in_git()? {
        let has_words = name.rsplit_once('.').is_some_and(|(_, end)| EXTENSIONS.contains(&end));
        // These two quote the words.
        if has_words && name != LIST && name != ALLOWED {
            let text = read(&name)?;
            for hit in list.hits(&text) {
                match allowed.entry_for(&name, &text, &hit.span) {
                    Some(entry) => drop(used.insert(entry)),
                    None => writeln!(faults, "{name}:{}: {}: write {}", hit.line, hit.phrase, hit.instead)?,
                }
            }
        }
    }
    for line in allowed.lines_except(&used) {
        writeln!(faults, "{ALLOWED}:{line}: unused exception: remove it")?;
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.trim_end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_and_exceptions_of_the_repository_are_well_formed() {
        let read = |name: &str| std::fs::read_to_string(workspace::root().join(name)).unwrap();
        let list = List::parse(&read(LIST)).unwrap();
        assert!(list.hits(concat!("fn is_to", "ld() {}")).len() == 1, "the list of {LIST} is not read");
        Allowed::parse(&read(ALLOWED)).unwrap();
    }
}
