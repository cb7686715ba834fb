//! What an entry takes over from the entry that it replaces: the mode and owner that are not declared.

use std::collections::BTreeMap;

use edgewright_model::order::{DECLARED_MODE, DECLARED_OWNER};
use edgewright_model::sensitive::{is_readable_by_all, is_sensitive};

use super::resolve;
use crate::index::{Attributes, Index, Node, join};
use crate::layer::{Entry, Kind};

/// Gives entries the mode and owner of what they replace, unless these are declared or the path is deleted
/// first, and takes the marks of declared metadata off them. Returns notes for the log: secrets that every
/// user of the image can read.
pub(super) fn take_over(entries: &mut [Entry], delete: &[String], base: &Index) -> Vec<String> {
    let mut done: BTreeMap<Vec<u8>, Attributes> = BTreeMap::new();
    let mut notes = Vec::new();
    for entry in entries {
        let has_mode = entry.xattrs.remove(DECLARED_MODE).is_some();
        let has_owner = entry.xattrs.remove(DECLARED_OWNER).is_some();
        let before = match entry.kind {
            Kind::HardLink => done.get(&entry.link).copied(),
            Kind::File | Kind::Directory if has_mode && has_owner => None,
            Kind::File | Kind::Directory => replaced(entry, delete, base),
            _ => continue,
        };
        if let Some(before) = before {
            if !has_mode {
                entry.mode = with_execution(before.mode, entry);
            }
            if !has_owner {
                (entry.user, entry.group) = (before.user, before.group);
            }
        }
        let now = Attributes { mode: entry.mode, user: entry.user, group: entry.group };
        done.insert(entry.path.clone(), now);
        let path = String::from_utf8_lossy(&entry.path);
        if entry.kind != Kind::Directory && is_sensitive(&path) && is_readable_by_all(entry.mode) {
            notes.push(format!(
                "warning: every user of the image can read `/{path}`: it has mode {:04o}; declare it with `modes`",
                entry.mode
            ));
        }
    }
    notes
}

/// The metadata of what an entry replaces in the image. Conflicts with the image are the planner's subject: a
/// deletion may resolve them.
fn replaced(entry: &Entry, delete: &[String], base: &Index) -> Option<Attributes> {
    let declared = String::from_utf8_lossy(&entry.path).into_owned();
    let place = if entry.kind == Kind::Directory {
        resolve::directory(base, &declared, &declared).ok()?
    } else {
        let (parent, name) = declared.rsplit_once('/').unwrap_or(("", &declared));
        join(&resolve::directory(base, parent, &declared).ok()?, name)
    };
    let is_in = |path: &str, gone: &str| {
        path.strip_prefix(gone).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_deleted = |gone: &String| {
        let gone = gone.trim_matches('/');
        is_in(&place, gone) || is_in(&declared, gone)
    };
    if delete.iter().any(is_deleted) {
        return None;
    }
    match base.get(&place) {
        Some(Node::Directory(known)) if entry.kind == Kind::Directory => {
            Some(Attributes { mode: known.mode, user: known.user, group: known.group })
        }
        _ if entry.kind == Kind::Directory => None,
        _ => base.attributes(&place),
    }
}

/// Where git marks a file as executable, everyone who may read it may execute it.
fn with_execution(mode: u32, entry: &Entry) -> u32 {
    let is_executable = entry.kind == Kind::File && entry.mode & 0o100 != 0;
    if is_executable { mode | (mode & 0o444) >> 2 } else { mode }
}
