//! Pulls an image's layers one by one and applies them to one tree.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

use edgewright_model::duration::Span;
use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::FailureKind;
use edgewright_model::reference::Reference;
use edgewright_oci::client::QUIET;
use edgewright_oci::layer::{Guard, LayerError, MAX_UNPACKED_BYTES};
use edgewright_oci::{ClientError, image, layer};
use edgewright_process::CancellationToken;
use serde::Deserialize;

use super::rootfs::RootFs;
use crate::lane::LabContext;
use crate::machine::LaneFault;

/// Longest config of an image, in bytes.
const CONFIG_LIMIT: u64 = 4 * 1024 * 1024;
/// Longest title of a layer in a message, in characters: a Containerfile's can be a whole script.
const TITLE: usize = 60;

/// The contents of an image.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The tree that the layers make.
    pub(super) rootfs: RootFs,
    /// The layers, lowest first.
    pub(super) layers: Vec<LayerFacts>,
    /// The architecture in the image's config; empty if it names none.
    pub(super) architecture: String,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerFacts {
    /// The step that made it, from the image's history.
    pub(super) title: String,
    /// Its compressed size, in bytes.
    pub(super) download: u64,
}

/// Pulls and reads all layers.
pub(super) async fn read(
    manifest: &ManifestRef,
    context: &LabContext,
    deadline: Instant,
    within: Span,
) -> Result<Contents, LaneFault> {
    // A caller that stops waiting must also stop the thread that reads: it checks this before every read.
    let watch = Watch { cancel: context.processes.cancel().clone(), deadline };
    let read = tokio::time::timeout_at(deadline.into(), read_all(manifest, context, &watch));
    let over = || fault(format!("the time limit of {within} was exceeded"));
    tokio::select! {
        read = read => match read {
            Ok(Err(_)) if watch.is_over() => Err(over()),
            read => read.map_err(|_| over())?,
        },
        () = watch.cancel.cancelled() => Err(fault("the job was cancelled".to_owned())),
    }
}

async fn read_all(
    manifest: &ManifestRef,
    context: &LabContext,
    watch: &Watch,
) -> Result<Contents, LaneFault> {
    let unreadable = |what: &str, error: &ClientError| fault(format!("{what}: {}", Chain(error)));
    let (client, repository) = (&context.client, &manifest.repository);
    let by_digest = Reference::Digest(manifest.digest.clone());
    let pulled = client.pull_manifest(repository, &by_digest).await;
    let pulled = pulled.map_err(|error| unreadable("cannot read the manifest", &error))?;
    let odd = |error| fault(format!("malformed manifest: {}", Chain(&error)));
    let descriptors = image::layers(&pulled.bytes).map_err(odd)?;
    let config = image::config(&pulled.bytes).map_err(odd)?;
    let config = client.pull_blob_bytes(repository, &config.digest, CONFIG_LIMIT).await;
    let config = config.map_err(|error| unreadable("cannot read the config", &error))?;
    let config: Config = serde_json::from_slice(&config).unwrap_or_default();
    let architecture = config.architecture.clone();
    let titles = titles(config, descriptors.len());

    let mut contents = Contents { architecture, ..Contents::default() };
    let mut left = MAX_UNPACKED_BYTES;
    let scratch = tempfile::tempdir_in(&context.scratch).map_err(|error| {
        fault(format!("cannot create a scratch folder in {}: {error}", context.scratch.display()))
    })?;
    for (descriptor, title) in descriptors.into_iter().zip(titles) {
        let path = scratch.path().join(descriptor.digest.hex());
        let pulled = client.pull_blob_file(repository, &descriptor.digest, &path, QUIET).await;
        let download = pulled.map_err(|error| unreadable("cannot read a layer", &error))?;
        let (media_type, watch) = (descriptor.media_type.clone(), watch.clone());
        let rootfs = std::mem::take(&mut contents.rootfs);
        let applied =
            tokio::task::spawn_blocking(move || apply(rootfs, &path, &media_type, (left, watch))).await;
        let applied = applied.map_err(|error| fault(format!("reading a layer panicked: {error}")))?;
        (contents.rootfs, left) = applied?;
        contents.layers.push(LayerFacts { title, download });
    }
    Ok(contents)
}

/// Applies a layer's file and removes it. `limit`: the bytes that the layer may unpack to; gives what is left of
/// them.
fn apply(
    mut rootfs: RootFs,
    path: &Path,
    media_type: &str,
    (limit, watch): (u64, Watch),
) -> Result<(RootFs, u64), LaneFault> {
    let broken = |error: LayerError| {
        let kind = if is_of_image(&error) { FailureKind::Image } else { FailureKind::Infrastructure };
        LaneFault { kind, message: format!("cannot unpack a layer: {}", Chain(&error)) }
    };
    let file = File::open(path).map_err(|error| broken(LayerError::Read(error)))?;
    let tar = layer::decompress(file, media_type).map_err(broken)?;
    let mut tar = Guard::new(tar, limit, || watch.is_over() || watch.cancel.is_cancelled());
    rootfs.apply(&mut tar).map_err(broken)?;
    // If this fails, the file is removed with the scratch folder.
    let _ = fs::remove_file(path);
    Ok((rootfs, tar.left()))
}

/// The file has the layer's digest, so a malformed layer is the image's fault; only errors of the system are
/// not.
fn is_of_image(error: &LayerError) -> bool {
    match error {
        LayerError::Read(source) => {
            source.raw_os_error().is_none() && source.kind() != io::ErrorKind::TimedOut
        }
        error => error.is_content(),
    }
}

fn fault(message: String) -> LaneFault {
    LaneFault { kind: FailureKind::Infrastructure, message }
}

/// The part of an image's config that describes the origin of its layers.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    history: Vec<HistoryEntry>,
}

#[derive(Debug, Deserialize)]
struct HistoryEntry {
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    empty_layer: bool,
}

/// A title for every layer; a number if the history has none.
fn titles(config: Config, count: usize) -> Vec<String> {
    let mut entries = config.history.into_iter().filter(|entry| !entry.empty_layer);
    let title = |number: usize| {
        let text = entries.next().map(|entry| entry.created_by).unwrap_or_default();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.chars().count() {
            0 => format!("layer {number}"),
            1..=TITLE => line,
            _ => line.chars().take(TITLE).chain(['…']).collect(),
        }
    };
    (1..=count).map(title).collect()
}

/// When to stop reading.
#[derive(Debug, Clone)]
struct Watch {
    cancel: CancellationToken,
    deadline: Instant,
}

impl Watch {
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_after_their_steps() {
        let config = br#"{"history":[
            {"created_by":"bootstrap trixie"}, {"created_by":"nothing","empty_layer":true},
            {"created_by":"RUN  a\n  b"}, {"comment":"silent"}]}"#;
        let parsed = |text: &[u8]| serde_json::from_slice(text).unwrap_or_default();
        assert_eq!(titles(parsed(config), 4), ["bootstrap trixie", "RUN a b", "layer 3", "layer 4"]);
        assert_eq!(titles(parsed(b"rubbish"), 1), ["layer 1"]);
        let long = format!(r#"{{"history":[{{"created_by":"{}"}}]}}"#, "x".repeat(500));
        assert_eq!(titles(parsed(long.as_bytes()), 1)[0].chars().count(), TITLE + 1);
    }
}
