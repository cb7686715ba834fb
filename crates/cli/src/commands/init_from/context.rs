//! The build context of a Containerfile: which folder was it built with?

use std::path::{Path, PathBuf};

/// The folder, relative to the repository, in which most of what the Containerfile copies exists: its own
/// one, else one above it.
pub(super) fn choose(top: &Path, containerfile: &Path, sources: &[(usize, String)]) -> PathBuf {
    let own = containerfile.parent().unwrap_or(Path::new(""));
    let missing =
        |folder: &Path| sources.iter().filter(|(_, source)| !exists(&top.join(folder), source)).count();
    // The first of equal ones is the nearest.
    own.ancestors().min_by_key(|folder| missing(folder)).unwrap_or(own).to_owned()
}

/// Whether a path of the context exists.
pub(super) fn exists(context: &Path, source: &str) -> bool {
    let parts = source.split('/').filter(|part| !matches!(*part, "" | "."));
    let path = parts.fold(context.to_owned(), |path, part| path.join(part));
    path.symlink_metadata().is_ok()
}
