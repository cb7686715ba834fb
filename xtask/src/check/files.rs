//! Rules about Rust files: their length and their header line.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;

use crate::workspace;

/// More lines than this are a hint to split by concept.
const LONG: usize = 300;
/// More lines than this are an error.
const TOO_LONG: usize = 600;

/// Checks every Rust file.
pub(super) fn check() -> anyhow::Result<()> {
    let mut faults = String::new();
    let mut long = Vec::new();
    for path in rust_files()? {
        let text = std::fs::read_to_string(&path)?;
        let name = workspace::shown(&path);
        match text.lines().count() {
            lines if lines > TOO_LONG => {
                writeln!(faults, "{name} has {lines} lines: split it by concept before {TOO_LONG}")?;
            }
            lines if lines > LONG => long.push(format!("{name} ({lines})")),
            _ => {}
        }
        if needs_header(&path) && !text.starts_with("//!") {
            writeln!(faults, "{name} has no header: describe its purpose in a first line `//! …`")?;
        }
    }
    if !long.is_empty() {
        println!("check: longer than {LONG} lines: {}", long.join(", "));
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.trim_end()) }
}

/// All Rust files of our own.
pub(super) fn rust_files() -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        files.extend(workspace::files_below(&workspace::root().join(folder))?);
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    Ok(files)
}

/// Sources and test programs have a header; a `tests.rs` belongs to the module beside it.
fn needs_header(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name != "tests.rs")
        && path.components().any(|part| part.as_os_str() == "src" || part.as_os_str() == "tests")
}
