//! The base of the first step: nothing, a manifest of the order's registry, or one mirrored from another
//! registry.

use edgewright_model::lock::LockedImage;
use edgewright_model::names::Platform;
use edgewright_model::order::{Base, ImageTask, ManifestRef};
use edgewright_model::outcome::{JobEvent, JobFailure, Phase};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_oci::image::{self, Image};
use edgewright_oci::{Client, Credentials, Descriptor, ManifestBytes, media};

use crate::context::{BuildContext, Events};
use crate::failure;
use crate::image_state::ImageState;

/// The largest config, in bytes: configs are small documents.
const CONFIG_LIMIT: u64 = 8 * 1024 * 1024;

pub(crate) async fn open(
    task: &ImageTask,
    ctx: &BuildContext,
    events: Events<'_>,
) -> Result<ImageState, JobFailure> {
    let (image, current) = match &task.base {
        Base::Scratch => (Image::scratch(&task.platform), None),
        Base::Manifest(at) => {
            events(JobEvent::Phase {
                phase: Phase::Fetch,
                title: format!("{}@{}", at.repository, at.digest),
            });
            let (image, size) = load(&ctx.client, at).await.map_err(Fault::of_registry)?;
            check_platform(&image, &task.platform, &format!("{}@{}", at.repository, at.digest))?;
            (image, Some((at.clone(), size)))
        }
        Base::External { registry, repository, digest } => {
            let title = format!("{registry}/{repository}@{digest}");
            events(JobEvent::Phase { phase: Phase::Fetch, title });
            let source = external(ctx, registry, repository)?;
            let from = ManifestRef { repository: repository.clone(), digest: digest.clone() };
            let mirrored = mirror(&source, &from, task, ctx, events).await?;
            let (image, size) = load(&ctx.client, &mirrored).await.map_err(Fault::of_registry)?;
            check_platform(&image, &task.platform, &format!("{registry}/{repository}@{digest}"))?;
            (image, Some((mirrored, size)))
        }
    };
    Ok(ImageState::new(image, current, task.repository.clone(), task.epoch, task.labels.clone()))
}

/// An index and a reference say nothing about the files: the config does. With files of another architecture,
/// an image is built and passes, and starts nowhere.
fn check_platform(image: &Image, wanted: &Platform, name: &str) -> Result<(), JobFailure> {
    let Some(other) = image.other_platform(wanted) else { return Ok(()) };
    let hint = format!("name a base image for {wanted}, or build for {other} (`platforms:`)");
    Err(failure::image(Phase::Fetch, format!("the base is {other}, not {wanted}: {name}"), &hint))
}

/// A client of a registry that an image names.
pub(crate) fn external(
    ctx: &BuildContext,
    registry: &str,
    repository: &RepoName,
) -> Result<Client, JobFailure> {
    let credentials = match &ctx.auth {
        None => Credentials::Anonymous,
        Some(text) => Credentials::from_auth_json(text, registry, repository.as_str()).map_err(|error| {
            failure::infrastructure(
                Phase::Fetch,
                format!("malformed registry credentials: {error}"),
                Some("write the file again with `podman login --authfile FILE REGISTRY`"),
            )
        })?,
    };
    Client::for_host(registry, credentials).map_err(|error| failure::external(Phase::Fetch, &error))
}

/// Copies an image that a Containerfile uses into the task's repository.
pub(crate) async fn foreign(
    image: &LockedImage,
    task: &ImageTask,
    ctx: &BuildContext,
    events: Events<'_>,
) -> Result<ManifestRef, JobFailure> {
    let LockedImage { reference, platform, digest } = image;
    let title = format!("{}/{}@{digest}", reference.registry, reference.repository);
    events(JobEvent::Phase { phase: Phase::Fetch, title });
    let source = external(ctx, &reference.registry, &reference.repository)?;
    let from = ManifestRef { repository: reference.repository.clone(), digest: digest.clone() };
    let task = ImageTask { platform: platform.clone(), ..task.clone() };
    mirror(&source, &from, &task, ctx, events).await
}

enum Fault {
    Registry(edgewright_oci::ClientError),
    Image(image::ImageError),
}

impl Fault {
    fn of_registry(self) -> JobFailure {
        match self {
            Self::Registry(error) => failure::registry(Phase::Fetch, &error),
            Self::Image(error) => failure::local(Phase::Fetch, &error),
        }
    }
}

async fn load(client: &Client, at: &ManifestRef) -> Result<(Image, u64), Fault> {
    let reference = Reference::Digest(at.digest.clone());
    let manifest = client.pull_manifest(&at.repository, &reference).await.map_err(Fault::Registry)?;
    let config = image::config(&manifest.bytes).map_err(Fault::Image)?;
    let config = client.pull_blob_bytes(&at.repository, &config.digest, CONFIG_LIMIT).await;
    let config = config.map_err(Fault::Registry)?;
    let image = Image::parse(&manifest.bytes, &config).map_err(Fault::Image)?;
    Ok((image, manifest.bytes.len() as u64))
}

/// Copies the platform's manifest with all its blobs into the task's repository, byte for byte.
async fn mirror(
    source: &Client,
    from: &ManifestRef,
    task: &ImageTask,
    ctx: &BuildContext,
    events: Events<'_>,
) -> Result<ManifestRef, JobFailure> {
    let fault = |error| failure::external(Phase::Fetch, &error);
    let invalid = |error: image::ImageError| {
        failure::image(Phase::Fetch, error.to_string(), "name a base image that has this platform")
    };
    let target = ManifestRef { repository: task.repository.clone(), digest: from.digest.clone() };
    let reference = Reference::Digest(from.digest.clone());
    let mut manifest = source.pull_manifest(&from.repository, &reference).await.map_err(fault)?;
    if image::is_index(&manifest) {
        let chosen = image::select(&manifest.bytes, &task.platform).map_err(invalid)?;
        let reference = Reference::Digest(chosen.digest);
        manifest = source.pull_manifest(&from.repository, &reference).await.map_err(fault)?;
    }
    // Before its layers are copied.
    let config = image::config(&manifest.bytes).map_err(invalid)?;
    let config =
        source.pull_blob_bytes(&from.repository, &config.digest, CONFIG_LIMIT).await.map_err(fault)?;
    let image = Image::parse(&manifest.bytes, &config).map_err(invalid)?;
    let name = format!("{}/{}@{}", source.host(), from.repository, from.digest);
    check_platform(&image, &task.platform, &name)?;
    let target = ManifestRef { digest: manifest.digest.clone(), ..target };
    let reference = Reference::Digest(target.digest.clone());
    let known = ctx.client.head_manifest(&target.repository, &reference).await;
    if known.map_err(|error| failure::registry(Phase::Push, &error))?.is_some() {
        return Ok(target);
    }
    let mut blobs = vec![image::config(&manifest.bytes).map_err(invalid)?];
    blobs.extend(image::layers(&manifest.bytes).map_err(invalid)?);
    for blob in &blobs {
        mirror_blob(source, &from.repository, blob, &target.repository, ctx, events).await?;
    }
    push(&ctx.client, &target, &manifest).await?;
    Ok(target)
}

async fn mirror_blob(
    source: &Client,
    from: &RepoName,
    blob: &Descriptor,
    to: &RepoName,
    ctx: &BuildContext,
    events: Events<'_>,
) -> Result<(), JobFailure> {
    let registry = |error| failure::registry(Phase::Push, &error);
    if ctx.client.has_blob(to, &blob.digest).await.map_err(registry)? {
        return Ok(());
    }
    let folder = ctx.folder("blobs").map_err(|error| failure::local(Phase::Fetch, &error))?;
    let path = folder.join(blob.digest.hex());
    let total = Some(blob.size);
    let last = std::sync::atomic::AtomicU64::new(0);
    let progress = |done: u64, _| {
        // At most one event for each percent.
        if done * 100 / blob.size.max(1)
            > last.swap(done * 100 / blob.size.max(1), std::sync::atomic::Ordering::Relaxed)
        {
            events(JobEvent::Progress { done, total, unit: "bytes".to_owned() });
        }
    };
    let pulled = source.pull_blob_file(from, &blob.digest, &path, &progress).await;
    pulled.map_err(|error| failure::external(Phase::Fetch, &error))?;
    let quiet = edgewright_oci::client::QUIET;
    ctx.client.push_blob_file(to, &path, &blob.digest, blob.size, quiet).await.map_err(registry)?;
    let _ = tokio::fs::remove_file(&path).await;
    Ok(())
}

async fn push(client: &Client, at: &ManifestRef, manifest: &ManifestBytes) -> Result<(), JobFailure> {
    let reference = Reference::Digest(at.digest.clone());
    let media_type = if manifest.media_type.is_empty() { media::MANIFEST } else { &manifest.media_type };
    client
        .push_manifest(&at.repository, &reference, media_type, manifest.bytes.clone())
        .await
        .map(drop)
        .map_err(|error| failure::registry(Phase::Push, &error))
}
