//! No Rust file is forgotten: each is a target that cargo finds by itself, or another file has `mod NAME;`.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::files::rust_files;
use crate::workspace;

/// Checks every Rust file of the workspace.
pub(super) fn check() -> anyhow::Result<()> {
    let text = |path: PathBuf| std::fs::read_to_string(&path).map(|text| (path, text));
    let files: Vec<(PathBuf, String)> = rust_files()?.into_iter().map(text).collect::<Result<_, _>>()?;
    let unknown = files.iter().filter(|(path, _)| !is_known(path, &files));
    let forgotten: Vec<String> = unknown.map(|(path, _)| workspace::shown(path)).collect();
    if forgotten.is_empty() {
        return Ok(());
    }
    bail!("these files are not compiled, since no `mod` names them: {}", forgotten.join(", "))
}

/// Whether cargo finds the file as a target, or a file that may declare it does so.
fn is_known(path: &Path, files: &[(PathBuf, String)]) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let Some(folder) = path.parent() else { return true };
    let folder_name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_target = matches!(stem.as_str(), "lib" | "main" | "build")
        || matches!(folder_name.as_str(), "bin" | "tests" | "benches" | "examples");
    if is_target {
        return true;
    }
    // `a/mod.rs` is module `a` of the folder above.
    let (name, home) =
        if stem == "mod" { (folder_name, folder.parent().unwrap_or(folder)) } else { (stem, folder) };
    let declares = |(candidate, text): &(PathBuf, String)| {
        let below = candidate.parent().and_then(|folder| path.strip_prefix(folder).ok());
        if below.is_some_and(|below| text.contains(&format!("#[path = \"{}\"]", below.display()))) {
            return true;
        }
        let is_neighbour = candidate.parent() == Some(home) && candidate != path;
        let is_parent_module = candidate.with_extension("") == home;
        (is_neighbour || is_parent_module) && declares_module(text, &name)
    };
    files.iter().any(declares)
}

fn declares_module(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        line.trim()
            .strip_suffix(';')
            .and_then(|line| line.rsplit_once("mod "))
            .is_some_and(|(_, n)| n == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_found_with_any_visibility() {
        for text in ["mod a;", "pub mod a;", "    pub(crate) mod a;\n", "#[cfg(test)]\nmod a;"] {
            assert!(declares_module(text, "a"), "{text}");
        }
        for text in ["mod ab;", "mod a {", "// mod b", ""] {
            assert!(!declares_module(text, "a"), "{text}");
        }
    }
}
