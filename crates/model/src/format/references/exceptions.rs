//! Exceptions: their checks and variants must exist.

use std::collections::BTreeSet;

use super::{Pass, id};
use crate::format::report::{Owner, suggest};
use crate::glob::Glob;
use crate::resolve;
use crate::spec::StaticRule;

impl Pass<'_> {
    /// An exception must be for a check that an image has, and for a variant that exists.
    pub(super) fn exceptions(&mut self) {
        if !self.drafts.images.unread.is_empty() || !self.drafts.unread_sites.is_empty() {
            return;
        }
        let variants: Vec<String> =
            resolve::variants(self.definition).iter().map(ToString::to_string).collect();
        // Variants of a broken image may be missing.
        let are_known = self.report.images.is_empty() && self.report.sites.is_empty();
        let of_sites =
            self.definition.sites.values().flat_map(|site| site.images.values()).map(|extra| &extra.checks);
        let known: BTreeSet<&str> = self
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
                self.report.add(&Owner::Nothing, file, Some(doc.at("check").place), message, hint);
            }
            let globs = exception.variants.iter().filter(|_| are_known).zip(doc.at("variants").items());
            for (pattern, node) in globs {
                let glob = Glob::new(pattern).ok();
                if glob.is_some_and(|glob| !variants.iter().any(|variant| glob.matches(variant))) {
                    let message = format!("no variant matches `{}`", pattern.escape_debug());
                    let hint = format!(
                        "{}; `*` matches within one part between `/`",
                        suggest(pattern, variants.iter().map(String::as_str))
                    );
                    self.report.add(&Owner::Nothing, file, Some(node.place), message, hint);
                }
            }
        }
    }
}
