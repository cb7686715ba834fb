//! The effective lock of each image.
//!
//! A lock is resolved for a request. Of the locks for the *present* request, the committed one and the
//! overlays on the server, the one with the latest epoch wins, and the committed one if the epochs are equal:
//! an image is never downgraded by a commit with an older lock than the server's overlay, and the overlay
//! loses its effect as soon as the committed lock has caught up. Without a lock for the present request the
//! image is *unresolved*.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::containerfile::ForeignImage;
use edgewright_model::duration::Span;
use edgewright_model::lock::{Lock, LockRequest};
use edgewright_model::names::ImageName;
use edgewright_model::spec::{Definition, From, ImageSpec, SourceSpec, Step};
use edgewright_model::tools::ToolVersions;
use jiff::Timestamp;

/// The epoch of images without outside inputs, their own or an ancestor's: 2024-01-01T00:00:00Z. It only
/// dates files, so any constant works.
pub const DEFAULT_EPOCH: Timestamp = Timestamp::constant(1_704_067_200, 0);

/// The inputs of a graph that are not in git.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    /// Version of the layer compressor (`edgewright_oci::COMPRESSOR_VERSION`): it determines the bytes of
    /// every layer.
    pub compressor: String,
    /// Versions of the programs that execute steps.
    pub tools: ToolVersions,
    /// The effective lock of every image that has one; images that need one and are not in the map are
    /// unresolved.
    pub images: BTreeMap<ImageName, EffectiveLock>,
}

/// The lock that an image is built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveLock {
    /// The lock.
    pub lock: Lock,
    /// The lock's origin.
    pub origin: LockOrigin,
}

/// The origin of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOrigin {
    /// `images/NAME/edgewright.lock` in git.
    Committed,
    /// An overlay on the server, by its number.
    Overlay(u64),
}

impl Locks {
    /// Chooses every image's effective lock from the committed one and the server's overlays (number and
    /// lock), by the rule of this module.
    pub fn choose(
        definition: &Definition,
        overlays: &BTreeMap<ImageName, Vec<(u64, Lock)>>,
        compressor: impl Into<String>,
    ) -> Self {
        let images = definition
            .images
            .iter()
            .filter_map(|(name, image)| {
                let request = lock_request(image, &definition.source);
                if request.is_empty() {
                    return None;
                }
                let overlays = overlays.get(name).map_or(&[][..], Vec::as_slice);
                effective(&request, image.lock.as_ref(), overlays).map(|lock| (name.clone(), lock))
            })
            .collect();
        Self { compressor: compressor.into(), tools: ToolVersions::default(), images }
    }

    /// The same with the programs that execute steps.
    #[must_use]
    pub fn with_tools(self, tools: ToolVersions) -> Self {
        Self { tools, ..self }
    }
}

fn effective(
    request: &LockRequest,
    committed: Option<&Lock>,
    overlays: &[(u64, Lock)],
) -> Option<EffectiveLock> {
    let committed = committed.map(|lock| (LockOrigin::Committed, lock));
    let overlays = overlays.iter().map(|(number, lock)| (LockOrigin::Overlay(*number), lock));
    overlays
        .chain(committed)
        .filter(|(_, lock)| answers(lock, request))
        .max_by_key(|(origin, lock)| match origin {
            LockOrigin::Committed => (lock.epoch, u64::MAX),
            LockOrigin::Overlay(number) => (lock.epoch, *number),
        })
        .map(|(origin, lock)| EffectiveLock { lock: lock.clone(), origin })
}

/// Whether a lock was resolved for a request, and is complete.
pub fn answers(lock: &Lock, request: &LockRequest) -> bool {
    let packages_of = |platform| lock.packages.get(platform).map_or(0, Vec::len);
    lock.request == request.digest()
        && lock.base.is_some() == request.base.is_some()
        && lock.images.len() == request.images.len()
        && lock.images.iter().zip(&request.images).all(|(locked, image)| locked.is(image))
        && request.platforms.iter().all(|platform| packages_of(platform) == request.bootstrap.len())
}

/// The request of an image to the outside; empty if it has no outside inputs.
pub fn lock_request(image: &ImageSpec, source: &SourceSpec) -> LockRequest {
    let bootstrap = image.steps.iter().filter_map(|step| match step {
        Step::Bootstrap(step) => Some(step.clone()),
        Step::Containerfile(_) | Step::Files(_) => None,
    });
    LockRequest {
        base: match &image.from {
            From::External(reference) => Some(reference.clone()),
            From::Scratch | From::Image(_) => None,
        },
        bootstrap: bootstrap.collect(),
        platforms: platforms(image, source).to_vec(),
        images: foreign_images(image),
        refresh: image.steps.iter().filter_map(refresh).min(),
    }
}

/// The images that the image's Containerfiles use besides their base, each once, sorted.
fn foreign_images(image: &ImageSpec) -> Vec<ForeignImage> {
    let steps = image.steps.iter().filter_map(|step| match step {
        Step::Containerfile(step) => Some(step),
        Step::Bootstrap(_) | Step::Files(_) => None,
    });
    let images: BTreeSet<&ForeignImage> = steps.flat_map(|step| step.images.values().flatten()).collect();
    images.into_iter().cloned().collect()
}

const fn refresh(step: &Step) -> Option<Span> {
    match step {
        Step::Containerfile(step) => step.refresh,
        Step::Bootstrap(_) | Step::Files(_) => None,
    }
}

/// The platforms that an image is built for.
pub fn platforms<'a>(
    image: &'a ImageSpec,
    source: &'a SourceSpec,
) -> &'a [edgewright_model::names::Platform] {
    if image.platforms.is_empty() { &source.platforms } else { &image.platforms }
}

#[cfg(test)]
mod tests {
    use super::LockOrigin::{Committed, Overlay};
    use super::*;
    use edgewright_model::Digest;

    fn request(base: bool) -> LockRequest {
        LockRequest {
            base: base.then(|| "quay.io/a/b:1".parse().unwrap()),
            bootstrap: Vec::new(),
            platforms: vec!["linux/amd64".parse().unwrap()],
            images: Vec::new(),
            refresh: None,
        }
    }

    fn lock(epoch: i64, request: &LockRequest) -> Lock {
        Lock {
            version: 1,
            request: request.digest(),
            epoch: Timestamp::from_second(epoch).unwrap(),
            epochs: BTreeMap::new(),
            base: request.base.as_ref().map(|_| Digest::of("base")),
            bases: BTreeMap::new(),
            archives: Vec::new(),
            images: Vec::new(),
            packages: BTreeMap::new(),
        }
    }

    #[test]
    fn an_image_is_never_downgraded() {
        let (now, before) = (request(true), request(false));
        let at = |epoch| lock(epoch, &now);
        let stale = |epoch| lock(epoch, &before);
        let mut incomplete = at(9);
        incomplete.base = None;
        let chosen = |committed: Option<Lock>, overlays: &[(u64, Lock)]| {
            effective(&now, committed.as_ref(), overlays).map(|lock| lock.origin)
        };
        assert_eq!(chosen(None, &[]), None);
        assert_eq!(chosen(Some(stale(9)), &[(1, stale(9))]), None);
        assert_eq!(chosen(Some(incomplete), &[]), None);
        assert_eq!(chosen(Some(at(5)), &[]), Some(Committed));
        assert_eq!(chosen(Some(stale(9)), &[(1, at(5))]), Some(Overlay(1)));
        assert_eq!(chosen(Some(at(5)), &[(1, at(6))]), Some(Overlay(1)));
        assert_eq!(chosen(Some(at(6)), &[(1, at(6))]), Some(Committed));
        assert_eq!(chosen(Some(at(7)), &[(1, at(6)), (2, stale(8))]), Some(Committed));
        assert_eq!(chosen(None, &[(2, at(6)), (1, at(6))]), Some(Overlay(2)));
    }
}
