//! Enrolment: the tokens that devices exchange for an identity, and their credentials. Of both, only hashes
//! are stored.

use std::collections::BTreeSet;

use edgewright_model::Digest;
use edgewright_model::names::{DeviceId, SiteId, SlotId};
use edgewright_model::spec::Labels;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::sources::SourceId;
use crate::write::{changed_one, run_all};
use crate::{Store, StoreError, row};

/// Which devices a token is for, and how often it can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRule {
    pub source: SourceId,
    pub site: SiteId,
    /// The slot; none: one of the site that is free.
    pub slot: Option<SlotId>,
    /// Labels that the slot must have.
    pub labels: Labels,
    /// Serial numbers that may use it; empty: any, and none.
    pub serials: BTreeSet<String>,
    /// How many devices may still use it.
    pub uses: u32,
    /// Whether a device waits for an approval after its use.
    pub needs_approval: bool,
    /// The device of the slot that is retired by its use.
    pub replaces: Option<DeviceId>,
    pub expires_at: Timestamp,
}

/// A stored token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    pub id: i64,
    pub rule: EnrolmentRule,
}

/// A device that uses a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    pub token: i64,
    /// What the device chose for this exchange, as a hash.
    pub attempt: Option<Digest>,
    pub id: DeviceId,
    pub source: SourceId,
    pub site: SiteId,
    pub slot: SlotId,
    /// Whether it waits for an approval.
    pub is_waiting: bool,
    pub serial: Option<String>,
    /// The hash of its credential.
    pub credential: Digest,
    /// The device that it replaces.
    pub replaces: Option<DeviceId>,
}

/// A credential of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    pub hash: Digest,
    pub device: DeviceId,
    /// When it ends; none: it is the current one.
    pub expires_at: Option<Timestamp>,
}

fn token(row: &SqliteRow) -> Result<EnrolmentToken, StoreError> {
    Ok(EnrolmentToken {
        id: row::number(row, "id")?,
        rule: EnrolmentRule {
            source: SourceId(row::number(row, "source_id")?),
            site: row::text(row, "site")?,
            slot: row::maybe(row, "slot")?,
            labels: row::json(row, "labels")?,
            serials: row::json(row, "serials")?,
            uses: row::number(row, "uses")?,
            needs_approval: row::number::<u8>(row, "needs_approval")? != 0,
            replaces: row::maybe(row, "replaces")?,
            expires_at: row::text(row, "expires_at")?,
        },
    })
}

impl Store {
    /// Stores a token by its hash, with a row of the audit trail.
    pub async fn add_enrolment_token(
        &self,
        hash: &Digest,
        rule: &EnrolmentRule,
        entry: &NewAuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO enrolment_tokens (hash, source_id, site, slot, labels, serials, uses, needs_approval,
                 replaces, created_by, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(hash.to_string())
        .bind(rule.source.0)
        .bind(rule.site.to_string())
        .bind(rule.slot.as_ref().map(ToString::to_string))
        .bind(row::to_json(&rule.labels)?)
        .bind(row::to_json(&rule.serials)?)
        .bind(rule.uses)
        .bind(rule.needs_approval)
        .bind(rule.replaces.as_ref().map(ToString::to_string))
        .bind(entry.actor.to_string())
        .bind(now.to_string())
        .bind(rule.expires_at.to_string());
        let record = audit::insert(entry, now);
        self.write(move |db| {
            Box::pin(async move {
                insert.execute(&mut *db).await.doing("add an enrolment token")?;
                record.execute(db).await.doing("write an audit row")
            })
        })
        .await
    }

    /// The token of a hash, whether or not it can still be used.
    pub async fn enrolment_token(&self, hash: &Digest) -> Result<Option<EnrolmentToken>, StoreError> {
        let row = sqlx::query("SELECT * FROM enrolment_tokens WHERE hash = ?")
            .bind(hash.to_string())
            .fetch_optional(&self.readers)
            .await
            .doing("read an enrolment token")?;
        row.as_ref().map(token).transpose()
    }

    /// The device that an exchange gave before.
    pub async fn enrolled(&self, token: i64, attempt: &Digest) -> Result<Option<DeviceId>, StoreError> {
        let row = sqlx::query("SELECT device FROM enrolments WHERE token = ? AND attempt = ?")
            .bind(token)
            .bind(attempt.to_string())
            .fetch_optional(&self.readers)
            .await
            .doing("read an enrolment")?;
        row.as_ref().map(|row| row::text(row, "device")).transpose()
    }

    /// Enrols a device: one use of the token, its row, its credential and a row of the audit trail, all or
    /// nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the token has no use left, or the slot has a device.
    pub async fn enrol(
        &self,
        new: &NewDevice,
        entry: &NewAuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let at = now.to_string();
        let take = sqlx::query("UPDATE enrolment_tokens SET uses = uses - 1 WHERE id = ? AND uses > 0");
        let take = take.bind(new.token);
        let mut rest = Vec::new();
        if let Some(old) = &new.replaces {
            let retire = sqlx::query(
                "UPDATE fleet_devices SET state = 'retired', reason = ?, changed_at = ?
                 WHERE id = ? AND state <> 'retired'",
            );
            let retire = retire.bind(format!("replaced by {}", new.id)).bind(at.clone());
            rest.push(retire.bind(old.to_string()));
            rest.push(sqlx::query("DELETE FROM device_credentials WHERE device = ?").bind(old.to_string()));
        }
        let insert = sqlx::query(
            "INSERT INTO fleet_devices (id, source_id, site, slot, state, serial, enrolled_at, changed_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(new.id.to_string())
        .bind(new.source.0)
        .bind(new.site.to_string())
        .bind(new.slot.to_string())
        .bind(if new.is_waiting { "waiting" } else { "active" })
        .bind(new.serial.clone())
        .bind(at.clone())
        .bind(at);
        let mut last = vec![add_credential(&new.id, &new.credential, now)];
        if let Some(attempt) = &new.attempt {
            let note = sqlx::query("INSERT INTO enrolments (token, attempt, device) VALUES (?, ?, ?)");
            last.push(note.bind(new.token).bind(attempt.to_string()).bind(new.id.to_string()));
        }
        let record = audit::insert(entry, now);
        let what = format!("slot {} of site {}", new.slot, new.site);
        self.write(move |db| {
            Box::pin(async move {
                let taken = take.execute(&mut *db).await.doing("use an enrolment token")?;
                changed_one(&taken, || "the enrolment token".to_owned())?;
                run_all(&mut *db, "replace a device", rest).await?;
                let added = insert.execute(&mut *db).await.doing("add a device")?;
                changed_one(&added, || what)?;
                run_all(&mut *db, "add a device", last).await?;
                record.execute(db).await.doing("write an audit row")
            })
        })
        .await
    }

    /// Gives a device another credential. The others end at `overlap_until`; without it at once.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the device was revoked or retired.
    pub async fn add_credential(
        &self,
        device: &DeviceId,
        hash: &Digest,
        overlap_until: Option<Timestamp>,
        entry: &NewAuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let end = match overlap_until {
            Some(until) => {
                let end = sqlx::query(
                    "UPDATE device_credentials SET expires_at = ? WHERE device = ? AND expires_at IS NULL",
                );
                end.bind(until.to_string()).bind(device.to_string())
            }
            None => sqlx::query("DELETE FROM device_credentials WHERE device = ?").bind(device.to_string()),
        };
        let (add, audit) = (add_credential(device, hash, now), audit::insert(entry, now));
        let what = format!("device {device}");
        self.write(move |db| {
            Box::pin(async move {
                end.execute(&mut *db).await.doing("end a credential")?;
                let added = add.execute(&mut *db).await.doing("add a credential")?;
                changed_one(&added, || what)?;
                audit.execute(db).await.doing("write an audit row")
            })
        })
        .await
    }

    /// All credentials of devices.
    pub async fn device_credentials(&self) -> Result<Vec<CredentialRow>, StoreError> {
        let credential = |row: &SqliteRow| {
            Ok(CredentialRow {
                hash: row::text(row, "hash")?,
                device: row::text(row, "device")?,
                expires_at: row::maybe(row, "expires_at")?,
            })
        };
        let rows = sqlx::query("SELECT * FROM device_credentials").fetch(&self.readers);
        row::all(rows, "list credentials of devices", credential).await
    }

    /// Removes credentials and tokens whose time is over.
    pub async fn drop_expired_enrolment(&self, now: Timestamp) -> Result<(), StoreError> {
        let statements = [
            "DELETE FROM device_credentials WHERE expires_at IS NOT NULL AND julianday(expires_at) <= julianday(?)",
            "DELETE FROM enrolments WHERE token IN
                 (SELECT id FROM enrolment_tokens WHERE julianday(expires_at) <= julianday(?))",
            "DELETE FROM enrolment_tokens WHERE julianday(expires_at) <= julianday(?)",
        ];
        let statements = statements.map(|sql| sqlx::query(sql).bind(now.to_string()));
        self.execute_all("remove expired credentials", statements.into()).await
    }
}

fn add_credential(device: &DeviceId, hash: &Digest, now: Timestamp) -> crate::write::Statement {
    let insert = sqlx::query(
        "INSERT INTO device_credentials (hash, device, created_at)
         SELECT ?1, id, ?3 FROM fleet_devices WHERE id = ?2 AND state IN ('waiting', 'active', 'held')",
    );
    insert.bind(hash.to_string()).bind(device.to_string()).bind(now.to_string())
}

#[cfg(test)]
mod tests;
