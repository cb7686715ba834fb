//! Devices, and their reports as pages.

use edgewright_api::{
    DeviceEvidence, DeviceReportView, DeviceState, DeviceSummary, DeviceView, RegistryAddress, routes,
};
use edgewright_control::devices::DeviceStatus;
use edgewright_model::names::{DeviceId, SourceName};
use edgewright_store::fleet;
use edgewright_store::fleet_evidence::DeviceFact;
use jiff::Timestamp;

use super::{Page, PageRequest, ViewError, Views};

/// A page of devices, by id.
pub(crate) fn device_page(
    devices: Vec<DeviceStatus>,
    source: Option<&SourceName>,
    page: &PageRequest,
) -> Result<Page<DeviceSummary>, ViewError> {
    let after = page.after(Some)?;
    let is_listed = |device: &DeviceStatus| {
        source.is_none_or(|name| device.source.as_ref() == Some(name))
            && after.is_none_or(|after| device.row.id.as_str() > after)
    };
    let listed = devices.into_iter().filter(is_listed).take(page.rows()).map(summary).collect();
    Ok(page.cut(listed, |last: &DeviceSummary| last.id.to_string()))
}

/// One device with what is known about it.
pub(crate) fn device(status: DeviceStatus, facts: Vec<DeviceFact>) -> DeviceView {
    let evidence = facts.into_iter().map(|fact| DeviceEvidence {
        digest: fact.digest,
        step: fact.rung,
        basis: fact.basis,
        at: fact.at,
    });
    DeviceView {
        serial: status.row.serial.clone(),
        enrolled: status.row.enrolled_at,
        reason: status.reason.clone(),
        pin_reason: status.row.pin.as_ref().map(|pin| pin.reason.clone()),
        evidence: evidence.collect(),
        device: summary(status),
    }
}

/// The state of a device.
pub(crate) const fn device_state(state: &fleet::DeviceState) -> DeviceState {
    match state {
        fleet::DeviceState::Waiting => DeviceState::Waiting,
        fleet::DeviceState::Active => DeviceState::Active,
        fleet::DeviceState::Held { .. } => DeviceState::Held,
        fleet::DeviceState::Revoked { .. } => DeviceState::Revoked,
        fleet::DeviceState::Retired { .. } => DeviceState::Retired,
    }
}

fn summary(status: DeviceStatus) -> DeviceSummary {
    let row = status.row;
    DeviceSummary {
        state: device_state(&row.state),
        state_reason: row.state.reason().map(str::to_owned),
        pin: row.pin.map(|pin| pin.release),
        source: status.source,
        site: row.site,
        site_name: status.site_name,
        slot: row.slot,
        variant: status.variant,
        channel: status.channel,
        orphan: status.is_orphan,
        seen: row.seen_at,
        offer: status.offer.map(|image| image.digest),
        delivered: row.delivered.map(|image| image.digest),
        confirmed: row.confirmed.map(|image| image.digest),
        clone: row.clone.map(|(why, _)| why),
        id: row.id,
    }
}

impl Views {
    /// The time, by the server's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How clients reach the registry; none without a server.
    pub(crate) fn registry_address(&self) -> Option<&RegistryAddress> {
        self.serving.as_ref().map(|serving| &serving.registry)
    }

    /// A page of a device's reports, newest first.
    pub async fn device_reports(
        &self,
        device: &DeviceId,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<DeviceReportView>, ViewError> {
        let number = |text: &str| text.parse().map_err(|_| ViewError::Cursor { text: text.to_owned() });
        let below = cursor.map(number).transpose()?;
        let limit = limit.unwrap_or(routes::DEFAULT_LIMIT).clamp(1, routes::LARGEST_LIMIT);
        // One more than the page, to find out whether another page follows.
        let mut rows = self.store.device_reports(device, below, limit + 1).await?;
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| has_more).map(|row| row.number.to_string());
        let rows = rows.into_iter().filter_map(|row| {
            // A document of a later version that this one cannot read is left out.
            let report = serde_json::from_value(row.document).ok()?;
            Some(DeviceReportView { received: row.received, report })
        });
        Ok(Page { rows: rows.collect(), next })
    }
}
