//! Paths in definitions: relative to their file's folder and inside of it; links are followed only inside the
//! repository.

use crate::tree::{EntryKind, InvalidPath, LOADED_LIMIT, Tree, TreePath, is_lfs_pointer};

/// The expected kind of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A file whose bytes are loaded with the tree.
    SmallFile,
    /// A file of any size.
    File,
    /// A folder with entries.
    Folder,
}

/// Why a path is unusable.
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: String,
}

fn fault(message: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault { message: message.into(), hint: hint.into() }
}

/// The number of links that are followed before a path counts as a circle.
const MAX_LINKS: usize = 16;

/// Resolves the path `text` in a definition at `file`.
pub(super) fn find(tree: &Tree, file: &TreePath, text: &str, want: Want) -> Result<TreePath, Fault> {
    let shown = text.escape_debug();
    if text.starts_with('/') {
        return Err(fault(
            format!("invalid path `{shown}`: absolute"),
            "write it relative to this file's folder, without leading `/`",
        ));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(fault(
            format!("invalid path `{shown}`: outside of this file's folder"),
            "move the files into this file's folder: `..` is not allowed",
        ));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let folder = file.parent();
    let path = match (folder, parts.is_empty()) {
        (Some(folder), true) if want == Want::Folder => folder,
        (folder, false) => {
            let below: TreePath = parts.join("/").parse().map_err(|error: crate::names::InvalidName| {
                fault(format!("invalid path `{shown}`"), error.rule())
            })?;
            folder.map_or_else(|| below.clone(), |folder| folder.join(&below))
        }
        _ => return Err(fault(format!("invalid path `{shown}`: not a file"), "write the path of a file")),
    };
    let path = follow(tree, &path)?;
    check(tree, &path, want)?;
    Ok(path)
}

fn check(tree: &Tree, path: &TreePath, want: Want) -> Result<(), Fault> {
    let folder = tree.is_folder(path);
    match (tree.entry(path), want) {
        (Some(_), Want::Folder) => Err(fault(
            format!("invalid path `{path}`: a file, not a folder"),
            "write the path of the folder that holds the files",
        )),
        (None, Want::Folder) if folder => Ok(()),
        (None, Want::Folder) => Err(fault(
            format!("there is no folder `{path}`"),
            "create it and commit a file in it: git does not store empty folders",
        )),
        (Some(entry), Want::SmallFile) if entry.size > LOADED_LIMIT => Err(too_large(path)),
        (Some(_), Want::File | Want::SmallFile) => Ok(()),
        (None, _) if folder => Err(fault(
            format!("invalid path `{path}`: a folder, not a file"),
            "write the path of a file in it",
        )),
        (None, _) => {
            Err(fault(format!("there is no file `{path}`"), "create it and commit it, or correct the path"))
        }
    }
}

fn too_large(path: &TreePath) -> Fault {
    fault(
        format!("`{path}` is larger than {} MiB", LOADED_LIMIT / (1024 * 1024)),
        "move large content into plain files of a `files` step",
    )
}

/// Follows all links in a path; rejects links out of the repository, circles and submodules.
pub(super) fn follow(tree: &Tree, path: &TreePath) -> Result<TreePath, Fault> {
    let mut pending: Vec<String> = path.as_str().split('/').rev().map(str::to_owned).collect();
    let mut done: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = pending.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop().ok_or_else(|| outside(path))?;
                continue;
            }
            _ => done.push(part),
        }
        let Ok(here) = done.join("/").parse::<TreePath>() else { return Err(outside(path)) };
        match tree.entry(&here).map(|entry| entry.kind) {
            Some(EntryKind::Submodule) => return Err(submodule(&here)),
            Some(EntryKind::Link) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(fault(
                        format!("cannot resolve `{path}`: circular symbolic links"),
                        "replace the link by its target",
                    ));
                }
                let target = tree.content(&here).and_then(|bytes| std::str::from_utf8(bytes).ok());
                let Some(target) = target.filter(|target| !target.starts_with('/')) else {
                    return Err(outside(path));
                };
                done.pop();
                pending.extend(target.split('/').rev().map(str::to_owned));
            }
            _ => {}
        }
    }
    done.join("/").parse().map_err(|_| outside(path))
}

fn outside(path: &TreePath) -> Fault {
    fault(
        format!("cannot resolve `{path}`: a symbolic link leads out of the repository"),
        "replace the link by the files that it points to: a commit must contain everything that it needs",
    )
}

fn submodule(path: &TreePath) -> Fault {
    fault(
        format!("cannot read `{path}`: it is a submodule, whose files are not part of this commit"),
        "write `submodules: true` in edgewright.yaml, copy the files into this repository, or let a Containerfile fetch them by digest",
    )
}

pub(super) fn invalid(path: &InvalidPath) -> Fault {
    fault(
        format!("invalid path `{}`", path.escaped),
        "rename it: paths are UTF-8 without control characters, names have at most 255 bytes, whole paths 4096",
    )
}

fn elsewhere(path: &TreePath) -> Fault {
    fault(
        format!("cannot read `{path}`: it is a Git LFS pointer, and the file is not part of this commit"),
        "commit the file without Git LFS, or let a Containerfile fetch it by digest",
    )
}

/// The unusable entries of a folder that becomes a layer or a build context: submodules, templates that are
/// too large to render (where the folder `renders` them), Git LFS pointers, paths that no image can hold.
/// Links are content there: they are copied, never followed. Invalid paths in the `own` folder of an image or
/// a site are reported in any case, and not again here.
pub(super) fn unusable(
    tree: &Tree,
    folder: &TreePath,
    own: Option<&TreePath>,
    renders: bool,
) -> Vec<(TreePath, Fault)> {
    let mut faults = Vec::new();
    for (below, entry) in tree.below(folder) {
        let path = folder.join(&below);
        let fault = match entry.kind {
            EntryKind::Submodule => submodule(&path),
            EntryKind::Link => continue,
            _ if renders && entry.size > LOADED_LIMIT && path.extension() == Some("j2") => too_large(&path),
            _ if tree.contents.get(&entry.content).is_some_and(|bytes| is_lfs_pointer(bytes)) => {
                elsewhere(&path)
            }
            _ => continue,
        };
        faults.push((path, fault));
    }
    let is_own = own.is_some_and(|own| own == folder || folder.below(own).is_some());
    if !is_own {
        faults.extend(tree.invalid_below(folder).map(|path| (folder.clone(), invalid(path))));
    }
    faults
}

/// The folders and files directly below a folder, in name order, without walking what is inside of them.
pub(super) fn children(tree: &Tree, folder: &str) -> Vec<TreePath> {
    let mut found = Vec::new();
    let prefix = format!("{folder}/");
    let mut from: Option<TreePath> = prefix.trim_end_matches('/').parse().ok();
    while let Some(start) = from.take() {
        // A path's folder sorts after names such as `a-b` and before `a0`: skip to the next name by hand.
        let next = tree
            .entries
            .range(start..)
            .map(|(path, _)| path)
            .find(|path| path.as_str().starts_with(&prefix) || path.as_str() > prefix.as_str());
        let Some(rest) = next.and_then(|path| path.as_str().strip_prefix(&prefix)) else { break };
        let (name, is_folder) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
        let Ok(child) = format!("{prefix}{name}").parse::<TreePath>() else { break };
        // `0` follows `/`, so nothing of this child sorts after it.
        from = if is_folder { format!("{child}0").parse().ok() } else { format!("{child}!").parse().ok() };
        found.push(child);
    }
    found.sort();
    found.dedup();
    found
}
