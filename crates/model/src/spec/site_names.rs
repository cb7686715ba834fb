//! Names of sites outlive their folders: the id of a site keeps the name of its first declaration, and with
//! it the names of its images.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Definition, SiteSpec};
use crate::format::Diagnostic;
use crate::names::{SiteId, SiteName};

/// The names that sites have, by id.
pub type SiteNames = BTreeMap<SiteId, SiteName>;

impl Definition {
    /// The names of its sites.
    pub fn site_names(&self) -> SiteNames {
        self.sites.values().map(|site| (site.id.clone(), site.name.clone())).collect()
    }

    /// Gives sites the names under which they are known. A site whose id is not known has the name of its
    /// folder; if another site has that name, it is an error, and the site is left out.
    pub fn name_sites(&mut self, known: &SiteNames) -> Vec<Diagnostic> {
        if self.is_named(known) {
            return Vec::new();
        }
        let mut sites: Vec<SiteSpec> = std::mem::take(&mut self.sites).into_values().collect();
        // Known names first; of two sites that are known by one name, the one in the folder of this name.
        sites.sort_by_key(|site| known.get(&site.id).map_or(2, |name| u8::from(*name != site.name)));
        let mut diagnostics = Vec::new();
        for mut site in sites {
            if let Some(name) = known.get(&site.id) {
                site.name = name.clone();
            }
            match self.sites.get(&site.name) {
                None => drop(self.sites.insert(site.name.clone(), site)),
                Some(other) => diagnostics.push(taken(&site, other)),
            }
        }
        self.doubt_undeclared(known);
        diagnostics
    }

    /// The definition with the names under which sites are known, and errors of [`Self::name_sites`].
    pub fn with_site_names(&self, known: &SiteNames) -> (Cow<'_, Self>, Vec<Diagnostic>) {
        if self.is_named(known) {
            return (Cow::Borrowed(self), Vec::new());
        }
        let mut named = self.clone();
        let diagnostics = named.name_sites(known);
        (Cow::Owned(named), diagnostics)
    }

    /// Whether every site has its known name, and so no name changes.
    fn is_named(&self, known: &SiteNames) -> bool {
        let has_name = |site: &SiteSpec| known.get(&site.id).is_none_or(|name| *name == site.name);
        self.broken_sites.is_empty() && self.sites.values().all(has_name)
    }

    /// A folder with errors may be a renamed site, whose id cannot be read: then no site that is not declared
    /// counts as removed.
    fn doubt_undeclared(&mut self, known: &SiteNames) {
        let declared = |id: &SiteId| self.sites.values().any(|site| site.id == *id);
        let missing: BTreeSet<SiteName> =
            known.iter().filter(|(id, _)| !declared(id)).map(|(_, name)| name.clone()).collect();
        let is_doubtful = !self.broken_sites.is_subset(&missing);
        // The name of a folder with errors may be that of another site.
        self.broken_sites.retain(|name| !self.sites.contains_key(name));
        if is_doubtful {
            self.broken_sites.extend(missing.into_iter().filter(|name| !self.sites.contains_key(name)));
        }
    }
}

fn taken(site: &SiteSpec, other: &SiteSpec) -> Diagnostic {
    let folder = |site: &SiteSpec| site.file.parent().map_or_else(String::new, |path| path.to_string());
    let message = format!(
        "the name `{}` is taken: the site in {} (id `{}`) has it for its images since its folder had this name",
        site.name,
        folder(other),
        other.id
    );
    let hint = format!("rename the folder {}", folder(site));
    Diagnostic { file: Some(site.file.clone()), place: None, message, hint: Some(hint) }
}
