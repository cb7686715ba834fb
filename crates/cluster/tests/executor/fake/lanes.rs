//! What the kubelet would do with Pods of lanes: the check runner runs in this process.

use std::io::Write as _;

use base64::Engine as _;
use serde_json::{Value, json};

use super::Fake;

/// Runs the checks of a Pod, once it has its Secret, as its container would; `is_alive`: its init runs on.
pub(crate) async fn run(fake: &Fake, name: &str, is_alive: bool) {
    fake.object("pods", name).await;
    schedule(fake, name);
    let secret = fake.object("secrets", name).await;
    set_state(fake, name, "image", &json!({ "running": { "startedAt": "2026-11-28T12:00:00Z" } }), "Running");
    fake.write(name, &["[  OK  ] Reached target multi-user.target".to_owned()]);
    let order = secret["data"]["order.json"].as_str().unwrap();
    let order = base64::engine::general_purpose::STANDARD.decode(order).unwrap();
    if is_alive {
        let log = tokio::task::spawn_blocking(move || checks(&order)).await.unwrap();
        let lines = String::from_utf8(log).unwrap();
        fake.write(name, &lines.lines().map(str::to_owned).collect::<Vec<_>>());
    }
    fake.close(name);
    end(fake, name, "image", if is_alive { 0 } else { 3 });
}

/// Ends the container of a Pod.
pub(crate) fn end(fake: &Fake, name: &str, container: &str, code: i32) {
    let ended = json!({ "terminated": {
        "exitCode": code, "reason": "Error", "startedAt": "2026-11-28T12:00:00Z",
        "finishedAt": "2026-11-28T12:00:01Z",
    } });
    set_state(fake, name, container, &ended, "Failed");
}

fn checks(order: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(order).unwrap();
    let mut log = Vec::new();
    edgewright_checks::pod::run_in_pod(file.path(), &mut log).unwrap();
    log
}

/// Gives a Pod a node.
pub(crate) fn schedule(fake: &Fake, name: &str) {
    let mut pod = fake.get("pods", name).unwrap();
    pod["spec"]["nodeName"] = json!("node");
    pod["status"] = json!({ "phase": "Pending" });
    fake.apply("pods", pod);
}

fn set_state(fake: &Fake, name: &str, container: &str, state: &Value, phase: &str) {
    let container = json!({
        "name": container, "state": state, "image": "", "imageID": "", "ready": true, "restartCount": 0,
    });
    fake.set_status("pods", name, json!({ "phase": phase, "containerStatuses": [container] }));
}
