//! From graph nodes to tasks: packs contexts, pushes them, and cuts the work from what is built by now.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgewright_model::Digest;
use edgewright_model::duration::Span;
use edgewright_model::names::ImageName;
use edgewright_model::order::{
    Base, BlobRef, Context, DECLARED_MODE, DECLARED_OWNER, ImageTask, LaneOrder, LockTask, ManifestRef,
    StepAction, StepOrder, Task, TrustDomain,
};
use edgewright_model::reference::RepoName;
use edgewright_model::spec::{Definition, SecretRef};
use edgewright_model::tree::{ContentId, EntryKind, Tree, TreePath};
use edgewright_plan::context::ContextEntry;
use edgewright_plan::files::{Content, LayerEntry, LayerKind};
use edgewright_plan::graph::{LaneChecks, Node};
use edgewright_plan::lock_request;
use edgewright_plan::step::{GraphStep, PlannedStep};
use edgewright_source::{PackEntry, PackKind};
use jiff::Timestamp;

use super::pack::Packing;
use super::{Jobs, RunScope};
use crate::hosting::HostingError;
use crate::{ControlError, pins};

/// Mode of a context's entries; the executable bit is git's.
const FILE_MODE: u32 = 0o644;
const EXECUTABLE_MODE: u32 = 0o755;
const LINK_MODE: u32 = 0o777;
/// The longest link target, as Linux has it, in bytes.
const LINK_LIMIT: usize = 4096;
/// The largest keyring in bytes.
const KEY_LIMIT: usize = 1024 * 1024;
/// Entries that hold no more bytes than this together travel in the order itself.
const INLINE_LIMIT: u64 = 64 * 1024;
/// Beyond the last check's own time: boot, evidence, removal.
const LANE_MARGIN_S: u64 = 120;
/// The same in lanes that update a device: two images are downloaded, one of them is installed, and the
/// device starts up to four times.
const UPDATE_MARGIN_S: u64 = 600;

/// The first part of repositories of untrusted jobs, before the source's number. No source has a name with
/// two underscores.
const UNTRUSTED: &str = "untrusted__";

/// Where the work of a node starts.
#[derive(Debug)]
pub(crate) struct Start {
    /// The known manifest of the node's key, in the node's repository.
    pub(crate) known: Option<ManifestRef>,
    pub(crate) base: Base,
    /// How many steps of the node's path `base` has.
    pub(crate) done: usize,
}

impl Jobs {
    /// Where a node's work starts: at the longest prefix that is built by now.
    pub(crate) async fn start(&self, domain: TrustDomain, node: &Node) -> Result<Start, ControlError> {
        let external = || node.base.order().unwrap_or(Base::Scratch);
        let (mut base, mut done) = (None, 0);
        for (position, step) in node.path.iter().enumerate().rev() {
            if let Some(build) = self.store.build(&step.key, domain).await? {
                (base, done) = (Some(build.manifest), position + 1);
                break;
            }
        }
        if base.is_none() {
            base = self.store.build(&node.root_key, domain).await?.map(|build| build.manifest);
        }
        let Some(manifest) = base else { return Ok(Start { known: None, base: external(), done }) };
        if done < node.path.len() {
            return Ok(Start { known: None, base: Base::Manifest(manifest), done });
        }
        let manifest = self.hosting.stand_in(&manifest, &repository_in(domain, &node.repository)?).await?;
        Ok(Start { known: Some(manifest.clone()), base: Base::Manifest(manifest), done })
    }

    /// The orders of some steps of a node, with their contexts.
    pub(crate) async fn steps(
        &self,
        scope: &RunScope<'_>,
        node: &Node,
        steps: &[Arc<GraphStep>],
    ) -> Result<Vec<StepOrder>, ControlError> {
        let mut orders = Vec::with_capacity(steps.len());
        for step in steps {
            let action = self.action(scope, node.epoch, step).await?;
            let (key, title, tools) = (step.key.clone(), step.title.clone(), step.tools.clone());
            orders.push(StepOrder { key, title, tools, action });
        }
        Ok(orders)
    }

    /// The task that resolves an image's lock; none where the definition does not declare the image.
    pub(crate) async fn lock_task(
        &self,
        scope: &RunScope<'_>,
        image: &ImageName,
        definition: &Definition,
        tree: &Tree,
    ) -> Result<Option<Task>, ControlError> {
        let Some(spec) = definition.images.get(image) else { return Ok(None) };
        let request = lock_request(spec, &definition.source);
        let mut keys = BTreeMap::new();
        for path in request.bootstrap.iter().flat_map(|step| &step.keys) {
            if let Some(entry) = tree.entry(path) {
                keys.insert(path.clone(), entry.content.clone());
            }
        }
        let keys = self.keys(scope, &keys).await?;
        let now = whole_second(self.clock.now());
        Ok(Some(Task::Lock(LockTask { image: image.clone(), request, keys, now })))
    }

    /// The order of a lane; `keep` leaves its machine running.
    pub(crate) fn lane(&self, lane: &LaneChecks, keep: bool) -> LaneOrder {
        let longest = lane.checks.iter().map(|check| check.within.get().as_secs()).max().unwrap_or(0);
        // Downloads and boots, before the checks begin.
        let margin = if lane.lane.is_update() { UPDATE_MARGIN_S } else { LANE_MARGIN_S };
        LaneOrder {
            keep: keep && lane.lane.can_keep(),
            lane: lane.lane,
            vm: lane.vm,
            checks: lane.checks.to_vec(),
            check_set: lane.check_set.clone(),
            from: lane.from.clone(),
            within: self.settings.lane_within.max(Span::from_secs(longest + margin)),
        }
    }

    async fn action(
        &self,
        scope: &RunScope<'_>,
        epoch: Timestamp,
        step: &GraphStep,
    ) -> Result<StepAction, ControlError> {
        Ok(match &*step.work {
            PlannedStep::Bootstrap { step, packages, archive, keys } => StepAction::Bootstrap {
                step: step.clone(),
                archive: archive.clone(),
                packages: packages.clone(),
                keys: self.keys(scope, keys).await?,
                kept: None,
            },
            PlannedStep::Containerfile { step: declared, containerfile, context, images } => {
                check_secrets(scope, &step.title, &declared.secrets)?;
                let mut entries = Vec::new();
                for entry in context.iter() {
                    entries.push(context_entry(scope, entry).await?);
                }
                StepAction::Containerfile {
                    context: self.pack(scope, epoch, entries).await?,
                    containerfile: containerfile.to_string(),
                    args: declared.args.clone(),
                    target: declared.target.clone(),
                    secrets: declared.secrets.clone(),
                    images: images.clone(),
                }
            }
            PlannedStep::Files { listing, delete, .. } => {
                let entries = listing.entries().into_iter().map(layer_entry).collect();
                StepAction::Files { entries: self.pack(scope, epoch, entries).await?, delete: delete.clone() }
            }
        })
    }

    /// Packs a context. A large one is pushed, and pinned until the run is over.
    async fn pack(
        &self,
        scope: &RunScope<'_>,
        epoch: Timestamp,
        entries: Vec<PackEntry>,
    ) -> Result<Context, ControlError> {
        let source = scope.mirror.repository();
        if entries.iter().map(PackEntry::size).sum::<u64>() <= INLINE_LIMIT {
            let tar = source.pack(entries, epoch, Vec::new()).await?;
            return Ok(Context::Inline { tar: STANDARD.encode(tar) });
        }
        let repository = contexts(scope)?;
        let packed = Packing::new(&self.settings.scratch)
            .map_err(|source| file("make a file for a context", source))?;
        let packed = source.pack(entries, epoch, packed).await?;
        let (path, digest, size) = packed.finish().map_err(|source| file("write a context", source))?;
        let blob = BlobRef { repository, digest, size };
        self.hosting.push_file(&blob, &path).await?;
        let held = [(blob.repository.clone(), blob.digest.clone())];
        self.hosting.pin(&pins::contexts(scope.run), &held).await?;
        Ok(Context::Blob(blob))
    }

    async fn keys(
        &self,
        scope: &RunScope<'_>,
        keys: &BTreeMap<TreePath, ContentId>,
    ) -> Result<BTreeMap<String, String>, ControlError> {
        let mut encoded = BTreeMap::new();
        for (path, content) in keys {
            let bytes = scope.mirror.repository().read(content, KEY_LIMIT).await?;
            encoded.insert(path.to_string(), STANDARD.encode(bytes));
        }
        Ok(encoded)
    }
}

/// Where jobs of a domain write what belongs into a repository. Trusted candidates are read from the
/// repository itself; what untrusted jobs make is in one that no source can name: `plants/hmi` becomes
/// `untrusted__7/hmi`. It is never longer.
pub(crate) fn repository_in(domain: TrustDomain, repository: &RepoName) -> Result<RepoName, ControlError> {
    if domain.trusted {
        return Ok(repository.clone());
    }
    let rest = repository.as_str().split_once('/').map_or("", |(_, rest)| rest);
    let name = format!("{UNTRUSTED}{}/{rest}", domain.source);
    name.parse().map_err(|source| ControlError::Hosting(HostingError::Name { source }))
}

/// What a node's job does.
pub(crate) fn image_task(
    domain: TrustDomain,
    node: &Node,
    base: Base,
    steps: Vec<StepOrder>,
    lanes: Vec<LaneOrder>,
) -> Result<Task, ControlError> {
    Ok(Task::Image(ImageTask {
        node: node.id.name.to_string(),
        variant: node.variant().cloned(),
        platform: node.id.platform.clone(),
        repository: repository_in(domain, &node.repository)?,
        base_key: base_key(node, &base, &steps),
        base,
        steps,
        epoch: node.epoch,
        labels: (*node.labels).clone(),
        lanes,
    }))
}

/// What comes from outside and has no step here is recorded as it is mirrored: under the key of the base.
fn base_key(node: &Node, base: &Base, steps: &[StepOrder]) -> Option<Digest> {
    let is_mirrored = matches!(base, Base::External { .. }) && steps.is_empty() && node.path.is_empty();
    is_mirrored.then(|| node.root_key.clone())
}

async fn context_entry(scope: &RunScope<'_>, entry: &ContextEntry) -> Result<PackEntry, ControlError> {
    let kind = if entry.kind == EntryKind::Link {
        let target = scope.mirror.repository().read(&entry.content, LINK_LIMIT).await?;
        PackKind::Link(String::from_utf8_lossy(&target).into_owned())
    } else {
        PackKind::Content(entry.content.clone(), entry.size)
    };
    let mode = if entry.kind == EntryKind::Executable { EXECUTABLE_MODE } else { FILE_MODE };
    Ok(PackEntry { path: entry.path.to_string(), mode, user: 0, group: 0, xattrs: BTreeMap::new(), kind })
}

fn layer_entry(entry: &LayerEntry) -> PackEntry {
    let mut xattrs = entry.xattrs.clone();
    if entry.declared.mode {
        xattrs.insert(DECLARED_MODE.to_owned(), Vec::new());
    }
    if entry.declared.owner {
        xattrs.insert(DECLARED_OWNER.to_owned(), Vec::new());
    }
    PackEntry {
        path: entry.path.to_string(),
        mode: match &entry.kind {
            LayerKind::File { mode, .. }
            | LayerKind::Directory { mode }
            | LayerKind::HardLink { mode, .. } => *mode,
            LayerKind::Link { .. } => LINK_MODE,
        },
        xattrs,
        user: entry.owner.user,
        group: entry.owner.group,
        kind: match &entry.kind {
            LayerKind::File { content: Content::Git { id, size }, .. } => {
                PackKind::Content(id.clone(), *size)
            }
            LayerKind::File { content: Content::Rendered { bytes, .. }, .. } => {
                PackKind::Bytes(Arc::clone(bytes))
            }
            LayerKind::Link { target } => PackKind::Link(target.clone()),
            LayerKind::HardLink { target, .. } => PackKind::HardLink(target.to_string()),
            LayerKind::Directory { .. } => PackKind::Directory,
        },
    }
}

/// Only trusted refs get build secrets, and only those that the settings grant to their source. What was
/// built with a secret before is reused all the same: its image is no secret.
fn check_secrets(scope: &RunScope<'_>, step: &str, secrets: &[SecretRef]) -> Result<(), ControlError> {
    let Some(first) = secrets.first() else { return Ok(()) };
    if !scope.domain.trusted {
        let (step, secret) = (step.to_owned(), first.id.clone());
        return Err(ControlError::UntrustedSecret { step, secret });
    }
    match secrets.iter().find(|secret| !scope.secrets.has(&secret.id)) {
        None => Ok(()),
        Some(denied) => {
            let (step, secret) = (step.to_owned(), denied.id.clone());
            Err(ControlError::SecretNotGranted { step, secret })
        }
    }
}

fn file(operation: &'static str, source: std::io::Error) -> ControlError {
    ControlError::File { operation, source }
}

/// The repository for a source's contexts.
fn contexts(scope: &RunScope<'_>) -> Result<RepoName, ControlError> {
    let name = format!("{}/contexts", scope.source);
    name.parse().map_err(|source| ControlError::Hosting(HostingError::Name { source }))
}

/// Epochs have whole seconds: tar and OCI clients cut the rest.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_jobs_write_into_repositories_that_no_source_can_name() {
        let long = format!("p/{0}/{0}/{0}", "a".repeat(63));
        for (name, expected) in
            [("plants/hmi/plant-a", "untrusted__7/hmi/plant-a"), ("plants/hmi", "untrusted__7/hmi")]
        {
            let repository: RepoName = name.parse().unwrap();
            let trusted = repository_in(TrustDomain { source: 7, trusted: true }, &repository).unwrap();
            assert_eq!(trusted, repository);
            let other = repository_in(TrustDomain { source: 7, trusted: false }, &repository).unwrap();
            assert_eq!(other.as_str(), expected);
            let first = other.as_str().split('/').next().unwrap();
            assert!(first.parse::<edgewright_model::names::SourceName>().is_err(), "{first}");
        }
        let domain = TrustDomain { source: u64::MAX, trusted: false };
        assert!(repository_in(domain, &long.parse().unwrap()).is_ok());
    }
}
