//! Locks: pins the current inputs from outside the repository.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::containerfile::ForeignImage;
use edgewright_model::error::{Chain, ErrorClass};
use edgewright_model::lock::{Lock, LockedArchive, LockedImage, LockedPackage};
use edgewright_model::names::Platform;
use edgewright_model::order::LockTask;
use edgewright_model::outcome::{JobEvent, JobFailure, Phase};
use edgewright_model::reference::{ImageReference, Reference};
use edgewright_model::spec::BootstrapStep;
use edgewright_oci::{ClientError, image};
use jiff::Timestamp;

use crate::bootstrap::{self, Apt, Host, Repository};
use crate::context::{BuildContext, Events};
use crate::{base, failure};

/// The packages of `minbase`: mmdebstrap installs the first alone, and the rest on top.
const ESSENTIAL: &str = "?essential";
const MINBASE: [&str; 3] = [ESSENTIAL, "?priority(required)", "apt"];
const LOCK_VERSION: u32 = 1;

/// Resolves an image's inputs from outside the repository into a lock.
pub async fn resolve_lock(
    task: &LockTask,
    ctx: &BuildContext,
    events: Events<'_>,
) -> Result<Lock, JobFailure> {
    let (base, bases) = match &task.request.base {
        Some(reference) => resolve_base(reference, &task.request.platforms, ctx, events).await?,
        None => (None, BTreeMap::new()),
    };
    let mut images = Vec::new();
    for image in &task.request.images {
        images.push(resolve_image(image, ctx, events).await?);
    }
    let (mut packages, mut archives) = (BTreeMap::new(), Vec::new());
    for platform in &task.request.platforms {
        let mut steps = Vec::new();
        for step in &task.request.bootstrap {
            let title = format!("{} for {platform}", step.suite);
            events(JobEvent::Phase { phase: Phase::Lock, title });
            let architecture = bootstrap::architecture(platform, Phase::Lock)?;
            let (closure, archive) = resolve_packages(task, step, architecture, ctx).await?;
            steps.push(closure);
            // Every platform has the same lines.
            if archives.len() < steps.len() {
                archives.push(archive);
            }
        }
        if !steps.is_empty() {
            packages.insert(platform.clone(), steps);
        }
    }
    Ok(Lock {
        version: LOCK_VERSION,
        request: task.request.digest(),
        // Images and tars have whole seconds.
        epoch: Timestamp::from_second(task.now.as_second()).unwrap_or(task.now),
        epochs: BTreeMap::new(),
        base,
        bases,
        archives,
        images,
        packages,
    })
}

async fn resolve_packages(
    task: &LockTask,
    step: &BootstrapStep,
    architecture: &str,
    ctx: &BuildContext,
) -> Result<(Vec<LockedPackage>, LockedArchive), JobFailure> {
    let repository = Repository::of(step, &Host::read(&ctx.host_etc), Phase::Lock)?;
    let apt = Apt::prepare(ctx, &repository, &task.keys, architecture, Phase::Lock)?;
    let fault = |error| bootstrap::failure_of(&error, step, &repository, Phase::Lock);
    apt.update(ctx).await.map_err(fault)?;
    let wanted = |first: &BTreeSet<LockedPackage>| -> Vec<String> {
        let first = first.iter().map(|package| package.name.clone());
        let minbase = MINBASE.iter().map(|name| (*name).to_owned());
        first.chain(minbase).chain(step.packages.iter().cloned()).collect()
    };
    let essential = apt.resolve(ctx, &[ESSENTIAL.to_owned()]).await.map_err(fault)?;
    let all = apt.resolve(ctx, &wanted(&essential)).await.map_err(fault)?;
    Ok((all.into_iter().collect(), repository.to_lock()))
}

/// The digest of an image that a Containerfile uses: of its platform's manifest, so that nothing is rebuilt
/// where only another platform moves.
async fn resolve_image(
    image: &ForeignImage,
    ctx: &BuildContext,
    events: Events<'_>,
) -> Result<LockedImage, JobFailure> {
    let ForeignImage { reference, platform } = image;
    events(JobEvent::Phase { phase: Phase::Lock, title: format!("{reference} for {platform}") });
    let locked = |digest| LockedImage { reference: reference.clone(), platform: platform.clone(), digest };
    if let Some(digest) = &reference.digest {
        return Ok(locked(digest.clone()));
    }
    let client = base::external(ctx, &reference.registry, &reference.repository)?;
    let hint = "check the reference in the Containerfile";
    let fault = |error: ClientError| match error.class() {
        ErrorClass::NotFound => missing(reference, hint),
        _ => failure::external(Phase::Lock, &error),
    };
    let manifest = client.pull_manifest(&reference.repository, &tag(reference)?).await.map_err(fault)?;
    if !image::is_index(&manifest) {
        return Ok(locked(manifest.digest));
    }
    let chosen = image::select(&manifest.bytes, platform).map_err(|error| {
        failure::image(Phase::Lock, format!("cannot use {reference}: {}", Chain(&error)), hint)
    })?;
    Ok(locked(chosen.digest))
}

fn tag(reference: &ImageReference) -> Result<Reference, JobFailure> {
    match &reference.tag {
        Some(tag) => Ok(Reference::Tag(tag.clone())),
        None => "latest".parse().map_err(|error| failure::local(Phase::Lock, &error)),
    }
}

fn missing(reference: &ImageReference, hint: &str) -> JobFailure {
    failure::image(Phase::Lock, format!("there is no image {reference}"), hint)
}

/// The digest of a base, and of its manifest for each platform where it is found by a tag.
async fn resolve_base(
    reference: &ImageReference,
    platforms: &[Platform],
    ctx: &BuildContext,
    events: Events<'_>,
) -> Result<(Option<Digest>, BTreeMap<Platform, Digest>), JobFailure> {
    events(JobEvent::Phase { phase: Phase::Lock, title: reference.to_string() });
    if let Some(digest) = &reference.digest {
        return Ok((Some(digest.clone()), BTreeMap::new()));
    }
    let client = base::external(ctx, &reference.registry, &reference.repository)?;
    let fault = |error: ClientError| failure::external(Phase::Lock, &error);
    let tag = tag(reference)?;
    if client.head_manifest(&reference.repository, &tag).await.map_err(fault)?.is_none() {
        return Err(missing(reference, "check the reference after `from:`"));
    }
    let manifest = client.pull_manifest(&reference.repository, &tag).await.map_err(fault)?;
    let mut bases = BTreeMap::new();
    for platform in platforms {
        let digest = if image::is_index(&manifest) {
            // The build reports a platform that the index does not have.
            let Ok(chosen) = image::select(&manifest.bytes, platform) else { continue };
            chosen.digest
        } else {
            manifest.digest.clone()
        };
        bases.insert(platform.clone(), digest);
    }
    Ok((Some(manifest.digest), bases))
}
