//! Assertions about processes, packages, mounts, kernel arguments, scripts and greenboot.

use super::absolute;
use crate::format::decode::Input;
use crate::format::paths::Want;
use crate::format::shape;
use crate::format::yaml::{Data, Node};
use crate::spec::{Assertion, ProcessMatch, SCRIPT_LIMIT};
use crate::tree::CHECKS_FOLDER;

pub(super) fn process(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    if !matches!(node.data, Data::Map(_)) {
        let which = ProcessMatch::Name(executable(input, node)?);
        return Some(Assertion::Process { which, user: None, count: 1 });
    }
    let fields = input.record(node, &shape::PROCESS)?;
    let name = fields.get("name").map(|node| executable(input, node).map(ProcessMatch::Name));
    let command = fields.get("command").map(|node| input.line(node).map(ProcessMatch::Command));
    let user = fields.get("user").map(|node| input.word(node, "user"));
    let count = fields.get("count").map(|node| input.integer(node, 1, 10_000));
    Some(Assertion::Process {
        which: name.or(command)??,
        user: user.map_or(Some(None), |user| user.map(Some))?,
        count: count.unwrap_or(Some(1))?,
    })
}

/// The last component of an executable's path.
fn executable(input: &mut Input<'_>, node: &Node) -> Option<String> {
    let name = input.line(node)?;
    if let Some((_, last)) = name.rsplit_once('/') {
        let message = format!("invalid process name `{}`: a path", name.escape_debug());
        input.error(node.place, message, format!("write the executable's name: {last}, or use `command`"));
        return None;
    }
    Some(name)
}

pub(super) fn package(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    if !matches!(node.data, Data::Map(_)) {
        return Some(Assertion::Package { name: input.word(node, "package name")?, version: None });
    }
    let fields = input.record(node, &shape::PACKAGE)?;
    let name = fields.get("name").and_then(|node| input.word(node, "package name"));
    let version = fields.get("version").map(|node| input.word(node, "version"));
    Some(Assertion::Package { name: name?, version: version.map_or(Some(None), |it| it.map(Some))? })
}

pub(super) fn mount(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    if !matches!(node.data, Data::Map(_)) {
        return Some(Assertion::Mount { path: absolute(input, node)?, fstype: None, options: Vec::new() });
    }
    let fields = input.record(node, &shape::MOUNT)?;
    let path = fields.get("path").and_then(|node| absolute(input, node));
    let fstype = fields.get("fstype").map(|node| input.word(node, "file system type"));
    let options = input.list(fields.get("options"), |input, node| input.word(node, "mount option"));
    Some(Assertion::Mount { path: path?, fstype: fstype.map_or(Some(None), |it| it.map(Some))?, options })
}

pub(super) fn karg(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    let (name_node, name, value) = if matches!(node.data, Data::Map(_)) {
        let fields = input.record(node, &shape::KARG)?;
        let name = fields.get("name").map(|node| (node, input.word(node, "kernel argument")));
        let value = fields.get("value").map(|node| input.any_text(node));
        let (name_node, name) = name?;
        (name_node, name?, value.map_or(Some(None), |value| value.map(Some))?)
    } else {
        let text = input.word(node, "kernel argument")?;
        match text.split_once('=') {
            Some((name, value)) => (node, name.to_owned(), Some(value.to_owned())),
            None => (node, text, None),
        }
    };
    if name.is_empty() || name.contains('=') {
        let message = format!("invalid kernel argument `{}`", name.escape_debug());
        input.error(name_node.place, message, "write NAME, NAME=VALUE, or {name: NAME, value: VALUE}");
        return None;
    }
    Some(Assertion::Karg { name, value })
}

/// A script: its text becomes part of the check.
pub(super) fn script(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    let path = input.repository_path(node, Want::File)?;
    let size = input.tree.entry(&path)?.size;
    if size > SCRIPT_LIMIT {
        let message = format!("the script `{path}` is too large: {size} bytes, at most {SCRIPT_LIMIT}");
        input.error(node.place, message, "move large parts into the image, and call them from the script");
        return None;
    }
    let Some(bytes) = input.tree.content(&path) else {
        let message = format!("the script `{path}` is not in a folder named `{CHECKS_FOLDER}`");
        input.error(
            node.place,
            message,
            format!("move it, for example to {CHECKS_FOLDER}/{}", path.file_name()),
        );
        return None;
    };
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let Some(text) = text else {
        input.error(
            node.place,
            format!("the script `{path}` is not UTF-8 text"),
            "write a script in UTF-8; add programs to the image instead",
        );
        return None;
    };
    if !text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("#!"))
        .is_some_and(|line| line.trim().starts_with('/'))
    {
        let message = format!("the script `{path}` has no `#!` line");
        input.error(node.place, message, "start it with a line such as #!/bin/sh");
        return None;
    }
    let content = text.to_owned();
    Some(Assertion::Script { path, content })
}

pub(super) fn greenboot(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    input.record(node, &shape::GREENBOOT)?;
    Some(Assertion::Greenboot)
}
