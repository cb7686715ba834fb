//! `images/NAME/image.yaml` and the lock beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::decode::{Fields, Input};
use super::report::{Owner, Report};
use super::yaml::{self, Data, Node};
use super::{AVAILABLE_LANES, Place, checks, load, paths, shape, steps, written};
use crate::lock::Lock;
use crate::names::{ImageName, Platform};
use crate::spec::{
    Declaration, From, ImageSpec, Inherit, Lane, Per, TestSpec, Value, VarType, VmProfile, VmSpec,
};
use crate::tree::{Tree, TreePath};

/// The version of locks that this build reads.
const LOCK_VERSION: u32 = 1;

/// An image as far as it could be read.
pub(super) struct Draft {
    /// The spanned value of its file.
    pub(super) doc: Node,
    /// What it declares, with defaults in place of invalid values.
    pub(super) spec: ImageSpec,
    /// Whether all of `declare` could be read, so that no other variable can be meant.
    pub(super) declares: bool,
    /// Whether `per` is the intended one: it is valid, and no unknown key can be a misspelling of it.
    pub(super) per_is_clear: bool,
}

/// Reads an image; none where its file cannot be read at all.
pub(super) fn read(tree: &Tree, report: &mut Report, name: &ImageName, file: &TreePath) -> Option<Draft> {
    let owner = Owner::Image(name.clone());
    let doc = load(tree, report, &owner, file)?;
    let mut input = Input { tree, file: file.clone(), owner, report };
    let fields = input.record(&doc, &shape::IMAGE)?;
    let from = fields.get("from").and_then(|node| from(&mut input, node));
    let per = fields.get("per").map(|node| per(&mut input, node));
    let per_is_clear = fields.is_clear("per") && per != Some(None);
    let per = per.flatten().unwrap_or(Per::Image);
    let select = input.labels(fields.get("where"));
    if per_is_clear && per == Per::Image && fields.get("where").is_some() {
        let hint = "add `per: site` or `per: slot`, or remove `where`";
        input.error(doc.key("where"), "`where` has no effect: the image has one variant for all sites", hint);
    }
    let declare = input.map(fields.get("declare"), |input, key, node| {
        let name = input.key(key);
        let declaration = declaration(input, node)?;
        Some((name?, declaration))
    });
    let is_declaration_whole = |(_, node): &(yaml::Key, Node)| shape::DECLARATION.is_clear(node, "default");
    let declares = fields.is_clear("declare")
        && fields.get("declare").is_none_or(|node| {
            node.entries().len() == declare.len() && node.entries().iter().all(is_declaration_whole)
        });
    let step_list = input.list(fields.get("steps"), steps::decode);
    order(&mut input, from.as_ref(), &doc);
    let labels = labels(&mut input, &fields, step_list.is_empty());
    let own_checks = checks::decode(&mut input, fields.get("checks"));
    let has_content = fields.get("steps").is_some() || fields.get("checks").is_some();
    let test = test(&mut input, fields.get("test"), has_content);
    let platforms = input.list(fields.get("platforms"), Input::name::<Platform>);
    let lock = lock(tree, input.report, &input.owner, file);
    let spec = ImageSpec {
        name: name.clone(),
        from: from.unwrap_or(From::Scratch),
        per,
        select,
        declare,
        steps: step_list,
        labels,
        checks: own_checks,
        test,
        platforms,
        lock,
        file: file.clone(),
    };
    Some(Draft { doc, spec, declares, per_is_clear })
}

fn from(input: &mut Input<'_>, node: &Node) -> Option<From> {
    let text = input.text(node)?;
    if text == "scratch" {
        return Some(From::Scratch);
    }
    if text.contains(['/', ':', '@']) {
        return input.name(node).map(From::External);
    }
    input.name(node).map(From::Image)
}

/// OCI labels. They change the config, so an image that is hosted unchanged cannot have any.
fn labels(input: &mut Input<'_>, fields: &Fields<'_>, is_hosted_only: bool) -> BTreeMap<String, String> {
    /// The longest name of an OCI label, in bytes.
    const LONGEST_NAME: usize = 255;
    /// The longest value of an OCI label, in bytes.
    const LONGEST_VALUE: usize = 4096;
    let Some(node) = fields.get("labels") else { return BTreeMap::new() };
    if is_hosted_only && fields.get("steps").is_none() {
        let hint = "add a step, or move the labels to a child of this image";
        input.error(
            fields.node.key("labels"),
            "an image without steps cannot have labels: it is hosted unchanged",
            hint,
        );
    }
    input.map(Some(node), |input, key, value| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let name = &key.text;
        let is_valid = (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_allowed);
        if !is_valid {
            let message = format!("invalid name of an OCI label `{}`", name.escape_debug());
            let hint = "use letters, digits, `.`, `-`, `_` and `/`, such as org.opencontainers.image.vendor";
            input.error(key.place, message, hint);
        }
        let value = input.any_text(value)?;
        if value.len() > LONGEST_VALUE {
            let message =
                format!("the label's value is too long: {} bytes, at most {LONGEST_VALUE}", value.len());
            input.error(key.place, message, "shorten it");
            return None;
        }
        is_valid.then(|| (name.clone(), value))
    })
}

fn per(input: &mut Input<'_>, node: &Node) -> Option<Per> {
    Some(match input.one_of(node, &["image", "site", "slot"])? {
        "site" => Per::Site,
        "slot" => Per::Slot,
        _ => Per::Image,
    })
}

fn declaration(input: &mut Input<'_>, node: &Node) -> Option<Declaration> {
    let fields = input.record(node, &shape::DECLARATION)?;
    let kind = fields.get("type").and_then(|node| {
        Some(match input.one_of(node, &["string", "integer", "boolean", "list", "map"])? {
            "integer" => VarType::Integer,
            "boolean" => VarType::Boolean,
            "list" => VarType::List,
            "map" => VarType::Map,
            _ => VarType::String,
        })
    });
    let default = fields.get("default").map(|node| input.value(node));
    let description = fields.get("description").and_then(|node| input.text(node)).map(str::to_owned);
    let kind = kind?;
    if let (Some(Some(value)), Some(node)) = (&default, fields.get("default"))
        && !has_type(value, kind)
    {
        let message = format!("the default is {}, but the type is {}", describe(value), type_name(kind));
        let hint = correct((input.tree, &input.file, node.place), value, kind);
        input.error(node.place, message, hint);
    }
    // An unreadable default gets a placeholder: it is not missing.
    let default = default.map(|value| value.unwrap_or(Value::String(String::new())));
    Some(Declaration { kind, default, description })
}

/// Whether a value has a type.
pub(super) fn has_type(value: &Value, kind: VarType) -> bool {
    matches!(
        (value, kind),
        (Value::String(_), VarType::String)
            | (Value::Integer(_), VarType::Integer)
            | (Value::Boolean(_), VarType::Boolean)
            | (Value::List(_), VarType::List)
            | (Value::Map(_), VarType::Map)
    )
}

pub(super) const fn describe(value: &Value) -> &'static str {
    match value {
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) => "an integer",
        Value::String(_) => "a string",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

pub(super) const fn type_name(kind: VarType) -> &'static str {
    match kind {
        VarType::String => "string",
        VarType::Integer => "integer",
        VarType::Boolean => "boolean",
        VarType::List => "list",
        VarType::Map => "map",
    }
}

/// The hint for a value of the wrong type.
pub(super) fn correct(
    (tree, file, place): (&Tree, &TreePath, Place),
    value: &Value,
    kind: VarType,
) -> String {
    match (value, kind) {
        (Value::Integer(_) | Value::Boolean(_), VarType::String) => written::quoted(tree, file, place),
        (Value::String(_), VarType::Integer | VarType::Boolean) => "write it without quotes".to_owned(),
        _ => format!(
            "write {} here, or change the declared type",
            match kind {
                VarType::String => "a string",
                VarType::Integer => "an integer",
                VarType::Boolean => "true or false",
                VarType::List => "a list",
                VarType::Map => "a map",
            }
        ),
    }
}

/// A bootstrap is the first step of an image from scratch, and nowhere else; an image from scratch has steps.
fn order(input: &mut Input<'_>, from: Option<&From>, doc: &Node) {
    let Some(from) = from else { return };
    let steps_node = doc.at("steps");
    let Data::List(items) = &steps_node.data else {
        if *from == From::Scratch
            && matches!(doc.data, Data::Map(_))
            && doc.entries().iter().all(|(key, _)| key.text != "steps")
        {
            let hint = "add `steps`, or write the image to test and host in `from`";
            input.error(doc.at("from").place, "the image is empty: `from: scratch` without steps", hint);
        }
        return;
    };
    if items.is_empty() && *from == From::Scratch {
        let hint = "add a step, or write the image to test and host in `from`";
        input.error(steps_node.place, "the image is empty: `from: scratch` without steps", hint);
    }
    for (index, item) in items.iter().enumerate() {
        if item.entries().iter().any(|(key, _)| key.text == "bootstrap")
            && (index > 0 || *from != From::Scratch)
        {
            let hint = "make it the first step of an image with `from: scratch`; install further packages in a Containerfile";
            input.error(
                item.key("bootstrap"),
                "a bootstrap step must be the first step of an image from scratch",
                hint,
            );
        }
    }
}

fn test(input: &mut Input<'_>, node: Option<&Node>, has_content: bool) -> TestSpec {
    let default: BTreeSet<Lane> = if has_content { [Lane::Container].into() } else { BTreeSet::new() };
    let Some(node) = node else { return without(default) };
    if let Data::Text(text) = &node.data {
        if text != "none" {
            input.error(
                node.place,
                format!("unknown value `{}`", text.escape_debug()),
                "write `none`, or a map with `lanes`",
            );
        }
        return without(BTreeSet::new());
    }
    let Some(fields) = input.record(node, &shape::TEST) else {
        return without(default);
    };
    let lanes = fields.get("lanes").map_or(default, |node| {
        available(input, node);
        input.lanes(node)
    });
    let inherit = fields.get("inherit").and_then(|node| {
        let fields = input.record(node, &shape::INHERIT)?;
        if let Some(node) = fields.get("when") {
            input.one_of(node, &["files-only"]);
        }
        if let Some(node) = fields.get("from") {
            input.one_of(node, &["representative"]);
        }
        Some(Inherit { lanes: input.lanes(fields.get("lanes")?) })
    });
    let within = fields.get("timeout").and_then(|node| input.span(node));
    if let (Some(node), false) = (fields.get("timeout"), lanes.contains(&Lane::External)) {
        let hint = "add `external` to `lanes`, or set `timeout` of single checks";
        input.error(
            node.place,
            "`timeout` limits the wait for the lane `external`, which this image does not run",
            hint,
        );
    }
    let vm = fields.get("vm").map_or_else(VmSpec::default, |node| vm(input, node, &lanes));
    let switch_from = switch_from(input, node, fields.get("switch"), &lanes);
    TestSpec { lanes, inherit, within, vm, switch_from }
}

/// The image that machines of the lane `switch` run before.
fn switch_from(
    input: &mut Input<'_>,
    test: &Node,
    node: Option<&Node>,
    lanes: &BTreeSet<Lane>,
) -> Option<ImageName> {
    let is_run = lanes.contains(&Lane::Switch);
    match (node, is_run) {
        (None, false) => None,
        (None, true) => {
            let hint = "add `switch: {from: IMAGE}`";
            input.error(test.place, "the lane `switch` names no image to start from", hint);
            None
        }
        (Some(node), _) => {
            if !is_run {
                let hint = "add `switch` to `lanes`, or remove `switch:`";
                input.error(node.place, "`switch` describes a lane that this image does not run", hint);
            }
            let fields = input.record(node, &shape::SWITCH)?;
            input.name(fields.get("from")?)
        }
    }
}

/// Lanes with nothing else declared.
fn without(lanes: BTreeSet<Lane>) -> TestSpec {
    TestSpec { lanes, inherit: None, within: None, vm: VmSpec::default(), switch_from: None }
}

/// The virtual machine of an image's lanes.
fn vm(input: &mut Input<'_>, node: &Node, lanes: &BTreeSet<Lane>) -> VmSpec {
    let mut spec = VmSpec::default();
    let Some(fields) = input.record(node, &shape::VM) else { return spec };
    if !lanes.iter().any(|lane| lane.has_kernel()) {
        let hint = "add `vm` to `lanes`, or remove `vm:`";
        input.error(
            node.place,
            "`vm` describes virtual machines, which this image's lanes do not start",
            hint,
        );
    }
    if let Some(node) = fields.get("profile")
        && input.one_of(node, &["direct", "uefi"]) == Some("uefi")
    {
        spec.profile = VmProfile::Uefi;
    }
    if let Some(node) = fields.get("memory")
        && let Some(memory) = input.size(node)
    {
        spec.memory = memory;
        if !spec.is_possible() {
            input.error(node.place, format!("invalid memory {memory}"), "write a size from 128MiB to 64GiB");
        }
    }
    spec
}

/// Rejects lanes that this version cannot run.
fn available(input: &mut Input<'_>, node: &Node) {
    let Data::List(items) = &node.data else { return };
    for item in items {
        let Data::Text(text) = &item.data else { continue };
        let lane = Lane::ALL.into_iter().find(|lane| lane.name() == text);
        if let Some(lane) = lane.filter(|lane| !AVAILABLE_LANES.contains(lane)) {
            let known: Vec<&str> = AVAILABLE_LANES.iter().map(|lane| lane.name()).collect();
            let hint = format!("use container; available: {}", known.join(", "));
            input.error(item.place, format!("lane `{lane}` is not available in this version"), hint);
        }
    }
}

/// The committed lock, where there is one.
fn lock(tree: &Tree, report: &mut Report, owner: &Owner, image: &TreePath) -> Option<Lock> {
    const HINT: &str = "run `edgewright update --write` to replace it, or remove it";
    let file = image.parent()?.join(&"edgewright.lock".parse().ok()?);
    tree.entry(&file)?;
    let path = match paths::follow(tree, &file) {
        Ok(path) => path,
        Err(fault) => {
            report.add(owner, &file, None, fault.message, fault.hint);
            return None;
        }
    };
    let Some(bytes) = tree.content(&path) else {
        report.add(owner, &file, None, "the lock is larger than 1 MiB", HINT);
        return None;
    };
    match serde_json::from_slice::<Lock>(bytes) {
        Ok(lock) if lock.version == LOCK_VERSION => Some(lock),
        Ok(lock) => {
            let message = format!(
                "unsupported lock version {}: this version of Edgewright reads version {LOCK_VERSION}",
                lock.version
            );
            report.add(owner, &file, None, message, HINT);
            None
        }
        Err(error) => {
            // The place is not part of the message.
            let text = error.to_string();
            let message = format!("malformed lock: {}", text.split(" at line ").next().unwrap_or(&text));
            // serde_json counts bytes.
            let before: usize = bytes
                .split_inclusive(|b| *b == b'\n')
                .take(error.line().saturating_sub(1))
                .map(<[u8]>::len)
                .sum();
            let at = (before + error.column().saturating_sub(1)).min(bytes.len());
            let place = yaml::end(&String::from_utf8_lossy(&bytes[..at]));
            report.add(owner, &file, Some(place), message, HINT);
            None
        }
    }
}

/// Every image by name, as far as it could be read, and the names of those that could not be read at all.
#[derive(Default)]
pub(super) struct Drafts {
    pub(super) read: BTreeMap<ImageName, Draft>,
    pub(super) unread: BTreeSet<ImageName>,
}
