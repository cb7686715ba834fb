//! `limits.md`: every constant that bounds input, work or time.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

use super::constants::{Constant, constants};
use super::markdown;
use crate::workspace;

const INTRODUCTION: &str = "\
Fixed limits, by crate. Limits that can be changed are in [settings](settings.md) and in the format of a source. Each entry \
names the constant and the file below the crate's `src`.
";

/// The page.
///
/// # Errors
/// A constant has no doc comment.
pub(super) fn page() -> anyhow::Result<String> {
    let constants = constants()?;
    let undocumented: Vec<String> = undocumented(&constants);
    ensure!(
        undocumented.is_empty(),
        "limits without a description, give each a doc comment for docs/reference/limits.md:\n{}",
        undocumented.join("\n")
    );
    let mut body = INTRODUCTION.to_owned();
    let mut last = String::new();
    for constant in &constants {
        let mut parts = constant.file.splitn(4, '/');
        let name = parts.nth(1).unwrap_or_default();
        let file = parts.nth(1).unwrap_or_default();
        if name != last {
            write!(body, "\n## `crates/{name}`\n\n{}\n\n", description(name)?)?;
            name.clone_into(&mut last);
        }
        let about = constant.about.trim_end_matches('.');
        writeln!(body, "- **{}**: {about} (`{}` in `{file}`).", constant.value, constant.name)?;
    }
    Ok(markdown::page("Limits", "the constants of all crates", &body))
}

fn undocumented(constants: &[Constant]) -> Vec<String> {
    let undocumented = constants.iter().filter(|constant| constant.about.is_empty());
    undocumented.map(|constant| format!("{}: `{}`", constant.file, constant.name)).collect()
}

/// The description in a crate's manifest.
fn description(name: &str) -> anyhow::Result<String> {
    let path = workspace::root().join("crates").join(name).join("Cargo.toml");
    let manifest = std::fs::read_to_string(&path)?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("description = \""));
    let text = line.and_then(|line| line.strip_suffix('"'));
    Ok(text.with_context(|| format!("{} has no description", path.display()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_without_a_doc_comment_is_reported() {
        let constant = |about: &str| Constant {
            file: "crates/a/src/b.rs".to_owned(),
            name: "BODY_LIMIT".to_owned(),
            value: "1".to_owned(),
            about: about.to_owned(),
        };
        let found = undocumented(&[constant("The largest body."), constant("")]);
        assert_eq!(found, ["crates/a/src/b.rs: `BODY_LIMIT`"]);
    }
}
