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
    let late = store.add_credential(&new.id, &Digest::of("late"), None, &entry(), NOW).await;
    assert_eq!(late.unwrap_err().class(), ErrorClass::Conflict);
    assert_eq!(store.device_credentials().await.unwrap(), []);
    // What was decided from an older state is not done.
    let again = store.change_device(&new.id, &DeviceState::Active, &change, &entry(), NOW).await;
    assert_eq!(again.unwrap_err().class(), ErrorClass::Conflict);
}
