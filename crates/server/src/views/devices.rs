//! Reports of devices as pages.

use edgewright_api::{DeviceReportView, routes};
use edgewright_model::names::DeviceId;

use super::{Page, ViewError, Views};

impl Views {
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
