//! From a definition to nodes: the path of every variant, parents first, then the prefixes that they share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::lock::LockRequest;
use edgewright_model::names::{ImageName, Platform, SiteName, VariantName};
use edgewright_model::order::check_set_digest;
use edgewright_model::reference::RepoName;
use edgewright_model::resolve;
use edgewright_model::spec::{Check, Definition, From, ImageSpec, Lane, Per, Step, Vars};
use edgewright_model::tools::ToolVersions;
use edgewright_model::tree::Tree;
use jiff::Timestamp;

use super::exposed::Exposed;
use super::steps::{Locked, Prepared, Steps, Subject};
use super::{Blocked, Graph, GraphBase, LaneChecks, inherit, prefixes};
use crate::key::{Fields, KEY_VERSION};
use crate::lock::{DEFAULT_EPOCH, EffectiveLock, Locks, answers, lock_request, platforms};
use crate::step::GraphStep;

/// A variant's path from the base, for one platform.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) base: GraphBase,
    pub(super) root_key: Digest,
    pub(super) steps: Vec<Arc<GraphStep>>,
    /// How many of the steps belong to the parent variant.
    pub(super) inherited: usize,
    pub(super) epoch: Timestamp,
    /// The image's own labels; those of an ancestor are in its config.
    pub(super) labels: Arc<BTreeMap<String, String>>,
    pub(super) unresolved: Option<ImageName>,
}

/// A buildable variant.
pub(super) struct Ready {
    pub(super) parent: Option<VariantName>,
    pub(super) paths: BTreeMap<Platform, Path>,
    pub(super) vars: Arc<Vars>,
    pub(super) lanes: Vec<LaneChecks>,
}

struct Assembler<'t> {
    definition: &'t Definition,
    tree: &'t Tree,
    locks: &'t Locks,
    steps: Steps<'t>,
    exposed: Exposed,
    requests: BTreeMap<&'t ImageName, LockRequest>,
    /// Steps by key: equal prefixes are one value.
    by_key: HashMap<Digest, Arc<GraphStep>>,
    /// Lanes by image, and by site where the site has checks of its own.
    lanes: HashMap<(ImageName, Option<SiteName>), Vec<LaneChecks>>,
    done: BTreeMap<VariantName, Result<Ready, String>>,
}

pub(super) fn assemble(definition: &Definition, tree: &Tree, locks: &Locks) -> Graph {
    let requests = definition
        .images
        .iter()
        .filter(|(name, _)| resolve::broken(definition, name).is_none())
        .map(|(name, image)| (name, lock_request(image, &definition.source)))
        .filter(|(_, request)| !request.is_empty())
        .collect();
    let mut assembler = Assembler {
        definition,
        tree,
        locks,
        steps: Steps::new(definition, tree),
        exposed: Exposed::default(),
        requests,
        by_key: HashMap::new(),
        lanes: HashMap::new(),
        done: BTreeMap::new(),
    };
    for variant in resolve::variants(definition) {
        assembler.visit(variant);
    }
    assembler.finish()
}

impl Assembler<'_> {
    /// Makes a variant and all its ancestors, the farthest first.
    fn visit(&mut self, variant: VariantName) {
        let mut line = vec![variant];
        while let Some(parent) = line.last().and_then(|last| resolve::parent(self.definition, last)) {
            // A definition without broken images has no cycles; this limit only guards against a defect.
            if self.done.contains_key(&parent) || line.contains(&parent) {
                break;
            }
            line.push(parent);
        }
        for variant in line.into_iter().rev() {
            if !self.done.contains_key(&variant) {
                let made = self.make(&variant);
                self.done.insert(variant, made);
            }
        }
    }

    fn make(&mut self, variant: &VariantName) -> Result<Ready, String> {
        let definition = self.definition;
        let image = definition
            .images
            .get(&variant.image)
            .ok_or_else(|| format!("there is no image `{}`", variant.image))?;
        let vars = resolve::vars(definition, variant).map_err(|error| error.to_string())?;
        let vars: Vars = vars.into_iter().map(|(name, var)| (name, var.value)).collect();
        let parent = resolve::parent(definition, variant);
        let mut subject = Subject::new(variant, &vars);
        let (own, overlays) = self.steps.own(image, &mut subject)?;
        let mut paths = BTreeMap::new();
        for platform in platforms(image, &definition.source) {
            let mut path = self.start(image, parent.as_ref(), platform)?;
            let steps = self.ordered(image, platform, &own)?;
            for step in steps.iter().chain(&overlays) {
                let before = path.steps.last().map_or(&path.root_key, |step| &step.key);
                let tools = step.work.tools(&self.locks.tools);
                let key = step_key(before, (path.epoch, &path.labels), step, &tools);
                let step = self.by_key.entry(key.clone()).or_insert_with(|| {
                    let Prepared { title, inputs, work } = step.clone();
                    Arc::new(GraphStep { key, title, image: image.name.clone(), inputs, tools, work })
                });
                path.steps.push(Arc::clone(step));
            }
            self.exposed.follow(&path.base, &path.steps, self.tree);
            paths.insert(platform.clone(), path);
        }
        let lanes = self.lanes(image, variant);
        Ok(Ready { parent, paths, vars: Arc::new(vars), lanes })
    }

    /// The path up to the image's own steps.
    fn start(
        &self,
        image: &ImageSpec,
        parent: Option<&VariantName>,
        platform: &Platform,
    ) -> Result<Path, String> {
        let lock = locked(&self.requests, self.locks, &image.name);
        let unresolved = matches!(lock, Some(Locked::Unresolved(_))).then(|| image.name.clone());
        let own_epoch = match &lock {
            Some(Locked::Resolved(lock)) => Some(lock.lock.epoch_of(platform)),
            Some(Locked::Unresolved(_)) | None => None,
        };
        if let Some(parent) = parent {
            let ready = match self.done.get(parent) {
                Some(Ok(ready)) => ready,
                Some(Err(reason)) => return Err(format!("parent {parent} cannot be built: {reason}")),
                None => return Err(format!("parent {parent} does not exist")),
            };
            let path = ready.paths.get(platform).ok_or_else(|| {
                format!(
                    "parent {parent} is not built for {platform}: add it to the platforms of `{}`",
                    parent.image
                )
            })?;
            return Ok(Path {
                inherited: path.steps.len(),
                epoch: own_epoch.unwrap_or(path.epoch),
                labels: Arc::new(image.labels.clone()),
                unresolved: path.unresolved.clone().or(unresolved),
                ..path.clone()
            });
        }
        let base = match &image.from {
            From::External(reference) => GraphBase::External {
                reference: reference.clone(),
                digest: match &lock {
                    Some(Locked::Resolved(lock)) => lock.lock.base_of(platform).cloned(),
                    Some(Locked::Unresolved(_)) | None => None,
                },
            },
            From::Scratch | From::Image(_) => GraphBase::Scratch,
        };
        Ok(Path {
            root_key: root_key(&self.locks.compressor, platform, &base),
            base,
            steps: Vec::new(),
            inherited: 0,
            epoch: own_epoch.unwrap_or(DEFAULT_EPOCH),
            labels: Arc::new(image.labels.clone()),
            unresolved,
        })
    }

    /// The image's own steps in order, with what the lock pins for the platform.
    fn ordered(
        &mut self,
        image: &ImageSpec,
        platform: &Platform,
        own: &BTreeMap<usize, Prepared>,
    ) -> Result<Vec<Prepared>, String> {
        let mut steps = Vec::with_capacity(image.steps.len());
        let mut nth = 0;
        let locked = locked(&self.requests, self.locks, &image.name);
        for (index, step) in image.steps.iter().enumerate() {
            match (step, &locked) {
                (Step::Bootstrap(step), Some(locked)) => {
                    steps.push(self.steps.bootstrap(image, (index, nth), step, platform, locked)?);
                    nth += 1;
                }
                (Step::Bootstrap(_), None) => {}
                (Step::Containerfile(step), Some(locked)) => {
                    let own = own.get(&index);
                    steps.extend(own.map(|own| Steps::with_images(own, step, platform, locked)));
                }
                (Step::Containerfile(_), None) | (Step::Files(_), _) => {
                    steps.extend(own.get(&index).cloned());
                }
            }
        }
        Ok(steps)
    }

    fn lanes(&mut self, image: &ImageSpec, variant: &VariantName) -> Vec<LaneChecks> {
        let has_own = |site: &&SiteName| {
            let site = self.definition.sites.get(*site);
            site.is_some_and(|site| site.images.values().any(|extra| !extra.checks.is_empty()))
        };
        let site = variant.site.as_ref().filter(has_own).cloned();
        let make = || {
            let mut checks = resolve::checks(self.definition, variant);
            checks.sort_by(|a, b| a.id.cmp(&b.id));
            let lane = |lane: Lane| {
                // A check that does not inspect files must not make the lane `static` run again.
                let is_skipped =
                    |check: &Check| lane == Lane::Static && check.assert.skip_reason(lane).is_some();
                let applies = |check: &&Check| {
                    check.lanes.as_ref().is_none_or(|lanes| lanes.contains(&lane)) && !is_skipped(check)
                };
                let checks: Arc<[Check]> = checks.iter().filter(applies).cloned().collect();
                let check_set = check_set_digest(&checks);
                let within = image.test.within.filter(|_| lane == Lane::External);
                let vm = lane.has_kernel().then_some(image.test.vm);
                LaneChecks {
                    lane,
                    checks,
                    check_set,
                    inherit: None,
                    within,
                    vm,
                    of: None,
                    from: None,
                    inherited_from: None,
                }
            };
            image.test.lanes.iter().copied().map(lane).collect()
        };
        let mut lanes = self.lanes.entry((image.name.clone(), site)).or_insert_with(make).clone();
        for lane in &mut lanes {
            lane.of = self.released_variant(lane.lane, image, variant);
        }
        lanes
    }

    /// The variant whose release a lane needs: its own, or that of another image at the same place.
    fn released_variant(&self, lane: Lane, image: &ImageSpec, variant: &VariantName) -> Option<VariantName> {
        if lane != Lane::Switch {
            return lane.needs_release().then(|| variant.clone());
        }
        let other = self.definition.images.get(image.test.switch_from.as_ref()?)?;
        Some(VariantName {
            image: other.name.clone(),
            site: variant.site.clone().filter(|_| other.per > Per::Image),
            slot: variant.slot.clone().filter(|_| other.per > Per::Site),
        })
    }

    fn finish(self) -> Graph {
        let definition = self.definition;
        let mut ready = BTreeMap::new();
        let mut blocked = broken_variants(definition);
        for (variant, made) in self.done {
            match made {
                Ok(made) => {
                    ready.insert(variant, made);
                }
                Err(reason) => {
                    let image = definition.images.get(&variant.image);
                    let platforms = image.map_or(&definition.source.platforms[..], |image| {
                        platforms(image, &definition.source)
                    });
                    blocked.insert(variant, Blocked { reason, platforms: platforms.to_vec() });
                }
            }
        }
        let mut locks: BTreeMap<ImageName, EffectiveLock> = BTreeMap::new();
        let mut unresolved: BTreeMap<ImageName, LockRequest> = BTreeMap::new();
        for name in self.requests.keys() {
            match locked(&self.requests, self.locks, name) {
                Some(Locked::Resolved(lock)) => {
                    locks.insert((*name).clone(), lock.clone());
                }
                Some(Locked::Unresolved(request)) => {
                    unresolved.insert((*name).clone(), request.clone());
                }
                None => {}
            }
        }
        let source = definition.source.name.clone();
        let mut nodes = prefixes::nodes(&source, &ready);
        inherit::assign(definition, &mut nodes);
        Graph {
            nodes,
            source,
            blocked,
            broken_images: definition.broken_images.clone(),
            broken_sites: definition.broken_sites.clone(),
            doubtful_sites: doubtful_sites(definition),
            unresolved,
            locks,
            tools: self.locks.tools.clone(),
            diagnostics: self.steps.diagnostics(),
            warnings: self.exposed.into_warnings(),
        }
    }
}

/// The lock of an image, where it needs one.
fn locked<'a>(
    requests: &'a BTreeMap<&ImageName, LockRequest>,
    locks: &'a Locks,
    image: &ImageName,
) -> Option<Locked<'a>> {
    let request = requests.get(image)?;
    let lock = locks.images.get(image).filter(|lock| answers(&lock.lock, request));
    Some(lock.map_or(Locked::Unresolved(request), Locked::Resolved))
}

fn root_key(compressor: &str, platform: &Platform, base: &GraphBase) -> Digest {
    let mut fields = Fields::new("edgewright key");
    fields.number("version", KEY_VERSION.into()).field("compressor", compressor);
    fields.field("platform", platform.to_string());
    match base {
        GraphBase::Scratch => fields.field("base", "scratch"),
        GraphBase::External { digest: Some(digest), .. } => fields.field("base digest", digest.to_string()),
        GraphBase::External { reference, digest: None } => {
            fields.field("unresolved base", reference.to_string())
        }
    };
    fields.finish()
}

/// The title is an input, because it is in the history of the image's config.
fn step_key(
    before: &Digest,
    (epoch, labels): (Timestamp, &BTreeMap<String, String>),
    step: &Prepared,
    tools: &ToolVersions,
) -> Digest {
    let mut fields = Fields::new("step");
    fields.field("before", before.hex()).field("epoch", epoch.to_string());
    fields.field("title", &step.title).field("inputs", step.inputs.hex());
    for (name, value) in labels {
        fields.list("label", &[name, value]);
    }
    for (name, version) in &tools.0 {
        fields.list("tool", &[name, version]);
    }
    fields.finish()
}

/// Declared variants of images that are intact themselves, but have a broken ancestor.
fn broken_variants(definition: &Definition) -> BTreeMap<VariantName, Blocked> {
    let mut blocked = BTreeMap::new();
    for (name, image) in &definition.images {
        let Some(reason) = resolve::broken(definition, name) else { continue };
        let platforms = platforms(image, &definition.source).to_vec();
        let mut block = |variant| {
            blocked.insert(variant, Blocked { reason: reason.clone(), platforms: platforms.clone() });
        };
        if image.per == Per::Image {
            block(VariantName::of_image(name.clone()));
            continue;
        }
        for site in definition.sites.values().filter(|site| resolve::matches(&image.select, &site.labels)) {
            for slot in site.slots.iter().filter(|slot| slot.image == *name) {
                block(VariantName {
                    image: name.clone(),
                    site: Some(site.name.clone()),
                    slot: (image.per == Per::Slot).then(|| slot.id.clone()),
                });
            }
        }
    }
    blocked
}

/// Sites with a slot whose image has no known ancestors: any of their variants may be needed by the slot.
fn doubtful_sites(definition: &Definition) -> BTreeMap<SiteName, ImageName> {
    let doubtful = |image: &&ImageName| resolve::broken(definition, image).is_some();
    definition
        .sites
        .values()
        .filter_map(|site| {
            let image = site.slots.iter().map(|slot| &slot.image).find(doubtful)?;
            Some((site.name.clone(), image.clone()))
        })
        .collect()
}

/// The repository of a variant or of an image's prefixes.
pub(super) fn repository(
    source: &edgewright_model::names::SourceName,
    name: &impl std::fmt::Display,
) -> RepoName {
    let text = format!("{source}/{name}");
    // Source, image, site and slot names are repository components of at most 63 bytes by their own grammar,
    // and four of them fit into 255 bytes.
    text.parse().expect("names of a source, image, site and slot make a repository name")
}
