//! The image between two steps: its documents, their repository, and the push of new layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{JobEvent, JobFailure, Phase};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_oci::image::{Image, LayerRef};
use edgewright_oci::index::{Index, LayerIndex};
use edgewright_oci::layer::{Layer, MAX_UNPACKED_BYTES};
use edgewright_oci::media;
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::io::SyncIoBridge;

use crate::context::{BuildContext, Events};
use crate::failure;

/// The least number of bytes between two progress events.
const PROGRESS_STEP: u64 = 4 * 1024 * 1024;
/// Maximum number of files and folders of a base: each has its name in memory.
const MAX_ENTRIES: usize = 4_000_000;
/// The number of a base's triggers that the log names, and the length of each, in characters.
const NAMED_TRIGGERS: usize = 10;
const TRIGGER_LENGTH: usize = 200;
/// Concurrent mounts or copies of a base's layers.
const COPIED_AT_ONCE: usize = 4;

pub(crate) struct ImageState {
    pub(crate) image: Image,
    /// The manifest of the image so far; none before the first step.
    pub(crate) current: Option<ManifestRef>,
    /// Length of that manifest in bytes.
    pub(crate) manifest_size: u64,
    /// The repository of the base's layers.
    layers_in: Option<RepoName>,
    repository: RepoName,
    epoch: Timestamp,
    labels: BTreeMap<String, String>,
}

impl ImageState {
    pub(crate) fn new(
        image: Image,
        current: Option<(ManifestRef, u64)>,
        repository: RepoName,
        epoch: Timestamp,
        labels: BTreeMap<String, String>,
    ) -> Self {
        let layers_in = current.as_ref().map(|(manifest, _)| manifest.repository.clone());
        let manifest_size = current.as_ref().map_or(0, |(_, size)| *size);
        let current = current.map(|(manifest, _)| manifest);
        Self { image, current, manifest_size, layers_in, repository, epoch, labels }
    }

    pub(crate) const fn epoch(&self) -> Timestamp {
        self.epoch
    }

    /// Pushes new layers, config and manifest. `layers` may be empty: then only the config changed.
    pub(crate) async fn publish(
        &mut self,
        ctx: &BuildContext,
        layers: Vec<Layer>,
        title: &str,
        events: Events<'_>,
    ) -> Result<(), JobFailure> {
        events(JobEvent::Phase { phase: Phase::Push, title: title.to_owned() });
        let base = self.image.layers().to_vec();
        for layer in &layers {
            self.image.add_layer(layer.reference(), title, self.epoch);
        }
        if layers.is_empty() {
            self.image.add_empty(title, self.epoch);
        }
        self.image.add_labels(&self.labels);
        self.push(ctx, &base, &layers, events).await
    }

    /// Removes the base's `ONBUILD` triggers: buildah would run these commands, which are in no file of the
    /// source, at the start of a Containerfile. The log names them.
    pub(crate) async fn remove_triggers(
        &mut self,
        ctx: &BuildContext,
        events: Events<'_>,
    ) -> Result<(), JobFailure> {
        let mut runtime = self.image.runtime();
        let Some(Value::Array(triggers)) = runtime.remove("OnBuild") else { return Ok(()) };
        if triggers.is_empty() {
            return Ok(());
        }
        for trigger in triggers.iter().take(NAMED_TRIGGERS) {
            let trigger: String = trigger.as_str().unwrap_or_default().chars().take(TRIGGER_LENGTH).collect();
            let line = format!(
                "[the base's trigger `ONBUILD {trigger}` is not executed: write it into the Containerfile]"
            );
            events(JobEvent::Log { line });
        }
        self.image.set_runtime(runtime);
        let base = self.image.layers().to_vec();
        self.push(ctx, &base, &[], events).await
    }

    /// Pushes the documents, with new layers; `base` are the layers below them.
    async fn push(
        &mut self,
        ctx: &BuildContext,
        base: &[LayerRef],
        layers: &[Layer],
        events: Events<'_>,
    ) -> Result<(), JobFailure> {
        let documents = self.image.documents(self.epoch);
        let digest = documents.manifest_descriptor.digest.clone();
        let fault = |error| failure::registry(Phase::Push, &error);
        let layers = async {
            for layer in layers {
                self.push_layer(ctx, layer, events).await?;
            }
            Ok(())
        };
        let config =
            async { ctx.client.push_blob_bytes(&self.repository, documents.config).await.map_err(fault) };
        tokio::try_join!(self.take_over(ctx, base), layers, config)?;
        self.layers_in = Some(self.repository.clone());
        self.manifest_size = documents.manifest_descriptor.size;
        let reference = Reference::Digest(digest.clone());
        ctx.client
            .push_manifest(&self.repository, &reference, media::MANIFEST, documents.manifest)
            .await
            .map_err(fault)?;
        self.current = Some(ManifestRef { repository: self.repository.clone(), digest });
        Ok(())
    }

    /// The index of all layers so far.
    pub(crate) async fn index(&self, ctx: &BuildContext) -> Result<Arc<Index>, JobFailure> {
        let layers: Vec<_> =
            self.image.layers().iter().map(|layer| layer.descriptor.digest.clone()).collect();
        let known = blocking({
            let (cache, layers) = (ctx.indexes.clone(), layers.clone());
            move || cache.merge(&layers)
        });
        if let Some(index) = known.await? {
            return Ok(index);
        }
        let mut index = Index::default();
        let mut left = MAX_UNPACKED_BYTES;
        for layer in self.image.layers() {
            let layer = self.layer_index(ctx, layer, &mut left).await?;
            index = blocking(move || {
                index.apply(&layer);
                index
            })
            .await?;
            if index.len() > MAX_ENTRIES {
                let message = format!("the base has more than {MAX_ENTRIES} files");
                return Err(failure::image(Phase::Fetch, message, "use a smaller base image"));
            }
        }
        let index = Arc::new(index);
        ctx.indexes.put_merged(layers, &index);
        Ok(index)
    }

    /// The index of a layer. `left`: how many bytes the image's layers may still unpack to.
    async fn layer_index(
        &self,
        ctx: &BuildContext,
        layer: &LayerRef,
        left: &mut u64,
    ) -> Result<Arc<LayerIndex>, JobFailure> {
        let digest = layer.descriptor.digest.clone();
        let cache = &ctx.indexes;
        if let Some(known) = blocking({
            let (cache, digest) = (cache.clone(), digest.clone());
            move || cache.get(&digest)
        })
        .await?
        {
            return Ok(known);
        }
        let repository = self.layers_in.as_ref().unwrap_or(&self.repository);
        let reader = ctx.client.pull_blob(repository, &digest).await;
        let reader = reader.map_err(|error| failure::registry(Phase::Fetch, &error))?;
        let media_type = layer.descriptor.media_type.clone();
        let bridge = SyncIoBridge::new(reader.into_read());
        // Whether the job is cancelled or its future dropped: the thread must end, too.
        let waited_for = ctx.process.cancel().child_token();
        let (limit, ended, _guard) = (*left, waited_for.clone(), waited_for.drop_guard());
        let is_over = move || ended.is_cancelled();
        let scanned = blocking(move || LayerIndex::scan_blob(bridge, &media_type, limit, is_over)).await?;
        let (index, rest) = scanned.map_err(|error| failure::base_layer(&error))?;
        *left = rest;
        keep_index(ctx, digest, index.clone()).await?;
        Ok(Arc::new(index))
    }

    async fn push_layer(
        &self,
        ctx: &BuildContext,
        layer: &Layer,
        events: Events<'_>,
    ) -> Result<(), JobFailure> {
        keep_index(ctx, layer.digest.clone(), layer.index.clone()).await?;
        let reported = std::sync::atomic::AtomicU64::new(0);
        let progress = |done: u64, total: Option<u64>| {
            let last = reported.load(std::sync::atomic::Ordering::Relaxed);
            if done >= last + PROGRESS_STEP || (Some(done) == total && done > PROGRESS_STEP) {
                reported.store(done, std::sync::atomic::Ordering::Relaxed);
                events(JobEvent::Progress { done, total, unit: "bytes".to_owned() });
            }
        };
        ctx.client
            .push_blob_file(&self.repository, &layer.path, &layer.digest, layer.size, &progress)
            .await
            .map_err(|error| failure::registry(Phase::Push, &error))?;
        // It is in the registry now; if this fails, the file is removed with the job's folder.
        let _ = tokio::fs::remove_file(&layer.path).await;
        Ok(())
    }

    /// Copies the base's layers into the repository of the results, by mounts if the registry supports them.
    async fn take_over(&self, ctx: &BuildContext, layers: &[LayerRef]) -> Result<(), JobFailure> {
        let Some(from) = self.layers_in.as_ref().filter(|from| **from != self.repository) else {
            return Ok(());
        };
        let mut copies = Vec::with_capacity(layers.len());
        for layer in layers {
            copies.push(copy_blob(ctx, from, &self.repository, &layer.descriptor.digest).boxed());
        }
        stream::iter(copies).buffer_unordered(COPIED_AT_ONCE).try_collect().await
    }
}

async fn copy_blob(
    ctx: &BuildContext,
    from: &RepoName,
    to: &RepoName,
    digest: &Digest,
) -> Result<(), JobFailure> {
    let fault = |error| failure::registry(Phase::Push, &error);
    if ctx.client.mount_blob(to, digest, from).await.map_err(fault)? {
        return Ok(());
    }
    let folder = ctx.folder("blobs").map_err(|error| failure::local(Phase::Push, &error))?;
    let path = folder.join(digest.hex());
    let quiet = edgewright_oci::client::QUIET;
    let size = ctx.client.pull_blob_file(from, digest, &path, quiet).await.map_err(fault)?;
    ctx.client.push_blob_file(to, &path, digest, size, quiet).await.map_err(fault)?;
    let _ = tokio::fs::remove_file(&path).await;
    Ok(())
}

async fn keep_index(ctx: &BuildContext, digest: Digest, index: LayerIndex) -> Result<(), JobFailure> {
    let cache = ctx.indexes.clone();
    // Without a cache, the next build is only slower.
    let kept = blocking(move || cache.put(&digest, &index)).await?;
    if let Err(error) = kept {
        tracing::warn!(%error, "cannot cache a layer's index");
    }
    Ok(())
}

/// Runs blocking work on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobFailure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failure::local(Phase::Build, &error))
}
