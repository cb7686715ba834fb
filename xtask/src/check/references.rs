//! What comments and documents refer to exists: paths of this repository, and decisions by their number.
//!
//! So no comment may name a page that is not in the repository either.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;

use crate::workspace;

/// Folders whose paths are checked wherever they are named.
const FOLDERS: [&str; 6] = ["crates/", "xtask/", "docs/", "sample/", "bench/", ".ci/"];
/// Documents that authors have and readers do not.
const FOREIGN_PAGES: [&str; 3] = ["DESIGN", "STYLE", "WRITING"];
/// Folders whose files are never changed again: databases remember the hashes of their migrations.
const FROZEN: &str = "/migrations/";

/// Checks the comments of Rust files and of settings, and all documents.
pub(super) fn check() -> anyhow::Result<()> {
    let root = workspace::root();
    let decisions = decisions(root)?;
    let mut faults = String::new();
    for path in workspace::files_below(root)? {
        let name = workspace::shown(&path);
        let is_document = match path.extension().and_then(|extension| extension.to_str()) {
            Some("md") => true,
            Some("rs" | "toml" | "sql") => false,
            _ => continue,
        };
        if name.contains(FROZEN) {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for (number, line) in text.lines().enumerate() {
            let prose = if is_document { line } else { comment(line) };
            for why in line_faults(root, &decisions, prose) {
                writeln!(faults, "{name}:{}: {why}", number + 1)?;
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.trim_end()) }
}

/// The numbers of all decisions, such as `0007`.
fn decisions(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let files = workspace::files_below(&root.join("docs/decisions"))?;
    let number = |path: &std::path::PathBuf| Some(path.file_name()?.to_str()?.split_once('-')?.0.to_owned());
    Ok(files.iter().filter_map(number).collect())
}

/// What follows `//`, `#` or `--` where a comment begins; nothing of code.
fn comment(line: &str) -> &str {
    let starts = ["//", "# ", "-- "];
    let start = starts.iter().filter_map(|start| {
        let begins = |at: &usize| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
        line.match_indices(start).map(|(at, _)| at).find(begins)
    });
    start.min().map_or("", |at| &line[at..])
}

/// Why references of a line lead nowhere.
fn line_faults(root: &Path, decisions: &BTreeSet<String>, prose: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for path in paths(prose).filter(|path| !exists(root, path)) {
        faults.push(format!("broken reference: `{path}` does not exist"));
    }
    if let Some(number) = decision_numbers(prose).find(|number| !decisions.contains(*number)) {
        faults.push(format!("there is no decision {number} in docs/decisions"));
    }
    if let Some(page) = FOREIGN_PAGES.into_iter().find(|page| has_word(prose, page)) {
        faults.push(format!(
            "{page} is not in this repository: name a document that readers have, or state it here"
        ));
    }
    faults
}

/// Words that are paths of this repository. Patterns are none, nor are addresses that contain such a path.
fn paths(prose: &str) -> impl Iterator<Item = &str> {
    let is_end = |c: char| c.is_whitespace() || "`\"'()[]{},;<>|".contains(c);
    prose.split(is_end).filter_map(|word| {
        let word = word.split('#').next()?.trim_end_matches(['.', ':', '!', '?']);
        let is_path = FOLDERS.iter().any(|folder| word.len() > folder.len() && word.starts_with(folder));
        let is_pattern = word.contains(['*', '…', '$', '%']) || word.contains("...");
        (is_path && !is_pattern).then_some(word)
    })
}

/// Whether a path is there. One may end in `::item`, which its file must contain; a decision is named by its
/// number, too.
fn exists(root: &Path, path: &str) -> bool {
    let (file, item) = path.split_once("::").map_or((path, None), |(file, item)| (file, Some(item)));
    if file.strip_prefix("docs/decisions/").is_some_and(|name| name.len() == 4) {
        return true;
    }
    // A line number may follow.
    let file = file.split_once(".rs:").map_or(file, |(stem, _)| &file[..stem.len() + ".rs".len()]);
    let Some(item) = item else { return root.join(file).exists() };
    let word = item.rsplit("::").next().unwrap_or(item).trim_end_matches("()");
    std::fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(word))
}

/// Numbers of four digits where the line speaks of decisions.
fn decision_numbers(prose: &str) -> impl Iterator<Item = &str> {
    let lower = prose.to_lowercase();
    let speaks = lower.contains("decision") || has_word(prose, "ADR");
    let words = prose.split(|c: char| !c.is_alphanumeric()).filter(move |_| speaks);
    words.filter(|word| word.len() == 4 && word.starts_with('0') && word.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether the text contains the word, not only as a part of a longer one.
fn has_word(prose: &str, word: &str) -> bool {
    prose.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_SUCH_ITEM: &str = "see xtask/src/check/mod.rs::no_such_item";

    fn faults_of(prose: &str) -> Vec<String> {
        line_faults(workspace::root(), &BTreeSet::from(["0001".to_owned()]), prose)
    }

    #[test]
    fn references_that_lead_nowhere_are_found() {
        for (prose, fault) in [
            (
                "see `crates/nowhere/src/lib.rs`.",
                "broken reference: `crates/nowhere/src/lib.rs` does not exist",
            ),
            ("see docs/nowhere.md, line 2", "broken reference: `docs/nowhere.md` does not exist"),
            (NO_SUCH_ITEM, "broken reference: `xtask/src/check/mod.rs::no_such_item` does not exist"),
            ("(`docs/decisions`, 0011)", "there is no decision 0011 in docs/decisions"),
            ("see ADR 0012", "there is no decision 0012 in docs/decisions"),
            (
                "the table of DESIGN section 4",
                "DESIGN is not in this repository: name a document that readers have, or state it here",
            ),
        ] {
            assert_eq!(faults_of(prose), [fault], "{prose}");
        }
    }

    #[test]
    fn references_that_lead_somewhere_are_right() {
        for prose in [
            "see `xtask/src/check/references.rs`, and xtask/src/check/references.rs:7.",
            "`xtask/src/check/references.rs::decision_numbers` and [a](docs/decisions/README.md#x)",
            "decision 0001, in docs/decisions",
            "crates/*/src and crates/…/x.rs are patterns, https://h/docs/x.md is an address",
            "mode 0644, DESIGNED, the year 0012",
            "crates/",
        ] {
            assert_eq!(faults_of(prose), Vec::<String>::new(), "{prose}");
        }
    }

    #[test]
    fn only_comments_of_code_count() {
        for (line, want) in [
            ("let a = \"crates/x\"; // see docs/README.md", "// see docs/README.md"),
            ("    //! header", "//! header"),
            ("let a = \"https://h/x\";", ""),
            ("key = 1 # why", "# why"),
            ("let a = 1;", ""),
        ] {
            assert_eq!(comment(line), want);
        }
    }
}
