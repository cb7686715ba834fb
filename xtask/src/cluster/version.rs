//! What clusters are made of, by version. A part's folder in the cache has the hash of what made it in its
//! name.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::workspace;

/// Kubernetes and Tekton ask for the same libraries, so that most of both is compiled once. Newer ones than
/// this do not run on a host with cgroups of version 1.
pub(super) const KUBERNETES: &str = "1.35.4";
pub(super) const TEKTON: &str = "1.12.0";
/// The last one that can be built from the public module proxy.
pub(super) const KUBEVIRT: &str = "1.7.0";
/// The Debian suite of all root file systems.
pub(super) const SUITE: &str = "trixie";

/// Folders with a `go.mod`, below this one.
const PROGRAMS: &str = "xtask/src/cluster/programs";

/// The folder with the Go module of this name.
pub(super) fn programs(name: &str) -> PathBuf {
    workspace::root().join(PROGRAMS).join(name)
}

/// The hash of these words and of all files of these folders.
pub(super) fn hash(words: &[&str], folders: &[&Path]) -> anyhow::Result<u64> {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    for folder in folders {
        let files = workspace::files_below(folder);
        for path in files.with_context(|| format!("cannot read {}", folder.display()))? {
            path.strip_prefix(folder).unwrap_or(&path).hash(&mut hasher);
            std::fs::read(&path)?.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_and_word_changes_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let of = |words: &[&str]| hash(words, &[folder.path()]).unwrap();
        let mut seen = vec![of(&["a"]), of(&["b"])];
        for (name, text) in [("go.mod", "1"), ("go.mod", "2"), ("main.go", "2")] {
            std::fs::write(folder.path().join(name), text).unwrap();
            seen.push(of(&["a"]));
        }
        std::fs::rename(folder.path().join("main.go"), folder.path().join("other.go")).unwrap();
        seen.push(of(&["a"]));
        assert_eq!(of(&["a"]), *seen.last().unwrap());
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
