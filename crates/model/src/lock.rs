//! Locks: the outside inputs of an image, pinned.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::containerfile::ForeignImage;
use crate::digest::Digest;
use crate::duration::Span;
use crate::names::Platform;
use crate::reference::ImageReference;
use crate::spec::BootstrapStep;

/// The committed form of a lock, in its image's folder.
pub const LOCK_FILE: &str = "edgewright.lock";

/// `images/NAME/edgewright.lock` (JSON), or an overlay on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Format version, 1.
    pub version: u32,
    /// Digest of the [`LockRequest`] that the lock was resolved for: another request makes the lock stale.
    pub request: Digest,
    /// `created` of the image's config and the upper bound of its files' times.
    pub epoch: Timestamp,
    /// For a platform that an earlier lock pinned to the same inputs: the epoch of that lock, so that the
    /// move of another platform does not rebuild this one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub epochs: BTreeMap<Platform, Timestamp>,
    /// Digest of the base image, if `from` is a registry reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// Digest of the base's manifest for each platform, if `base` was found by its tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bases: BTreeMap<Platform, Digest>,
    /// The archive of each `bootstrap` step, in step order. Empty in locks of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<LockedArchive>,
    /// The images that Containerfiles use besides their base, in the request's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<LockedImage>,
    /// For each platform, the installed packages of each `bootstrap` step, in step order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<Platform, Vec<Vec<LockedPackage>>>,
}

impl Lock {
    /// The digest of the base for a platform: of its manifest if it is known, else of the index.
    pub fn base_of(&self, platform: &Platform) -> Option<&Digest> {
        self.bases.get(platform).or(self.base.as_ref())
    }

    /// The epoch of a platform's files.
    pub fn epoch_of(&self, platform: &Platform) -> Timestamp {
        self.epochs.get(platform).copied().unwrap_or(self.epoch)
    }

    /// Whether two locks pin the same base for a platform. An index may move for other platforms only.
    pub fn has_base_of(&self, other: &Self, platform: &Platform) -> bool {
        match (self.bases.get(platform), other.bases.get(platform)) {
            (Some(own), Some(other)) => own == other,
            _ => self.base == other.base,
        }
    }

    fn images_of<'a>(&'a self, platform: &'a Platform) -> impl Iterator<Item = &'a LockedImage> {
        self.images.iter().filter(move |image| image.platform == *platform)
    }

    /// Keeps the epoch of platforms for which nothing moved since an earlier lock.
    pub fn keep_epochs(&mut self, earlier: &Self) {
        for platform in self.bases.keys().chain(self.packages.keys()) {
            let is_same = self.has_base_of(earlier, platform)
                && self.packages.get(platform) == earlier.packages.get(platform)
                && self.images_of(platform).eq(earlier.images_of(platform));
            if is_same {
                self.epochs.insert(platform.clone(), earlier.epoch_of(platform));
            }
        }
    }

    /// The text of the committed form.
    pub fn to_file(&self) -> String {
        // Strings, lists and maps with text for keys always serialise.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// An image that a Containerfile uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// Its name, with its registry's host.
    pub reference: ImageReference,
    /// The platform that is taken from it.
    pub platform: Platform,
    /// The digest of the platform's manifest, or the one that the name has.
    pub digest: Digest,
}

impl LockedImage {
    /// Whether it is the one that a Containerfile names.
    pub fn is(&self, image: &ForeignImage) -> bool {
        self.reference == image.reference && self.platform == image.platform
    }

    /// Whether it has the name and platform of another one, whatever their digests are.
    pub fn is_version_of(&self, other: &Self) -> bool {
        self.reference == other.reference && self.platform == other.platform
    }
}

/// One installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// Its architecture in the distribution's spelling (`amd64`, `all`).
    pub architecture: String,
    /// SHA-256 of its archive. Locks of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Length of its archive in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl LockedPackage {
    /// A package whose archive is not known.
    pub fn new(name: impl Into<String>, version: impl Into<String>, architecture: impl Into<String>) -> Self {
        let (name, version, architecture) = (name.into(), version.into(), architecture.into());
        Self { name, version, architecture, sha256: None, size: None }
    }

    /// What a package manager calls the package.
    pub fn identity(&self) -> (&str, &str, &str) {
        (&self.name, &self.version, &self.architecture)
    }
}

/// The archive of a `bootstrap` step as the host that resolved the lock had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedArchive {
    /// The lines of `sources.list`.
    pub lines: Vec<String>,
    /// Digest of the host's keyring that verified it, if the step has no keys of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<Digest>,
}

/// An image's request to the outside: the part of its definition that a lock pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRequest {
    /// The base image, if `from` is a registry reference.
    pub base: Option<ImageReference>,
    /// The `bootstrap` steps, in order.
    pub bootstrap: Vec<BootstrapStep>,
    /// The platforms.
    pub platforms: Vec<Platform>,
    /// The images that `containerfile` steps use besides their base, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ForeignImage>,
    /// The shortest `refresh` of the image's `containerfile` steps: an older lock is due for renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Span>,
}

impl LockRequest {
    /// The request's digest, which a lock records in [`Lock::request`].
    pub fn digest(&self) -> Digest {
        // Plain structs of strings always serialise.
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Whether there is nothing to lock, so that the image inherits its parent's epoch.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.bootstrap.is_empty() && self.images.is_empty() && self.refresh.is_none()
    }

    /// Whether a lock of this epoch must be resolved again at `now`, because an unpinned input must be
    /// fetched again.
    pub fn is_due(&self, epoch: Timestamp, now: Timestamp) -> bool {
        let due = self.refresh.and_then(|refresh| epoch.checked_add(refresh.get()).ok());
        due.is_some_and(|due| due <= now)
    }
}
