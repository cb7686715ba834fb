//! Folders of a site that are laid over its images.

use super::Pass;
use crate::format::paths;
use crate::format::report::{Owner, suggest};
use crate::format::yaml::Node;
use crate::names::{ImageName, SiteName};
use crate::spec::{Per, SiteSpec};
use crate::tree::TreePath;

/// What a folder is laid over.
#[derive(Clone, Copy)]
enum Kind {
    Image,
    Slot,
}

impl Pass<'_> {
    /// Folders laid over a site's images: each must belong to an image or a slot, and all its entries must be
    /// usable.
    pub(super) fn overlays(&mut self, name: &SiteName, doc: &Node, spec: &SiteSpec) {
        let Some(own) = spec.file.parent() else { return };
        let mut used: Vec<(TreePath, bool)> = Vec::new();
        for child in paths::children(self.tree, own.as_str()) {
            match child.file_name() {
                "files" => used.push((child, spec.files.as_is)),
                "images" => {
                    for image in paths::children(self.tree, child.as_str()) {
                        self.overlay(name, spec, &image, Kind::Image);
                        let mut images = spec.images.iter();
                        let own = images.find(|(name, _)| name.as_str() == image.file_name());
                        used.push((image, own.is_some_and(|(_, own)| own.files.as_is)));
                    }
                }
                // A slot that could not be read would be missing here.
                "slots" if doc.at("slots").items().len() == spec.slots.len() => {
                    for slot in paths::children(self.tree, child.as_str()) {
                        self.overlay(name, spec, &slot, Kind::Slot);
                        let mut slots = spec.slots.iter();
                        let own = slots.find(|own| own.id.as_str() == slot.file_name());
                        used.push((slot, own.is_some_and(|own| own.files.as_is)));
                    }
                }
                _ => {}
            }
        }
        let owner = Owner::Site(name.clone());
        for (folder, as_is) in used {
            if self.tree.entry(&folder).is_some() && folder.file_name() == "files" {
                let hint = "replace it by a folder: its entries are laid over the site's images";
                self.report.add(&owner, &folder, None, "not a folder", hint);
            }
            for (path, fault) in paths::unusable(self.tree, &folder, Some(&own), !as_is) {
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
                Some((name, image)) if image.per == Per::Image && self.per_is_clear(name) => (
                    format!("the folder is never used: image `{text}` has no variant per site"),
                    format!(
                        "add `per: site` to images/{text}/image.yaml, or move the files to a child of it"
                    ),
                ),
                Some(_) => return,
                None if self.drafts.images.unread.iter().any(|image| image.as_str() == text) => return,
                None => (
                    format!("the folder is never used: there is no image `{text}`"),
                    suggest(text, self.drafts.images.read.keys().map(ImageName::as_str)),
                ),
            },
            Kind::Slot => match spec.slots.iter().find(|slot| slot.id.as_str() == text) {
                Some(slot) => match self.definition.images.get(&slot.image) {
                    Some(image) if image.per != Per::Slot && self.per_is_clear(&slot.image) => (
                        format!("the folder is never used: image `{}` has no variant per slot", slot.image),
                        format!("add `per: slot` to images/{}/image.yaml, or remove the folder", slot.image),
                    ),
                    _ => return,
                },
                None => (
                    format!("the folder is never used: there is no slot `{text}`"),
                    suggest(text, spec.slots.iter().map(|slot| slot.id.as_str())),
                ),
            },
        };
        self.report.add(&owner, folder, None, message, hint);
    }
}
