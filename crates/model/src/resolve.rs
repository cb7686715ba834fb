//! What follows from a definition without building anything: variants, their parents, variables and checks.
//!
//! Pure and total: no definition makes these functions panic or loop. `plan` builds on it, the `edgewright
//! vars` command prints it, and `format` uses the same functions to find variables that are not set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ErrorClass;
use crate::names::{GroupName, ImageName, SiteName, SlotId, VarName, VariantName};
use crate::spec::{
    Check, CheckEntry, Declaration, Definition, From, Group, ImageSpec, Labels, Lane, Per, SiteSpec,
    SlotSpec, Value, Vars, static_checks,
};

/// A variable as a variant sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedVar {
    /// Its value.
    pub value: Value,
    /// The layer that set it.
    pub origin: VarOrigin,
}

/// The layer that set a variable, in order of precedence, low to high.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
pub enum VarOrigin {
    /// The default of a declaration.
    Default {
        /// The image that declares it.
        image: ImageName,
    },
    /// `vars:` of `edgewright.yaml`.
    Source,
    /// A group that matches the site.
    Group {
        /// Which.
        group: GroupName,
    },
    /// `vars:` of the site.
    Site {
        /// Which.
        site: SiteName,
    },
    /// `images: {IMAGE: {vars: …}}` of the site, for this image or an ancestor.
    SiteImage {
        /// Which site.
        site: SiteName,
        /// Which image.
        image: ImageName,
    },
    /// `vars:` of the slot.
    Slot {
        /// Which site.
        site: SiteName,
        /// Which slot.
        slot: SlotId,
    },
}

impl fmt::Display for VarOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default { image } => write!(f, "default of images/{image}/image.yaml"),
            Self::Source => write!(f, "vars of edgewright.yaml"),
            Self::Group { group } => write!(f, "group `{group}` of edgewright.yaml"),
            Self::Site { site } => write!(f, "vars of sites/{site}/site.yaml"),
            Self::SiteImage { site, image } => write!(f, "images.{image}.vars of sites/{site}/site.yaml"),
            Self::Slot { site, slot } => write!(f, "slot `{slot}` of sites/{site}/site.yaml"),
        }
    }
}

/// Why a variant cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The image, or an ancestor, is broken or missing.
    #[error("variant `{variant}` cannot be resolved: {reason}")]
    Broken {
        /// The variant asked for.
        variant: VariantName,
        /// In words.
        reason: String,
    },
    /// No image, site and slot make this variant.
    #[error("there is no variant `{variant}`: {reason}")]
    NoVariant {
        /// The variant asked for.
        variant: VariantName,
        /// In words.
        reason: String,
    },
    /// A variable without default that no layer sets.
    #[error("variable `{var}` is not set for variant `{variant}`: set it in {}", places(.variant))]
    Missing {
        /// The variant.
        variant: VariantName,
        /// The variable.
        var: VarName,
        /// The image that declares it.
        image: ImageName,
    },
    /// Two groups match the site and set the same variable.
    #[error("groups `{first}` and `{second}` both match site `{site}` and both set `{var}`")]
    Conflict {
        /// The site.
        site: SiteName,
        /// The variable.
        var: VarName,
        /// The first group.
        first: GroupName,
        /// The second group.
        second: GroupName,
    },
}

impl ResolveError {
    /// The class of the error.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::NoVariant { .. } => ErrorClass::NotFound,
            Self::Broken { .. } | Self::Missing { .. } | Self::Conflict { .. } => ErrorClass::UserFault,
        }
    }
}

/// Where a variant's variables can be set, in words.
fn places(variant: &VariantName) -> String {
    match (&variant.site, &variant.slot) {
        (Some(site), Some(slot)) => format!("slot `{slot}` or `vars` of sites/{site}/site.yaml"),
        (Some(site), None) => format!("`vars` of sites/{site}/site.yaml"),
        _ => "`vars` of edgewright.yaml".to_owned(),
    }
}

/// Why an image cannot be built: it or an ancestor is broken, missing or its own ancestor. `None` if it can
/// be built.
pub fn broken(definition: &Definition, image: &ImageName) -> Option<String> {
    chain(definition, image).err()
}

/// An image with its ancestors, root first, or why there is no such line.
pub fn chain<'a>(definition: &'a Definition, image: &ImageName) -> Result<Vec<&'a ImageSpec>, String> {
    let mut line: Vec<&ImageSpec> = Vec::new();
    let mut next = image;
    loop {
        if definition.broken_images.contains(next) {
            return Err(format!("image `{next}` has errors"));
        }
        let Some(spec) = definition.images.get(next) else {
            return Err(format!("there is no image `{next}`"));
        };
        line.push(spec);
        // A line longer than the number of images passes one of them twice.
        if line.len() > definition.images.len() {
            return Err(format!("image `{next}` is its own ancestor"));
        }
        match &spec.from {
            From::Image(parent) => next = parent,
            From::Scratch | From::External(_) => break,
        }
    }
    line.reverse();
    Ok(line)
}

/// Whether all selected labels are there with these values. An empty selection matches everything.
pub fn matches(select: &Labels, labels: &Labels) -> bool {
    select.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The groups that match a site, in file order.
pub fn groups<'a>(definition: &'a Definition, site: &SiteSpec) -> impl Iterator<Item = &'a Group> {
    definition.source.groups.iter().filter(|group| matches(&group.select, &site.labels))
}

/// Every variant that can be built, in name order: one for each `per: image` image; for each slot, one of its
/// image and of every `per: site` or `per: slot` ancestor, unless the `where` of any of them excludes the
/// site. Broken images and their descendants, and broken sites, have none.
pub fn variants(definition: &Definition) -> Vec<VariantName> {
    let lines: BTreeMap<&ImageName, Vec<&ImageSpec>> = definition
        .images
        .keys()
        .filter_map(|image| chain(definition, image).ok().map(|line| (image, line)))
        .collect();
    let mut found: BTreeSet<VariantName> = lines
        .keys()
        .filter(|image| definition.images.get(**image).is_some_and(|spec| spec.per == Per::Image))
        .map(|image| VariantName::of_image((*image).clone()))
        .collect();
    for site in definition.sites.values() {
        for slot in &site.slots {
            let Some(line) = lines.get(&slot.image) else { continue };
            if line.iter().any(|image| !matches(&image.select, &site.labels)) {
                continue;
            }
            found.extend(line.iter().map(|image| variant_at(image, site, slot)));
        }
    }
    found.into_iter().collect()
}

/// The variant of an image that a slot needs.
/// The variant that a slot runs.
pub fn variant_at(image: &ImageSpec, site: &SiteSpec, slot: &SlotSpec) -> VariantName {
    VariantName {
        image: image.name.clone(),
        site: (image.per >= Per::Site).then(|| site.name.clone()),
        slot: (image.per >= Per::Slot).then(|| slot.id.clone()),
    }
}

/// The variant that a variant's `from` names: of the same site and slot, or coarser. `None` if it starts from
/// scratch or from a registry, and if the image or its parent is unknown.
pub fn parent(definition: &Definition, variant: &VariantName) -> Option<VariantName> {
    let From::Image(name) = &definition.images.get(&variant.image)?.from else { return None };
    let parent = definition.images.get(name)?;
    Some(VariantName {
        image: name.clone(),
        site: variant.site.clone().filter(|_| parent.per >= Per::Site),
        slot: variant.slot.clone().filter(|_| parent.per >= Per::Slot),
    })
}

/// The declarations that an image sees, with the image that made each: the nearest wins.
pub fn declarations<'a>(line: &[&'a ImageSpec]) -> BTreeMap<&'a VarName, (&'a ImageName, &'a Declaration)> {
    line.iter().flat_map(|image| image.declare.iter().map(|(var, it)| (var, (&image.name, it)))).collect()
}

/// The variables of a variant: all that its image and its ancestors declare, each with its value and the
/// layer that set it. Low to high: declared default, source, group, site, site × image (ancestors first),
/// slot.
pub fn vars(
    definition: &Definition,
    variant: &VariantName,
) -> Result<BTreeMap<VarName, ResolvedVar>, ResolveError> {
    let (declared, resolved) = lay_all(definition, variant)?;
    if let Some(site) = variant.site.as_ref().and_then(|name| definition.sites.get(name)) {
        conflict(definition, site)?;
    }
    match declared.iter().find(|(var, _)| !resolved.contains_key(**var)) {
        None => Ok(resolved),
        Some((var, (image, _))) => Err(ResolveError::Missing {
            variant: variant.clone(),
            var: (*var).clone(),
            image: (*image).clone(),
        }),
    }
}

/// A variable together with the image that declares it.
pub(crate) type Demand = (ImageName, VarName);

/// The variables without a default that a variant declares: first those that no layer sets, then those that
/// one does.
pub(crate) fn demands(
    definition: &Definition,
    variant: &VariantName,
) -> Result<(Vec<Demand>, Vec<Demand>), ResolveError> {
    let (declared, resolved) = lay_all(definition, variant)?;
    Ok(declared
        .into_iter()
        .filter(|(_, (_, declaration))| declaration.default.is_none())
        .map(|(var, (image, _))| (image.clone(), var.clone()))
        .partition(|(_, var)| !resolved.contains_key(var)))
}

/// The declarations that a variant sees, and the values that its layers give.
type Layers<'a> = (BTreeMap<&'a VarName, (&'a ImageName, &'a Declaration)>, BTreeMap<VarName, ResolvedVar>);

fn lay_all<'a>(definition: &'a Definition, variant: &VariantName) -> Result<Layers<'a>, ResolveError> {
    let line = chain(definition, &variant.image)
        .map_err(|reason| ResolveError::Broken { variant: variant.clone(), reason })?;
    let (site, slot) = place(definition, variant)?;
    let declared = declarations(&line);

    let mut resolved: BTreeMap<VarName, ResolvedVar> = BTreeMap::new();
    let mut lay = |vars: &Vars, origin: &VarOrigin| {
        for (var, value) in vars.iter().filter(|(var, _)| declared.contains_key(var)) {
            resolved.insert(var.clone(), ResolvedVar { value: value.clone(), origin: origin.clone() });
        }
    };
    for (var, (image, declaration)) in &declared {
        if let Some(default) = &declaration.default {
            let vars = Vars::from([((*var).clone(), default.clone())]);
            lay(&vars, &VarOrigin::Default { image: (*image).clone() });
        }
    }
    lay(&definition.source.vars, &VarOrigin::Source);
    if let Some(site) = site {
        for group in groups(definition, site) {
            lay(&group.vars, &VarOrigin::Group { group: group.name.clone() });
        }
        lay(&site.vars, &VarOrigin::Site { site: site.name.clone() });
        for image in &line {
            if let Some(extra) = site.images.get(&image.name) {
                let origin = VarOrigin::SiteImage { site: site.name.clone(), image: image.name.clone() };
                lay(&extra.vars, &origin);
            }
        }
        if let Some(slot) = slot {
            lay(&slot.vars, &VarOrigin::Slot { site: site.name.clone(), slot: slot.id.clone() });
        }
    }
    Ok((declared, resolved))
}

/// Rejects two groups that match a site and set the same variable.
fn conflict(definition: &Definition, site: &SiteSpec) -> Result<(), ResolveError> {
    let mut setters: BTreeMap<&VarName, &GroupName> = BTreeMap::new();
    for group in groups(definition, site) {
        for var in group.vars.keys() {
            if let Some(first) = setters.insert(var, &group.name) {
                return Err(ResolveError::Conflict {
                    site: site.name.clone(),
                    var: var.clone(),
                    first: first.clone(),
                    second: group.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The site and slot of a variant, if its name has them; both must exist and match the image's `per`.
fn place<'a>(
    definition: &'a Definition,
    variant: &VariantName,
) -> Result<(Option<&'a SiteSpec>, Option<&'a SlotSpec>), ResolveError> {
    let missing = |reason: String| ResolveError::NoVariant { variant: variant.clone(), reason };
    let per = definition.images.get(&variant.image).map_or(Per::Image, |image| image.per);
    let named = match (&variant.site, &variant.slot) {
        (None, _) => Per::Image,
        (Some(_), None) => Per::Site,
        (Some(_), Some(_)) => Per::Slot,
    };
    if named != per {
        let shape = match per {
            Per::Image => "the same everywhere: write IMAGE",
            Per::Site => "one per site: write IMAGE/SITE",
            Per::Slot => "one per slot: write IMAGE/SITE/SLOT",
        };
        return Err(missing(format!("image `{}` is {shape}", variant.image)));
    }
    let Some(name) = &variant.site else { return Ok((None, None)) };
    if definition.broken_sites.contains(name) {
        return Err(ResolveError::Broken {
            variant: variant.clone(),
            reason: format!("site `{name}` has errors"),
        });
    }
    let site = definition.sites.get(name).ok_or_else(|| missing(format!("there is no site `{name}`")))?;
    let slot = match &variant.slot {
        None => None,
        Some(id) => Some(
            site.slots
                .iter()
                .find(|slot| &slot.id == id)
                .ok_or_else(|| missing(format!("site `{name}` has no slot `{id}`")))?,
        ),
    };
    Ok((Some(site), slot))
}

/// The checks of a variant: those that the lane `static` has by itself, where the image runs it; those of its
/// image's line, root first; then those that its site adds for these images. A check of the same id replaces
/// the earlier one in its place, `off` removes it. Empty where the image is broken or unknown.
pub fn checks(definition: &Definition, variant: &VariantName) -> Vec<Check> {
    let Ok(line) = chain(definition, &variant.image) else { return Vec::new() };
    let site = variant.site.as_ref().and_then(|name| definition.sites.get(name));
    let extra = |image: &&ImageSpec| site.and_then(|site| site.images.get(&image.name));
    let own = line.iter().flat_map(|image| &image.checks);
    let added = line.iter().filter_map(extra).flat_map(|extra| &extra.checks);

    let is_examined = line.last().is_some_and(|image| image.test.lanes.contains(&Lane::Static));
    let mut effective: Vec<Check> = if is_examined { static_checks() } else { Vec::new() };
    for entry in own.chain(added) {
        match entry {
            CheckEntry::Off { id, .. } => effective.retain(|check| &check.id != id),
            CheckEntry::On(check) => match effective.iter_mut().find(|old| old.id == check.id) {
                Some(old) => *old = check.clone(),
                None => effective.push(check.clone()),
            },
        }
    }
    effective
}
