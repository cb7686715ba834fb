//! How much one step may take from the repository: beyond that it is a mistake, or an attack on the server's disk.

use edgewright_model::format::Diagnostic;
use edgewright_model::tree::TreePath;

/// Most bytes of a `files` step or a build context: 2 GiB.
pub const CONTENT_LIMIT: u64 = 2 * 1024 * 1024 * 1024;

/// Most entries of a `files` step or a build context.
pub const ENTRY_LIMIT: usize = 200_000;

/// What is wrong with a folder of this many entries and bytes.
pub(crate) fn exceeded(folder: &TreePath, entries: usize, bytes: u64, hint: &str) -> Option<Diagnostic> {
    let message = if entries > ENTRY_LIMIT {
        format!("{entries} files are more than one step may take: {ENTRY_LIMIT}")
    } else if bytes > CONTENT_LIMIT {
        format!("{bytes} bytes are more than one step may take: {CONTENT_LIMIT}")
    } else {
        return None;
    };
    Some(Diagnostic { file: Some(folder.clone()), place: None, message, hint: Some(hint.to_owned()) })
}
