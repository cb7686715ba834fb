//! What fuzz targets reach of the parsers of git's output. Only with the feature `fuzzing`.

use edgewright_model::names::CommitId;
use edgewright_model::tree::Tree;

use crate::bounds::Files;
use crate::parse::{self, RemoteRefs};
use crate::repository::CommitInfo;

/// The longest text of a commit that is kept, in characters.
pub const fn longest_text() -> usize {
    parse::MAX_COMMIT_TEXT
}

/// The tree below a tree object, read as a session with git reads it, a level of folders at a time; `None` if
/// it cannot be listed. `read` returns the object of an id in hex.
pub fn tree(root: &str, read: impl Fn(&str) -> Vec<u8>) -> Option<Tree> {
    let mut files = Files::default();
    let mut level = vec![(Vec::new(), root.to_owned())];
    while !level.is_empty() {
        let mut below = Vec::new();
        for (folder, id) in &level {
            parse::directory((folder, &read(id)), id.len() / 2, &mut files, &mut below).ok()?;
        }
        level = below;
    }
    Some(parse::entries(files.listed))
}

/// What `git ls-tree` prints; `None` if it cannot be listed.
pub fn ls_tree(printed: &[u8]) -> Option<Tree> {
    parse::ls_tree(printed).ok()?.ok()
}

/// A commit object, and the id of its tree.
pub fn commit(id: &CommitId, object: &[u8]) -> Option<(CommitInfo, String)> {
    parse::commit(id, object)
}

/// What `git log` prints of a commit.
pub fn commit_info(printed: &[u8]) -> Option<CommitInfo> {
    parse::commit_info(printed).ok()
}

/// What `git ls-remote` prints of branches.
pub fn ls_remote(printed: &str) -> Option<RemoteRefs> {
    parse::ls_remote(printed).ok()
}

/// The number of pull requests in what `git ls-remote` prints.
pub fn pull_requests(printed: &str) -> Option<usize> {
    parse::pull_requests(printed).ok().map(|heads| heads.len())
}
