//! Variables against declarations: undeclared ones, wrong types, two groups that disagree, and unset ones.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Owner, Report, suggest};
use super::yaml::{Data, Node};
use super::{Drafts, Place, image, shape};
use crate::names::{ImageName, SiteName, VarName, VariantName};
use crate::resolve;
use crate::spec::{Definition, Per, SiteSpec, VarType, Vars};
use crate::tree::{Tree, TreePath};

/// The variables that some images see, each with the images that declare it and the type that each expects.
type Seen<'a> = BTreeMap<&'a VarName, Vec<(&'a ImageName, VarType)>>;

/// Checks all variables of a definition made of every draft, broken ones included.
pub(super) fn check(tree: &Tree, report: &mut Report, drafts: &Drafts, definition: &Definition) {
    // An unreadable image may declare any variable, so with one no variable is reported as undeclared.
    let is_clear = |draft: &image::Draft| draft.declares && draft.per_is_clear;
    let unread = !drafts.images.unread.is_empty() || !drafts.images.read.values().all(is_clear);
    let mut lines: BTreeMap<&ImageName, Seen<'_>> = BTreeMap::new();
    let (mut everywhere, mut at_sites): (Seen<'_>, Seen<'_>) = (BTreeMap::new(), BTreeMap::new());
    for (name, spec) in &definition.images {
        let Ok(line) = resolve::chain(definition, name) else {
            for (var, declaration) in &spec.declare {
                add(&mut everywhere, var, name, declaration.kind);
            }
            continue;
        };
        let seen = lines.entry(name).or_default();
        for (var, (by, declaration)) in resolve::declarations(&line) {
            add(seen, var, by, declaration.kind);
            add(&mut everywhere, var, by, declaration.kind);
            if spec.per >= Per::Site {
                add(&mut at_sites, var, by, declaration.kind);
            }
        }
    }
    let cut = lines.len() < definition.images.len();
    let read = drafts.images.read.iter();
    let per_is_clear = read.filter(|(_, draft)| draft.per_is_clear).map(|(name, _)| name).collect();
    let mut pass = Pass { tree, report, unread, cut, everywhere: &everywhere, per_is_clear };

    if let (Some(doc), Some(file)) = (&drafts.source, "edgewright.yaml".parse().ok()) {
        pass.source(doc, &file, definition, &at_sites);
    }
    for draft in drafts.sites.values() {
        pass.site(&draft.doc, &draft.spec, definition, &at_sites, &lines);
    }
    conflicts(report, drafts, definition);
    unset(report, drafts, definition);
}

fn add<'a>(seen: &mut Seen<'a>, var: &'a VarName, image: &'a ImageName, kind: VarType) {
    let images = seen.entry(var).or_default();
    if !images.contains(&(image, kind)) {
        images.push((image, kind));
    }
}

/// The subject of the error for a variable that no image at sites declares.
const AT_NO_SITE: &str = "no `per: site` or `per: slot` image";

/// Variables that are set in one place.
#[derive(Clone, Copy)]
struct Layer<'l> {
    /// The part of the source that an error breaks.
    owner: &'l Owner,
    file: &'l TreePath,
    /// The file and node of the variables.
    node: &'l Node,
    vars: &'l Vars,
    /// The variables that may be set in this place.
    seen: &'l Seen<'l>,
    /// The subject of the error for a variable that is not in `seen`.
    what: &'l str,
}

struct Pass<'a> {
    tree: &'a Tree,
    report: &'a mut Report,
    /// Some image cannot be read: any variable may be declared.
    unread: bool,
    /// Some image's line is cut: any declared variable may be seen by it.
    cut: bool,
    everywhere: &'a Seen<'a>,
    /// Images whose `per` is the intended one.
    per_is_clear: BTreeSet<&'a ImageName>,
}

impl Pass<'_> {
    fn source(&mut self, doc: &Node, file: &TreePath, definition: &Definition, at_sites: &Seen<'_>) {
        let source = &definition.source;
        let everywhere = self.everywhere;
        // A value here of the wrong type breaks the images that see it, not the whole source.
        let node = doc.at("vars");
        let own = Layer {
            owner: &Owner::Nothing,
            file,
            node,
            vars: &source.vars,
            seen: everywhere,
            what: "no image",
        };
        for (var, images) in self.layer(&own) {
            for (image, kind) in images {
                if source.vars.get(&var).is_some_and(|value| !image::has_type(value, kind)) {
                    self.report.breaks(&Owner::Image(image));
                }
            }
        }
        for group in &source.groups {
            let item = doc.at("groups").item("name", group.name.as_str());
            let node = item.at("vars");
            let wrong =
                self.layer(&Layer { node, vars: &group.vars, seen: at_sites, what: AT_NO_SITE, ..own });
            if wrong.is_empty() {
                continue;
            }
            for site in definition.sites.values() {
                if resolve::matches(&group.select, &site.labels) {
                    self.report.breaks(&Owner::Site(site.name.clone()));
                }
            }
        }
    }

    fn site(
        &mut self,
        doc: &Node,
        spec: &SiteSpec,
        definition: &Definition,
        at_sites: &Seen<'_>,
        lines: &BTreeMap<&ImageName, Seen<'_>>,
    ) {
        let owner = Owner::Site(spec.name.clone());
        let nothing = Seen::new();
        let (file, node) = (&spec.file, doc.at("vars"));
        let own = Layer { owner: &owner, file, node, vars: &spec.vars, seen: at_sites, what: AT_NO_SITE };
        self.layer(&own);
        for (image, extra) in &spec.images {
            if !extra.vars.is_empty() && definition.images.contains_key(image) {
                let seen = lines.get(image).unwrap_or(&nothing);
                let node = doc.at("images").at(image.as_str()).at("vars");
                let what = format!("neither image `{image}` nor an ancestor");
                self.layer(&Layer { node, vars: &extra.vars, seen, what: &what, ..own });
            }
        }
        for slot in spec.slots.iter().filter(|slot| !slot.vars.is_empty()) {
            let Some(image) = definition.images.get(&slot.image) else { continue };
            let item = doc.at("slots").item("id", slot.id.as_str());
            if image.per == Per::Slot {
                let seen = lines.get(&slot.image).unwrap_or(&nothing);
                let what = format!("neither image `{}` nor an ancestor", slot.image);
                self.layer(&Layer { node: item.at("vars"), vars: &slot.vars, seen, what: &what, ..own });
            } else if self.per_is_clear.contains(&slot.image) {
                let message =
                    format!("the variables are never read: image `{}` has no variant per slot", slot.image);
                let hint = format!(
                    "move them to `vars` of the site, or add `per: slot` to images/{}/image.yaml",
                    slot.image
                );
                self.report.add(&owner, &spec.file, Some(item.key("vars")), message, hint);
            }
        }
    }

    /// Checks one layer; returns the variables of a wrong type with the images that see them.
    fn layer(&mut self, layer: &Layer<'_>) -> Vec<(VarName, Vec<(ImageName, VarType)>)> {
        let Layer { owner, file, node, vars, seen, what } = *layer;
        let mut wrong = Vec::new();
        for (var, value) in vars {
            let Some(images) = seen.get(var) else {
                if self.unread || (self.cut && self.everywhere.contains_key(var)) {
                    continue;
                }
                let message = format!("{what} declares the variable `{var}`");
                let hint = if self.everywhere.contains_key(var) {
                    format!(
                        "declare `{var}` in the image that reads it: the images that declare it do not get it from here"
                    )
                } else {
                    let known = suggest(var.as_str(), seen.keys().map(|var| var.as_str()));
                    format!("{known}; declare it in an image.yaml, or remove it")
                };
                self.report.add(owner, file, Some(node.key(var.as_str())), message, hint);
                continue;
            };
            let at = node.at(var.as_str());
            // An unreadable value is reported already; the value is a placeholder.
            if matches!(at.data, Data::Refused | Data::Null | Data::Number(_)) {
                continue;
            }
            if let Some((image, kind)) = images.iter().find(|(_, kind)| !image::has_type(value, *kind)) {
                let message = format!(
                    "`{var}` is {}, but image `{image}` declares it as {}",
                    image::describe(value),
                    image::type_name(*kind)
                );
                let hint = image::correct((self.tree, file, at.place), value, *kind);
                self.report.add(owner, file, Some(at.place), message, hint);
                wrong.push((
                    var.clone(),
                    images.iter().map(|(image, kind)| ((*image).clone(), *kind)).collect(),
                ));
            }
        }
        wrong
    }
}

/// Two groups that match one site and set the same variable break that site.
fn conflicts(report: &mut Report, drafts: &Drafts, definition: &Definition) {
    let (Some(doc), Ok(file)) = (&drafts.source, "edgewright.yaml".parse::<TreePath>()) else { return };
    // By pair of groups and variable: one error for all sites.
    let mut found: BTreeMap<(usize, usize, &VarName), Vec<&SiteName>> = BTreeMap::new();
    for site in definition.sites.values() {
        let mut setters: BTreeMap<&VarName, usize> = BTreeMap::new();
        for (index, group) in definition.source.groups.iter().enumerate() {
            if !resolve::matches(&group.select, &site.labels) {
                continue;
            }
            for var in group.vars.keys() {
                if let Some(first) = setters.insert(var, index) {
                    found.entry((first, index, var)).or_default().push(&site.name);
                }
            }
        }
    }
    for ((first, second, var), sites) in found {
        let groups = &definition.source.groups;
        let (first, second) = (&groups[first].name, &groups[second].name);
        let Some(site) = sites.first() else { continue };
        let message = format!(
            "groups `{first}` and `{second}` both match site `{site}`{} and both set `{var}`",
            more(sites.len())
        );
        let hint = "set it in one of them only, or in the site, or make `where` of one more specific";
        let place = doc.at("groups").item("name", second.as_str()).at("vars").key(var.as_str());
        report.add(&Owner::Nothing, &file, Some(place), message, hint);
        for site in sites {
            report.breaks(&Owner::Site(site.clone()));
        }
    }
}

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        2 => " and 1 other".to_owned(),
        count => format!(" and {} others", count - 1),
    }
}

/// Variables without a default that no layer sets. If no variant sets it, the error is the image's; else it
/// is the error of the sites that do not set it.
///
/// A layer with an unknown key may set them, and an unreadable declaration may have a default: then nothing
/// is reported.
fn unset(report: &mut Report, drafts: &Drafts, definition: &Definition) {
    let source_is_clear = drafts.source.as_ref().is_some_and(|doc| {
        let mut groups = doc.at("groups").items().iter();
        ["vars", "groups"].iter().all(|key| shape::SOURCE.is_clear(doc, key))
            && groups.all(|group| ["vars", "where"].iter().all(|key| shape::GROUP.is_clear(group, key)))
    });
    if !source_is_clear {
        return;
    }
    let site_is_clear = |variant: &VariantName| {
        let draft = variant.site.as_ref().and_then(|site| drafts.sites.get(site));
        draft.is_none_or(|draft| draft.vars_are_clear)
    };
    let declares = |image: &ImageName| drafts.images.read.get(image).is_some_and(|draft| draft.declares);
    let mut missing: BTreeMap<(ImageName, VarName), Vec<VariantName>> = BTreeMap::new();
    let mut set: BTreeSet<(ImageName, VarName)> = BTreeSet::new();
    for variant in resolve::variants(definition) {
        let Ok((without, with)) = resolve::demands(definition, &variant) else { continue };
        set.extend(with);
        for demand in without.into_iter().filter(|(image, _)| declares(image) && site_is_clear(&variant)) {
            missing.entry(demand).or_default().push(variant.clone());
        }
    }
    for ((image, var), variants) in missing {
        let demand = (image.clone(), var.clone());
        let global: Option<&VariantName> = variants.iter().find(|variant| variant.site.is_none());
        if global.is_some() || !set.contains(&demand) {
            let Some(draft) = drafts.images.read.get(&image) else { continue };
            let shown = global.unwrap_or(&variants[0]);
            let message =
                format!("the variable `{var}` is not set for variant `{shown}`{}", more(variants.len()));
            let hint = match &shown.site {
                Some(site) => format!(
                    "give it a default, or set it in `vars` of edgewright.yaml or sites/{site}/site.yaml"
                ),
                None => "give it a default, or set it in `vars` of edgewright.yaml".to_owned(),
            };
            let place = draft.doc.at("declare").key(var.as_str());
            report.add(&Owner::Image(image.clone()), &draft.spec.file, Some(place), message, hint);
            continue;
        }
        let mut sites: BTreeMap<&SiteName, Vec<&VariantName>> = BTreeMap::new();
        for variant in &variants {
            if let Some(site) = &variant.site {
                sites.entry(site).or_default().push(variant);
            }
        }
        for (site, variants) in sites {
            let Some(draft) = drafts.sites.get(site) else { continue };
            let (place, hint) = where_to_set(&draft.doc, variants[0], &image, &var);
            let message = format!(
                "the variable `{var}` is not set for variant `{}`{}",
                variants[0],
                more(variants.len())
            );
            report.add(&Owner::Site(site.clone()), &draft.spec.file, Some(place), message, hint);
        }
    }
}

/// The place in a site's file where a variable should have been set, and how.
fn where_to_set(doc: &Node, variant: &VariantName, image: &ImageName, var: &VarName) -> (Place, String) {
    let declared = format!("images/{image}/image.yaml declares it without a default");
    if let Some(slot) = &variant.slot {
        let place = doc.at("slots").item("id", slot.as_str()).at("id").place;
        return (place, format!("add `{var}` to `vars` of this slot or of the site: {declared}"));
    }
    let has_vars = doc.entries().iter().any(|(key, _)| key.text == "vars");
    (
        if has_vars { doc.key("vars") } else { doc.key("id") },
        format!("add `{var}` to `vars` of this site: {declared}"),
    )
}
