//! The declarations of a `files` step that git cannot store: directories, extended attributes, hard links.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::decode::Input;
use crate::format::shape;
use crate::format::yaml::{Data, Key, Node};
use crate::spec::{DirectorySpec, Owner, Xattrs};
use crate::tree::TreePath;

/// Namespaces of extended attributes that Linux has.
const NAMESPACES: [&str; 4] = ["security.", "system.", "trusted.", "user."];
/// The longest name and value of an attribute on Linux, in bytes.
const LONGEST_NAME: usize = 255;
/// The longest value of an extended attribute that Linux accepts, in bytes.
const LONGEST_VALUE: usize = 64 * 1024;

pub(super) fn directories(
    input: &mut Input<'_>,
    node: Option<&Node>,
    owner: Option<Owner>,
) -> Vec<DirectorySpec> {
    let mut seen = BTreeSet::new();
    input.list(node, |input, node| {
        let directory = directory(input, node, owner)?;
        if !seen.insert(directory.path.clone()) {
            input.error(
                node.place,
                format!("duplicate directory `{}`", directory.path),
                "keep one of the two",
            );
            return None;
        }
        Some(directory)
    })
}

fn directory(input: &mut Input<'_>, node: &Node, owner: Option<Owner>) -> Option<DirectorySpec> {
    if !matches!(node.data, Data::Map(_)) {
        return Some(DirectorySpec { path: path(input, node)?, mode: None, owner });
    }
    let fields = input.record(node, &shape::DIRECTORY)?;
    let path = fields.get("path").and_then(|node| path(input, node));
    let mode = fields.get("mode").map_or(Some(None), |node| input.mode(node).map(Some));
    let owner = fields.get("owner").map_or(Some(owner), |node| input.file_owner(node).map(Some));
    Some(DirectorySpec { path: path?, mode: mode?, owner: owner? })
}

pub(super) fn xattrs(input: &mut Input<'_>, node: Option<&Node>) -> BTreeMap<TreePath, Xattrs> {
    input.map(node, |input, key, node| {
        let path = key_path(input, key);
        let attributes = input.map(Some(node), |input, key, node| {
            let name = attribute(input, key);
            let value = value(input, node);
            Some((name?, value?))
        });
        Some((path?, attributes))
    })
}

fn attribute(input: &mut Input<'_>, key: &Key) -> Option<String> {
    let name = key.text.as_str();
    let known =
        NAMESPACES.iter().any(|namespace| name.strip_prefix(namespace).is_some_and(|rest| !rest.is_empty()));
    // `=` would end the name in the layer's archive.
    if !known || name.len() > LONGEST_NAME || name.contains(|c: char| c == '=' || c.is_control()) {
        let message = format!("invalid name of an extended attribute `{}`", name.escape_debug());
        input.error(
            key.place,
            message,
            "write it with its namespace, such as user.origin or security.capability",
        );
        return None;
    }
    Some(name.to_owned())
}

/// A string, or bytes as `0x` and hexadecimal digits, as in setfattr(1).
fn value(input: &mut Input<'_>, node: &Node) -> Option<Vec<u8>> {
    let text = input.any_text(node)?;
    let bytes = match text.strip_prefix("0x") {
        None => Some(text.into_bytes()),
        Some(digits) => hex(digits),
    };
    let Some(bytes) = bytes else {
        let hint = "write two hexadecimal digits for each byte after 0x, or a string";
        input.error(node.place, "invalid hexadecimal value: not whole bytes", hint);
        return None;
    };
    if bytes.len() > LONGEST_VALUE {
        input.error(
            node.place,
            "the value is longer than Linux allows",
            format!("write at most {LONGEST_VALUE} bytes"),
        );
        return None;
    }
    Some(bytes)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        digits.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

pub(super) fn hard_links(input: &mut Input<'_>, node: Option<&Node>) -> BTreeMap<TreePath, TreePath> {
    input.map(node, |input, key, node| {
        let link = key_path(input, key);
        let target = path(input, node);
        Some((link?, target?))
    })
}

fn path(input: &mut Input<'_>, node: &Node) -> Option<TreePath> {
    input.image_path(node)?.parse().ok()
}

/// A path in the image written as a key.
fn key_path(input: &mut Input<'_>, key: &Key) -> Option<TreePath> {
    path(input, &Node { data: Data::Text(key.text.clone()), place: key.place })
}
