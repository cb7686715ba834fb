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
    /// Digest of the base image, if `from` is a registry reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// The images that Containerfiles use besides their base, in the request's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<LockedImage>,
    /// For each platform, the installed packages of each `bootstrap` step, in step order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<Platform, Vec<Vec<LockedPackage>>>,
}

impl Lock {
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
