//! What is known about images on devices: one row for each rung, with the first time that it was known.

use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::error::Operation as _;
use crate::fleet::Image;
use crate::{Store, StoreError, row};

/// A fact about a device and a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFact {
    pub device: DeviceId,
    /// The index that the device was offered.
    pub digest: Digest,
    /// `offered`, `downloaded`, `booted`, `healthy` or `failed`.
    pub rung: String,
    /// How it is known: `observed` by the registry, `reported` by the device, or `inferred`.
    pub basis: String,
    pub at: Timestamp,
}

/// What was noted in memory since the last flush.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetNotes {
    /// When devices were seen last.
    pub seen: Vec<(DeviceId, Timestamp)>,
    pub facts: Vec<DeviceFact>,
    /// What devices run that were unsure after a restore: they are sure again.
    pub found: Vec<(DeviceId, Image)>,
    /// Images that ran healthy.
    pub confirmed: Vec<(DeviceId, Image, Timestamp)>,
    /// Why devices may be two machines.
    pub clones: Vec<(DeviceId, String, Timestamp)>,
}

impl FleetNotes {
    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.seen.is_empty()
            && self.facts.is_empty()
            && self.found.is_empty()
            && self.confirmed.is_empty()
            && self.clones.is_empty()
    }
}

impl Store {
    /// Writes what was noted in memory, all or nothing. Facts that are known already keep their time.
    pub async fn write_fleet_notes(&self, notes: FleetNotes) -> Result<(), StoreError> {
        let mut statements = Vec::new();
        let seen: Vec<(String, String)> =
            notes.seen.iter().map(|(device, at)| (device.to_string(), at.to_string())).collect();
        // One statement for all of them: a poll of 100,000 devices is one write.
        statements.push(
            sqlx::query(
                "UPDATE fleet_devices SET seen_at = noted.value ->> 1 FROM json_each(?) noted
                 WHERE fleet_devices.id = noted.value ->> 0",
            )
            .bind(row::to_json(&seen)?),
        );
        for fact in notes.facts {
            let insert = sqlx::query(
                "INSERT INTO device_evidence (device, digest, rung, basis, at) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT DO NOTHING",
            );
            let insert = insert.bind(fact.device.to_string()).bind(fact.digest.to_string()).bind(fact.rung);
            statements.push(insert.bind(fact.basis).bind(fact.at.to_string()));
        }
        for (device, image) in notes.found {
            let update = sqlx::query(
                "UPDATE fleet_devices SET delivered = ?, delivered_in = ?, is_unsure = 0
                 WHERE id = ? AND is_unsure = 1",
            );
            let update = update.bind(image.digest.to_string()).bind(image.repository.to_string());
            statements.push(update.bind(device.to_string()));
        }
        for (device, image, at) in notes.confirmed {
            let update = sqlx::query(
                "UPDATE fleet_devices SET confirmed = ?, confirmed_in = ?, confirmed_at = ? WHERE id = ?",
            );
            let update = update.bind(image.digest.to_string()).bind(image.repository.to_string());
            statements.push(update.bind(at.to_string()).bind(device.to_string()));
        }
        for (device, why, at) in notes.clones {
            let update = sqlx::query("UPDATE fleet_devices SET clone = ?, clone_at = ? WHERE id = ?");
            statements.push(update.bind(why).bind(at.to_string()).bind(device.to_string()));
        }
        self.execute_all("note what devices did", statements).await
    }

    /// Images that failed on devices.
    pub async fn failed_images(&self) -> Result<Vec<(DeviceId, Digest)>, StoreError> {
        let query = sqlx::query("SELECT DISTINCT device, digest FROM device_evidence WHERE rung = 'failed'");
        let failed = |row: &SqliteRow| Ok((row::text(row, "device")?, row::text(row, "digest")?));
        row::all(query.fetch(&self.readers), "list images that failed on devices", failed).await
    }

    /// What is known about a device, newest first.
    pub async fn device_facts(&self, device: &DeviceId) -> Result<Vec<DeviceFact>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM device_evidence WHERE device = ? ORDER BY julianday(at) DESC, digest, rung",
        )
        .bind(device.to_string())
        .fetch_all(&self.readers)
        .await
        .doing("list what is known about a device")?;
        rows.iter()
            .map(|row| {
                Ok(DeviceFact {
                    device: row::text(row, "device")?,
                    digest: row::text(row, "digest")?,
                    rung: row::text(row, "rung")?,
                    basis: row::text(row, "basis")?,
                    at: row::text(row, "at")?,
                })
            })
            .collect()
    }
}
