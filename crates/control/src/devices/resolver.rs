//! The virtual repositories of devices: `device/self` is that of the credential, `device/ID` that of the
//! name.
//!
//! | name | answers |
//! |---|---|
//! | `device/self:current` | the device's offer |
//! | `device/self@DIGEST`, its blobs | content of the repository that the offer is in |
//! | `device/self/healthy@DIGEST` | the same, and notes that the device runs the digest and is healthy |
//! | `device/self/failed@DIGEST` | the same, and notes that the digest failed on the device |
//!
//! Blobs may be read in external registries.
//! An operator sees the same content under `device/ID`, and notes nothing by it.

use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::names::DeviceId;
use edgewright_model::principal::Principal;
use edgewright_model::reference::{Reference, RepoName, Tag};
use edgewright_registry::{External, Lookup, Resolution, TagResolver, Target};
use edgewright_rollout::state::Rung;
use edgewright_store::fleet::Image;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use super::notes::Noted;
use super::port::Evidence;
use super::{Devices, offers::Offer};
use crate::releases::tags::ChannelTags;

/// The first component of virtual repositories.
pub const VIRTUAL: &str = "device";
/// The tag of the offer.
const CURRENT: &str = "current";
/// How often an offer is decided again that a rollout took back in the same moment.
const ATTEMPTS_LIMIT: usize = 3;

/// The name of a virtual repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Virtual {
    /// The device; none: that of the credential.
    pub device: Option<DeviceId>,
    /// What a lookup by digest means.
    pub beacon: Option<Beacon>,
}

/// What a device reports by looking up a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beacon {
    /// It runs the digest, and its checks passed.
    Healthy,
    /// The digest failed.
    Failed,
}

impl Virtual {
    /// Reads a repository's name. The outer none: it is an ordinary one; the inner one: no such virtual one.
    pub fn of(repository: &RepoName) -> Option<Option<Self>> {
        let mut parts = repository.as_str().split('/');
        if parts.next() != Some(VIRTUAL) {
            return None;
        }
        let device = match parts.next() {
            Some("self") => Some(None),
            Some(id) => id.parse().ok().map(Some),
            None => None,
        };
        let beacon = match parts.next() {
            None => Some(None),
            Some("healthy") => Some(Some(Beacon::Healthy)),
            Some("failed") => Some(Some(Beacon::Failed)),
            Some(_) => None,
        };
        let is_over = parts.next().is_none();
        Some(device.zip(beacon).filter(|_| is_over).map(|(device, beacon)| Self { device, beacon }))
    }
}

/// Answers for devices, and for everything else as [`ChannelTags`].
#[derive(Debug, Clone)]
pub struct Names {
    pub tags: ChannelTags,
    pub devices: Devices,
    /// What devices read in external registries.
    pub external: Arc<dyn External>,
}

impl TagResolver for Names {
    fn resolve<'a>(
        &'a self,
        principal: &'a Principal,
        repository: &'a RepoName,
        lookup: Lookup<'a>,
    ) -> BoxFuture<'a, Resolution> {
        match Virtual::of(repository) {
            None => self.tags.resolve(principal, repository, lookup),
            Some(None) => ready(Resolution::Reserved(None)).boxed(),
            Some(Some(name)) => self.devices.resolve(principal, name, lookup).boxed(),
        }
    }

    fn tags<'a>(&'a self, principal: &'a Principal, repository: &'a RepoName) -> BoxFuture<'a, Vec<Tag>> {
        if Virtual::of(repository).is_none() {
            return self.tags.tags(principal, repository);
        }
        let lists = Virtual::of(repository).flatten().is_some_and(|name| name.beacon.is_none());
        ready(CURRENT.parse().ok().filter(|_| lists).into_iter().collect()).boxed()
    }

    fn external(&self) -> Option<&dyn External> {
        Some(&*self.external)
    }
}

impl Devices {
    async fn resolve(&self, principal: &Principal, name: Virtual, lookup: Lookup<'_>) -> Resolution {
        let own = match principal {
            Principal::Device { id: Some(id) } => Some(id),
            _ => None,
        };
        let Some(device) = name.device.as_ref().or(own) else { return Resolution::Reserved(None) };
        let is_own = own == Some(device);
        match lookup {
            Lookup::Manifest(Reference::Tag(tag)) if tag.as_str() == CURRENT && name.beacon.is_none() => {
                if !is_own {
                    return Resolution::Reserved(self.preview(device).and_then(target));
                }
                match self.answer(device).await {
                    Ok(image) => Resolution::Reserved(image.map(into_target)),
                    Err(error) => {
                        tracing::error!(device.id = %device, error = %Chain(&error), "cannot answer a device");
                        Resolution::Unavailable
                    }
                }
            }
            Lookup::Manifest(Reference::Tag(_)) => Resolution::Reserved(None),
            Lookup::Manifest(Reference::Digest(digest)) => {
                let target = self.content(device, digest);
                if is_own && let Some(beacon) = name.beacon {
                    self.hear(device, beacon, digest);
                }
                Resolution::Reserved(target)
            }
            Lookup::Blob(digest) => Resolution::Reserved(self.content(device, digest)),
        }
    }

    /// What a device would be answered with now.
    fn preview(&self, device: &DeviceId) -> Option<Offer> {
        self.read().offer(device, &*self.0.rollouts, self.0.clock.now())
    }

    /// What a device is answered with. A row is written first if it is another image than before.
    async fn answer(&self, device: &DeviceId) -> Result<Option<Image>, crate::ControlError> {
        let now = self.0.clock.now();
        self.0.notes.see(device, now);
        for _ in 0..ATTEMPTS_LIMIT {
            let Some(offer) = self.preview(device) else { return Ok(None) };
            let Some(image) = offer.image else { return Ok(None) };
            if offer.is_first && !self.0.rollouts.first_offer(device, now).await? {
                continue;
            }
            let is_known = |image: &Image| {
                let memory = self.read();
                let row = memory.devices.get(device).map(|member| &member.row);
                row.is_some_and(|row| row.delivered.as_ref() == Some(image) && !row.is_unsure)
            };
            if !is_known(&image) {
                self.0.store.note_delivery(device, &image, now).await?;
                let mut before = None;
                if let Some(member) = self.write().devices.get_mut(device) {
                    before = member.row.delivered.replace(image.clone());
                    member.row.is_unsure = false;
                }
                self.0.notes.begin(device, &image, before);
                tracing::info!(device.id = %device, image.digest = %image.digest, "offered a new image");
            }
            return Ok(Some(image));
        }
        // A rollout changes faster than this device is answered: it keeps what it has.
        Ok(self.read().devices.get(device).and_then(|member| member.row.delivered.clone()))
    }

    /// Where a device finds content by digest: in the repository of its offer, or of the image before.
    fn content(&self, device: &DeviceId, digest: &Digest) -> Option<Target> {
        let memory = self.read();
        let row = &memory.devices.get(device)?.row;
        if !row.state.is_member() {
            return None;
        }
        let confirmed = row.confirmed.as_ref().filter(|image| image.digest == *digest);
        let image = confirmed.or(row.delivered.as_ref()).or(row.confirmed.as_ref())?;
        Some(Target { repository: image.repository.clone(), digest: digest.clone() })
    }

    /// Notes what a device reports by looking up a digest.
    fn hear(&self, device: &DeviceId, beacon: Beacon, digest: &Digest) {
        let evidence = match beacon {
            Beacon::Healthy => Evidence::Reached(Rung::Healthy),
            Beacon::Failed => Evidence::Failed,
        };
        let (digest, at) = (digest.clone(), self.0.clock.now());
        self.0.notes.see(device, at);
        self.0.notes.add(Noted {
            device: device.clone(),
            digest,
            evidence,
            basis: super::notes::REPORTED,
            at,
        });
        self.0.wake.wake("a device reported");
    }
}

fn target(offer: Offer) -> Option<Target> {
    offer.image.map(into_target)
}

fn into_target(image: Image) -> Target {
    Target { repository: image.repository, digest: image.digest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_repositories_name_a_device_or_the_own_one() {
        let read = |text: &str| Virtual::of(&text.parse().unwrap());
        let of = |device: Option<&str>, beacon| {
            Some(Some(Virtual { device: device.map(|id| id.parse().unwrap()), beacon }))
        };
        assert_eq!(read("plants/hmi"), None);
        assert_eq!(read("devices/self"), None);
        assert_eq!(read("device/self"), of(None, None));
        assert_eq!(read("device/dev-1"), of(Some("dev-1"), None));
        assert_eq!(read("device/self/healthy"), of(None, Some(Beacon::Healthy)));
        assert_eq!(read("device/dev-1/failed"), of(Some("dev-1"), Some(Beacon::Failed)));
        for other in ["device", "device/self/other", "device/self/healthy/more"] {
            assert_eq!(read(other), Some(None), "{other}");
        }
    }
}
