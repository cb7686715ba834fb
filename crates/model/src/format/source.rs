//! `edgewright.yaml`.

use std::collections::{BTreeMap, BTreeSet};

use super::decode::Input;
use super::report::{Owner, Report, suggest};
use super::yaml::{Data, Node};
use super::{load, paths, rollout, shape, yaml};
use crate::names::{ChannelName, Platform, SourceName};
use crate::spec::{ChannelSpec, Follows, Group, RolloutSpec, SourceSpec};
use crate::tree::{Tree, TreePath};

/// The version of the format that this build reads.
const FORMAT_VERSION: i64 = 1;

/// Reserved source names: repositories and URLs of the server itself begin with them.
const RESERVED_NAMES: [&str; 5] = ["api", "device", "mirror", "sites", "v2"];

/// The channel of a source that declares none.
const DEFAULT_CHANNEL: &str = "stable";

/// The platform that is built without `platforms`.
const DEFAULT_PLATFORM: &str = "linux/amd64";

/// Reads the source's file: its spanned value, and its declarations unless the file is unusable.
pub(super) fn read(tree: &Tree, report: &mut Report, file: &TreePath) -> Option<(Node, SourceSpec)> {
    let doc = load(tree, report, &Owner::Source, file)?;
    let mut input = Input { tree, file: file.clone(), owner: Owner::Source, report };
    let newer = doc.entries().iter().find(|(key, _)| key.text == "edgewright").map(|(_, value)| value);
    if let Some(Node { data: Data::Integer(version), place }) = newer
        && *version > FORMAT_VERSION
    {
        let message = format!(
            "unsupported format version {version}: this version of Edgewright reads version {FORMAT_VERSION}"
        );
        input.error(*place, message, "upgrade edgewright");
        // The rest of a newer format cannot be interpreted.
        return None;
    }
    let fields = input.record(&doc, &shape::SOURCE)?;
    if let Some(node) = fields.get("edgewright") {
        input.integer::<i64>(node, FORMAT_VERSION, FORMAT_VERSION);
    }
    let name = fields.get("name").and_then(|node| source_name(&mut input, node));
    let mut platforms = input.list(fields.get("platforms"), Input::name::<Platform>);
    if platforms.is_empty() {
        if let Some(node) =
            fields.get("platforms").filter(|node| matches!(&node.data, Data::List(items) if items.is_empty()))
        {
            input.error(node.place, "the list of platforms is empty", format!("write [{DEFAULT_PLATFORM}]"));
        }
        platforms.extend(DEFAULT_PLATFORM.parse::<Platform>());
    }
    let vars = input.vars(fields.get("vars"));
    let _ = fields.get("submodules").map(|node| input.boolean(node));
    let groups = groups(&mut input, fields.get("groups"));
    let rollouts = input.map(fields.get("rollouts"), |input, key, node| {
        let name = input.key(key);
        Some((name?, rollout::rollout(input, node)?))
    });
    let mut channels = input.map(fields.get("channels"), |input, key, node| {
        let name = input.key(key);
        Some((name?, channel(input, node)?))
    });
    references(&mut input, &doc, &channels, &rollouts);
    if channels.is_empty()
        && let Ok(name) = DEFAULT_CHANNEL.parse()
    {
        channels.insert(name, ChannelSpec::following(Follows::DefaultBranch));
    }
    Some((doc.clone(), SourceSpec { name: name?, platforms, vars, groups, channels, rollouts }))
}

/// Whether the files of submodules are a part of this tree, according to its `edgewright.yaml`.
pub fn reads_submodules(tree: &Tree) -> bool {
    let text = super::layout().ok().and_then(|(file, ..)| paths::follow(tree, &file).ok());
    let text = text.and_then(|file| std::str::from_utf8(tree.content(&file)?).ok());
    let node = text.and_then(|text| yaml::read(text).0);
    node.is_some_and(|node| matches!(node.at("submodules").data, Data::Boolean(true)))
}

/// The source's name, which must not be reserved.
fn source_name(input: &mut Input<'_>, node: &Node) -> Option<SourceName> {
    let name: SourceName = input.name(node)?;
    if RESERVED_NAMES.contains(&name.as_str()) {
        let message = format!("invalid source name `{name}`: reserved");
        input.error(node.place, message, format!("choose another name, such as `{name}-os`"));
        return None;
    }
    Some(name)
}

fn groups(input: &mut Input<'_>, node: Option<&Node>) -> Vec<Group> {
    let mut seen = BTreeSet::new();
    input.list(node, |input, node| {
        let fields = input.record(node, &shape::GROUP)?;
        let name = fields.get("name").and_then(|node| input.name(node));
        let select = input.labels(fields.get("where"));
        let vars = input.vars(fields.get("vars"));
        let group = Group { name: name?, select, vars };
        if !seen.insert(group.name.clone()) {
            let message = format!("duplicate group `{}`", group.name);
            input.error(node.at("name").place, message, "give each group a unique name");
        }
        Some(group)
    })
}

fn channel(input: &mut Input<'_>, node: &Node) -> Option<ChannelSpec> {
    let fields = input.record(node, &shape::CHANNEL)?;
    let follows = fields.get("follows").and_then(|node| follows(input, node));
    let after = fields.get("after").and_then(|node| input.span(node));
    let rollout = fields.get("rollout").and_then(|node| input.name(node));
    let hold = fields.get("hold").and_then(|node| input.text(node)).map(str::to_owned);
    Some(ChannelSpec { follows: follows?, after, rollout, hold })
}

fn follows(input: &mut Input<'_>, node: &Node) -> Option<Follows> {
    if matches!(node.data, Data::Text(_)) {
        input.one_of(node, &["default-branch"])?;
        return Some(Follows::DefaultBranch);
    }
    let fields = input.record(node, &shape::FOLLOWS)?;
    if let Some(node) = fields.get("branch") {
        return input.word(node, "branch name").map(Follows::Branch);
    }
    input.name(fields.get("channel")?).map(Follows::Channel)
}

/// Channels must follow existing channels, without a circle, and use existing rollouts.
fn references(
    input: &mut Input<'_>,
    doc: &Node,
    channels: &BTreeMap<ChannelName, ChannelSpec>,
    rollouts: &BTreeMap<crate::names::RolloutName, RolloutSpec>,
) {
    // Names as written: a broken channel or rollout is not reported as unknown.
    let written = |key: &str| {
        doc.entries().iter().find(|(it, _)| it.text == key).map_or(&[][..], |(_, node)| node.entries())
    };
    for (name, channel) in channels {
        let node = doc.at("channels").at(name.as_str());
        if let Some(rollout) = channel.rollout.as_ref().filter(|rollout| !rollouts.contains_key(*rollout))
            && written("rollouts").iter().all(|(key, _)| key.text != rollout.as_str())
        {
            let hint =
                suggest(rollout.as_str(), written("rollouts").iter().map(|(key, _)| key.text.as_str()));
            input.error(node.at("rollout").place, format!("there is no rollout `{rollout}`"), hint);
        }
        let Follows::Channel(followed) = &channel.follows else { continue };
        let place = node.at("follows").at("channel").place;
        if written("channels").iter().all(|(key, _)| key.text != followed.as_str()) {
            let hint = suggest(followed.as_str(), channels.keys().map(ChannelName::as_str));
            input.error(place, format!("there is no channel `{followed}`"), hint);
        } else if circles(channels, name) {
            input.error(
                place,
                format!("circular `follows`: channel `{name}` follows itself"),
                "let one channel of the circle follow a branch",
            );
        }
    }
}

/// Whether following leads from a channel back to it.
fn circles(channels: &BTreeMap<ChannelName, ChannelSpec>, start: &ChannelName) -> bool {
    let mut next = start;
    for _ in 0..channels.len() {
        match channels.get(next).map(|channel| &channel.follows) {
            Some(Follows::Channel(followed)) if followed == start => return true,
            Some(Follows::Channel(followed)) => next = followed,
            _ => return false,
        }
    }
    false
}
