//! Reports of devices, as they came.

use edgewright_model::names::DeviceId;
use jiff::Timestamp;
use serde_json::Value;

use crate::error::Operation as _;
use crate::{Store, StoreError, row};

/// Maximum number of reports that are kept of a device; the oldest are removed first.
pub const MAX_REPORTS_OF_DEVICE: u32 = 1000;

/// A report to write.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDeviceReport {
    /// The device's stream of reports.
    pub stream: String,
    /// The number in the stream.
    pub sequence: u64,
    /// The report.
    pub document: Value,
}

/// A stored report.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceReportRow {
    /// The number of the row: later reports have higher ones.
    pub number: i64,
    /// When it was received.
    pub received: Timestamp,
    /// The report.
    pub document: Value,
}

impl Store {
    /// Writes reports of a device, all or none, and returns how many are new.
    pub async fn add_device_reports(
        &self,
        device: &DeviceId,
        reports: Vec<NewDeviceReport>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let device = device.to_string();
        self.write(move |db| {
            Box::pin(async move {
                let mut added = 0;
                for report in reports {
                    let insert = sqlx::query(
                        "INSERT INTO device_reports (device, stream, sequence, received_at, document)
                         VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    )
                    .bind(&device)
                    .bind(report.stream)
                    .bind(row::signed(report.sequence))
                    .bind(now.to_string())
                    .bind(report.document.to_string());
                    added += insert.execute(&mut *db).await.doing("write a device's report")?.rows_affected();
                }
                let remove = sqlx::query(
                    "DELETE FROM device_reports WHERE device = ?1 AND id <= (
                         SELECT id FROM device_reports WHERE device = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                )
                .bind(&device)
                .bind(MAX_REPORTS_OF_DEVICE);
                remove.execute(&mut *db).await.doing("remove old reports of a device")?;
                Ok(added)
            })
        })
        .await
    }

    /// Reports of a device, newest first: at most `limit`, with lower numbers than `below`.
    pub async fn device_reports(
        &self,
        device: &DeviceId,
        below: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DeviceReportRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM device_reports WHERE device = ?1 AND (?2 IS NULL OR id < ?2)
             ORDER BY id DESC LIMIT ?3",
        )
        .bind(device.to_string())
        .bind(below)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("list reports of a device")?;
        rows.iter()
            .map(|row| {
                Ok(DeviceReportRow {
                    number: row::number(row, "id")?,
                    received: row::text(row, "received_at")?,
                    document: row::json(row, "document")?,
                })
            })
            .collect()
    }
}
