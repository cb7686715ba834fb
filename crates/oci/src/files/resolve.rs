//! Resolves a path through the image's own links, inside its root.

use std::collections::VecDeque;

use super::FilesError;
use crate::index::{Index, Node, join};

/// Maximum number of links that are followed, as in Linux.
const LINK_LIMIT: usize = 40;

/// The real path of the directory `path`: links are followed, `..` and absolute targets stay inside the root,
/// components that do not exist are kept as written. `entry` is the entry to be copied, for errors.
pub(super) fn directory(index: &Index, path: &str, entry: &str) -> Result<String, FilesError> {
    follow(index, path, entry, false)
}

/// The real path of `path`, which may be a file; none if it leads through a file or a circular link.
pub(super) fn place(index: &Index, path: &str) -> Option<String> {
    follow(index, path, path, true).ok()
}

fn follow(index: &Index, path: &str, entry: &str, may_be_file: bool) -> Result<String, FilesError> {
    let mut left: VecDeque<String> = parts(path);
    let mut place = String::new();
    let mut followed = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            place = place.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned());
            continue;
        }
        let here = join(&place, &name);
        match index.get(&here) {
            None | Some(Node::Directory(_)) => place = here,
            Some(Node::Other) if may_be_file && left.is_empty() => place = here,
            Some(Node::Other) => {
                return Err(FilesError::ReplacesFile { path: entry.to_owned(), found: here });
            }
            Some(Node::Link(target)) => {
                followed += 1;
                if followed > LINK_LIMIT {
                    let problem = "is circular";
                    return Err(FilesError::BadLink { path: entry.to_owned(), link: here, problem });
                }
                if target.starts_with('/') {
                    place.clear();
                }
                for part in parts(target).into_iter().rev() {
                    left.push_front(part);
                }
            }
        }
    }
    Ok(place)
}

fn parts(path: &str) -> VecDeque<String> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect()
}
