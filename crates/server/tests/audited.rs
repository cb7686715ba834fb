//! The audit trail has one record of each request that changes something. The test walks over the tables of
//! routes: a new one fails it until its request is here, with the record that it makes.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use std::collections::BTreeSet;

use common::plant::{HOOK_SECRET, Plant, kinds};
use edgewright_api::access::{Method, REGISTRY_ROUTES};
use edgewright_api::routes::{Operation, ROUTES};
use edgewright_control::access::Operation as Recorded;
use edgewright_job::Behaviour;
use edgewright_model::Digest;
use serde_json::{Value, json};

const FILES: [(&str, &str); 6] = [
    (
        "edgewright.yaml",
        "edgewright: 1
name: plants
channels:
  stable: {follows: default-branch, rollout: careful}
  late: {follows: {channel: stable}, after: 30d}
rollouts:
  careful: {stages: [{name: canary, count: 1, approval: true}]}
",
    ),
    ("images/hmi/image.yaml", "from: scratch\nsteps: [files: files/]\ntest: none\n"),
    ("images/hmi/files/etc/hmi", "first\n"),
    ("images/lamp/image.yaml", "from: scratch\nsteps: [files: files/]\ntest: {lanes: [external]}\n"),
    ("images/lamp/files/etc/lamp", "first\n"),
    (
        "sites/a/site.yaml",
        "id: s-a
slots:
  - {id: press-0, image: hmi, channel: stable}
  - {id: press-1, image: hmi, channel: stable}
  - {id: lamp-0, image: lamp, channel: stable}
",
    ),
];

/// What only triggers, reports or carries content without a name changes no state that the trail is about.
const NO_RECORD: [&str; 0] = [];

#[tokio::test]
async fn every_request_that_changes_something_is_recorded_once() {
    let mut plant = Plant::start(&FILES).await;
    let first = released_with_a_verdict(&mut plant).await;
    users(&mut plant).await;
    let (device, credential) = devices(&mut plant).await;
    let current = "/v2/device/self/manifests/current";
    plant.send(&credential, Method::Get, current, &Value::Null, &NO_RECORD).await;
    let report = json!({"reports": [{
        "stream": "s", "sequence": 1, "at": "2026-11-29T00:00:00Z", "boot": "b", "sender": "test", "kind": "alive",
    }]});
    let names = [("device", device.as_str())];
    plant.ask_as(&credential, Operation::PostDeviceReports, &names, report, &NO_RECORD).await;
    rollouts(&mut plant).await;
    channels(&mut plant).await;
    runs(&mut plant).await;
    let names = [("forge", "generic"), ("source", "plants")];
    plant.ask_as(HOOK_SECRET, Operation::Hook, &names, Value::Null, &NO_RECORD).await;
    plant.ask(Operation::StartRebuild, &[], json!({ "digest": first }), &["digest.rebuild"]).await;
    plant.ask(Operation::Export, &[], json!({ "digest": first }), &["job.export"]).await;

    let mut expected = BTreeSet::new();
    for route in ROUTES.iter().filter(|route| route.method != Method::Get) {
        match kinds(route) {
            Some((_, kinds)) => expected.extend(kinds.into_iter().map(|kind| (route.id, Some(kind)))),
            None => drop(expected.insert((route.id, None))),
        }
    }
    let missing: Vec<_> = expected.difference(&plant.asked).collect();
    assert!(missing.is_empty(), "add requests that succeed, with their records: {missing:?}");
    plant.close().await;
}

/// The first release, after a verdict of another system; gives the digest of an image.
async fn released_with_a_verdict(plant: &mut Plant) -> String {
    let lamp = plant
        .until("/api/v1/runs/1", |run| {
            let nodes = run["nodes"].as_array()?.iter();
            let mut waiting = nodes.filter(|node| node["node"] == "lamp");
            Some(waiting.next()?["digest"].as_str()?.to_owned())
        })
        .await;
    plant.ask(Operation::PostVerdict, &[], json!({"digest": lamp, "passed": true}), &["verdict.post"]).await;
    release(plant, 1).await;
    lamp
}

/// Waits for a release that the channel has or gets.
async fn release(plant: &Plant, number: u64) {
    plant.until("/api/v1/releases", |list| (list[0]["number"] == number).then_some(())).await;
}

async fn users(plant: &mut Plant) {
    let anna = [("user", "anna")];
    plant.ask(Operation::SetUser, &[], json!({"name": "anna", "grants": ["viewer"]}), &["user.set"]).await;
    let token = plant.ask(Operation::IssueToken, &anna, json!({"valid": "1h"}), &["user.token"]).await;
    let id = token["id"].to_string();
    let names = [("user", "anna"), ("token", id.as_str())];
    plant.ask(Operation::RevokeToken, &names, Value::Null, &["user.revoke"]).await;
    plant.ask(Operation::RemoveUser, &anna, Value::Null, &["user.remove"]).await;
}

/// Enrols a device by a token; gives its identity.
async fn enrol(plant: &mut Plant, slot: &str) -> Value {
    let order = json!({"site": "s-a", "slot": slot, "approval": true});
    let made = plant.ask(Operation::MakeEnrolment, &[], order, &["device.enrol"]).await;
    plant.ask(Operation::Enrol, &[], json!({"token": made["token"]}), &["device.enrol"]).await
}

/// Two devices, one of which stays; gives its id and credential.
async fn devices(plant: &mut Plant) -> (String, String) {
    let (kept, left) = (enrol(plant, "press-0").await, enrol(plant, "press-1").await);
    let id = |identity: &Value| identity["device"].as_str().unwrap().to_owned();
    for (device, change, operation) in [
        (&kept, json!({"change": "approve"}), "device.approve"),
        (&kept, json!({"change": "hold", "reason": "a test"}), "device.hold"),
        (&kept, json!({"change": "release"}), "device.release"),
        (&kept, json!({"change": "pin", "release": 1, "reason": "a test"}), "device.pin"),
        (&kept, json!({"change": "unpin"}), "device.unpin"),
        (&left, json!({"change": "revoke", "reason": "a test"}), "device.revoke"),
        (&left, json!({"change": "retire", "reason": "a test"}), "device.retire"),
    ] {
        plant.ask(Operation::ChangeDevice, &[("device", &id(device))], change, &[operation]).await;
    }
    let names = [("device", &*id(&kept))];
    let rotated = plant.ask(Operation::RotateDevice, &names, Value::Null, &["device.rotate"]).await;
    (id(&kept), rotated["credential"].as_str().unwrap().to_owned())
}

async fn rollouts(plant: &mut Plant) {
    plant.commit(&[("images/hmi/files/etc/hmi", "second\n")]).await;
    let plants = [("name", "plants")];
    plant.ask(Operation::Poll, &plants, Value::Null, &NO_RECORD).await;
    release(plant, 2).await;
    plant.until("/api/v1/rollouts", |list| (list[0]["release"] == 2).then_some(())).await;
    for (order, operation) in [
        ("pause", "rollout.pause"),
        ("resume", "rollout.resume"),
        ("urgent", "rollout.urgent"),
        ("approve", "rollout.approve"),
        ("abort", "rollout.abort"),
    ] {
        let names = [("rollout", "stable")];
        plant.ask(Operation::OrderRollout, &names, json!({ "order": order }), &[operation]).await;
    }
}

async fn channels(plant: &mut Plant) {
    for (change, operation) in [
        (json!({"change": "pin", "release": 1, "reason": "a test"}), "channel.pin"),
        (json!({"change": "unpin"}), "channel.unpin"),
        (json!({"change": "hold", "reason": "a test"}), "channel.hold"),
        (json!({"change": "resume"}), "channel.resume"),
        (json!({"change": "promote", "release": 2, "reason": "a test"}), "channel.promote"),
        (json!({"change": "roll_back", "to": 1, "reason": "a test"}), "channel.roll_back"),
    ] {
        plant.ask(Operation::ChangeChannel, &[("channel", "late")], change, &[operation]).await;
    }
    let listed = plant.get("/api/v1/quarantine").await;
    let clear = json!({"clear": listed[0]["digest"]});
    plant.ask(Operation::ClearQuarantine, &[], clear, &["quarantine.clear"]).await;
}

async fn runs(plant: &mut Plant) {
    plant.executor.script("hmi", [Behaviour::Hang]);
    plant.commit(&[("images/hmi/files/etc/hmi", "third\n")]).await;
    let running = |list: &Value| (list[0]["state"] == "running").then(|| list[0]["number"].to_string());
    let run = plant.until("/api/v1/runs", running).await;
    let names = [("number", run.as_str())];
    plant.ask(Operation::Cancel, &names, Value::Null, &["run.cancel"]).await;
    plant.executor.script("hmi", [Behaviour::Succeed]);
    plant.ask(Operation::Retry, &names, Value::Null, &["run.retry"]).await;
    plant.ask(Operation::Update, &[("name", "plants")], Value::Null, &["locks.update"]).await;
}

#[test]
fn the_page_about_the_trail_lists_every_operation() {
    let page = include_str!("../../../docs/how-to/access.md");
    // They change nothing by themselves, or end with the process.
    let unrecorded = [Recorded::PollSource, Recorded::SelectRun, Recorded::ReportDevice];
    for operation in Recorded::ALL {
        let is_listed = page.contains(&format!("`{}`", operation.name()));
        assert_eq!(is_listed, !unrecorded.contains(&operation), "{}", operation.name());
    }
}

#[tokio::test]
async fn every_change_of_named_content_in_the_registry_is_recorded_once() {
    let plant = Plant::start(&FILES).await;
    let (layer, config) = (Digest::of("layer"), Digest::of("{}"));
    let uploads = "/v2/tools/report/blobs/uploads/";
    let mut asked = Vec::new();
    // Content without a name: what a manifest then names is recorded with it.
    for (digest, text) in [(&layer, "layer"), (&config, "{}")] {
        let upload = plant.push(Method::Post, uploads, String::new(), &NO_RECORD).await;
        let upload = plant.push(Method::Patch, &upload, text.to_owned(), &NO_RECORD).await;
        let separator = if upload.contains('?') { '&' } else { '?' };
        let end = format!("{upload}{separator}digest={digest}");
        plant.push(Method::Put, &end, String::new(), &NO_RECORD).await;
    }
    let given_up = plant.push(Method::Post, uploads, String::new(), &NO_RECORD).await;
    plant.push(Method::Delete, &given_up, String::new(), &NO_RECORD).await;
    let upload = "/v2/{name}/blobs/uploads/{id}";
    asked.extend([Method::Patch, Method::Put, Method::Delete].map(|method| (method, upload)));
    asked.push((Method::Post, "/v2/{name}/blobs/uploads/"));

    let image = common::image("layer").to_string();
    let digest = Digest::of(&image);
    let path = |reference: &str| format!("/v2/tools/report/manifests/{reference}");
    plant.push(Method::Put, &path("v1"), image, &["registry.push"]).await;
    plant.push(Method::Delete, &path("v1"), String::new(), &["registry.delete"]).await;
    plant.push(Method::Delete, &path(&digest.to_string()), String::new(), &["registry.delete"]).await;
    asked.extend([Method::Put, Method::Delete].map(|method| (method, "/v2/{name}/manifests/{reference}")));
    let blob = format!("/v2/tools/report/blobs/{layer}");
    plant.push(Method::Delete, &blob, String::new(), &["registry.delete_blob"]).await;
    asked.push((Method::Delete, "/v2/{name}/blobs/{digest}"));

    let changes = REGISTRY_ROUTES.iter().filter(|route| !matches!(route.method, Method::Get | Method::Head));
    let missing: Vec<_> = changes.filter(|route| !asked.contains(&(route.method, route.path))).collect();
    assert!(missing.is_empty(), "add requests that succeed, with their records: {missing:?}");
    plant.close().await;
}
