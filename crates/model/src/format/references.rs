//! References between files: parents, images of slots, channels, unique ids, folders that are laid over
//! images.

mod exceptions;
mod overlays;

use std::collections::BTreeMap;

use super::report::{Owner, Report, suggest};
use super::yaml::Node;
use super::{Drafts, Place};
use crate::names::{CheckId, ImageName, SiteId, SiteName};
use crate::resolve::{self, matches};
use crate::spec::{
    Assertion, CheckEntry, Definition, FileRules, From, ImageSpec, Labels, Lane, Per, SiteSpec, SlotSpec,
    StaticRule,
};
use crate::tree::Tree;

/// Checks all references of a definition made of every draft, broken ones included.
pub(super) fn check(tree: &Tree, report: &mut Report, drafts: &Drafts, definition: &Definition) {
    let mut pass = Pass { tree, report, drafts, definition };
    for (name, draft) in &drafts.images.read {
        pass.image(name, &draft.doc, &draft.spec);
    }
    let mut ids: BTreeMap<&SiteId, &SiteName> = BTreeMap::new();
    for (name, draft) in &drafts.sites {
        if let Some(other) = ids.insert(&draft.spec.id, name) {
            let message = format!("duplicate site id `{}`: site `{other}` has it, too", draft.spec.id);
            let hint = "give the copied site a new id, and never change it afterwards";
            pass.site_error(name, draft.doc.at("id").place, message, hint);
            // It is not known to which of the two the id belongs.
            pass.report.breaks(&Owner::Site(other.clone()));
        }
        pass.site(name, &draft.doc, &draft.spec);
        pass.overlays(name, &draft.doc, &draft.spec);
    }
    pass.exceptions();
}

struct Pass<'a> {
    tree: &'a Tree,
    report: &'a mut Report,
    drafts: &'a Drafts,
    definition: &'a Definition,
}

impl Pass<'_> {
    fn site_error(
        &mut self,
        site: &SiteName,
        place: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if let Some(draft) = self.drafts.sites.get(site) {
            self.report.add(&Owner::Site(site.clone()), &draft.spec.file, Some(place), message, hint);
        }
    }

    /// Whether an image has this name, even if it is broken.
    fn is_image(&self, name: &ImageName) -> bool {
        self.drafts.images.read.contains_key(name) || self.drafts.images.unread.contains(name)
    }

    /// Whether the known `per` of an image is the intended one.
    fn per_is_clear(&self, name: &ImageName) -> bool {
        self.drafts.images.read.get(name).is_some_and(|draft| draft.per_is_clear)
    }

    fn suggest_image(&self, name: &ImageName) -> String {
        suggest(name.as_str(), self.drafts.images.read.keys().map(ImageName::as_str))
    }

    fn image(&mut self, name: &ImageName, doc: &Node, spec: &ImageSpec) {
        let owner = Owner::Image(name.clone());
        let place = doc.at("from").place;
        if let From::Image(parent) = &spec.from {
            if !self.is_image(parent) {
                let hint = format!("{}; a registry reference has a full host", self.suggest_image(parent));
                self.report.add(
                    &owner,
                    &spec.file,
                    Some(place),
                    format!("there is no image `{parent}`"),
                    hint,
                );
            } else if let Some(circle) = self.circle(name) {
                // One error for the whole circle, which breaks each of its images.
                if circle.iter().any(|other| other < name) {
                    self.report.breaks(&owner);
                    return;
                }
                let shown: Vec<&str> = circle.iter().map(ImageName::as_str).collect();
                let message = format!("circular `from` of image `{name}`: {} → {name}", shown.join(" → "));
                let hint = "let one of these images start from `scratch` or from a registry reference";
                self.report.add(&owner, &spec.file, Some(place), message, hint);
            } else if let Some(parent) = self.definition.images.get(parent).filter(|parent| {
                parent.per > spec.per && self.per_is_clear(name) && self.per_is_clear(&parent.name)
            }) {
                let message = format!(
                    "image `{name}` is per {}, but its parent `{}` is per {}",
                    per(spec.per),
                    parent.name,
                    per(parent.per)
                );
                let place = if spec.per == Per::Image { place } else { doc.at("per").place };
                let hint = format!(
                    "write `per: {}`: a child must be built for each variant of its parent",
                    per(parent.per)
                );
                self.report.add(&owner, &spec.file, Some(place), message, hint);
            }
        }
        self.switched_from(&owner, doc, spec);
        let Ok(line) = resolve::chain(self.definition, name) else { return };
        let above: Vec<&CheckEntry> = line[..line.len() - 1].iter().flat_map(|image| &image.checks).collect();
        for (place, id, known) in offs(doc.at("checks"), &spec.checks, &above) {
            let message = format!("cannot disable the check `{id}`: no ancestor has it");
            self.report.add(&owner, &spec.file, Some(place), message, known);
        }
        self.unexamined(&owner, doc, spec);
    }

    /// Reports a lane `switch` from an image that is not there, or from itself.
    fn switched_from(&mut self, owner: &Owner, doc: &Node, spec: &ImageSpec) {
        let Some(other) = &spec.test.switch_from else { return };
        let (message, hint) = if *other == spec.name {
            (format!("the lane `switch` of `{other}` starts from `{other}`"), "name another image".to_owned())
        } else if !self.is_image(other) {
            (format!("there is no image `{other}`"), self.suggest_image(other))
        } else if let Some(found) =
            self.definition.images.get(other).filter(|found| {
                found.per > spec.per && self.per_is_clear(other) && self.per_is_clear(&spec.name)
            })
        {
            let message = format!(
                "image `{}` is per {}, but the lane `switch` starts from `{other}`, which is per {}",
                spec.name,
                per(spec.per),
                per(found.per)
            );
            (message, "name an image of which there is one for each variant".to_owned())
        } else {
            return;
        };
        let place = doc.at("test").at("switch").at("from").place;
        self.report.add(owner, &spec.file, Some(place), message, hint);
    }

    /// Reports a check for the lane `static` that no image runs.
    fn unexamined(&mut self, owner: &Owner, doc: &Node, spec: &ImageSpec) {
        let sizes = spec.checks.iter().filter_map(|entry| match entry {
            CheckEntry::On(check) if matches!(check.assert, Assertion::Size { .. }) => {
                check.lanes.as_ref().is_some_and(|lanes| lanes.contains(&Lane::Static)).then_some(&check.id)
            }
            CheckEntry::On(_) | CheckEntry::Off { .. } => None,
        });
        for id in sizes {
            let has_check = |name: &ImageName| {
                let line = resolve::chain(self.definition, name);
                // A broken descendant may run it.
                line.is_err() || line.is_ok_and(|line| line.iter().any(|image| image.name == spec.name))
            };
            let is_run = self
                .definition
                .images
                .iter()
                .any(|(name, image)| image.test.lanes.contains(&Lane::Static) && has_check(name));
            if !is_run && self.drafts.images.unread.is_empty() {
                let place = doc.at("checks").item("id", id.as_str()).at("size").place;
                let message = format!(
                    "the check `{id}` never runs: it is for the lane `static`, which no image with it runs"
                );
                let hint = "add the lane: `test: {lanes: [static, container]}`; lanes are not inherited from the parent";
                self.report.add(owner, &spec.file, Some(place), message, hint);
            }
        }
    }

    /// The images from one through its ancestors back to itself.
    fn circle(&self, start: &ImageName) -> Option<Vec<ImageName>> {
        let mut circle = vec![start.clone()];
        let mut next = start;
        while let From::Image(parent) = &self.definition.images.get(next)?.from {
            if parent == start {
                return Some(circle);
            }
            if circle.len() > self.definition.images.len() {
                return None;
            }
            circle.push(parent.clone());
            next = parent;
        }
        None
    }

    fn site(&mut self, name: &SiteName, doc: &Node, spec: &SiteSpec) {
        for (image, extra) in &spec.images {
            let node = doc.at("images");
            let place = node.key(image.as_str());
            if !self.is_image(image) {
                let hint = self.suggest_image(image);
                self.site_error(name, place, format!("there is no image `{image}`"), hint);
                continue;
            }
            let is_same = self.definition.images.get(image).is_some_and(|image| image.per == Per::Image);
            if is_same && self.per_is_clear(image) {
                let message = format!("image `{image}` has no variant per site");
                let hint =
                    format!("add `per: site` to images/{image}/image.yaml, or set this for a child of it");
                self.site_error(name, place, message, hint);
            }
            let Ok(line) = resolve::chain(self.definition, image) else { continue };
            let above: Vec<&CheckEntry> = line.iter().flat_map(|image| &image.checks).collect();
            let checks = node.at(image.as_str()).at("checks");
            for (place, id, known) in offs(checks, &extra.checks, &above) {
                let message = format!("cannot disable the check `{id}`: image `{image}` does not have it");
                self.site_error(name, place, message, known);
            }
        }
        // By id at once: a site may have very many slots.
        let mut slots: BTreeMap<&str, &Node> = BTreeMap::new();
        for item in doc.at("slots").items() {
            if let Some(id) = id_of(item) {
                slots.entry(id).or_insert(item);
            }
        }
        for slot in &spec.slots {
            let node = slots.get(slot.id.as_str()).copied().unwrap_or(doc);
            let place = node.at("image").place;
            if let Some(channel) =
                slot.channel.as_ref().filter(|it| !self.definition.source.channels.contains_key(*it))
            {
                let known = self.definition.source.channels.keys().map(crate::names::ChannelName::as_str);
                let hint = suggest(channel.as_str(), known);
                let (place, message) = (node.at("channel").place, format!("there is no channel `{channel}`"));
                self.site_error(name, place, message, hint);
            }
            if !self.is_image(&slot.image) {
                let hint = self.suggest_image(&slot.image);
                self.site_error(name, place, format!("there is no image `{}`", slot.image), hint);
                continue;
            }
            self.slot_files(name, node, slot);
            let Ok(line) = resolve::chain(self.definition, &slot.image) else { continue };
            if let Some(image) = line.iter().find(|image| !matches(&image.select, &spec.labels)) {
                let message = format!("image `{}` is not built for this site", slot.image);
                let hint = format!(
                    "add labels to the site, or change `where` of images/{}/image.yaml: it selects sites with {}",
                    image.name,
                    labels(&image.select)
                );
                self.site_error(name, place, message, hint);
            }
        }
    }
}

impl Pass<'_> {
    /// Rules for files that no variant has.
    fn slot_files(&mut self, name: &SiteName, node: &Node, slot: &SlotSpec) {
        let is_shared = self.definition.images.get(&slot.image).is_some_and(|image| image.per != Per::Slot);
        if slot.files == FileRules::NONE || !is_shared || !self.per_is_clear(&slot.image) {
            return;
        }
        let image = &slot.image;
        let message = format!("`files` is never read: image `{image}` has no variant per slot");
        let hint = format!("move it to `files` of the site, or add `per: slot` to images/{image}/image.yaml");
        self.site_error(name, node.key("files"), message, hint);
    }
}

const fn id(entry: &CheckEntry) -> &CheckId {
    match entry {
        CheckEntry::On(check) => &check.id,
        CheckEntry::Off { id, .. } => id,
    }
}

/// The id of a list's item as written.
fn id_of(item: &Node) -> Option<&str> {
    match &item.at("id").data {
        super::yaml::Data::Text(text) => Some(text),
        _ => None,
    }
}

/// `off` entries of checks that no ancestor has: place, id, and a hint with the checks that could be
/// disabled.
fn offs(node: &Node, own: &[CheckEntry], above: &[&CheckEntry]) -> Vec<(Place, CheckId, String)> {
    let on = |entry: &&&CheckEntry| matches!(entry, CheckEntry::On(_));
    let known = || {
        let own = above.iter().filter(on).map(|entry| id(entry).as_str());
        own.chain(StaticRule::ALL.map(StaticRule::id))
    };
    let mut found = Vec::new();
    for entry in own {
        let CheckEntry::Off { id: off, .. } = entry else { continue };
        if known().any(|known| known == off.as_str()) {
            continue;
        }
        let item = node.item("id", off.as_str());
        found.push((item.at("id").place, off.clone(), suggest(off.as_str(), known())));
    }
    found
}

const fn per(per: Per) -> &'static str {
    match per {
        Per::Image => "image",
        Per::Site => "site",
        Per::Slot => "slot",
    }
}

fn labels(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
}
