//! What a branch released last: every run reads it, and it stays the same until the next release.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::run::ReleaseNumber;
use edgewright_store::releases::EntryRow;
use edgewright_store::sources::SourceId;

use super::Releases;
use crate::ControlError;

/// The last good platform manifests: of the newest release that a branch made.
pub(crate) type LastGood = BTreeMap<(VariantName, Platform), ManifestRef>;

/// The newest release of a branch; all empty where there is none.
#[derive(Debug, Default)]
pub(crate) struct Released {
    pub(crate) number: Option<ReleaseNumber>,
    /// By variant.
    pub(crate) entries: Vec<EntryRow>,
    /// The platform manifests of each index.
    pub(crate) indexes: BTreeMap<Digest, BTreeMap<Platform, Digest>>,
    pub(crate) good: LastGood,
}

impl Released {
    pub(crate) fn entry(&self, variant: &VariantName) -> Option<&EntryRow> {
        let place = self.entries.binary_search_by(|entry| entry.variant.cmp(variant)).ok()?;
        self.entries.get(place)
    }
}

impl Releases {
    /// The newest release of a branch, from memory where it was read before: releases do not change.
    pub(crate) async fn newest(&self, source: SourceId, branch: &str) -> Result<Arc<Released>, ControlError> {
        let Some(number) = self.store.newest_release(source, branch).await? else {
            return Ok(Arc::default());
        };
        if let Some(kept) = self.kept(source, number) {
            return Ok(kept);
        }
        let released = Arc::new(self.released(source, number).await?);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(source, Arc::clone(&released));
        Ok(released)
    }

    /// A release, as stored.
    pub(crate) async fn released(
        &self,
        source: SourceId,
        number: ReleaseNumber,
    ) -> Result<Released, ControlError> {
        let mut entries = self.store.entries(source, number).await?;
        entries.sort_by(|a, b| a.variant.cmp(&b.variant));
        let indexes = self.store.indexes_of(source, number).await?;
        let mut good = LastGood::new();
        for entry in &entries {
            for (platform, digest) in indexes.get(&entry.digest).into_iter().flatten() {
                let manifest = ManifestRef { repository: entry.repository.clone(), digest: digest.clone() };
                good.insert((entry.variant.clone(), platform.clone()), manifest);
            }
        }
        Ok(Released { number: Some(number), entries, indexes, good })
    }

    /// A release, if it was the last one of its source that was read.
    fn kept(&self, source: SourceId, number: ReleaseNumber) -> Option<Arc<Released>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.get(&source).filter(|kept| kept.number == Some(number)).cloned()
    }
}
