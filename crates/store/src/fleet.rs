//! Enrolled devices: which slot each has, what it was answered last, and what an operator decided about it.

use edgewright_model::Digest;
use edgewright_model::names::{DeviceId, SiteId, SlotId};
use edgewright_model::reference::RepoName;
use edgewright_model::run::ReleaseNumber;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::write::changed_one;
use crate::{Store, StoreError, row};

/// An enrolled device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetDevice {
    /// Given by the server, never used again.
    pub id: DeviceId,
    pub source: SourceId,
    pub site: SiteId,
    pub slot: SlotId,
    pub state: DeviceState,
    /// The release that an operator pinned it to.
    pub pin: Option<DevicePin>,
    /// Its serial number, as it gave it.
    pub serial: Option<String>,
    pub enrolled_at: Timestamp,
    /// Its last authenticated request; written with delay.
    pub seen_at: Option<Timestamp>,
    /// The last answer.
    pub delivered: Option<Image>,
    /// The last image that ran healthy.
    pub confirmed: Option<Image>,
    /// A backup was restored: the device may have a newer image than is known here.
    pub is_unsure: bool,
    /// Why it may be two machines with one credential, and since when.
    pub clone: Option<(String, Timestamp)>,
}

/// An image on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Image {
    /// Its repository; what is in a release's entry.
    pub repository: RepoName,
    /// The index.
    pub digest: Digest,
}

/// A device's pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePin {
    pub release: ReleaseNumber,
    pub reason: String,
}

/// What an operator decided about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// It is enrolled, and waits for an approval: it is answered nothing.
    Waiting,
    /// It follows its channel and rollouts.
    Active,
    /// It keeps what it has.
    Held {
        /// Why.
        reason: String,
    },
    /// Its credentials are invalid.
    Revoked {
        /// Why.
        reason: String,
    },
    /// It left the fleet.
    Retired {
        /// Why.
        reason: String,
    },
}

impl DeviceState {
    /// Its name in the database, in documents and tables.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Held { .. } => "held",
            Self::Revoked { .. } => "revoked",
            Self::Retired { .. } => "retired",
        }
    }

    /// Why it is in this state.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Waiting | Self::Active => None,
            Self::Held { reason } | Self::Revoked { reason } | Self::Retired { reason } => Some(reason),
        }
    }

    /// Whether the device gets images: active or held.
    pub const fn is_member(&self) -> bool {
        matches!(self, Self::Active | Self::Held { .. })
    }

    /// Whether the device has its slot for itself.
    pub const fn is_in_slot(&self) -> bool {
        matches!(self, Self::Waiting | Self::Active | Self::Held { .. })
    }

    fn of(name: &str, reason: Option<String>) -> Option<Self> {
        let reason = reason.unwrap_or_default();
        Some(match name {
            "waiting" => Self::Waiting,
            "active" => Self::Active,
            "held" => Self::Held { reason },
            "revoked" => Self::Revoked { reason },
            "retired" => Self::Retired { reason },
            _ => return None,
        })
    }
}

/// An operator's change of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChange {
    /// Its next state.
    State(DeviceState),
    /// Its pin; none: it follows its channel again.
    Pin(Option<DevicePin>),
}

fn image(
    row: &SqliteRow,
    digest: &'static str,
    repository: &'static str,
) -> Result<Option<Image>, StoreError> {
    let digest: Option<Digest> = row::maybe(row, digest)?;
    let repository: Option<RepoName> = row::maybe(row, repository)?;
    Ok(digest.zip(repository).map(|(digest, repository)| Image { repository, digest }))
}

fn device(row: &SqliteRow) -> Result<FleetDevice, StoreError> {
    let name: String = row::text(row, "state")?;
    let state = DeviceState::of(&name, row::maybe(row, "reason")?)
        .ok_or_else(|| StoreError::Corrupt { column: "state", message: format!("unknown state `{name}`") })?;
    let pin: Option<u32> = row::maybe_number(row, "pin")?;
    let pin_reason: Option<String> = row::maybe(row, "pin_reason")?;
    let clone: Option<String> = row::maybe(row, "clone")?;
    Ok(FleetDevice {
        id: row::text(row, "id")?,
        source: SourceId(row::number(row, "source_id")?),
        site: row::text(row, "site")?,
        slot: row::text(row, "slot")?,
        state,
        pin: pin.map(|release| DevicePin {
            release: ReleaseNumber(release),
            reason: pin_reason.unwrap_or_default(),
        }),
        serial: row::maybe(row, "serial")?,
        enrolled_at: row::text(row, "enrolled_at")?,
        seen_at: row::maybe(row, "seen_at")?,
        delivered: image(row, "delivered", "delivered_in")?,
        confirmed: image(row, "confirmed", "confirmed_in")?,
        is_unsure: row::number::<u8>(row, "is_unsure")? != 0,
        clone: clone.zip(row::maybe(row, "clone_at")?),
    })
}

impl Store {
    /// The devices of a source by id, in every state.
    pub async fn fleet(&self, source: SourceId) -> Result<Vec<FleetDevice>, StoreError> {
        let query = sqlx::query("SELECT * FROM fleet_devices WHERE source_id = ? ORDER BY id");
        row::all(query.bind(source.0).fetch(&self.readers), "list devices", device).await
    }

    /// Changes when what offers are made from changes: sources, what they declare, what channels hold.
    pub async fn fleet_stamp(&self) -> Result<String, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT s.id || ' ' || s.name || ' ' || coalesce(s.inventory_commit, '') || ' ' ||
                 (SELECT count(*) || ' ' || coalesce(sum(generation), 0) || ' ' || coalesce(sum(completed), 0)
                  FROM channels c WHERE c.source_id = s.id)
             FROM sources s ORDER BY s.id",
        )
        .fetch_all(&self.readers)
        .await
        .doing("read the state of sources")?;
        Ok(rows.join("\n"))
    }

    /// One device.
    pub async fn fleet_device(&self, id: &DeviceId) -> Result<Option<FleetDevice>, StoreError> {
        let row = sqlx::query("SELECT * FROM fleet_devices WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.readers)
            .await
            .doing("read a device")?;
        row.as_ref().map(device).transpose()
    }

    /// Changes a device, if it is still in the state `from`, with a row of the audit trail.
    ///
    /// A device that is revoked or retired loses its credentials in the same transaction; one that is retired
    /// or gets another state loses no pin.
    ///
    /// # Errors
    /// It was changed since it was read; its slot has another device.
    pub async fn change_device(
        &self,
        id: &DeviceId,
        from: &DeviceState,
        change: &DeviceChange,
        entry: &NewAuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let at = now.to_string();
        let mut drop_credentials = None;
        let update = match change {
            DeviceChange::State(state) => {
                if !state.is_in_slot() {
                    let drop = sqlx::query("DELETE FROM device_credentials WHERE device = ?");
                    drop_credentials = Some(drop.bind(id.to_string()));
                }
                let update = sqlx::query(
                    "UPDATE fleet_devices SET state = ?, reason = ?, changed_at = ?,
                         is_unsure = CASE WHEN ? THEN 0 ELSE is_unsure END
                     WHERE id = ? AND state = ?",
                );
                let update = update.bind(state.name()).bind(state.reason().map(str::to_owned)).bind(at);
                // An operator who lets it go takes responsibility for what it has.
                update.bind(*state == DeviceState::Active)
            }
            DeviceChange::Pin(pin) => {
                let update = sqlx::query(
                    "UPDATE fleet_devices SET pin = ?, pin_reason = ?, changed_at = ? WHERE id = ? AND state = ?",
                );
                let release = pin.as_ref().map(|pin| pin.release.0);
                update.bind(release).bind(pin.as_ref().map(|pin| pin.reason.clone())).bind(at)
            }
        };
        let update = update.bind(id.to_string()).bind(from.name());
        let (what, audit) = (format!("device {id}"), audit::insert(entry, now));
        self.write(move |db| {
            Box::pin(async move {
                let done = update.execute(&mut *db).await.doing("change a device")?;
                changed_one(&done, || what)?;
                if let Some(drop) = drop_credentials {
                    drop.execute(&mut *db).await.doing("remove a device's credentials")?;
                }
                audit.execute(db).await.doing("write an audit row")
            })
        })
        .await
    }

    /// Notes the answer that a device gets from now on, before it gets it.
    ///
    /// # Errors
    /// The device is not a member any more.
    pub async fn note_delivery(
        &self,
        id: &DeviceId,
        image: &Image,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let update = sqlx::query(
            "UPDATE fleet_devices SET delivered = ?, delivered_in = ?, delivered_at = ?, is_unsure = 0
             WHERE id = ? AND state IN ('active', 'held')",
        );
        let update = update.bind(image.digest.to_string()).bind(image.repository.to_string());
        let update = update.bind(now.to_string()).bind(id.to_string());
        let evidence = sqlx::query(
            "INSERT INTO device_evidence (device, digest, rung, basis, at) VALUES (?, ?, 'offered', 'observed', ?)
             ON CONFLICT DO NOTHING",
        );
        let evidence = evidence.bind(id.to_string()).bind(image.digest.to_string()).bind(now.to_string());
        let what = format!("device {id}");
        self.write(move |db| {
            Box::pin(async move {
                let done = update.execute(&mut *db).await.doing("note a delivery")?;
                changed_one(&done, || what)?;
                evidence.execute(db).await.doing("note an offer").map(drop)
            })
        })
        .await
    }
}
