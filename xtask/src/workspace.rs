//! Where things are in this workspace.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command::Run;

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// The folder that nothing in git depends on.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Where tools are kept that are fetched or built once, by version: outside of the tree, so that all
/// checkouts share them.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let folder = if let Some(folder) = environment("XDG_CACHE_HOME") {
        PathBuf::from(folder)
    } else {
        let home = environment("HOME")
            .context("cannot find the cache folder: neither XDG_CACHE_HOME nor HOME is set")?;
        Path::new(&home).join(".cache")
    };
    Ok(folder.join("edgewright"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask has no settings; this is its one place that reads the environment"
)]
fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The schemas of both databases of a data folder: another version of the program does not read it.
pub(crate) const SCHEMAS: [&str; 2] = ["crates/store/migrations", "crates/registry/migrations"];

/// A number for the present contents of files and folders of the workspace, and for a version.
pub(crate) fn fingerprint(inputs: &[&str], version: Option<&OsStr>) -> anyhow::Result<u64> {
    let mut hasher = DefaultHasher::new();
    version.hash(&mut hasher);
    for input in inputs {
        let path = root().join(input);
        if path.is_file() {
            std::fs::read(&path)?.hash(&mut hasher);
            continue;
        }
        for path in files_below(&path).with_context(|| format!("cannot read {input}"))? {
            path.file_name().hash(&mut hasher);
            std::fs::read(&path)?.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

/// All files below a folder, in path order; `target` and hidden folders are left out.
pub(crate) fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                    folders.push(entry.path());
                }
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The files that git knows or would add, as paths from the root, in order.
pub(crate) fn files_in_git() -> anyhow::Result<Vec<String>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Run::new("git").args(list).cwd(root()).output()?;
    let names = output.split('\0').filter(|name| !name.is_empty() && root().join(name).is_file());
    // During a conflict, git lists a file once for each side.
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    Ok(names.into_iter().collect())
}

/// A path as people write it: relative to the workspace.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
