//! The bounded cache of reads.
//!
//! It is filled by readers, never by the writer, and only if nothing was committed since the reader began,
//! which an epoch shows that each commit raises. So it never has uncommitted or replaced values.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use edgewright_model::Digest;
use edgewright_model::reference::{RepoName, Tag};

use super::change::Change;
use super::rows::{BlobRow, ManifestRow};

/// The number of cached tags.
const TAGS: usize = 16_384;
/// The size limit of cached checksum tables, in bytes; 8 MiB are those of 256 GiB.
const BLOB_BYTES: usize = 8 * 1024 * 1024;
/// The approximate overhead of an entry.
const ENTRY_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Cache(Mutex<Content>);

#[derive(Debug)]
pub(super) struct Content {
    epoch: u64,
    pub(super) tags: Aged<(RepoName, Tag), Digest>,
    pub(super) manifests: Aged<(RepoName, Digest), ManifestRow>,
    pub(super) blobs: Aged<(RepoName, Digest), BlobRow>,
}

impl Cache {
    pub(super) fn new(manifest_bytes: usize) -> Self {
        Self(Mutex::new(Content {
            epoch: 0,
            tags: Aged::new(TAGS),
            manifests: Aged::new(manifest_bytes),
            blobs: Aged::new(BLOB_BYTES),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        // No code panics between two changes of it, so a poisoned cache is consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a key up; on a miss gives the epoch for [`Self::fill`].
    pub(super) fn get<T>(&self, look: impl FnOnce(&mut Content) -> Option<T>) -> Result<T, u64> {
        let mut content = self.lock();
        let epoch = content.epoch;
        look(&mut content).ok_or(epoch)
    }

    pub(super) fn fill(&self, epoch: u64, fill: impl FnOnce(&mut Content)) {
        let mut content = self.lock();
        if content.epoch == epoch {
            fill(&mut content);
        }
    }

    /// Removes all entries that a committed change may have replaced.
    pub(super) fn forget(&self, change: &Change) {
        let mut content = self.lock();
        content.epoch += 1;
        content.forget(change);
    }
}

impl Content {
    fn forget(&mut self, change: &Change) {
        match change {
            Change::StoreManifest { repository, manifest, tags } => {
                self.manifests.remove(&(repository.clone(), manifest.digest.clone()));
                for tag in tags {
                    self.tags.remove(&(repository.clone(), tag.clone()));
                }
            }
            Change::DeleteManifest { repository, digest } => {
                self.manifests.remove(&(repository.clone(), digest.clone()));
                // Its tags were deleted, too; only the database knew which.
                self.tags.clear();
            }
            Change::DeleteTag { repository, tag } => self.tags.remove(&(repository.clone(), tag.clone())),
            Change::UnlinkBlob { repository, digest } | Change::RenewBlob { repository, digest } => {
                self.blobs.remove(&(repository.clone(), digest.clone()));
            }
            // Blobs are visible from any repository.
            Change::Damage(_) => self.blobs.clear(),
            Change::Collect { .. } => {
                self.manifests.clear();
                self.tags.clear();
                self.blobs.clear();
            }
            Change::StoreBlob(_)
            | Change::Mount { .. }
            | Change::BeginUpload { .. }
            | Change::BeginIntended { .. }
            | Change::TouchUpload(_)
            | Change::DropUpload(_)
            | Change::Intend(_)
            | Change::DropIntent(_)
            | Change::Pin { .. }
            | Change::Release { .. }
            | Change::DropBlob(_)
            | Change::Unpin(_) => {}
        }
    }
}

/// The weight of an entry.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

impl Weigh for Digest {
    fn weight(&self) -> usize {
        1
    }
}

impl Weigh for ManifestRow {
    fn weight(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

impl Weigh for BlobRow {
    fn weight(&self) -> usize {
        self.checksums.weight() + ENTRY_BYTES
    }
}

/// A map of bounded weight in two generations: used entries move to the young one, and when that has half of
/// the weight, the old one is dropped.
#[derive(Debug)]
pub(super) struct Aged<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_weight: usize,
    half: usize,
}

impl<K: Hash + Eq + Clone, V: Weigh + Clone> Aged<K, V> {
    fn new(bound: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_weight: 0, half: bound / 2 }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let weight = value.weight();
        if weight > self.half {
            return;
        }
        if self.young_weight + weight > self.half {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight += weight;
        if let Some(replaced) = self.young.insert(key, value) {
            self.young_weight -= replaced.weight();
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(removed) = self.young.remove(key) {
            self.young_weight -= removed.weight();
        }
        self.old.remove(key);
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        Digest::of(number.to_string())
    }

    #[test]
    fn it_is_bounded_and_keeps_used_entries() {
        let mut map = Aged::new(10);
        for number in 0..100 {
            map.insert(number, digest(number));
            assert_eq!(map.get(&0), Some(digest(0)), "used at every step");
            assert!(map.young.len() + map.old.len() <= 10);
        }
        assert_eq!(map.get(&50), None);
        map.remove(&0);
        assert_eq!(map.get(&0), None);
        map.clear();
        assert_eq!(map.get(&99), None);
    }

    #[test]
    fn a_read_from_before_a_commit_does_not_fill() {
        let cache = Cache::new(1024);
        let key = ("a".parse::<RepoName>().unwrap(), "t".parse::<Tag>().unwrap());
        let epoch = cache.get(|content| content.tags.get(&key)).unwrap_err();
        let overtaking = Change::DeleteTag { repository: key.0.clone(), tag: key.1.clone() };
        cache.forget(&overtaking);
        cache.fill(epoch, |content| content.tags.insert(key.clone(), digest(1)));
        let epoch = cache.get(|content| content.tags.get(&key)).unwrap_err();
        cache.fill(epoch, |content| content.tags.insert(key.clone(), digest(1)));
        assert_eq!(cache.get(|content| content.tags.get(&key)), Ok(digest(1)));
    }
}
