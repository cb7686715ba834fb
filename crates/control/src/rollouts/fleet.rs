//! Rows of devices as the engine counts them: sites, variants and groups are numbers there.

use std::collections::BTreeMap;

use edgewright_model::names::{SiteId, VariantName};
use edgewright_rollout::fleet::Device;
use edgewright_store::rollouts::MemberRow;

/// Numbers of names, in the order in which they came. Equal rows give equal numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    sites: BTreeMap<SiteId, u32>,
    variants: BTreeMap<VariantName, u32>,
    groups: BTreeMap<(SiteId, String), u32>,
}

impl Names {
    /// A device of a rollout.
    pub(super) fn device(&mut self, row: &MemberRow) -> Device {
        let group = row.group.clone().map(|group| number(&mut self.groups, (row.site.clone(), group)));
        Device {
            id: row.device.to_string(),
            labels: row.labels.clone(),
            site: number(&mut self.sites, row.site.clone()),
            variant: number(&mut self.variants, row.variant.clone()),
            group,
            patience: row.patience,
            seen: row.seen_at,
        }
    }

    /// The variants so far, by number.
    pub(super) fn variants(&self) -> Vec<String> {
        let mut variants: Vec<_> =
            self.variants.iter().map(|(name, number)| (*number, name.to_string())).collect();
        variants.sort();
        variants.into_iter().map(|(_, name)| name).collect()
    }
}

fn number<K: Ord>(known: &mut BTreeMap<K, u32>, key: K) -> u32 {
    let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
    *known.entry(key).or_insert(next)
}
