//! `checks:` of images and of site × image.

mod machine;

use std::collections::{BTreeMap, BTreeSet};

use super::decode::Input;
use super::shape;
use super::yaml::{Data, Node};
use crate::duration::Span;
use crate::names::CheckId;
use crate::spec::{Assertion, Check, CheckEntry, Lane};

/// The time limit of a check without `timeout`.
const DEFAULT_TIMEOUT: Span = Span::from_secs(30);

/// A list of checks; ids are unique in it.
pub(super) fn decode(input: &mut Input<'_>, node: Option<&Node>) -> Vec<CheckEntry> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    input.list(node, |input, node| {
        let at = node.at("id");
        if let Data::Text(id) = &at.data
            && let Some(line) = seen.insert(id.clone(), at.place.line)
        {
            let hint = format!("give each check a unique id; line {line} has the same");
            input.error(at.place, format!("duplicate check id `{}`", id.escape_debug()), hint);
        }
        check(input, node)
    })
}

fn check(input: &mut Input<'_>, node: &Node) -> Option<CheckEntry> {
    let fields = input.record(node, &shape::CHECK)?;
    let id = fields.get("id").and_then(|node| input.name::<CheckId>(node));
    let within = fields.get("timeout").and_then(|node| input.span(node));
    let lanes = fields.get("lanes").map(|node| (node, input.lanes(node)));
    if let Some((node, lanes)) = &lanes
        && lanes.is_empty()
        && matches!(&node.data, Data::List(items) if items.is_empty())
    {
        input.error(
            node.place,
            "the check never runs: `lanes` is empty",
            "add a lane, remove `lanes`, or write `off: REASON`",
        );
    }
    if let Some(node) = fields.get("off") {
        let reason = input.line(node);
        return Some(CheckEntry::Off { id: id?, reason: reason? });
    }
    let (kind, node) =
        shape::CHECK_KINDS.iter().find_map(|kind| fields.get(kind).map(|node| (*kind, node)))?;
    let assert = assertion(input, kind, node);
    if let (Some(assert), Some((lanes_node, lanes))) = (&assert, &lanes)
        && !lanes.is_empty()
        && let Some(reason) = lanes.iter().find_map(|lane| assert.skip_reason(*lane))
        && lanes.iter().all(|lane| assert.skip_reason(*lane).is_some())
    {
        let message = format!("the check never runs in its `lanes`: {reason}");
        let hint = match assert {
            Assertion::Size { .. } => "write `lanes: [static]`, or remove `lanes`",
            _ => "add a lane that boots the image, such as vm, or remove `lanes`",
        };
        input.error(lanes_node.place, message, hint);
    }
    let assert = assert?;
    let own_lanes = matches!(assert, Assertion::Size { .. }).then(|| BTreeSet::from([Lane::Static]));
    Some(CheckEntry::On(Check {
        id: id?,
        assert,
        within: within.unwrap_or(DEFAULT_TIMEOUT),
        lanes: lanes.map(|(_, lanes)| lanes).or(own_lanes),
    }))
}

fn assertion(input: &mut Input<'_>, kind: &str, node: &Node) -> Option<Assertion> {
    match kind {
        "systemd" => systemd(input, node),
        "unit" => unit(input, node).map(|name| Assertion::Unit { name }),
        "port" => port(input, node),
        "http" => http(input, node),
        "command" => command(input, node),
        "file" => file(input, node),
        "process" => machine::process(input, node),
        "package" => machine::package(input, node),
        "mount" => machine::mount(input, node),
        "karg" => machine::karg(input, node),
        "script" => machine::script(input, node),
        "size" => size(input, node),
        _ => machine::greenboot(input, node),
    }
}

fn systemd(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    if matches!(node.data, Data::Map(_)) {
        let fields = input.record(node, &shape::SYSTEMD)?;
        let allow_failed = input.list(fields.get("allow_failed"), unit);
        return Some(Assertion::Systemd { allow_failed });
    }
    input.one_of(node, &["running"])?;
    Some(Assertion::Systemd { allow_failed: Vec::new() })
}

/// A unit's full name, with its suffix.
fn unit(input: &mut Input<'_>, node: &Node) -> Option<String> {
    let name = input.word(node, "unit name")?;
    if !name.contains('.') {
        let message = format!("invalid unit name `{name}`: no suffix");
        input.error(node.place, message, format!("write the full name, such as {name}.service"));
        return None;
    }
    Some(name)
}

fn port(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    const LOCAL: &str = "127.0.0.1";
    if matches!(node.data, Data::Map(_)) {
        let fields = input.record(node, &shape::PORT)?;
        let host = fields.get("host").and_then(|node| input.word(node, "host"));
        let port = fields.get("port").and_then(|node| input.integer(node, 1, 65535));
        return Some(Assertion::Port { host: host.unwrap_or_else(|| LOCAL.to_owned()), port: port? });
    }
    Some(Assertion::Port { host: LOCAL.to_owned(), port: input.integer(node, 1, 65535)? })
}

fn http(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    const OK: u16 = 200;
    if matches!(node.data, Data::Map(_)) {
        let fields = input.record(node, &shape::HTTP)?;
        let url = fields.get("url").and_then(|node| url(input, node));
        let status = fields.get("status").and_then(|node| input.integer(node, 100, 599));
        let body = fields.get("body").and_then(|node| input.text(node).map(str::to_owned));
        return Some(Assertion::Http { url: url?, status: status.unwrap_or(OK), body });
    }
    Some(Assertion::Http { url: url(input, node)?, status: OK, body: None })
}

fn url(input: &mut Input<'_>, node: &Node) -> Option<String> {
    let url = input.word(node, "URL")?;
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    if host.is_none_or(str::is_empty) {
        let hint = "write http://HOST[:PORT]/PATH; for https use a `command` check, for example with curl";
        input.error(node.place, format!("invalid URL `{}`: not plain http", url.escape_debug()), hint);
        return None;
    }
    Some(url)
}

fn command(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    let (argv_node, exit, stdout) = if matches!(node.data, Data::Map(_)) {
        let fields = input.record(node, &shape::COMMAND)?;
        let exit = fields.get("exit").and_then(|node| input.integer(node, 0, 255));
        let stdout = fields.get("stdout").and_then(|node| input.text(node).map(str::to_owned));
        (fields.get("argv")?, exit, stdout)
    } else {
        (node, None, None)
    };
    let Data::List(items) = &argv_node.data else {
        if let Data::Text(text) = &argv_node.data {
            let hint = format!(
                "write a list, program first: [{}]",
                text.split_whitespace().collect::<Vec<_>>().join(", ")
            );
            input.error(
                argv_node.place,
                "expected a list, found a string: commands run without a shell",
                hint,
            );
        } else {
            input.wrong_kind(argv_node, "a list of strings");
        }
        return None;
    };
    if items.is_empty() {
        input.error(argv_node.place, "the command is empty", "write program and arguments as a list");
        return None;
    }
    // An argument may be empty, the program may not.
    let argv: Vec<String> = input.list(Some(argv_node), Input::any_text);
    if argv.len() != items.len() {
        return None;
    }
    Some(Assertion::Command { argv, exit: exit.unwrap_or(0), stdout })
}

fn file(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    if !matches!(node.data, Data::Map(_)) {
        let path = absolute(input, node)?;
        return Some(Assertion::File { path, exists: true, contains: None, mode: None, owner: None });
    }
    let fields = input.record(node, &shape::FILE)?;
    let path = fields.get("path").and_then(|node| absolute(input, node));
    let exists = fields.get("exists").and_then(|node| input.boolean(node));
    let contains = fields.get("contains").and_then(|node| input.text(node).map(str::to_owned));
    let mode = fields.get("mode").and_then(|node| input.mode(node));
    let owner = fields.get("owner").and_then(|node| input.file_owner(node));
    if exists == Some(false) && (contains.is_some() || mode.is_some() || owner.is_some()) {
        let hint = "remove `contains`, `mode` and `owner`, or `exists: false`";
        input.error(
            node.key("exists"),
            "a file that must not exist cannot have content, mode or owner",
            hint,
        );
    }
    Some(Assertion::File { path: path?, exists: exists.unwrap_or(true), contains, mode, owner })
}

fn size(input: &mut Input<'_>, node: &Node) -> Option<Assertion> {
    const HINT: &str = "write {download: 800MiB} for the layers in the registry, {unpacked: 2GiB} for the files on a disk, or both";
    if !matches!(node.data, Data::Map(_) | Data::Refused) {
        input.error(node.place, format!("expected a map, found {}", node.data.describe()), HINT);
        return None;
    }
    let fields = input.record(node, &shape::SIZE)?;
    let download = fields.get("download").map(|node| input.size(node));
    let unpacked = fields.get("unpacked").map(|node| input.size(node));
    if let (None, None) = (&download, &unpacked) {
        input.error(node.place, "the size check has no limit", HINT);
        return None;
    }
    Some(Assertion::Size {
        download: download.map_or(Some(None), |size| size.map(Some))?,
        unpacked: unpacked.map_or(Some(None), |size| size.map(Some))?,
    })
}

pub(super) fn absolute(input: &mut Input<'_>, node: &Node) -> Option<String> {
    let path = input.line(node)?;
    if !path.starts_with('/') {
        let message = format!("invalid path `{}`: not absolute", path.escape_debug());
        input.error(node.place, message, format!("write /{path}"));
        return None;
    }
    Some(path)
}
