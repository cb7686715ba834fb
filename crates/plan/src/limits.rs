//! Limits of one step's content, against mistakes and against attacks on the server's disk.

use edgewright_model::format::Diagnostic;
use edgewright_model::tree::TreePath;

use crate::template::MAX_FOLDER_RENDERED_BYTES;

/// Maximum content of a `files` step or a build context, in bytes: 2 GiB.
pub const CONTENT_LIMIT: u64 = 2 * 1024 * 1024 * 1024;

/// Maximum number of entries of a `files` step or a build context.
pub const ENTRY_LIMIT: usize = 200_000;

/// The error for a folder of this many entries and bytes, if it exceeds a limit.
pub(crate) fn exceeded(folder: &TreePath, entries: usize, bytes: u64, hint: &str) -> Option<Diagnostic> {
    let message = if entries > ENTRY_LIMIT {
        format!("the folder is too large for one step: {entries} files, at most {ENTRY_LIMIT}")
    } else if bytes > CONTENT_LIMIT {
        format!("the folder is too large for one step: {bytes} bytes, at most {CONTENT_LIMIT}")
    } else {
        return None;
    };
    Some(Diagnostic { file: Some(folder.clone()), place: None, message, hint: Some(hint.to_owned()) })
}

/// The error for a folder whose templates render to too many bytes; `template` is the one that exceeds the
/// limit.
pub(crate) fn rendered(template: &TreePath, bytes: u64) -> Diagnostic {
    Diagnostic {
        file: Some(template.clone()),
        place: None,
        message: format!(
            "the folder's templates render to {bytes} bytes or more for one variant, at most {MAX_FOLDER_RENDERED_BYTES}"
        ),
        hint: Some("remove the suffix `.j2` from files that are the same for all variants".to_owned()),
    }
}
