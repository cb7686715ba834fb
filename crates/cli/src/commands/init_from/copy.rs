//! Copies of folders: links as links, without what git keeps for itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use edgewright_model::tree::TreePath;

use crate::exit::Failure;

/// What is copied of a folder.
pub(super) struct Selection<'a> {
    /// The files that git does not ignore, relative to the folder; `None`: all.
    pub(super) listed: Option<&'a BTreeSet<PathBuf>>,
}

/// Copies files of a folder. Returns what was left out: the path and why. `is_lenient`: whether a file that
/// cannot be copied is left out, and not an error.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    files: Vec<PathBuf>,
    is_lenient: bool,
) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut left_out = Vec::new();
    for path in files {
        let (source, target) = (from.join(&path), to.join(&path));
        let folder = target.parent().unwrap_or(to);
        std::fs::create_dir_all(folder).map_err(|error| Failure::file("cannot create", folder, &error))?;
        let is_valid = path.to_str().is_some_and(|path| path.parse::<TreePath>().is_ok());
        let copied = if is_valid || !is_lenient {
            copied(&source, &target)
        } else {
            Err(Uncopied::Kind("has a name that no image can hold"))
        };
        match copied {
            Ok(()) => {}
            Err(Uncopied::Kind(reason)) if is_lenient => left_out.push((path, reason.to_owned())),
            Err(Uncopied::Kind(reason)) => {
                let message = format!("{} {reason}", source.display());
                return Err(Failure::user(message).hint("move it out of the Containerfile's folder"));
            }
            Err(Uncopied::Io(error)) => return Err(Failure::file("cannot copy", &source, &error)),
        }
    }
    Ok(left_out)
}

impl Selection<'_> {
    fn has_file(&self, path: &Path) -> bool {
        // Files of a checked-out submodule: git lists its folder only.
        self.listed.is_none_or(|listed| path.ancestors().any(|part| listed.contains(part)))
    }

    fn has_folder(&self, path: &Path) -> bool {
        let below = |listed: &BTreeSet<PathBuf>| {
            listed.range(path.to_owned()..).next().is_some_and(|next| next.starts_with(path))
        };
        self.listed.is_none_or(|listed| below(listed) || self.has_file(path))
    }

    /// All files and links of a folder that are copied, in order, without `.git`.
    pub(super) fn files(&self, top: &Path) -> Result<Vec<PathBuf>, Failure> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let path = top.join(&folder);
            let entries =
                std::fs::read_dir(&path).map_err(|error| Failure::file("cannot read", &path, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| Failure::file("cannot read", &path, &error))?;
                let path = folder.join(entry.file_name());
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if entry.file_name() == ".git" {
                    continue;
                }
                if is_folder && self.has_folder(&path) {
                    folders.push(path);
                } else if !is_folder && self.has_file(&path) {
                    files.push(path);
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

enum Uncopied {
    Kind(&'static str),
    Io(std::io::Error),
}

fn copied(source: &Path, target: &Path) -> Result<(), Uncopied> {
    let kind = std::fs::symlink_metadata(source).map_err(Uncopied::Io)?.file_type();
    let copied = if kind.is_symlink() {
        std::fs::read_link(source).and_then(|link| std::os::unix::fs::symlink(link, target))
    } else if kind.is_file() {
        std::fs::copy(source, target).map(drop)
    } else {
        return Err(Uncopied::Kind("is not a file, a folder or a link"));
    };
    copied.map_err(Uncopied::Io)
}
