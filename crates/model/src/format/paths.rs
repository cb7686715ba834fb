//! Paths that definitions name: relative to their file's folder, never out of it, links followed only inside the repository.

use crate::tree::{EntryKind, LOADED_LIMIT, Tree, TreePath, UnfitPath, is_lfs_pointer};

/// What must be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A file whose bytes are loaded with the tree.
    SmallFile,
    /// A file of any size.
    File,
    /// A folder with entries.
    Folder,
}

/// Why a path cannot be used.
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: String,
}

fn fault(message: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault { message: message.into(), hint: hint.into() }
}

/// Links followed before a path counts as a circle.
const MAX_LINKS: usize = 16;

/// Finds what a definition at `file` names by `text`.
pub(super) fn find(tree: &Tree, file: &TreePath, text: &str, want: Want) -> Result<TreePath, Fault> {
    let shown = text.escape_debug();
    if text.starts_with('/') {
        return Err(fault(
            format!("`{shown}` is an absolute path"),
            "write it relative to this file's folder, without leading `/`",
        ));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(fault(
            format!("`{shown}` leads out of this folder"),
            "move the files below this file's folder: `..` is not allowed",
        ));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let folder = file.parent();
    let path = match (folder, parts.is_empty()) {
        (Some(folder), true) if want == Want::Folder => folder,
        (folder, false) => {
            let below: TreePath = parts.join("/").parse().map_err(|error: crate::names::InvalidName| {
                fault(format!("`{shown}` is not a fit path"), error.rule())
            })?;
            folder.map_or_else(|| below.clone(), |folder| folder.join(&below))
        }
        _ => return Err(fault(format!("`{shown}` is not a file"), "write the path of a file")),
    };
    let path = follow(tree, &path)?;
    check(tree, &path, want)?;
    Ok(path)
}

fn check(tree: &Tree, path: &TreePath, want: Want) -> Result<(), Fault> {
    let folder = tree.is_folder(path);
    match (tree.entry(path), want) {
        (Some(_), Want::Folder) => {
            Err(fault(format!("`{path}` is a file"), "name the folder whose entries shall be used"))
        }
        (None, Want::Folder) if folder => Ok(()),
        (None, Want::Folder) => Err(fault(
            format!("there is no folder `{path}`"),
            "create it and commit a file in it: git keeps no empty folders",
        )),
        (Some(entry), Want::SmallFile) if entry.size > LOADED_LIMIT => Err(too_large(path)),
        (Some(_), Want::File | Want::SmallFile) => Ok(()),
        (None, _) if folder => Err(fault(format!("`{path}` is a folder"), "name a file in it")),
        (None, _) => {
            Err(fault(format!("there is no file `{path}`"), "create it and commit it, or correct the path"))
        }
    }
}

fn too_large(path: &TreePath) -> Fault {
    fault(
        format!("`{path}` is larger than {} MiB", LOADED_LIMIT / (1024 * 1024)),
        "definitions, Containerfiles and templates are small; move large content into plain files of a `files` step",
    )
}

/// Follows all links in a path; refuses those that leave the repository, circles and submodules.
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
                        format!("`{path}` is a circle of links"),
                        "replace the link by what it stands for",
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
        format!("`{path}` is, or passes through, a link that leaves the repository"),
        "replace the link by the files it stands for: a commit must hold all that it needs",
    )
}

fn submodule(path: &TreePath) -> Fault {
    fault(
        format!("`{path}` is a submodule, whose files are not part of this commit"),
        "copy the files into this repository, or let a Containerfile fetch them by digest",
    )
}

pub(super) fn unfit(path: &UnfitPath) -> Fault {
    fault(
        format!("`{}` is not a fit path", path.escaped),
        "rename it: paths are UTF-8 without control characters, names have at most 255 bytes, whole paths 4096",
    )
}

fn elsewhere(path: &TreePath) -> Fault {
    fault(
        format!("`{path}` is a Git LFS pointer: the file itself is not part of this commit"),
        "commit the file without Git LFS, or let a Containerfile fetch it by digest",
    )
}

/// What cannot be used inside a folder whose entries become layers or a build context: submodules, templates too large to
/// render, files that are elsewhere, paths that no image can hold. Links are content there: they are copied, never followed.
/// Unfit paths in the `own` folder of an image or a site are reported whether used or not, and not again here.
pub(super) fn unusable(tree: &Tree, folder: &TreePath, own: Option<&TreePath>) -> Vec<(TreePath, Fault)> {
    let mut faults = Vec::new();
    for (below, entry) in tree.below(folder) {
        let path = folder.join(&below);
        let fault = match entry.kind {
            EntryKind::Submodule => submodule(&path),
            EntryKind::Link => continue,
            _ if entry.size > LOADED_LIMIT && path.extension() == Some("j2") => too_large(&path),
            _ if tree.contents.get(&entry.content).is_some_and(|bytes| is_lfs_pointer(bytes)) => {
                elsewhere(&path)
            }
            _ => continue,
        };
        faults.push((path, fault));
    }
    let is_own = own.is_some_and(|own| own == folder || folder.below(own).is_some());
    if !is_own {
        faults.extend(tree.unfit_below(folder).map(|path| (folder.clone(), unfit(path))));
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
