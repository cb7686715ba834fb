//! What is shown about devices: from memory, so that a list of many costs no query for each.

use edgewright_model::names::{ChannelName, DeviceId, SiteName, SourceName, VariantName};
use edgewright_store::fleet::{FleetDevice, Image};

use super::Devices;
use super::memory::Memory;
use super::offers::Offer;

/// A device with what follows from its slot.
#[derive(Debug, Clone)]
pub struct DeviceStatus {
    pub row: FleetDevice,
    pub source: Option<SourceName>,
    pub site_name: Option<SiteName>,
    pub variant: Option<VariantName>,
    pub channel: Option<ChannelName>,
    /// Whether no commit of the default branch declares its slot any more.
    pub is_orphan: bool,
    /// What it would be answered with now.
    pub offer: Option<Image>,
    /// Why, in words.
    pub reason: String,
}

impl Devices {
    /// All devices by id.
    pub fn list(&self) -> Vec<DeviceStatus> {
        let memory = self.read();
        let mut all: Vec<DeviceStatus> =
            memory.devices.values().map(|member| self.status_in(&memory, &member.row)).collect();
        all.sort_by(|one, other| one.row.id.cmp(&other.row.id));
        all
    }

    /// One device.
    pub fn status(&self, device: &DeviceId) -> Option<DeviceStatus> {
        let memory = self.read();
        let member = memory.devices.get(device)?;
        Some(self.status_in(&memory, &member.row))
    }

    fn status_in(&self, memory: &Memory, row: &FleetDevice) -> DeviceStatus {
        let source = memory.sources.get(&row.source);
        let site = source.and_then(|source| source.sites.get(&row.site));
        let slot = site.and_then(|site| site.slots.get(&row.slot));
        let offer = memory.offer(&row.id, &*self.0.rollouts, self.0.clock.now());
        let reason = offer.as_ref().map(Offer::words).unwrap_or_default();
        let offer = offer.and_then(|offer| offer.image);
        DeviceStatus {
            source: source.and_then(|source| source.name.clone()),
            site_name: site.map(|site| site.name.clone()),
            variant: slot.and_then(|slot| slot.variant.clone()),
            channel: source.zip(slot).and_then(|(source, slot)| source.channel(slot).cloned()),
            is_orphan: memory.is_orphan(row),
            offer,
            reason,
            row: row.clone(),
        }
    }
}
