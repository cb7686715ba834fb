//! The image between two steps: its documents, their repository, and the push of new layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::{JobEvent, JobFailure, Phase};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_oci::image::{Image, LayerRef};
use edgewright_oci::index::Index;
use edgewright_oci::layer::Layer;
use edgewright_oci::media::{self, Descriptor};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use crate::context::{BuildContext, Events};
use crate::failure;
use crate::indexes::{index_image, keep_index};

/// The least number of bytes between two progress events.
const PROGRESS_STEP: u64 = 4 * 1024 * 1024;
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
        let triggers = self.image.take_triggers();
        if triggers.is_empty() {
            return Ok(());
        }
        for trigger in triggers.iter().take(NAMED_TRIGGERS) {
            let trigger: String = trigger.chars().take(TRIGGER_LENGTH).collect();
            let line = format!(
                "[the base's trigger `ONBUILD {trigger}` is not executed: write it into the Containerfile]"
            );
            events(JobEvent::Log { line });
        }
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
        let layers: Vec<Descriptor> =
            self.image.layers().iter().map(|layer| layer.descriptor.clone()).collect();
        let repository = self.layers_in.as_ref().unwrap_or(&self.repository);
        index_image((&ctx.client, repository), &layers, &ctx.indexes, ctx.process.cancel()).await
    }

    async fn push_layer(
        &self,
        ctx: &BuildContext,
        layer: &Layer,
        events: Events<'_>,
    ) -> Result<(), JobFailure> {
        keep_index(&ctx.indexes, layer.digest.clone(), layer.index.clone()).await?;
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

/// Runs blocking work on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobFailure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failure::local(Phase::Build, &error))
}
