//! From graph nodes to job orders: packs contexts, pushes them, and cuts the order from what is built by now.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use edgewright_model::Digest;
use edgewright_model::names::ImageName;
use edgewright_model::order::{
    Base, BlobRef, Context, ImageTask, JobId, JobRequest, LaneOrder, LockTask, ManifestRef, StepAction,
    StepOrder, Task,
};
use edgewright_model::reference::RepoName;
use edgewright_model::spec::Lane;
use edgewright_model::tree::{ContentId, EntryKind, Tree, TreePath};
use edgewright_plan::context::ContextEntry;
use edgewright_plan::files::{Content, LayerKind};
use edgewright_plan::graph::{LaneChecks, Node};
use edgewright_plan::lock_request;
use edgewright_plan::step::{GraphStep, PlannedStep};
use edgewright_source::{PackEntry, PackKind};
use jiff::Timestamp;

use super::Driver;
use super::pack::Packing;
use super::prepare::Prepared;
use super::selection::Selection;
use crate::ControlError;
use crate::hosting::HostingError;

/// Mode of a context's entries; the executable bit is git's.
const FILE_MODE: u32 = 0o644;
const EXECUTABLE_MODE: u32 = 0o755;
/// The longest link target, as Linux has it, in bytes.
const LINK_LIMIT: usize = 4096;
/// The largest keyring in bytes.
const KEY_LIMIT: usize = 1024 * 1024;
/// Entries that hold no more bytes than this together travel in the order itself.
const INLINE_LIMIT: u64 = 64 * 1024;
/// Beyond the last check's own time: boot, evidence, removal.
const LANE_MARGIN_S: u64 = 120;

/// What a node still needs.
pub(crate) struct Work {
    /// The known manifest of the node's key, in the node's repository.
    pub(crate) known: Option<ManifestRef>,
    pub(crate) request: JobRequest,
}

impl Work {
    /// Whether the image is built and every lane answered.
    pub(crate) fn is_done(&self) -> bool {
        let empty = |task: &ImageTask| task.steps.is_empty() && task.lanes.is_empty();
        self.known.is_some() && matches!(&self.request.task, Task::Image(task) if empty(task))
    }
}

impl Driver<'_> {
    /// Cuts the order of a node: from the longest prefix that is built by now, with the lanes that nothing answers yet.
    pub(crate) async fn order(
        &self,
        prepared: &Prepared,
        node: &Node,
        job: JobId,
    ) -> Result<Work, ControlError> {
        let mut base = node.base.order().unwrap_or(Base::Scratch);
        let mut done = 0;
        for (position, step) in node.path.iter().enumerate().rev() {
            if let Some(build) = self.store.build(&step.key).await? {
                base = Base::Manifest(build.manifest);
                done = position + 1;
                break;
            }
        }
        if done == 0
            && let Some(build) = self.store.build(&node.root_key).await?
        {
            base = Base::Manifest(build.manifest);
        }
        let mut known = None;
        if let Base::Manifest(manifest) = &base
            && done == node.path.len()
        {
            let manifest = self.hosting.stand_in(manifest, &node.repository).await?;
            known = Some(manifest.clone());
            base = Base::Manifest(manifest);
        }
        let mut steps = Vec::new();
        for step in &node.path[done..] {
            steps.push(self.step(prepared, node, step).await?);
        }
        let mut lanes = Vec::new();
        for lane in &node.lanes {
            let again = self.selection.as_ref().is_some_and(Selection::again);
            if again || !self.is_answered(prepared, node, known.as_ref(), lane).await? {
                lanes.push(self.lane(lane));
            }
        }
        Ok(Work { known, request: self.job(job, image_task(node, base, steps, lanes)) })
    }

    /// The order that resolves an image's lock.
    pub(crate) async fn lock_order(
        &self,
        image: &ImageName,
        definition: &edgewright_model::spec::Definition,
        tree: &Tree,
        job: JobId,
    ) -> Result<Option<JobRequest>, ControlError> {
        let Some(spec) = definition.images.get(image) else { return Ok(None) };
        let request = lock_request(spec, &definition.source);
        let mut keys = BTreeMap::new();
        for path in request.bootstrap.iter().flat_map(|step| &step.keys) {
            if let Some(entry) = tree.entry(path) {
                keys.insert(path.clone(), entry.content.clone());
            }
        }
        let keys = self.keys(&keys).await?;
        let task =
            Task::Lock(LockTask { image: image.clone(), request, keys, now: whole_second(self.clock.now()) });
        Ok(Some(self.job(job, task)))
    }

    pub(crate) const fn job(&self, job: JobId, task: Task) -> JobRequest {
        JobRequest { job, task, within: self.settings.job_within }
    }

    pub(crate) fn lane(&self, lane: &LaneChecks) -> LaneOrder {
        use edgewright_model::duration::Span;
        let longest = lane.checks.iter().map(|check| check.within.get().as_secs()).max().unwrap_or(0);
        LaneOrder {
            keep: lane.lane == Lane::Container && self.selection.as_ref().is_some_and(|chosen| chosen.keep),
            lane: lane.lane,
            checks: lane.checks.to_vec(),
            check_set: lane.check_set.clone(),
            within: self.settings.lane_within.max(Span::from_secs(longest + LANE_MARGIN_S)),
        }
    }

    pub(crate) async fn step(
        &self,
        prepared: &Prepared,
        node: &Node,
        step: &Arc<GraphStep>,
    ) -> Result<StepOrder, ControlError> {
        let action = match &*step.work {
            PlannedStep::Bootstrap { step, packages, keys } => StepAction::Bootstrap {
                step: step.clone(),
                packages: packages.clone(),
                keys: self.keys(keys).await?,
                kept: None,
            },
            PlannedStep::Containerfile { step, containerfile, context } => {
                let mut entries = Vec::new();
                for entry in context.iter() {
                    entries.push(self.context_entry(entry).await?);
                }
                StepAction::Containerfile {
                    context: self.pack(prepared, node.epoch, entries).await?,
                    containerfile: containerfile.to_string(),
                    args: step.args.clone(),
                    target: step.target.clone(),
                    secrets: step.secrets.clone(),
                }
            }
            PlannedStep::Files { listing, delete, .. } => {
                let entries = listing.entries().into_iter().map(|entry| PackEntry {
                    path: entry.path.to_string(),
                    mode: match &entry.kind {
                        LayerKind::File { mode, .. }
                        | LayerKind::Directory { mode }
                        | LayerKind::HardLink { mode, .. } => *mode,
                        LayerKind::Link { .. } => 0o777,
                    },
                    xattrs: entry.xattrs.clone(),
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
                });
                StepAction::Files {
                    entries: self.pack(prepared, node.epoch, entries.collect()).await?,
                    delete: delete.clone(),
                }
            }
        };
        Ok(StepOrder { key: step.key.clone(), title: step.title.clone(), action })
    }

    /// Packs a context. A large one is pushed, and pinned until the run is over.
    async fn pack(
        &self,
        prepared: &Prepared,
        epoch: Timestamp,
        entries: Vec<PackEntry>,
    ) -> Result<Context, ControlError> {
        if entries.iter().map(PackEntry::size).sum::<u64>() <= INLINE_LIMIT {
            let tar = self.watched.mirror.repository().pack(entries, epoch, Vec::new()).await?;
            return Ok(Context::Inline { tar: base64::engine::general_purpose::STANDARD.encode(tar) });
        }
        let repository = contexts(prepared)?;
        let packed =
            Packing::new(&self.scratch).map_err(|source| file("make a file for a context", source))?;
        let packed = self.watched.mirror.repository().pack(entries, epoch, packed).await?;
        let (path, digest, size) = packed.finish().map_err(|source| file("write a context", source))?;
        let blob = BlobRef { repository, digest, size };
        self.hosting.push_file(&blob, &path).await?;
        self.hosting.pin(&self.contexts_pin(), &[(blob.repository.clone(), blob.digest.clone())]).await?;
        Ok(Context::Blob(blob))
    }

    async fn context_entry(&self, entry: &ContextEntry) -> Result<PackEntry, ControlError> {
        let kind = if entry.kind == EntryKind::Link {
            let target = self.watched.mirror.repository().read(&entry.content, LINK_LIMIT).await?;
            PackKind::Link(String::from_utf8_lossy(&target).into_owned())
        } else {
            PackKind::Content(entry.content.clone(), entry.size)
        };
        let mode = if entry.kind == EntryKind::Executable { EXECUTABLE_MODE } else { FILE_MODE };
        Ok(PackEntry { path: entry.path.to_string(), mode, user: 0, group: 0, xattrs: BTreeMap::new(), kind })
    }

    async fn keys(
        &self,
        keys: &BTreeMap<TreePath, ContentId>,
    ) -> Result<BTreeMap<String, String>, ControlError> {
        let mut encoded = BTreeMap::new();
        for (path, content) in keys {
            let bytes = self.watched.mirror.repository().read(content, KEY_LIMIT).await?;
            encoded.insert(path.to_string(), base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        Ok(encoded)
    }
}

/// What a node's job does.
pub(crate) fn image_task(node: &Node, base: Base, steps: Vec<StepOrder>, lanes: Vec<LaneOrder>) -> Task {
    Task::Image(ImageTask {
        node: node.id.name.to_string(),
        variant: node.variant().cloned(),
        platform: node.id.platform.clone(),
        repository: node.repository.clone(),
        base_key: base_key(node, &base, &steps),
        base,
        steps,
        epoch: node.epoch,
        labels: (*node.labels).clone(),
        lanes,
    })
}

/// What comes from outside and has no step here is recorded as it is mirrored: under the key of the base.
fn base_key(node: &Node, base: &Base, steps: &[StepOrder]) -> Option<Digest> {
    let is_mirrored = matches!(base, Base::External { .. }) && steps.is_empty() && node.path.is_empty();
    is_mirrored.then(|| node.root_key.clone())
}

fn file(operation: &'static str, source: std::io::Error) -> ControlError {
    ControlError::File { operation, source }
}

/// The repository for a source's contexts.
fn contexts(prepared: &Prepared) -> Result<RepoName, ControlError> {
    let name = format!("{}/contexts", prepared.definition.source.name);
    name.parse().map_err(|source| ControlError::Hosting(HostingError::Name { source }))
}

/// Epochs have whole seconds: tar and OCI clients cut the rest.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
