//! `images/NAME/image.yaml` and the lock beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::decode::{Fields, Input};
use super::report::{Owner, Report};
use super::yaml::{self, Data, Node};
use super::{AVAILABLE_LANES, checks, load, paths, shape, steps};
use crate::lock::Lock;
use crate::names::{ImageName, Platform};
use crate::spec::{Declaration, From, ImageSpec, Inherit, Lane, Per, TestSpec, Value, VarType};
use crate::tree::{Tree, TreePath};

/// The lock's version that this build reads.
const LOCK_VERSION: u32 = 1;

/// An image as far as it could be read.
pub(super) struct Draft {
    /// Its file's value.
    pub(super) doc: Node,
    /// What it declares, with fallbacks in place of what is broken.
    pub(super) spec: ImageSpec,
    /// Whether all of `declare` could be read.
    pub(super) declares: bool,
    /// Whether `per` is what was meant: it could be read, and no unknown key may have been meant to be it.
    pub(super) says_per: bool,
}

/// Reads an image; none where its file cannot be read at all.
pub(super) fn read(tree: &Tree, report: &mut Report, name: &ImageName, file: &TreePath) -> Option<Draft> {
    let owner = Owner::Image(name.clone());
    let doc = load(tree, report, &owner, file)?;
    let mut input = Input { tree, file: file.clone(), owner, report };
    let fields = input.record(&doc, &shape::IMAGE)?;
    let from = fields.get("from").and_then(|node| from(&mut input, node));
    let per = fields.get("per").map(|node| per(&mut input, node));
    let says_per = fields.says("per") && per != Some(None);
    let per = per.flatten().unwrap_or(Per::Image);
    let select = input.labels(fields.get("where"));
    if says_per && per == Per::Image && fields.get("where").is_some() {
        let hint = "add `per: site` or `per: slot`, or remove `where`";
        input.error(
            doc.key("where"),
            "`where` narrows sites, and this image is the same at all of them",
            hint,
        );
    }
    let declare = input.map(fields.get("declare"), |input, key, node| {
        let name = input.key(key);
        let declaration = declaration(input, node)?;
        Some((name?, declaration))
    });
    let is_declaration_whole = |(_, node): &(yaml::Key, Node)| shape::DECLARATION.says(node, "default");
    let declares = fields.says("declare")
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
    Some(Draft { doc, spec, declares, says_per })
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

/// OCI labels. They change the config, so an image that is hosted as others built it cannot have any.
fn labels(input: &mut Input<'_>, fields: &Fields<'_>, is_hosted_only: bool) -> BTreeMap<String, String> {
    /// The longest name of an OCI label, in bytes.
    const LONGEST_NAME: usize = 255;
    /// The longest value of an OCI label, in bytes.
    const LONGEST_VALUE: usize = 4096;
    let Some(node) = fields.get("labels") else { return BTreeMap::new() };
    if is_hosted_only && fields.get("steps").is_none() {
        let hint = "add a step, or put the labels on an image that stands on this one";
        input.error(fields.node.key("labels"), "an image without steps is hosted as it is", hint);
    }
    input.map(Some(node), |input, key, value| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let name = &key.text;
        let is_fit = (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits);
        if !is_fit {
            let message = format!("`{}` is not a fit name of an OCI label", name.escape_debug());
            let hint = "use letters, digits, `.`, `-`, `_` and `/`, such as org.opencontainers.image.vendor";
            input.error(key.place, message, hint);
        }
        let value = input.any_text(value)?;
        if value.len() > LONGEST_VALUE {
            let message = format!("the label has {} bytes", value.len());
            input.error(key.place, message, format!("labels have at most {LONGEST_VALUE} bytes"));
            return None;
        }
        is_fit.then(|| (name.clone(), value))
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
        && !fits(value, kind)
    {
        let message = format!("the default is {}, but the type is {}", describe(value), type_name(kind));
        input.error(node.place, message, correct(value, kind));
    }
    // One that could not be read stands for some value: it is not missing.
    let default = default.map(|value| value.unwrap_or(Value::String(String::new())));
    Some(Declaration { kind, default, description })
}

/// Whether a value has a type.
pub(super) fn fits(value: &Value, kind: VarType) -> bool {
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
        Value::Integer(_) => "a whole number",
        Value::String(_) => "a text",
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

/// How to correct a value of the wrong type.
pub(super) fn correct(value: &Value, kind: VarType) -> String {
    match (value, kind) {
        (Value::Integer(number), VarType::String) => format!("write it in quotes: \"{number}\""),
        (Value::Boolean(value), VarType::String) => format!("write it in quotes: \"{value}\""),
        (Value::String(_), VarType::Integer | VarType::Boolean) => "write it without quotes".to_owned(),
        _ => format!(
            "write {} here, or change the declared type",
            match kind {
                VarType::String => "a text",
                VarType::Integer => "a whole number",
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
            let hint = "add `steps`, or name the image to test and host in `from`";
            input.error(doc.at("from").place, "an image from scratch without steps is empty", hint);
        }
        return;
    };
    if items.is_empty() && *from == From::Scratch {
        let hint = "add a step, or name the image to test and host in `from`";
        input.error(steps_node.place, "an image from scratch without steps is empty", hint);
    }
    for (index, item) in items.iter().enumerate() {
        if item.entries().iter().any(|(key, _)| key.text == "bootstrap")
            && (index > 0 || *from != From::Scratch)
        {
            let hint = "make it the first step of an image with `from: scratch`; install further packages by a Containerfile";
            input.error(item.key("bootstrap"), "a bootstrap starts from nothing", hint);
        }
    }
}

fn test(input: &mut Input<'_>, node: Option<&Node>, has_content: bool) -> TestSpec {
    let default: BTreeSet<Lane> = if has_content { [Lane::Container].into() } else { BTreeSet::new() };
    let Some(node) = node else { return TestSpec { lanes: default, inherit: None, within: None } };
    if let Data::Text(text) = &node.data {
        if text != "none" {
            input.error(
                node.place,
                format!("`{}` is not known here", text.escape_debug()),
                "write `none`, or a map with `lanes`",
            );
        }
        return TestSpec { lanes: BTreeSet::new(), inherit: None, within: None };
    }
    let Some(fields) = input.record(node, &shape::TEST) else {
        return TestSpec { lanes: default, inherit: None, within: None };
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
    let within = fields.get("within").and_then(|node| input.span(node));
    if let (Some(node), false) = (fields.get("within"), lanes.contains(&Lane::External)) {
        let hint = "add `external` to `lanes`, or give each check a `within` of its own";
        input.error(node.place, "`within` limits the wait for the lane `external`, which is not run", hint);
    }
    TestSpec { lanes, inherit, within }
}

/// Refuses lanes that this version cannot run.
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
    const HINT: &str = "run `edgewright update --write` to write it anew, or remove it";
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
            let message =
                format!("the lock has version {}, this build reads version {LOCK_VERSION}", lock.version);
            report.add(owner, &file, None, message, HINT);
            None
        }
        Err(error) => {
            // The place is told apart from the message.
            let text = error.to_string();
            let message =
                format!("the lock cannot be read: {}", text.split(" at line ").next().unwrap_or(&text));
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
