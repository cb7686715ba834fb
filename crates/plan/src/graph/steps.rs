//! A variant's own steps, prepared once per folder, context or lock, and shared between variants with equal
//! steps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::format::{Diagnostic, MAX_DIAGNOSTICS};
use edgewright_model::lock::{LockRequest, LockedArchive, LockedImage, LockedPackage};
use edgewright_model::names::{ImageName, Platform, VariantName};
use edgewright_model::spec::{
    self, BootstrapStep, ContainerfileStep, Definition, FilesStep, ImageSpec, Step, Vars,
};
use edgewright_model::tree::{ContentId, Tree, TreePath};

use crate::context::Context;
use crate::files::{Folder, Rules};
use crate::key::Fields;
use crate::lock::EffectiveLock;
use crate::step::PlannedStep;
use crate::template::{Scope, Templates};

/// A step without its position on a path.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) title: String,
    pub(super) inputs: Digest,
    pub(super) work: Arc<PlannedStep>,
}

/// The lock of an image for its steps.
pub(super) enum Locked<'a> {
    /// It is known.
    Resolved(&'a EffectiveLock),
    /// What is locked is not known: the key uses the request instead.
    Unresolved(&'a LockRequest),
}

/// Identifies a declared step: its image and its index among the image's steps.
type Place = (ImageName, usize);

/// A folder, and the step that declares it (with its owner and modes); `None` for overlays.
type Source = (TreePath, Option<Place>);

/// Prepares steps. A fault becomes one diagnostic, and the blocking reason of every variant with the step.
pub(super) struct Steps<'t> {
    definition: &'t Definition,
    tree: &'t Tree,
    templates: Templates<'t>,
    folders: HashMap<Source, Result<Arc<Folder>, String>>,
    plain: HashMap<Source, Prepared>,
    contexts: HashMap<Place, Result<Prepared, String>>,
    bootstraps: HashMap<(ImageName, usize, Platform), Result<Prepared, String>>,
    diagnostics: Vec<Diagnostic>,
    /// The number of faults that are not kept, and may be equal.
    beyond: usize,
}

/// A variant as its steps see it; the scope of templates is made on first use.
pub(super) struct Subject<'a> {
    pub(super) variant: &'a VariantName,
    pub(super) vars: &'a Vars,
    scope: Option<Scope>,
}

impl<'a> Subject<'a> {
    pub(super) const fn new(variant: &'a VariantName, vars: &'a Vars) -> Self {
        Self { variant, vars, scope: None }
    }

    fn scope(&mut self, definition: &Definition) -> &Scope {
        let site = self.variant.site.as_ref().and_then(|site| definition.sites.get(site));
        self.scope.get_or_insert_with(|| Scope::new(self.variant, site, self.vars))
    }
}

impl<'t> Steps<'t> {
    pub(super) fn new(definition: &'t Definition, tree: &'t Tree) -> Self {
        Self {
            definition,
            tree,
            templates: Templates::default(),
            folders: HashMap::new(),
            plain: HashMap::new(),
            contexts: HashMap::new(),
            bootstraps: HashMap::new(),
            diagnostics: Vec::new(),
            beyond: 0,
        }
    }

    /// The `containerfile` and `files` steps of a variant by index of the image's steps, then its overlays.
    /// `bootstrap` steps depend on the platform: see [`Self::bootstrap`].
    pub(super) fn own(
        &mut self,
        image: &ImageSpec,
        subject: &mut Subject<'_>,
    ) -> Result<(BTreeMap<usize, Prepared>, Vec<Prepared>), String> {
        let mut own = BTreeMap::new();
        for (index, step) in image.steps.iter().enumerate() {
            let prepared = match step {
                Step::Bootstrap(_) => continue,
                Step::Containerfile(step) => self.containerfile(image, index, step)?,
                Step::Files(step) => self.declared_files(image, index, step, subject)?,
            };
            own.insert(index, prepared);
        }
        let mut overlays = Vec::new();
        for overlay in spec::overlays(self.definition, subject.variant) {
            let spec::Overlay { folder: path, title, rules, file } = overlay;
            let folder = self.folder(&path, None, |tree| {
                let rules = Rules::of(rules, file).map_err(|fault| vec![fault])?;
                Folder::list(tree, &path, &rules)
            })?;
            if !folder.is_empty() || rules.adds() {
                overlays.push(self.files((&path, &title), None, &folder, &rules.delete, subject)?);
            }
        }
        Ok((own, overlays))
    }

    fn containerfile(
        &mut self,
        image: &ImageSpec,
        index: usize,
        step: &ContainerfileStep,
    ) -> Result<Prepared, String> {
        let key = (image.name.clone(), index);
        if let Some(known) = self.contexts.get(&key) {
            return known.clone();
        }
        let prepared = Context::list(self.tree, image, step)
            .map(|context| Prepared {
                title: format!("containerfile {}", step.file),
                inputs: context.digest,
                work: Arc::new(PlannedStep::Containerfile {
                    step: step.clone(),
                    containerfile: context.containerfile,
                    context: context.entries,
                    images: Vec::new(),
                }),
            })
            .map_err(|faults| self.report(faults));
        self.contexts.insert(key, prepared.clone());
        prepared
    }

    /// A `containerfile` step with the images that it uses on one platform: their digests are inputs.
    pub(super) fn with_images(
        prepared: &Prepared,
        step: &ContainerfileStep,
        platform: &Platform,
        locked: &Locked<'_>,
    ) -> Prepared {
        let Some(used) = step.images.get(platform) else { return prepared.clone() };
        let PlannedStep::Containerfile { step, containerfile, context, .. } = &*prepared.work else {
            return prepared.clone();
        };
        let mut fields = Fields::new("containerfile with images");
        fields.field("step", prepared.inputs.hex());
        let images = match locked {
            Locked::Unresolved(request) => {
                fields.field("unresolved", request.digest().hex());
                Vec::new()
            }
            Locked::Resolved(lock) => {
                let is_used = |locked: &&LockedImage| used.iter().any(|image| locked.is(image));
                let images: Vec<LockedImage> = lock.lock.images.iter().filter(is_used).cloned().collect();
                for LockedImage { reference, platform, digest } in &images {
                    fields.list("image", &[reference.to_string(), platform.to_string(), digest.to_string()]);
                }
                images
            }
        };
        let work = PlannedStep::Containerfile {
            step: step.clone(),
            containerfile: Arc::clone(containerfile),
            context: Arc::clone(context),
            images,
        };
        Prepared { title: prepared.title.clone(), inputs: fields.finish(), work: Arc::new(work) }
    }

    fn declared_files(
        &mut self,
        image: &ImageSpec,
        index: usize,
        step: &FilesStep,
        subject: &mut Subject<'_>,
    ) -> Result<Prepared, String> {
        let place = Some((image.name.clone(), index));
        // Without a folder the step is defined by the definition's file alone, which has no entries below it.
        let path = step.path.as_ref().unwrap_or(&image.file);
        let folder = self.folder(path, place.clone(), |tree| {
            let rules = Rules::of(&step.rules, &image.file).map_err(|fault| vec![fault])?;
            Folder::list(tree, path, &rules)
        })?;
        self.files((path, path.as_str()), place, &folder, &step.rules.delete, subject)
    }

    fn folder(
        &mut self,
        path: &TreePath,
        place: Option<Place>,
        list: impl FnOnce(&Tree) -> Result<Folder, Vec<Diagnostic>>,
    ) -> Result<Arc<Folder>, String> {
        let key = (path.clone(), place);
        if let Some(known) = self.folders.get(&key) {
            return known.clone();
        }
        let listed = list(self.tree).map(Arc::new).map_err(|faults| self.report(faults));
        self.folders.insert(key, listed.clone());
        listed
    }

    fn files(
        &mut self,
        (path, title): (&TreePath, &str),
        place: Option<Place>,
        folder: &Arc<Folder>,
        delete: &[String],
        subject: &mut Subject<'_>,
    ) -> Result<Prepared, String> {
        let key = (path.clone(), place);
        if let Some(known) = self.plain.get(&key) {
            return Ok(known.clone());
        }
        let listing = folder
            .render(self.tree, &mut self.templates, subject.scope(self.definition))
            .map_err(|faults| self.report(faults))?;
        let mut fields = Fields::new("files step");
        fields.field("listing", listing.digest().hex()).list("delete", delete);
        let prepared = Prepared {
            title: format!("files {title}"),
            inputs: fields.finish(),
            work: Arc::new(PlannedStep::Files { folder: path.clone(), listing, delete: delete.to_vec() }),
        };
        if folder.is_plain() {
            self.plain.insert(key, prepared.clone());
        }
        Ok(prepared)
    }

    /// The `bootstrap` step at `index` of the image's steps, the `nth` of its kind, for one platform.
    pub(super) fn bootstrap(
        &mut self,
        image: &ImageSpec,
        (index, nth): (usize, usize),
        step: &BootstrapStep,
        platform: &Platform,
        locked: &Locked<'_>,
    ) -> Result<Prepared, String> {
        let key = (image.name.clone(), index, platform.clone());
        if let Some(known) = self.bootstraps.get(&key) {
            return known.clone();
        }
        let keys = self.keys(image, step).map_err(|fault| self.report(vec![fault]));
        let prepared = keys.map(|keys| {
            let lock = match locked {
                Locked::Resolved(lock) => Some(&lock.lock),
                Locked::Unresolved(_) => None,
            };
            let packages = lock.and_then(|lock| lock.packages.get(platform)?.get(nth).cloned());
            let packages = packages.unwrap_or_default();
            let archive = lock.and_then(|lock| lock.archives.get(nth).cloned());
            Prepared {
                title: format!("bootstrap {}", step.suite),
                inputs: bootstrap_digest(step, (&packages, archive.as_ref()), &keys, locked),
                work: Arc::new(PlannedStep::Bootstrap { step: step.clone(), packages, archive, keys }),
            }
        });
        self.bootstraps.insert(key, prepared.clone());
        prepared
    }

    fn keys(
        &self,
        image: &ImageSpec,
        step: &BootstrapStep,
    ) -> Result<BTreeMap<TreePath, ContentId>, Diagnostic> {
        let key = |path: &TreePath| match self.tree.entry(path) {
            Some(entry) => Ok((path.clone(), entry.content.clone())),
            None => Err(Diagnostic {
                file: Some(image.file.clone()),
                place: None,
                message: format!("cannot read the key file `{path}`: it does not exist"),
                hint: Some("commit the keyring that signs the archive".to_owned()),
            }),
        };
        step.keys.iter().map(key).collect()
    }

    /// Records diagnostics, each once, and returns the first as text.
    fn report(&mut self, faults: Vec<Diagnostic>) -> String {
        let first = faults.first().map(|fault| match (&fault.file, fault.place) {
            (Some(file), Some(place)) => format!("{file}:{}: {}", place.line, fault.message),
            (Some(file), None) => format!("{file}: {}", fault.message),
            (None, _) => fault.message.clone(),
        });
        for fault in faults {
            if self.diagnostics.len() >= MAX_DIAGNOSTICS {
                self.beyond += 1;
            } else if !self.diagnostics.contains(&fault) {
                self.diagnostics.push(fault);
            }
        }
        first.unwrap_or_default()
    }

    /// All faults, each once; those that were not kept are counted in a last one.
    pub(super) fn diagnostics(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics;
        if self.beyond > 0 {
            diagnostics.push(Diagnostic {
                file: None,
                place: None,
                message: format!("and {} more errors, in all variants together", self.beyond),
                hint: Some("correct those above first: often one mistake causes many".to_owned()),
            });
        }
        diagnostics
    }
}

fn bootstrap_digest(
    step: &BootstrapStep,
    (packages, archive): (&[LockedPackage], Option<&LockedArchive>),
    keys: &BTreeMap<TreePath, ContentId>,
    locked: &Locked<'_>,
) -> Digest {
    let BootstrapStep { suite, packages: asked, mirror, components, sources, keys: _ } = step;
    let mut fields = Fields::new("bootstrap");
    fields.field("suite", suite).list("asked", asked).optional("mirror", mirror.as_deref());
    fields.list("components", components).list("sources", sources);
    for (path, content) in keys {
        fields.field(path.as_str(), content.as_str());
    }
    match locked {
        Locked::Unresolved(request) => {
            fields.field("unresolved", request.digest().hex());
        }
        Locked::Resolved(_) => {
            for LockedPackage { name, version, architecture, sha256, size: _ } in packages {
                fields.list("package", &[name, version, architecture]);
                if let Some(sha256) = sha256 {
                    fields.field("sha256", sha256.hex());
                }
            }
            // The lines are in the image; what verified them is not.
            if let Some(archive) = archive {
                fields.list("archive", &archive.lines);
            }
        }
    }
    fields.finish()
}
