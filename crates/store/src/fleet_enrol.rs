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
        self.execute_all("add an enrolment token", vec![insert, audit::insert(entry, now)]).await
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
        last.push(audit::insert(entry, now));
        let what = format!("slot {} of site {}", new.slot, new.site);
        self.write(move |db| {
            Box::pin(async move {
                let taken = take.execute(&mut *db).await.doing("use an enrolment token")?;
                changed_one(&taken, || "the enrolment token".to_owned())?;
                run_all(db, "replace a device", rest).await?;
                let added = insert.execute(&mut *db).await.doing("add a device")?;
                changed_one(&added, || what)?;
                run_all(db, "add a device", last).await
            })
        })
        .await
    }

    /// Gives a device another credential. The others end at `overlap_until`; without it at once.
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
        let statements = vec![end, add_credential(device, hash, now), audit::insert(entry, now)];
        self.execute_all("rotate a credential", statements).await
    }

    /// All credentials of devices.
    pub async fn device_credentials(&self) -> Result<Vec<CredentialRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM device_credentials")
            .fetch_all(&self.readers)
            .await
            .doing("list credentials of devices")?;
        rows.iter()
            .map(|row| {
                Ok(CredentialRow {
                    hash: row::text(row, "hash")?,
                    device: row::text(row, "device")?,
                    expires_at: row::maybe(row, "expires_at")?,
                })
            })
            .collect()
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
    let insert = sqlx::query("INSERT INTO device_credentials (hash, device, created_at) VALUES (?, ?, ?)");
    insert.bind(hash.to_string()).bind(device.to_string()).bind(now.to_string())
}

#[cfg(test)]
mod tests {
    use edgewright_model::error::ErrorClass;

    use super::*;
    use crate::fleet::{DeviceChange, DeviceState, Image};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn entry() -> NewAuditEntry {
        NewAuditEntry {
            actor: "operator:token".parse().unwrap(),
            operation: "device.enrol".to_owned(),
            object: "devices/d".to_owned(),
            before: None,
            after: None,
            request: None,
        }
    }

    fn rule(source: SourceId, uses: u32) -> EnrolmentRule {
        EnrolmentRule {
            source,
            site: "plant-a".parse().unwrap(),
            slot: None,
            labels: Labels::new(),
            serials: ["SN-1".to_owned()].into(),
            uses,
            needs_approval: false,
            replaces: None,
            expires_at: NOW,
        }
    }

    fn device(source: SourceId, token: i64, id: &str, slot: &str) -> NewDevice {
        NewDevice {
            token,
            attempt: Some(Digest::of(id)),
            id: id.parse().unwrap(),
            source,
            site: "plant-a".parse().unwrap(),
            slot: slot.parse().unwrap(),
            is_waiting: false,
            serial: None,
            credential: Digest::of(format!("secret of {id}")),
            replaces: None,
        }
    }

    #[tokio::test]
    async fn a_token_has_its_uses_and_a_slot_one_device() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).await.unwrap();
        let source = store.upsert_source(&"plants".parse().unwrap(), "/git/plants", NOW).await.unwrap().id;
        let hash = Digest::of("token");
        store.add_enrolment_token(&hash, &rule(source, 3), &entry(), NOW).await.unwrap();
        assert_eq!(store.enrolment_token(&Digest::of("other")).await.unwrap(), None);
        let token = store.enrolment_token(&hash).await.unwrap().unwrap();
        assert_eq!(token.rule, rule(source, 3));

        let first = device(source, token.id, "dev-1", "hmi-1");
        store.enrol(&first, &entry(), NOW).await.unwrap();
        let attempt = first.attempt.clone().unwrap();
        assert_eq!(store.enrolled(token.id, &attempt).await.unwrap(), Some(first.id.clone()));
        // The slot is taken; the use is given back with the rest.
        let second = device(source, token.id, "dev-2", "hmi-1");
        let error = store.enrol(&second, &entry(), NOW).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
        assert_eq!(store.enrolment_token(&hash).await.unwrap().unwrap().rule.uses, 2);
        // A replacement retires the device and ends its credential.
        let second = NewDevice { replaces: Some(first.id.clone()), ..second };
        store.enrol(&second, &entry(), NOW).await.unwrap();
        let fleet = store.fleet(source).await.unwrap();
        assert_eq!(fleet[0].state, DeviceState::Retired { reason: "replaced by dev-2".to_owned() });
        assert_eq!((fleet[1].id.as_str(), &fleet[1].state), ("dev-2", &DeviceState::Active));
        let credentials = store.device_credentials().await.unwrap();
        assert_eq!(credentials.iter().map(|row| row.device.as_str()).collect::<Vec<_>>(), ["dev-2"]);
        // Three uses, and no fourth one.
        store.enrol(&device(source, token.id, "dev-3", "hmi-3"), &entry(), NOW).await.unwrap();
        let fourth = device(source, token.id, "dev-4", "hmi-4");
        assert_eq!(store.enrol(&fourth, &entry(), NOW).await.unwrap_err().class(), ErrorClass::Conflict);
        assert_eq!(store.fleet(source).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_revoked_device_has_no_credentials_and_gets_no_delivery() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).await.unwrap();
        let source = store.upsert_source(&"plants".parse().unwrap(), "/git/plants", NOW).await.unwrap().id;
        let hash = Digest::of("token");
        store.add_enrolment_token(&hash, &rule(source, 1), &entry(), NOW).await.unwrap();
        let token = store.enrolment_token(&hash).await.unwrap().unwrap().id;
        let new = device(source, token, "dev-1", "hmi-1");
        store.enrol(&new, &entry(), NOW).await.unwrap();
        let image = Image { repository: "plants/hmi".parse().unwrap(), digest: Digest::of("image") };
        store.note_delivery(&new.id, &image, NOW).await.unwrap();
        let overlap = NOW.checked_add(jiff::SignedDuration::from_secs(60)).unwrap();
        store.add_credential(&new.id, &Digest::of("next"), Some(overlap), &entry(), NOW).await.unwrap();
        let mut ends: Vec<_> =
            store.device_credentials().await.unwrap().into_iter().map(|row| row.expires_at).collect();
        ends.sort();
        assert_eq!(ends, [None, Some(overlap)]);
        store.drop_expired_enrolment(overlap).await.unwrap();
        assert_eq!(store.device_credentials().await.unwrap().len(), 1);
        assert_eq!(store.enrolment_token(&hash).await.unwrap(), None);

        let revoked = DeviceState::Revoked { reason: "stolen".to_owned() };
        let change = DeviceChange::State(revoked.clone());
        store.change_device(&new.id, &DeviceState::Active, &change, &entry(), NOW).await.unwrap();
        assert_eq!(store.device_credentials().await.unwrap(), []);
        let row = store.fleet_device(&new.id).await.unwrap().unwrap();
        assert_eq!((row.state, row.delivered), (revoked, Some(image.clone())));
        let error = store.note_delivery(&new.id, &image, NOW).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict);
        // What was decided from an older state is not done.
        let again = store.change_device(&new.id, &DeviceState::Active, &change, &entry(), NOW).await;
        assert_eq!(again.unwrap_err().class(), ErrorClass::Conflict);
    }
}
