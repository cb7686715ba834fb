//! Whether a device has all bytes of its image, from what was sent to it.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_rollout::state::Rung;
use edgewright_store::fleet::Image;
use edgewright_store::fleet_evidence::DeviceFact;

use super::Devices;
use super::notes::{Download, INFERRED, Noted, OBSERVED};
use super::port::Evidence;
use crate::hosting::Hosting;

impl Devices {
    /// Whether a device has everything of its image.
    pub(super) async fn judge_download(
        &self,
        hosting: &Hosting,
        known: &mut Blobs,
        device: &DeviceId,
        download: &Download,
    ) {
        let before = match &download.before {
            Some(image) if self.has_downloaded(device, image).await => {
                self.parts(hosting, known, image).await
            }
            _ => Vec::new(),
        };
        let before: BTreeSet<&Digest> = before.iter().flat_map(|part| &part.blobs).collect();
        let has = |digest: &Digest| download.sent.contains(digest) || before.contains(digest);
        for part in self.parts(hosting, known, &download.image).await {
            if !download.sent.contains(&part.manifest) {
                continue;
            }
            let basis = if part.blobs.iter().all(has) {
                self.0.notes.finish(device, &download.image);
                OBSERVED
            } else if download.sent.contains(&part.config) && download.has_polled {
                // Clients fetch no layer that they have.
                INFERRED
            } else {
                continue;
            };
            let evidence = Evidence::Reached(Rung::Downloaded);
            let (digest, at) = (download.image.digest.clone(), self.0.clock.now());
            self.0.notes.add(Noted { device: device.clone(), digest, evidence, basis, at });
        }
    }

    /// Whether it is known for sure that a device has an image.
    async fn has_downloaded(&self, device: &DeviceId, image: &Image) -> bool {
        let facts = self.0.store.device_facts(device).await.unwrap_or_default();
        let is_there = |fact: &DeviceFact| {
            fact.digest == image.digest
                && fact.basis != INFERRED
                && matches!(fact.rung.as_str(), "downloaded" | "booted" | "healthy")
        };
        facts.iter().any(is_there)
    }

    /// What an image consists of on each platform. What the registry does not give now is left out: downloads
    /// are judged again when more was sent.
    async fn parts(&self, hosting: &Hosting, known: &mut Blobs, image: &Image) -> Vec<Part> {
        if let Some(parts) = known.get(&image.digest) {
            return parts.clone();
        }
        let index = self.0.store.index(&image.digest).await.ok().flatten().unwrap_or_default();
        let mut manifests: Vec<Digest> = index.into_values().collect();
        manifests.push(image.digest.clone());
        let mut parts = Vec::new();
        for manifest in manifests {
            match hosting.blobs_of(&image.repository, &manifest).await {
                Ok(Some((config, mut blobs))) => {
                    blobs.push(config.clone());
                    parts.push(Part { manifest, config, blobs });
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "cannot read a manifest"),
            }
        }
        known.insert(image.digest.clone(), parts.clone());
        parts
    }
}

/// The manifest of one platform, and all of its blobs.
#[derive(Debug, Clone)]
pub(super) struct Part {
    manifest: Digest,
    config: Digest,
    blobs: Vec<Digest>,
}

/// The parts of images, by index, in one pass.
pub(super) type Blobs = BTreeMap<Digest, Vec<Part>>;
