//! Images that are declared per site or per slot, but that no slot needs: valid, and usually forgotten.

use std::collections::BTreeSet;

use super::Drafts;
use super::report::Report;
use crate::names::ImageName;
use crate::resolve;
use crate::spec::{Definition, Per};

/// Warns about images without a variant. With errors elsewhere nothing is reported: a broken site or image
/// may need them.
pub(super) fn check(report: &mut Report, drafts: &Drafts, definition: &Definition) {
    let is_incomplete = report.source
        || !report.images.is_empty()
        || !report.sites.is_empty()
        || !drafts.images.unread.is_empty()
        || !drafts.unread_sites.is_empty();
    if is_incomplete {
        return;
    }
    let built: BTreeSet<ImageName> =
        resolve::variants(definition).into_iter().map(|variant| variant.image).collect();
    for (name, draft) in &drafts.images.read {
        if draft.spec.per == Per::Image || built.contains(name) {
            continue;
        }
        let message = format!("image `{name}` is built for no site: no slot names it");
        let hint = format!("add a slot to a site.yaml, such as `slots: [{{id: {name}-1, image: {name}}}]`");
        report.warn(&draft.spec.file, Some(draft.doc.key("per")), message, hint);
    }
}
