//! `sites/NAME/site.yaml` and `exceptions/*.yaml`.

use std::collections::BTreeSet;

use super::decode::Input;
use super::report::{Owner, Report};
use super::yaml::Node;
use super::{checks, load, shape, steps};
use crate::names::SiteName;
use crate::spec::{Exception, SiteImageSpec, SiteSpec, SlotSpec};
use crate::tree::{Tree, TreePath};

/// A site as far as it could be read.
pub(super) struct Draft {
    /// The spanned value of its file.
    pub(super) doc: Node,
    /// What it declares, with defaults in place of invalid values.
    pub(super) spec: SiteSpec,
    /// Whether all its variables are known: no unknown key can be a misspelling of one that holds variables.
    pub(super) vars_are_clear: bool,
}

/// Reads a site; `None` if it cannot be read, or has no valid id.
pub(super) fn read(tree: &Tree, report: &mut Report, name: &SiteName, file: &TreePath) -> Option<Draft> {
    let owner = Owner::Site(name.clone());
    let doc = load(tree, report, &owner, file)?;
    let mut input = Input { tree, file: file.clone(), owner, report };
    let fields = input.record(&doc, &shape::SITE)?;
    let id = fields.get("id").and_then(|node| input.name(node));
    let labels = input.labels(fields.get("labels"));
    let vars = input.vars(fields.get("vars"));
    let files = steps::rules(&mut input, fields.get("files"));
    let images = input.map(fields.get("images"), |input, key, node| {
        let name = input.key(key);
        let fields = input.record(node, &shape::SITE_IMAGE)?;
        let vars = input.vars(fields.get("vars"));
        let checks = checks::decode(input, fields.get("checks"));
        let files = steps::rules(input, fields.get("files"));
        Some((name?, SiteImageSpec { vars, checks, files }))
    });
    let mut seen = BTreeSet::new();
    let slots = input.list(fields.get("slots"), |input, node| {
        let slot = slot(input, node)?;
        if !seen.insert(slot.id.clone()) {
            let message = format!("duplicate slot id `{}`", slot.id);
            input.error(node.at("id").place, message, "give each slot of a site a unique id");
        }
        Some(slot)
    });
    let (name, file) = (name.clone(), file.clone());
    let spec = SiteSpec { name, id: id?, labels, vars, files, images, slots, file };
    Some(Draft { spec, vars_are_clear: vars_are_clear(&doc), doc })
}

/// Whether all its variables are known: no unknown key can be a misspelling of one that holds variables.
fn vars_are_clear(doc: &Node) -> bool {
    let mut images = doc.at("images").entries().iter().map(|(_, node)| node);
    ["vars", "images", "slots"].iter().all(|key| shape::SITE.is_clear(doc, key))
        && images.all(|node| shape::SITE_IMAGE.is_clear(node, "vars"))
        && doc.at("slots").items().iter().all(|node| shape::SLOT.is_clear(node, "vars"))
}

fn slot(input: &mut Input<'_>, node: &Node) -> Option<SlotSpec> {
    let fields = input.record(node, &shape::SLOT)?;
    let id = fields.get("id").and_then(|node| input.name(node));
    let name = fields.get("name").and_then(|node| input.line(node));
    let image = fields.get("image").and_then(|node| input.name(node));
    let channel = fields.get("channel").and_then(|node| input.name(node));
    let labels = input.labels(fields.get("labels"));
    let vars = input.vars(fields.get("vars"));
    let files = steps::rules(input, fields.get("files"));
    Some(SlotSpec { id: id?, name, image: image?, channel, labels, vars, files })
}

/// Reads an exception. A broken one breaks no image and no site: without it, a failure of its check blocks.
pub(super) fn exception(tree: &Tree, report: &mut Report, file: &TreePath) -> Option<(Node, Exception)> {
    let doc = load(tree, report, &Owner::Nothing, file)?;
    let mut input = Input { tree, file: file.clone(), owner: Owner::Nothing, report };
    let fields = input.record(&doc, &shape::EXCEPTION)?;
    let check = fields.get("check").and_then(|node| input.name(node));
    let variants = input.list(fields.get("variants"), |input, node| {
        let text = input.word(node, "glob")?;
        input.glob(&text, node.place).map(|_| text)
    });
    let lanes = fields.get("lanes").map(|node| input.lanes(node)).unwrap_or_default();
    let reason = fields.get("reason").and_then(|node| input.line(node));
    let owner = fields.get("owner").and_then(|node| input.line(node));
    let until = fields.get("until").and_then(|node| {
        let text = input.text(node)?;
        let date = text.parse::<jiff::civil::Date>().ok().filter(|date| date.to_string() == text);
        if date.is_none() {
            input.error(
                node.place,
                format!("invalid date `{}`", text.escape_debug()),
                "write an existing day as YYYY-MM-DD",
            );
        }
        date
    });
    let exception =
        Exception { check: check?, variants, lanes, reason: reason?, owner: owner?, until: until? };
    Some((doc.clone(), exception))
}
