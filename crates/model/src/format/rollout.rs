//! `rollouts` of `edgewright.yaml`.

use std::collections::BTreeSet;

use jiff::civil::Time;

use super::decode::Input;
use super::shape;
use super::yaml::{Data, Node};
use crate::spec::{RateSpec, RolloutSpec, StageSpec};
use crate::window::{Day, Window};

/// The largest number of approvals of a stage.
pub(super) const MAX_APPROVALS: i64 = 10;
/// The largest number of devices that a policy names.
pub(super) const MAX_DEVICES: i64 = 10_000_000;
const DAYS: [(&str, Day); 7] = [
    ("monday", Day::Monday),
    ("tuesday", Day::Tuesday),
    ("wednesday", Day::Wednesday),
    ("thursday", Day::Thursday),
    ("friday", Day::Friday),
    ("saturday", Day::Saturday),
    ("sunday", Day::Sunday),
];

pub(super) fn rollout(input: &mut Input<'_>, node: &Node) -> Option<RolloutSpec> {
    let fields = input.record(node, &shape::ROLLOUT)?;
    let windows = input.list(fields.get("windows"), window);
    let time_zone = fields.get("time_zone").and_then(|node| input.word(node, "time zone"));
    let in_flight = fields.get("in_flight").and_then(|node| input.integer(node, 1, MAX_DEVICES));
    let rate = fields.get("rate").and_then(|node| {
        let fields = input.record(node, &shape::RATE)?;
        let devices = fields.get("devices").and_then(|node| input.integer(node, 1, MAX_DEVICES));
        let every = fields.get("every").and_then(|node| input.span(node));
        Some(RateSpec { devices: devices?, every: every? })
    });
    let group = fields.get("group").and_then(|node| input.name(node));
    let unavailable = fields.get("unavailable").and_then(|node| input.integer(node, 1, MAX_DEVICES));
    if let Some(node) = fields.get("unavailable").filter(|_| fields.get("group").is_none()) {
        input.error(node.place, "`unavailable` without `group`", "add `group`: the label that names groups");
    }
    let offline_after = fields.get("offline_after").and_then(|node| input.span(node));
    let list = fields.get("stages")?;
    if matches!(&list.data, Data::List(items) if items.is_empty()) {
        input.error(list.place, "a rollout has no stage", "add a stage, such as {name: all}");
    }
    let mut seen = BTreeSet::new();
    let stages = input.list(Some(list), |input, node| {
        let stage = stage(input, node)?;
        if !seen.insert(stage.name.clone()) {
            let message = format!("duplicate stage `{}`", stage.name);
            input.error(node.at("name").place, message, "give each stage a unique name");
        }
        Some(stage)
    });
    Some(RolloutSpec { stages, windows, time_zone, in_flight, rate, group, unavailable, offline_after })
}

fn stage(input: &mut Input<'_>, node: &Node) -> Option<StageSpec> {
    let fields = input.record(node, &shape::STAGE)?;
    let name = fields.get("name").and_then(|node| input.name(node));
    let select = input.labels(fields.get("select"));
    let sizes = ["percent", "count", "per_site"].map(|key| fields.get(key));
    if let Some(second) = sizes.into_iter().flatten().nth(1) {
        let hint = "keep one of `percent`, `count` and `per_site`";
        input.error(second.place, "a stage has more than one size", hint);
    }
    let [percent, count, per_site] = sizes;
    let percent = percent.and_then(|node| input.integer(node, 1, 100));
    let count = count.and_then(|node| input.integer(node, 1, MAX_DEVICES));
    let per_site = per_site.and_then(|node| input.integer(node, 1, MAX_DEVICES));
    let ended = fields.get("ended").and_then(|node| input.integer(node, 1, 100));
    let soak = fields.get("soak").and_then(|node| input.span(node));
    let approval = fields.get("approval").and_then(|node| input.boolean(node)).unwrap_or_default();
    let approvals = fields.get("approvals").and_then(|node| input.integer(node, 1, MAX_APPROVALS));
    if let Some(node) = fields.get("approvals").filter(|_| fields.get("approval").is_some()) {
        let hint = "keep one of them: `approval: true` is the same as `approvals: 1`";
        input.error(node.place, "a stage has both `approval` and `approvals`", hint);
    }
    Some(StageSpec { name: name?, select, percent, count, per_site, ended, soak, approval, approvals })
}

fn window(input: &mut Input<'_>, node: &Node) -> Option<Window> {
    let fields = input.record(node, &shape::WINDOW)?;
    let days = input.list(fields.get("days"), |input, node| {
        let word = input.one_of(node, &DAYS.map(|(name, _)| name))?;
        DAYS.iter().find(|(name, _)| *name == word).map(|(_, day)| *day)
    });
    let mut time = |key| fields.get(key).and_then(|node| time(input, node));
    let (from, to) = (time("from"), time("to"));
    Some(Window { days, from: from?, to: to? })
}

fn time(input: &mut Input<'_>, node: &Node) -> Option<Time> {
    let text = input.text(node)?;
    let is_written_well = text.len() == 5 && text.as_bytes()[2] == b':';
    let time = text.parse().ok().filter(|_| is_written_well);
    if time.is_none() {
        input.error(
            node.place,
            format!("invalid time `{text}`"),
            "write hours and minutes, such as \"02:30\"",
        );
    }
    time
}
