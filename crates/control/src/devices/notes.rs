//! What is noticed about devices between two flushes, in memory: a poll costs no write.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_store::fleet::Image;
use jiff::Timestamp;

use super::clones::{Sighting, Traces};
use super::port::Evidence;

/// Seen by the registry itself.
pub(super) const OBSERVED: &str = "observed";
/// Reported by the device.
pub(super) const REPORTED: &str = "reported";
/// Concluded from what a device asked for, without proof.
pub(super) const INFERRED: &str = "inferred";

/// Maximum number of blobs that are remembered of a device's downloads.
const MAX_BLOBS: usize = 4096;

/// Evidence that waits to be written.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) device: DeviceId,
    pub(super) digest: Digest,
    pub(super) evidence: Evidence,
    pub(super) basis: &'static str,
    pub(super) at: Timestamp,
}

/// What a device fetched of the image that it was offered last.
#[derive(Debug, Clone)]
pub(super) struct Download {
    pub(super) image: Image,
    /// Manifests and blobs that were sent to their end.
    pub(super) sent: BTreeSet<Digest>,
    /// The image before: clients do not fetch its blobs again.
    pub(super) before: Option<Image>,
    /// When something was sent last.
    pub(super) last: Option<Timestamp>,
    /// Whether the device polled after that.
    pub(super) has_polled: bool,
    /// Whether something was sent or polled since it was judged last.
    pub(super) is_changed: bool,
}

impl Download {
    fn new(image: &Image) -> Self {
        Self {
            image: image.clone(),
            sent: BTreeSet::new(),
            before: None,
            last: None,
            has_polled: false,
            is_changed: false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) seen: HashMap<DeviceId, Timestamp>,
    pub(super) evidence: Vec<Noted>,
    pub(super) clones: Vec<(DeviceId, String, Timestamp)>,
}

#[derive(Debug, Default)]
struct Inside {
    waiting: Waiting,
    downloads: HashMap<DeviceId, Download>,
    traces: HashMap<DeviceId, Traces>,
}

#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Inside>);

impl Notes {
    /// A device was heard of.
    pub(super) fn see(&self, device: &DeviceId, at: Timestamp) {
        let mut inside = self.lock();
        match inside.waiting.seen.get_mut(device) {
            Some(seen) => *seen = (*seen).max(at),
            None => {
                inside.waiting.seen.insert(device.clone(), at);
            }
        }
        if let Some(download) = inside.downloads.get_mut(device)
            && download.last.is_some_and(|last| last < at)
            && !download.has_polled
        {
            (download.has_polled, download.is_changed) = (true, true);
        }
    }

    pub(super) fn add(&self, noted: Noted) {
        self.lock().waiting.evidence.push(noted);
    }

    /// A device is answered with another image from now on.
    pub(super) fn begin(&self, device: &DeviceId, image: &Image, before: Option<Image>) {
        let download = Download { before, ..Download::new(image) };
        self.lock().downloads.insert(device.clone(), download);
    }

    /// A device has everything of its image.
    pub(super) fn finish(&self, device: &DeviceId, image: &Image) {
        let mut inside = self.lock();
        if inside.downloads.get(device).is_some_and(|download| download.image == *image) {
            inside.downloads.remove(device);
        }
    }

    /// A manifest or blob was sent to a device, to its end.
    pub(super) fn sent(&self, device: &DeviceId, image: &Image, digest: &Digest, at: Timestamp) {
        let mut inside = self.lock();
        let download = inside.downloads.entry(device.clone()).or_insert_with(|| Download::new(image));
        if download.sent.len() < MAX_BLOBS {
            download.sent.insert(digest.clone());
        }
        (download.last, download.has_polled, download.is_changed) = (Some(at), false, true);
    }

    /// A report names the device's boot.
    pub(super) fn sight(&self, device: &DeviceId, sighting: &Sighting, at: Timestamp) {
        self.trace(device, at, |traces| traces.report(sighting));
    }

    /// A request of a device came from an address.
    pub(super) fn come(&self, device: &DeviceId, from: IpAddr, at: Timestamp) {
        self.trace(device, at, |traces| traces.request(from, at));
    }

    fn trace(&self, device: &DeviceId, at: Timestamp, see: impl FnOnce(&mut Traces) -> Option<String>) {
        let mut inside = self.lock();
        let hint = match inside.traces.get_mut(device) {
            Some(traces) => see(traces),
            None => see(inside.traces.entry(device.clone()).or_default()),
        };
        if let Some(why) = hint {
            inside.waiting.clones.push((device.clone(), why, at));
        }
    }

    /// What waits to be written; it waits no longer.
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Puts back what could not be written.
    pub(super) fn put_back(&self, waiting: Waiting) {
        let mut inside = self.lock();
        for (device, at) in waiting.seen {
            inside.waiting.seen.entry(device).or_insert(at);
        }
        let later = std::mem::replace(&mut inside.waiting.evidence, waiting.evidence);
        inside.waiting.evidence.extend(later);
        inside.waiting.clones.extend(waiting.clones);
    }

    /// The downloads that changed since they were taken last.
    pub(super) fn changed_downloads(&self) -> Vec<(DeviceId, Download)> {
        let mut inside = self.lock();
        let changed = inside.downloads.iter_mut().filter(|(_, download)| download.is_changed);
        changed
            .map(|(device, download)| {
                download.is_changed = false;
                (device.clone(), download.clone())
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
