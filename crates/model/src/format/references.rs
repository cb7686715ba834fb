//! What crosses files: parents, images of slots, channels, ids that must be unique, folders that are laid over.

use std::collections::BTreeMap;

use super::report::{Owner, Report, suggest};
use super::yaml::Node;
use super::{Drafts, Place, paths};
use crate::glob::Glob;
use crate::names::{CheckId, ImageName, SiteId, SiteName};
use crate::resolve::{self, matches};
use crate::spec::{
    Assertion, CheckEntry, Definition, From, ImageSpec, Labels, Lane, Per, SiteSpec, StaticRule,
};
use crate::tree::{Tree, TreePath};

/// Checks all references of a definition made of every draft, broken ones included.
pub(super) fn check(tree: &Tree, report: &mut Report, drafts: &Drafts, definition: &Definition) {
    let mut pass = Pass { tree, report, drafts, definition };
    for (name, draft) in &drafts.images.read {
        pass.image(name, &draft.doc, &draft.spec);
    }
    let mut ids: BTreeMap<&SiteId, &SiteName> = BTreeMap::new();
    for (name, draft) in &drafts.sites {
        if let Some(other) = ids.insert(&draft.spec.id, name) {
            let message = format!("the site id `{}` is that of site `{other}`, too", draft.spec.id);
            let hint = "a copied site needs an id of its own, which never changes afterwards";
            pass.site_error(name, draft.doc.at("id").place, message, hint);
            // Which of the two the id belongs to is not known here.
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

    /// Whether a name belongs to an image, be it broken.
    fn is_image(&self, name: &ImageName) -> bool {
        self.drafts.images.read.contains_key(name) || self.drafts.images.unread.contains(name)
    }

    /// Whether what is known of an image's `per` is what was meant.
    fn says_per(&self, name: &ImageName) -> bool {
        self.drafts.images.read.get(name).is_some_and(|draft| draft.says_per)
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
                // Once for all of the circle, which breaks each of them.
                if circle.iter().any(|other| other < name) {
                    self.report.breaks(&owner);
                    return;
                }
                let shown: Vec<&str> = circle.iter().map(ImageName::as_str).collect();
                let message = format!("image `{name}` starts from itself: {} → {name}", shown.join(" → "));
                let hint = "let one image of the circle start from `scratch` or from a registry reference";
                self.report.add(&owner, &spec.file, Some(place), message, hint);
            } else if let Some(parent) =
                self.definition.images.get(parent).filter(|parent| {
                    parent.per > spec.per && self.says_per(name) && self.says_per(&parent.name)
                })
            {
                let message = format!(
                    "image `{name}` is per {}, but its parent `{}` is per {}",
                    per(spec.per),
                    parent.name,
                    per(parent.per)
                );
                let place = if spec.per == Per::Image { place } else { doc.at("per").place };
                let hint =
                    format!("write `per: {}`: a child is at least as fine as its parent", per(parent.per));
                self.report.add(&owner, &spec.file, Some(place), message, hint);
            }
        }
        let Ok(line) = resolve::chain(self.definition, name) else { return };
        let above: Vec<&CheckEntry> = line[..line.len() - 1].iter().flat_map(|image| &image.checks).collect();
        for (place, id, known) in offs(doc.at("checks"), &spec.checks, &above) {
            let message = format!("no ancestor has a check `{id}` that could be off");
            self.report.add(&owner, &spec.file, Some(place), message, known);
        }
        self.unexamined(&owner, doc, spec);
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
                // A broken descendant may be meant to run it.
                line.is_err() || line.is_ok_and(|line| line.iter().any(|image| image.name == spec.name))
            };
            let is_run = self
                .definition
                .images
                .iter()
                .any(|(name, image)| image.test.lanes.contains(&Lane::Static) && has_check(name));
            if !is_run && self.drafts.images.unread.is_empty() {
                let place = doc.at("checks").item("id", id.as_str()).at("size").place;
                let message = format!("nobody runs the check `{id}`: it is for the lane `static`");
                let hint = "add it: test: {lanes: [static, container]}; a child has lanes of its own";
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
            if is_same && self.says_per(image) {
                let message = format!("image `{image}` is the same at every site");
                let hint =
                    format!("give images/{image}/image.yaml `per: site`, or set this in a child of it");
                self.site_error(name, place, message, hint);
            }
            let Ok(line) = resolve::chain(self.definition, image) else { continue };
            let above: Vec<&CheckEntry> = line.iter().flat_map(|image| &image.checks).collect();
            let checks = node.at(image.as_str()).at("checks");
            for (place, id, known) in offs(checks, &extra.checks, &above) {
                let message = format!("image `{image}` has no check `{id}` that could be off");
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
                self.site_error(
                    name,
                    node.at("channel").place,
                    format!("there is no channel `{channel}`"),
                    hint,
                );
            }
            if !self.is_image(&slot.image) {
                let hint = self.suggest_image(&slot.image);
                self.site_error(name, place, format!("there is no image `{}`", slot.image), hint);
                continue;
            }
            let Ok(line) = resolve::chain(self.definition, &slot.image) else { continue };
            if let Some(image) = line.iter().find(|image| !matches(&image.select, &spec.labels)) {
                let message = format!("image `{}` is not made for this site", slot.image);
                let hint = format!(
                    "images/{}/image.yaml narrows to sites with {}",
                    image.name,
                    labels(&image.select)
                );
                self.site_error(name, place, message, hint);
            }
        }
    }

    /// Folders laid over a site's images: each must belong to something, and hold nothing unusable.
    fn overlays(&mut self, name: &SiteName, doc: &Node, spec: &SiteSpec) {
        let Some(own) = spec.file.parent() else { return };
        let mut used: Vec<TreePath> = Vec::new();
        for child in paths::children(self.tree, own.as_str()) {
            match child.file_name() {
                "files" => used.push(child),
                "images" => {
                    for image in paths::children(self.tree, child.as_str()) {
                        self.overlay(name, spec, &image, Kind::Image);
                        used.push(image);
                    }
                }
                // A slot that could not be read would be missing here.
                "slots" if doc.at("slots").items().len() == spec.slots.len() => {
                    for slot in paths::children(self.tree, child.as_str()) {
                        self.overlay(name, spec, &slot, Kind::Slot);
                        used.push(slot);
                    }
                }
                _ => {}
            }
        }
        let owner = Owner::Site(name.clone());
        for folder in used {
            if self.tree.entry(&folder).is_some() && folder.file_name() == "files" {
                let hint = "make it a folder: its entries are laid over the site's images";
                self.report.add(&owner, &folder, None, "this is not a folder", hint);
            }
            for (path, fault) in paths::unusable(self.tree, &folder, Some(&own)) {
                self.report.add(&owner, &path, None, fault.message, fault.hint);
            }
        }
    }

    fn overlay(&mut self, name: &SiteName, spec: &SiteSpec, folder: &TreePath, kind: Kind) {
        let owner = Owner::Site(name.clone());
        let text = folder.file_name();
        if self.tree.entry(folder).is_some() {
            // A plain file, such as a README.
            return;
        }
        let (message, hint) = match kind {
            Kind::Image => match self.definition.images.iter().find(|(image, _)| image.as_str() == text) {
                Some((name, image)) if image.per == Per::Image && self.says_per(name) => (
                    format!("image `{text}` is the same at every site: this folder is never used"),
                    format!("give images/{text}/image.yaml `per: site`, or move the files to a child of it"),
                ),
                Some(_) => return,
                None if self.drafts.images.unread.iter().any(|image| image.as_str() == text) => return,
                None => (
                    format!("there is no image `{text}`: this folder is never used"),
                    suggest(text, self.drafts.images.read.keys().map(ImageName::as_str)),
                ),
            },
            Kind::Slot => match spec.slots.iter().find(|slot| slot.id.as_str() == text) {
                Some(slot) => match self.definition.images.get(&slot.image) {
                    Some(image) if image.per != Per::Slot && self.says_per(&slot.image) => (
                        format!("image `{}` is not made per slot: this folder is never used", slot.image),
                        format!("give images/{}/image.yaml `per: slot`, or remove the folder", slot.image),
                    ),
                    _ => return,
                },
                None => (
                    format!("there is no slot `{text}`: this folder is never used"),
                    suggest(text, spec.slots.iter().map(|slot| slot.id.as_str())),
                ),
            },
        };
        self.report.add(&owner, folder, None, message, hint);
    }

    /// An exception must be for a check that some image has, and for a variant that is there.
    fn exceptions(&mut self) {
        if !self.drafts.images.unread.is_empty() || !self.drafts.unread_sites.is_empty() {
            return;
        }
        let variants: Vec<String> =
            resolve::variants(self.definition).iter().map(ToString::to_string).collect();
        // Variants of a broken image may be missing.
        let are_known = self.report.images.is_empty() && self.report.sites.is_empty();
        let of_sites =
            self.definition.sites.values().flat_map(|site| site.images.values()).map(|extra| &extra.checks);
        let known: std::collections::BTreeSet<&str> = self
            .definition
            .images
            .values()
            .map(|image| &image.checks)
            .chain(of_sites)
            .flatten()
            .map(|entry| id(entry).as_str())
            .chain(StaticRule::ALL.map(StaticRule::id))
            .collect();
        for (file, doc, exception) in &self.drafts.exceptions {
            if !known.contains(exception.check.as_str()) {
                let message = format!("no image has a check `{}`", exception.check);
                let hint = suggest(exception.check.as_str(), known.iter().copied());
                self.report.add(&Owner::Nobody, file, Some(doc.at("check").place), message, hint);
            }
            let globs = exception.variants.iter().filter(|_| are_known).zip(doc.at("variants").items());
            for (pattern, node) in globs {
                let glob = Glob::new(pattern).ok();
                if glob.is_some_and(|glob| !variants.iter().any(|variant| glob.matches(variant))) {
                    let message = format!("no variant matches `{}`", pattern.escape_debug());
                    let hint = format!(
                        "{}; `*` stands for any part between `/`",
                        suggest(pattern, variants.iter().map(String::as_str))
                    );
                    self.report.add(&Owner::Nobody, file, Some(node.place), message, hint);
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Image,
    Slot,
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

/// `off` entries of checks that nothing above has: place, id, and what there is.
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
