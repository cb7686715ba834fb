//! Overlays: locks that the server keeps in place of the committed ones.

use std::collections::BTreeMap;

use edgewright_model::format;
use edgewright_model::lock::Lock;
use edgewright_model::names::ImageName;
use edgewright_model::order::TrustDomain;
use edgewright_model::spec::Definition;
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::{EffectiveLock, LockOrigin, Locks as Chosen};
use edgewright_source::Mirror;
use edgewright_store::runs::RunRow;

use super::Locks;
use crate::ControlError;

/// The overlays of each image, with their numbers.
pub(crate) type Overlays = BTreeMap<ImageName, Vec<(u64, Lock)>>;

impl Locks {
    /// The overlays that a domain may use.
    pub(crate) async fn overlays(&self, domain: TrustDomain) -> Result<Overlays, ControlError> {
        let mut overlays = Overlays::new();
        for row in self.jobs.store.locks(domain).await? {
            overlays.entry(row.image).or_default().push((u64::from(row.number), row.lock));
        }
        Ok(overlays)
    }

    /// The locks that a run's commit is built with by now and does not hold itself: the overlays in effect.
    pub(crate) async fn overlays_in_effect(
        &self,
        run: &RunRow,
        mirror: &Mirror,
    ) -> Result<BTreeMap<ImageName, Lock>, ControlError> {
        let tree = mirror.read_tree(&run.commit).await?;
        match format::parse(&tree).definition {
            Some(definition) => self.overlays_of(run.domain(), &definition).await,
            None => Ok(BTreeMap::new()),
        }
    }

    pub(super) async fn overlays_of(
        &self,
        domain: TrustDomain,
        definition: &Definition,
    ) -> Result<BTreeMap<ImageName, Lock>, ControlError> {
        let locks = Chosen::choose(definition, &self.overlays(domain).await?, COMPRESSOR_VERSION);
        let overlays =
            locks.images.into_iter().filter(|(_, lock)| matches!(lock.origin, LockOrigin::Overlay(_)));
        Ok(overlays.map(|(image, lock)| (image, lock.lock)).collect())
    }
}

/// The locks that a run's plan was fixed with.
pub(crate) fn fixed_locks(definition: &Definition, overlays: &Overlays, run: &RunRow) -> Chosen {
    let mut images = BTreeMap::new();
    for (image, number) in &run.locks {
        let lock = match number {
            None => definition
                .images
                .get(image)
                .and_then(|spec| spec.lock.clone())
                .map(|lock| (lock, LockOrigin::Committed)),
            Some(number) => overlays
                .get(image)
                .and_then(|locks| locks.iter().find(|(candidate, _)| candidate == &u64::from(*number)))
                .map(|(number, lock)| (lock.clone(), LockOrigin::Overlay(*number))),
        };
        if let Some((lock, origin)) = lock {
            images.insert(image.clone(), EffectiveLock { lock, origin });
        }
    }
    Chosen { compressor: COMPRESSOR_VERSION.to_owned(), tools: run.tools.clone(), images }
}
