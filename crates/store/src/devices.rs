//! Reports of devices, as they came.

use edgewright_model::names::DeviceId;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sqlx::SqliteConnection;

use crate::error::Operation as _;
use crate::{Store, StoreError, row};

/// Maximum number of reports that are kept of a device; the oldest are removed first.
pub const MAX_REPORTS_OF_DEVICE: u32 = 1000;
/// Maximum length of the reports that are kept of a device, in bytes; the oldest are removed first.
pub const MAX_REPORT_BYTES_OF_DEVICE: u32 = 4 * 1024 * 1024;
/// Maximum number of devices whose reports are kept.
pub const MAX_DEVICES: u32 = 10_000;
/// Days without a report after which a device makes room for a new one, where there are as many as are kept.
pub const SILENT_DAYS_LIMIT: u32 = 30;

/// What is kept.
#[derive(Debug, Clone, Copy)]
struct Limits {
    devices: u32,
    reports: u32,
    bytes: u32,
}

const LIMITS: Limits =
    Limits { devices: MAX_DEVICES, reports: MAX_REPORTS_OF_DEVICE, bytes: MAX_REPORT_BYTES_OF_DEVICE };

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
    ///
    /// # Errors
    /// There are as many devices as are kept, and all of them reported lately.
    pub async fn add_device_reports(
        &self,
        device: &DeviceId,
        reports: Vec<NewDeviceReport>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.add_reports_within(LIMITS, device, reports, now).await
    }

    async fn add_reports_within(
        &self,
        limits: Limits,
        device: &DeviceId,
        reports: Vec<NewDeviceReport>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let device = device.to_string();
        self.write(move |db| {
            Box::pin(async move {
                admit(db, limits, &device, now).await?;
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
                trim(db, limits, &device).await?;
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

/// Notes that a device reports. A new one needs a place: a free one, or that of a device that is silent.
async fn admit(
    db: &mut SqliteConnection,
    limits: Limits,
    device: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let note = sqlx::query("UPDATE devices SET reported_at = ?2 WHERE device = ?1");
    let known = note.bind(device).bind(now.to_string()).execute(&mut *db).await.doing("note a device")?;
    if known.rows_affected() > 0 {
        return Ok(());
    }
    let count: u32 = sqlx::query_scalar("SELECT count(*) FROM devices")
        .fetch_one(&mut *db)
        .await
        .doing("count devices")?;
    if count >= limits.devices {
        let silent = SignedDuration::from_hours(24 * i64::from(SILENT_DAYS_LIMIT));
        let before = now.checked_sub(silent).unwrap_or(Timestamp::MIN);
        let oldest: Option<String> = sqlx::query_scalar(
            "SELECT device FROM devices WHERE reported_at < ?1 ORDER BY reported_at LIMIT 1",
        )
        .bind(before.to_string())
        .fetch_optional(&mut *db)
        .await
        .doing("find a silent device")?;
        let Some(oldest) = oldest else { return Err(StoreError::TooManyDevices { limit: limits.devices }) };
        for statement in
            ["DELETE FROM device_reports WHERE device = ?", "DELETE FROM devices WHERE device = ?"]
        {
            let remove = sqlx::query(statement).bind(&oldest);
            remove.execute(&mut *db).await.doing("remove a silent device")?;
        }
    }
    let add = sqlx::query("INSERT INTO devices (device, reported_at) VALUES (?1, ?2)");
    add.bind(device).bind(now.to_string()).execute(&mut *db).await.doing("note a device")?;
    Ok(())
}

/// Removes the oldest reports of a device that are too many, or too long together. The newest stays.
async fn trim(db: &mut SqliteConnection, limits: Limits, device: &str) -> Result<(), StoreError> {
    let remove = sqlx::query(
        "DELETE FROM device_reports WHERE device = ?1 AND id <= (
             SELECT id FROM (
                 SELECT id, row_number() OVER newest AS position,
                        sum(length(CAST(document AS BLOB))) OVER newest AS bytes
                 FROM device_reports WHERE device = ?1 WINDOW newest AS (ORDER BY id DESC)
             ) WHERE position > 1 AND (position > ?2 OR bytes > ?3) ORDER BY id DESC LIMIT 1)",
    );
    let remove = remove.bind(device).bind(limits.reports).bind(limits.bytes);
    remove.execute(&mut *db).await.doing("remove old reports of a device")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { devices: 2, reports: 3, bytes: 1000 };

    fn reports(numbers: std::ops::RangeInclusive<u64>, length: usize) -> Vec<NewDeviceReport> {
        let document = Value::String("x".repeat(length));
        let one = |sequence| NewDeviceReport { stream: "s".to_owned(), sequence, document: document.clone() };
        numbers.map(one).collect()
    }

    #[tokio::test]
    async fn devices_and_their_reports_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).await.unwrap();
        let now: Timestamp = "2026-11-28T06:00:00Z".parse().unwrap();
        let day = |days: i64| now.checked_add(SignedDuration::from_hours(24 * days)).unwrap();
        let device = |name: &str| -> DeviceId { name.parse().unwrap() };
        let add =
            async |name: &str, reports, at| store.add_reports_within(SMALL, &device(name), reports, at).await;
        let kept = async |name: &str| store.device_reports(&device(name), None, 100).await.unwrap().len();

        // By number, by length; the newest stays, whatever its length.
        assert_eq!(add("a", reports(1..=5, 10), now).await.unwrap(), 5);
        assert_eq!(kept("a").await, 3);
        add("a", reports(6..=7, 600), now).await.unwrap();
        assert_eq!(kept("a").await, 1);
        add("a", reports(8..=8, 2000), now).await.unwrap();
        assert_eq!(kept("a").await, 1);

        // A third device is refused while both report; those that are known continue.
        add("b", reports(1..=1, 10), day(20)).await.unwrap();
        let error = add("c", reports(1..=1, 10), day(29)).await.unwrap_err();
        assert!(matches!(error, StoreError::TooManyDevices { limit: 2 }), "{error:?}");
        assert!(error.hint().is_some());
        assert_eq!(kept("c").await, 0);
        add("b", reports(2..=2, 10), day(29)).await.unwrap();

        // It gets the place of one that is silent for long.
        add("c", reports(1..=1, 10), day(31)).await.unwrap();
        assert_eq!((kept("a").await, kept("b").await, kept("c").await), (0, 2, 1));
        add("a", reports(9..=9, 10), day(31)).await.unwrap_err();
    }
}
