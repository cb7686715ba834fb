//! The devices of a rollout: those whose digest would change, each with its stage.

use std::collections::BTreeMap;
use std::time::Duration;

use edgewright_model::spec::Labels;
use jiff::Timestamp;

use crate::draw::lot;
use crate::policy::{Policy, Size};

/// A device as the inventory has it.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name, unique on the server.
    pub id: String,
    /// Labels of its slot, and those of its site that the slot does not have.
    pub labels: Labels,
    /// Its site.
    pub site: u32,
    /// Its variant, as the gate counts them.
    pub variant: u32,
    /// Its redundancy group, if it has one.
    pub group: Option<u32>,
    /// How long it takes to confirm a release, in 99 of 100 cases.
    pub patience: Duration,
    /// When it was last heard of.
    pub seen: Option<Timestamp>,
}

/// A stage's number, from 0; the one after the last is that of all other devices.
pub type StageNumber = u16;

/// The stage of each device, in their order.
pub(crate) fn stages(policy: &Policy, salt: &str, devices: &[Device]) -> Vec<StageNumber> {
    let rest = number(policy.stages.len());
    let mut stages = vec![rest; devices.len()];
    let mut drawn: Vec<(u64, usize)> =
        devices.iter().enumerate().map(|(index, device)| (lot(salt, &device.id), index)).collect();
    drawn.sort_unstable();
    for (stage, rules) in policy.stages.iter().enumerate() {
        let matches =
            |device: &Device| rules.select.iter().all(|(key, value)| device.labels.get(key) == Some(value));
        let selected: Vec<usize> =
            drawn.iter().map(|(_, index)| *index).filter(|index| matches(&devices[*index])).collect();
        let mut taken: BTreeMap<u32, usize> = BTreeMap::new();
        for index in &selected {
            let (place, limit) = match rules.size {
                Size::All => (0, usize::MAX),
                Size::Percent(percent) => (0, (devices.len() * usize::from(percent)).div_ceil(100)),
                Size::Count(count) => (0, count as usize),
                Size::PerSite(count) => (devices[*index].site, count as usize),
            };
            let taken = taken.entry(place).or_default();
            if *taken < limit {
                *taken += 1;
                stages[*index] = stages[*index].min(number(stage));
            }
        }
    }
    stages
}

fn number(stage: usize) -> StageNumber {
    StageNumber::try_from(stage).unwrap_or(StageNumber::MAX)
}
