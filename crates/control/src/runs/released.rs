//! What a branch released last: every run reads it, and it is the same until somebody releases again.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::names::{Platform, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::run::ReleaseNumber;
use edgewright_store::releases::EntryRow;

use super::Driver;
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

impl Driver<'_> {
    /// The newest release of a branch, from memory where it was read before: releases do not change.
    pub(crate) async fn released(&self, branch: &str) -> Result<Arc<Released>, ControlError> {
        let source = self.run.source;
        let Some(number) = self.store.newest_release(source, branch).await? else {
            return Ok(Arc::default());
        };
        if let Some(kept) = self.watched.released(number) {
            return Ok(kept);
        }
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
        let released = Arc::new(Released { number: Some(number), entries, indexes, good });
        self.watched.keep_released(&released);
        Ok(released)
    }
}
