//! The listing of a `files` step: which paths the layer holds, with mode, owner and content.

mod declared;
mod found;

use std::collections::BTreeMap;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::format::{Diagnostic, MAX_DIAGNOSTICS};
use edgewright_model::glob::Glob;
use edgewright_model::sensitive::is_sensitive;
use edgewright_model::spec::{DirectorySpec, FileRules, Owner, Xattrs};
use edgewright_model::tree::{ContentId, EntryKind, Tree, TreePath};

use self::found::{Fault, Found};
use crate::key::Fields;
use crate::limits;
use crate::template::{MAX_FOLDER_RENDERED_BYTES, Scope, Templates};

/// Permission bits of files that no pattern matches.
const MODE: u32 = 0o644;
/// Permission bits of files with git's executable bit.
const MODE_EXECUTABLE: u32 = 0o755;

/// An entry of a `files` layer as it must be in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// Path in the image, without leading `/`.
    pub path: TreePath,
    /// The entry's kind.
    pub kind: LayerKind,
    /// Its numeric owner.
    pub owner: Owner,
    /// Its extended attributes.
    pub xattrs: Xattrs,
    /// What of the entry's metadata is declared.
    pub declared: Declared,
}

/// Which metadata of a file, directory or hard link is declared. The rest is a default: an entry of the image
/// that is replaced passes its own on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Declared {
    /// A pattern or the declaration gives the mode.
    pub mode: bool,
    /// The rules give the owner.
    pub owner: bool,
}

/// The kind of a layer's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerKind {
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its bytes.
        content: Content,
    },
    /// A symbolic link.
    Link {
        /// Its target as written.
        target: String,
    },
    /// A declared directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A hard link to a file of the same step, with that file's owner, mode and attributes, because
    /// extraction sets them again.
    HardLink {
        /// Permission bits.
        mode: u32,
        /// That file's path in the image.
        target: TreePath,
    },
}

/// The source of an entry's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The repository, unchanged.
    Git {
        /// The content's id.
        id: ContentId,
        /// Length in bytes.
        size: u64,
    },
    /// A template, rendered.
    Rendered {
        /// The bytes.
        bytes: Arc<[u8]>,
        /// The template.
        template: ContentId,
    },
}

/// All entries of a `files` step. Entries that are not rendered are shared between variants.
#[derive(Debug, Clone)]
pub struct Listing {
    folder: Arc<Folder>,
    rendered: Arc<[LayerEntry]>,
    digest: Digest,
}

/// A `files` folder of the tree, listed once for all variants: plain entries ready, templates still to be
/// rendered.
#[derive(Debug)]
pub(crate) struct Folder {
    plain: Vec<LayerEntry>,
    digest: Digest,
    templates: Vec<Template>,
    /// Files that are secrets by their place, with the permission bits that a pattern gives.
    sensitive: Vec<(TreePath, Option<u32>)>,
}

#[derive(Debug)]
struct Template {
    /// Its path in the repository.
    source: TreePath,
    /// Its path in the image.
    path: TreePath,
    mode: u32,
    owner: Owner,
    xattrs: Xattrs,
    declared: Declared,
}

/// The rules of a step or of a site for a folder's entries, and their additions.
#[derive(Debug, Default)]
pub(crate) struct Rules<'a> {
    owner: Option<Owner>,
    modes: Vec<(Glob, u32)>,
    directories: &'a [DirectorySpec],
    xattrs: BTreeMap<&'a TreePath, &'a Xattrs>,
    hard_links: Vec<(&'a TreePath, &'a TreePath)>,
    /// Whether templates are copied as they are.
    as_is: bool,
    /// The file that declares them.
    file: Option<&'a TreePath>,
}

impl<'a> Rules<'a> {
    /// The rules that `file` declares.
    pub(crate) fn of(rules: &'a FileRules, file: &'a TreePath) -> Result<Self, Diagnostic> {
        Ok(Self {
            owner: rules.owner,
            modes: modes(&rules.modes, file)?,
            directories: &rules.directories,
            xattrs: rules.xattrs.iter().collect(),
            hard_links: rules.hard_links.iter().collect(),
            as_is: rules.as_is,
            file: Some(file),
        })
    }

    /// The mode of a file, and whether it is declared: from the last pattern that matches, else from the
    /// executable bit.
    fn mode(&self, path: &TreePath, kind: EntryKind) -> (u32, bool) {
        let by_pattern = self.modes.iter().rev().find(|(glob, _)| glob.matches(path.as_str()));
        let by_kind = if kind == EntryKind::Executable { MODE_EXECUTABLE } else { MODE };
        by_pattern.map_or((by_kind, false), |(_, mode)| (*mode, true))
    }

    fn xattrs(&self, path: &TreePath) -> Xattrs {
        self.xattrs.get(path).map(|xattrs| (*xattrs).clone()).unwrap_or_default()
    }
}

impl Listing {
    /// All entries in path order; paths are unique.
    pub fn entries(&self) -> Vec<&LayerEntry> {
        let mut all: Vec<&LayerEntry> = self.folder.plain.iter().chain(self.rendered.iter()).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.folder.plain.len() + self.rendered.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Files that are secrets by their place, with the permission bits that a pattern gives.
    pub(crate) fn sensitive(&self) -> &[(TreePath, Option<u32>)] {
        &self.folder.sensitive
    }

    /// Digest of all entries: the input of the step. It is over the rendered bytes, so that variants for
    /// which a template renders to the same share the key.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// Modes by pattern, compiled; the last match wins.
fn modes(modes: &[(String, u32)], file: &TreePath) -> Result<Vec<(Glob, u32)>, Diagnostic> {
    let compile = |(pattern, mode): &(String, u32)| Ok((Glob::new(pattern)?, *mode));
    modes.iter().map(compile).collect::<Result<_, edgewright_model::glob::InvalidGlob>>().map_err(|error| {
        Diagnostic {
            file: Some(file.clone()),
            place: None,
            message: format!("cannot apply `modes`: {error}"),
            hint: Some("write a pattern for paths in the image, such as usr/bin/*".to_owned()),
        }
    })
}

impl Folder {
    /// Lists a folder. All faults are returned, not only the first.
    pub(crate) fn list(tree: &Tree, folder: &TreePath, rules: &Rules<'_>) -> Result<Self, Vec<Diagnostic>> {
        let (mut entries, mut bytes) = (0, 0);
        let mut found = Found::default();
        let mut faults = Vec::new();
        for (path, entry) in tree.below(folder) {
            entries += 1;
            bytes += entry.size;
            let source = folder.join(&path);
            if let Err(Fault { message, hint }) = found.add(tree, &source, &path, entry, rules)
                && faults.len() < MAX_DIAGNOSTICS
            {
                let hint = Some(hint.to_owned());
                faults.push(Diagnostic { file: Some(source), place: None, message, hint });
            }
        }
        let Found { mut plain, templates } = found;
        let hint = "publish large content elsewhere, and fetch it by digest in a containerfile step";
        faults.extend(limits::exceeded(folder, entries, bytes, hint));
        let template_mode = |path: &TreePath| {
            let template = templates.get(path)?;
            Some((template.mode, template.declared.mode))
        };
        declared::add(rules, &mut plain, template_mode, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let templates: Vec<Template> = templates.into_values().collect();
        let plain: Vec<LayerEntry> = plain.into_values().collect();
        let digest = digest_of("files folder", &plain);
        let sensitive = sensitive(&plain, &templates);
        Ok(Self { plain, digest, templates, sensitive })
    }

    /// Whether every variant has the same listing.
    pub(crate) const fn is_plain(&self) -> bool {
        self.templates.is_empty()
    }

    /// Whether the folder is empty.
    pub(crate) const fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.templates.is_empty()
    }

    /// The listing for one variant.
    pub(crate) fn render<'t>(
        self: &Arc<Self>,
        tree: &'t Tree,
        templates: &mut Templates<'t>,
        scope: &Scope,
    ) -> Result<Listing, Vec<Diagnostic>> {
        let mut rendered = Vec::with_capacity(self.templates.len());
        let mut faults = Vec::new();
        let mut bytes = 0;
        for template in &self.templates {
            match template.render(tree, templates, scope) {
                Ok(entry) => {
                    bytes += entry.rendered_bytes();
                    rendered.push(entry);
                }
                Err(fault) => faults.push(fault),
            }
            if bytes > MAX_FOLDER_RENDERED_BYTES {
                faults.push(limits::rendered(&template.source, bytes));
            }
            if bytes > MAX_FOLDER_RENDERED_BYTES || faults.len() >= MAX_DIAGNOSTICS {
                break;
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut fields = Fields::new("files");
        fields.field("folder", self.digest.hex());
        fields.field("rendered", digest_of("rendered files", &rendered).hex());
        Ok(Listing { folder: Arc::clone(self), rendered: rendered.into(), digest: fields.finish() })
    }
}

impl LayerEntry {
    /// The size of a rendered file; 0 for other entries.
    fn rendered_bytes(&self) -> u64 {
        match &self.kind {
            LayerKind::File { content: Content::Rendered { bytes, .. }, .. } => bytes.len() as u64,
            _ => 0,
        }
    }
}

impl Template {
    fn render<'t>(
        &self,
        tree: &'t Tree,
        templates: &mut Templates<'t>,
        scope: &Scope,
    ) -> Result<LayerEntry, Diagnostic> {
        let loaded = tree
            .entry(&self.source)
            .and_then(|entry| Some((&entry.content, tree.contents.get(&entry.content)?)));
        let (id, bytes) = loaded.ok_or_else(|| Diagnostic {
            file: Some(self.source.clone()),
            place: None,
            message: "the template is larger than 1 MiB".to_owned(),
            hint: Some("remove the suffix `.j2` to copy the file unchanged, or split it".to_owned()),
        })?;
        let bytes = templates.render(&self.source, id, bytes, scope)?;
        let content = Content::Rendered { bytes, template: id.clone() };
        let kind = LayerKind::File { mode: self.mode, content };
        let (path, owner, declared) = (self.path.clone(), self.owner, self.declared);
        Ok(LayerEntry { path, kind, owner, xattrs: self.xattrs.clone(), declared })
    }
}

fn sensitive(plain: &[LayerEntry], templates: &[Template]) -> Vec<(TreePath, Option<u32>)> {
    let plain = plain.iter().filter_map(|entry| match entry.kind {
        LayerKind::File { mode, .. } => Some((&entry.path, mode, entry.declared)),
        _ => None,
    });
    let rendered = templates.iter().map(|template| (&template.path, template.mode, template.declared));
    plain
        .chain(rendered)
        .filter(|(path, ..)| is_sensitive(path.as_str()))
        .map(|(path, mode, declared)| (path.clone(), declared.mode.then_some(mode)))
        .collect()
}

fn digest_of(purpose: &str, entries: &[LayerEntry]) -> Digest {
    let mut fields = Fields::new(purpose);
    for LayerEntry { path, kind, owner, xattrs, declared } in entries {
        fields.field("path", path.as_str());
        // A default gives way to what the image has.
        if !matches!(kind, LayerKind::Link { .. }) {
            fields.number("declared", u64::from(declared.mode) + 2 * u64::from(declared.owner));
        }
        fields.number("user", owner.user.into()).number("group", owner.group.into());
        match kind {
            LayerKind::Link { target } => fields.field("link", target),
            LayerKind::Directory { mode } => fields.number("directory", (*mode).into()),
            LayerKind::HardLink { target, mode: _ } => fields.field("hard link", target.as_str()),
            LayerKind::File { mode, content } => {
                fields.number("mode", (*mode).into());
                match content {
                    Content::Git { id, .. } => fields.field("git", id.as_str()),
                    Content::Rendered { bytes, .. } => fields.field("bytes", bytes),
                }
            }
        };
        for (name, value) in xattrs {
            fields.field("attribute", name).field("value", value);
        }
    }
    fields.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgewright_model::spec::Vars;
    use edgewright_model::tree::Entry;

    const OWNER: Owner = Owner { user: 0, group: 7 };

    fn tree(files: &[(&str, EntryKind, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, kind, text) in files {
            tree.insert(path.parse().unwrap(), *kind, text.as_bytes());
        }
        tree
    }

    fn list(tree: &Tree, patterns: &[(&str, u32)]) -> Result<Listing, Vec<String>> {
        let path: TreePath = "f".parse().unwrap();
        let patterns: Vec<(String, u32)> = patterns.iter().map(|(p, m)| ((*p).to_owned(), *m)).collect();
        let rules = Rules { owner: Some(OWNER), modes: modes(&patterns, &path).unwrap(), ..Rules::default() };
        list_by(tree, &rules)
    }

    fn list_by(tree: &Tree, rules: &Rules<'_>) -> Result<Listing, Vec<String>> {
        let scope = Scope::new(&"hmi".parse().unwrap(), None, &Vars::new());
        Folder::list(tree, &"f".parse().unwrap(), rules)
            .and_then(|folder| Arc::new(folder).render(tree, &mut Templates::default(), &scope))
            .map_err(|faults| faults.into_iter().map(|fault| fault.message).collect())
    }

    fn show(listing: &Listing) -> Vec<String> {
        let show = |entry: &&LayerEntry| {
            let LayerEntry { path, kind, owner, xattrs, declared: _ } = entry;
            assert_eq!(*owner, OWNER);
            assert!(xattrs.is_empty());
            match kind {
                LayerKind::Directory { mode } => format!("{path}/ {mode:o}"),
                LayerKind::HardLink { target, mode } => format!("{path} = {target} {mode:o}"),
                LayerKind::Link { target } => format!("{path} -> {target}"),
                LayerKind::File { mode, content: Content::Git { size, .. } } => {
                    format!("{path} {mode:o} {size}")
                }
                LayerKind::File { mode, content: Content::Rendered { bytes, .. } } => {
                    format!("{path} {mode:o} {}", String::from_utf8_lossy(bytes))
                }
            }
        };
        listing.entries().iter().map(show).collect()
    }

    use EntryKind::{Executable, File, Link, Submodule};

    #[test]
    fn entries_have_path_mode_and_content() {
        let tree = tree(&[
            ("f/usr/bin/tool", File, "x"),
            ("f/usr/bin/other", File, "xy"),
            ("f/usr/lib/run", Executable, "x"),
            ("f/etc/conf.j2", File, "{{ image }}"),
            ("f/etc/run.j2", Executable, "y"),
            ("f/etc/a", File, "aaa"),
            ("f/bin", Link, "usr/bin"),
            ("f/name.j2", Link, "a"),
            ("g/other", File, "x"),
        ]);
        let listing = list(&tree, &[("usr/bin/*", 0o755), ("**/other", 0o600), ("etc/conf", 0o640)]).unwrap();
        let want = [
            "bin -> usr/bin",
            "etc/a 644 3",
            "etc/conf 640 hmi",
            "etc/run 755 y",
            "name.j2 -> a",
            "usr/bin/other 600 2",
            "usr/bin/tool 755 1",
            "usr/lib/run 755 1",
        ];
        assert_eq!(show(&listing), want);
        assert_eq!(listing.len(), want.len());
    }

    #[test]
    fn templates_of_a_folder_may_be_copied_as_they_are() {
        let tree = tree(&[("f/a.j2", File, "{{ undefined }}"), ("f/a", File, "x"), ("f/.j2", File, "{%")]);
        let rules = Rules {
            as_is: true,
            owner: Some(OWNER),
            modes: vec![(Glob::new("*.j2").unwrap(), 0o600)],
            ..Rules::default()
        };
        let listing = list_by(&tree, &rules).unwrap();
        assert_eq!(show(&listing), [".j2 600 2", "a 644 1", "a.j2 600 15"]);
    }

    #[test]
    fn all_faults_are_reported() {
        let tree = tree(&[
            ("f/a", File, ""),
            ("f/a.j2", File, ""),
            ("f/.j2", File, ""),
            ("f/d/.j2", File, ""),
            ("f/sub", Submodule, ""),
        ]);
        let faults = list(&tree, &[]).unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
        let twice = super::super::files::modes(&[("[".to_owned(), 0)], &"x".parse().unwrap());
        assert!(twice.unwrap_err().message.contains("modes"));
    }

    #[test]
    fn what_a_folder_renders_to_is_bounded() {
        let text = "x".repeat(1_000_000);
        let names: Vec<String> = (0..70).map(|number| format!("f/{number:02}.j2")).collect();
        let files = |count: usize| -> Vec<(&str, EntryKind, &str)> {
            names[..count].iter().map(|name| (name.as_str(), File, text.as_str())).collect()
        };
        assert_eq!(list(&tree(&files(67)), &[]).unwrap().len(), 67);
        let faults = list(&tree(&files(70)), &[]).unwrap_err();
        assert_eq!(
            faults,
            ["the folder's templates render to 68000000 bytes or more for one variant, at most 67108864"]
        );
    }

    #[test]
    fn the_faults_of_a_folder_are_bounded() {
        let names: Vec<String> = (0..1500).map(|number| format!("f/{number}")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), Submodule, "")).collect();
        assert_eq!(list(&tree(&files), &[]).unwrap_err().len(), MAX_DIAGNOSTICS);
    }

    #[test]
    fn the_digest_is_exact() {
        let digest = |files: &[(&str, EntryKind, &str)], modes: &[(&str, u32)]| {
            list(&tree(files), modes).unwrap().digest().clone()
        };
        let base = digest(&[("f/a", File, "x")], &[]);
        assert_eq!(base, digest(&[("f/a", File, "x"), ("g", File, "y")], &[("b", 0o600)]));
        for other in [
            digest(&[("f/a", File, "y")], &[]),
            digest(&[("f/b", File, "x")], &[]),
            digest(&[("f/a", Executable, "x")], &[]),
            digest(&[("f/a", Link, "x")], &[]),
            digest(&[("f/a", File, "x")], &[("a", 0o600)]),
            digest(&[("f/a", File, "x"), ("f/b", File, "")], &[]),
            digest(&[], &[]),
        ] {
            assert_ne!(base, other);
        }
        // A template that renders to the same bytes gives the same listing.
        let same = digest(&[("f/a.j2", File, "{{ image }}")], &[]);
        assert_eq!(same, digest(&[("f/a.j2", File, "{# why #}hmi")], &[]));
    }

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    #[test]
    fn declarations_are_added() {
        let tree = tree(&[("f/a", File, "x"), ("f/b.j2", File, "y"), ("f/l", Link, "a")]);
        let xattrs = Xattrs::from([("user.x".to_owned(), vec![0, 255])]);
        let (a, b, c, d) = (path("a"), path("b"), path("c"), path("d"));
        let directory = [DirectorySpec { path: path("var/lib/x"), mode: Some(0o700), owner: Some(OWNER) }];
        let plain = || Rules { owner: Some(OWNER), ..Rules::default() };
        let rules = Rules { hard_links: vec![(&c, &a), (&d, &b)], directories: &directory, ..plain() };
        let listing = list_by(&tree, &rules).unwrap();
        assert_eq!(
            show(&listing),
            ["a 644 1", "b 644 y", "c = a 644", "d = b 644", "l -> a", "var/lib/x/ 700"]
        );
        assert_ne!(listing.digest(), list_by(&tree, &plain()).unwrap().digest());

        for target in [&a, &b] {
            let rules = Rules { xattrs: BTreeMap::from([(target, &xattrs)]), ..plain() };
            let listing = list_by(&tree, &rules).unwrap();
            let has: Vec<_> = listing.entries().into_iter().filter(|entry| entry.xattrs == xattrs).collect();
            assert_eq!((has.len(), &has[0].path), (1, target));
            assert_ne!(listing.digest(), list_by(&tree, &plain()).unwrap().digest());
        }

        let (symbolic, missing, below) = (path("l"), path("missing"), path("a/below"));
        let file = path("images/x/image.yaml");
        let bad = [("a", "is a file"), ("b/c", "is a file"), ("l", "is a file")];
        let bad = bad.map(|(text, _)| DirectorySpec { path: path(text), mode: None, owner: Some(OWNER) });
        let rules = Rules {
            directories: &bad,
            hard_links: vec![(&a, &b), (&c, &symbolic), (&d, &missing), (&below, &a)],
            xattrs: BTreeMap::from([(&missing, &xattrs)]),
            file: Some(&file),
            ..plain()
        };
        let faults = list_by(&tree, &rules).unwrap_err();
        assert_eq!(faults.len(), 8, "{faults:#?}");
    }

    #[test]
    fn too_many_files_are_rejected() {
        let mut many = Tree::default();
        for number in 0..=limits::ENTRY_LIMIT {
            let entry = Entry { kind: File, content: ContentId::new("1"), size: 0 };
            many.entries.insert(path(&format!("f/{number}")), entry);
        }
        assert!(list(&many, &[]).unwrap_err()[0].contains("200001 files"));
        let mut large = Tree::default();
        for name in ["f/a", "f/b"] {
            let entry =
                Entry { kind: File, content: ContentId::new("1"), size: limits::CONTENT_LIMIT / 2 + 1 };
            large.entries.insert(path(name), entry);
        }
        assert!(list(&large, &[]).unwrap_err()[0].contains("too large for one step"));
    }
}
