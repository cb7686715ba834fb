//! From a tree's YAML to a [`Definition`], with every error of the repository at once.
//!
//! ```text
//! tree ─▶ yaml: spanned values ─▶ decode: drafts ─▶ references, variables ─▶ Definition, diagnostics
//! ```
//!
//! Reading does not stop at the first error: an invalid value is reported and left out, the rest is read. An
//! error breaks its owner only (an image, a site, or with `edgewright.yaml` the source); the graph derives
//! what depends on a broken image. The spanned values are kept beside the typed ones, so that the typed ones
//! need no places.

mod bounds;
mod checks;
mod containerfile;
mod decode;
mod image;
mod paths;
mod references;
mod render;
mod report;
mod rollout;
mod schema;
mod shape;
mod site;
mod source;
mod steps;
mod unused;
mod variables;
mod written;
mod yaml;

pub use bounds::{MAX_DEFINITION_BYTES, MAX_IMAGE_LINE, MAX_VARIANTS};
pub use containerfile::MAX_CONTAINERFILE_BYTES;
pub use render::{render, render_warning};
pub use report::{MAX_DIAGNOSTICS, nearest};
pub use schema::{SchemaKind, schema};
pub use source::reads_submodules;

use crate::names::InvalidName;
use crate::spec::{Definition, Lane};
use crate::tree::{LOADED_LIMIT, Tree, TreePath};
use report::{Owner, Report};

/// The lanes that `test: {lanes: …}` may name in this version. `external` is run by an external system.
pub const AVAILABLE_LANES: [Lane; 8] = [
    Lane::Static,
    Lane::Container,
    Lane::Vm,
    Lane::Upgrade,
    Lane::Rollback,
    Lane::Downgrade,
    Lane::Switch,
    Lane::External,
];

/// One error or warning, with its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic {
    /// The file; `None` for the repository as a whole.
    pub file: Option<TreePath>,
    /// The underlined place; `None` for the file as a whole.
    pub place: Option<Place>,
    /// What is wrong: lower case, without a full stop.
    pub message: String,
    /// The next action, in the imperative.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters to underline, at least 1.
    pub length: u32,
}

/// What a tree declares, with all its errors and warnings.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The definition; `None` only if `edgewright.yaml` itself is missing or broken.
    pub definition: Option<Definition>,
    /// All errors, in file order.
    pub diagnostics: Vec<Diagnostic>,
    /// Warnings, in file order: nothing is broken by them, such as by the old spelling of a key.
    pub warnings: Vec<Diagnostic>,
    /// The last day of each exception, with the warning to print after it: this crate has no clock.
    pub endings: Vec<(jiff::civil::Date, Diagnostic)>,
}

/// Everything that could be read, with the spanned values.
struct Drafts {
    source: Option<yaml::Node>,
    images: image::Drafts,
    sites: std::collections::BTreeMap<crate::names::SiteName, site::Draft>,
    unread_sites: std::collections::BTreeSet<crate::names::SiteName>,
    exceptions: Vec<(TreePath, yaml::Node, crate::spec::Exception)>,
}

/// Reads a tree. Never fails: errors are in [`Parsed::diagnostics`].
pub fn parse(tree: &Tree) -> Parsed {
    let mut report = Report::default();
    let (source_file, images, sites, exceptions) = match layout() {
        Ok(layout) => layout,
        Err(error) => {
            let message = error.to_string();
            let diagnostic = Diagnostic { file: None, place: None, message, hint: None };
            return Parsed {
                definition: None,
                diagnostics: vec![diagnostic],
                warnings: Vec::new(),
                endings: Vec::new(),
            };
        }
    };
    let source = source::read(tree, &mut report, &source_file);
    report.source |= source.is_none();
    let mut drafts = Drafts {
        source: source.as_ref().map(|(doc, _)| doc.clone()),
        images: image::Drafts::default(),
        sites: std::collections::BTreeMap::new(),
        unread_sites: std::collections::BTreeSet::new(),
        exceptions: Vec::new(),
    };
    for folder in folders(tree, &mut report, &images, "image.yaml") {
        let Some((name, file)) = folder_name(&mut report, &folder, "image.yaml") else {
            // References to the name that it should have are no further errors.
            drafts.images.unread.extend(folder.file_name().to_lowercase().replace(' ', "-").parse());
            continue;
        };
        match image::read(tree, &mut report, &name, &file) {
            Some(draft) => drop(drafts.images.read.insert(name, draft)),
            None => drop(drafts.images.unread.insert(name)),
        }
    }
    for folder in folders(tree, &mut report, &sites, "site.yaml") {
        let Some((name, file)) = folder_name(&mut report, &folder, "site.yaml") else { continue };
        match site::read(tree, &mut report, &name, &file) {
            Some(draft) => drop(drafts.sites.insert(name, draft)),
            None => drop(drafts.unread_sites.insert(name)),
        }
    }
    for file in paths::children(tree, exceptions.as_str()) {
        if file.extension() == Some("yaml") && tree.entry(&file).is_some() {
            let read = site::exception(tree, &mut report, &file);
            drafts.exceptions.extend(read.map(|(doc, exception)| (file, doc, exception)));
        }
    }
    invalid_paths(tree, &mut report);
    let definition = source.map(|(_, source)| finish(tree, &mut report, &drafts, source));
    let definition = definition.filter(|_| !report.source);
    Parsed {
        definition,
        warnings: report.take_warnings(),
        diagnostics: report.finish(),
        endings: drafts.exceptions.iter().map(ending).collect(),
    }
}

/// Reports paths that no image can hold: each breaks the image or the site in whose folder it is. Elsewhere
/// they are errors only if a link leads to them (see [`paths::unusable`]).
fn invalid_paths(tree: &Tree, report: &mut Report) {
    for path in &tree.invalid {
        let Some(folder) = &path.folder else { continue };
        let mut parts = folder.as_str().split('/');
        let (top, name) = (parts.next(), parts.next());
        let owner = match (top, name) {
            (Some("images"), Some(name)) => name.parse().map_or(Owner::Nothing, Owner::Image),
            (Some("sites"), Some(name)) => name.parse().map_or(Owner::Nothing, Owner::Site),
            // The folder of an image or a site, or an exception, cannot be read by its name.
            (Some("images" | "sites"), None) if path.is_folder => Owner::Nothing,
            (Some("exceptions"), None) => Owner::Nothing,
            _ => continue,
        };
        let fault = paths::invalid(path);
        report.add(&owner, folder, None, fault.message, fault.hint);
    }
}

fn ending(
    (file, doc, exception): &(TreePath, yaml::Node, crate::spec::Exception),
) -> (jiff::civil::Date, Diagnostic) {
    let diagnostic = Diagnostic {
        file: Some(file.clone()),
        place: Some(doc.at("until").place),
        message: format!("the exception ended on {}: a failure of its check blocks again", exception.until),
        hint: Some(format!("remove the file, or agree on a new `until` with {}", exception.owner)),
    };
    (exception.until, diagnostic)
}

/// Checks references between files, then leaves out what is broken.
fn finish(tree: &Tree, report: &mut Report, drafts: &Drafts, source: crate::spec::SourceSpec) -> Definition {
    let mut definition = Definition {
        source,
        images: drafts.images.read.iter().map(|(name, draft)| (name.clone(), draft.spec.clone())).collect(),
        sites: drafts.sites.iter().map(|(name, draft)| (name.clone(), draft.spec.clone())).collect(),
        exceptions: drafts.exceptions.iter().map(|(_, _, exception)| exception.clone()).collect(),
        broken_images: std::collections::BTreeSet::new(),
        broken_sites: std::collections::BTreeSet::new(),
    };
    if layout().is_ok_and(|(file, ..)| !bounds::check(report, &file, &definition)) {
        return definition;
    }
    containerfile::resolve(tree, report, &mut definition);
    references::check(tree, report, drafts, &definition);
    variables::check(tree, report, drafts, &definition);
    unused::check(report, drafts, &definition);
    report.images.extend(drafts.images.unread.iter().cloned());
    report.sites.extend(drafts.unread_sites.iter().cloned());
    definition.images.retain(|name, _| !report.images.contains(name));
    definition.sites.retain(|name, _| !report.sites.contains(name));
    definition.broken_images = std::mem::take(&mut report.images);
    definition.broken_sites = std::mem::take(&mut report.sites);
    definition
}

/// The repository's layout: `edgewright.yaml` and the folders of images, sites and exceptions.
fn layout() -> Result<(TreePath, TreePath, TreePath, TreePath), InvalidName> {
    Ok(("edgewright.yaml".parse()?, "images".parse()?, "sites".parse()?, "exceptions".parse()?))
}

/// The folders below `images` or `sites`. Plain files beside them, such as a README, are ignored; a link or a
/// submodule in place of a folder is an error.
fn folders(tree: &Tree, report: &mut Report, top: &TreePath, file: &str) -> Vec<TreePath> {
    let mut found = paths::children(tree, top.as_str());
    found.retain(|child| match tree.entry(child).map(|entry| entry.kind) {
        None => true,
        Some(crate::tree::EntryKind::Submodule) => {
            let hint = format!("copy {file} and the other files into this repository");
            report.add(
                &Owner::Nothing,
                child,
                None,
                "cannot read the folder: it is a submodule, whose files are not part of this commit",
                hint,
            );
            false
        }
        Some(crate::tree::EntryKind::Link) => {
            let hint = "replace the link by a folder; to share content, share an image with `from`";
            report.add(&Owner::Nothing, child, None, "invalid folder: it is a symbolic link", hint);
            false
        }
        Some(_) => false,
    });
    found
}

/// A folder's name as the name of what it holds, and the file that defines it.
fn folder_name<T: std::str::FromStr<Err = InvalidName>>(
    report: &mut Report,
    folder: &TreePath,
    file: &str,
) -> Option<(T, TreePath)> {
    match folder.file_name().parse() {
        Ok(name) => Some((name, folder.join(&file.parse().ok()?))),
        Err(error) => {
            let message = format!("invalid {} `{}`", error.kind(), folder.file_name());
            report.add(
                &Owner::Nothing,
                folder,
                None,
                message,
                format!("rename the folder; {}", error.rule()),
            );
            None
        }
    }
}

/// Reads a file's YAML into a spanned value and reports all that is wrong with it as YAML.
fn load(tree: &Tree, report: &mut Report, owner: &Owner, file: &TreePath) -> Option<yaml::Node> {
    let path = match paths::follow(tree, file) {
        Ok(path) => path,
        Err(fault) => {
            report.add(owner, file, None, fault.message, fault.hint);
            return None;
        }
    };
    let Some(entry) = tree.entry(&path) else {
        let other = format!("{}.yml", file.as_str().trim_end_matches(".yaml"));
        let misnamed = other.parse().is_ok_and(|other| tree.entry(&other).is_some());
        let hint = if misnamed {
            format!("rename {other} to {}", file.file_name())
        } else if file.parent().is_none() {
            "create it at the top of the repository; `edgewright init DIR` writes a sample".to_owned()
        } else {
            format!("create {file}, or remove the folder")
        };
        report.add(owner, file, None, "the file is missing", hint);
        return None;
    };
    if entry.size > LOADED_LIMIT {
        let message = format!("the file is larger than {} MiB", LOADED_LIMIT / (1024 * 1024));
        report.add(owner, file, None, message, "split it, or move content into files of a `files` step");
        return None;
    }
    if !bounds::admit(report, file, entry.size) {
        return None;
    }
    let bytes = tree.content(&path)?;
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let place = yaml::end(&before);
            report.add(
                owner,
                file,
                Some(place),
                "invalid encoding: the file is not UTF-8",
                "save it as UTF-8",
            );
            return None;
        }
    };
    let (node, faults) = yaml::read(text);
    let empty = node.is_none() && faults.is_empty();
    for fault in faults {
        report.add(owner, file, Some(fault.place), fault.message, fault.hint);
    }
    if empty {
        report.add(
            owner,
            file,
            None,
            "the file is empty",
            "add the required keys; `edgewright schema` prints the format",
        );
    }
    node
}
