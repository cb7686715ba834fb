//! The agent as a process on a device that runs its offer already: it checks and confirms it.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use common::{Device, Server, until};
use edgewright_api::DeviceReport;
use edgewright_model::Digest;
use futures::future::join_all;
use serde_json::Value;

/// The reports of a device's present stream, each once: a killed agent may send some again.
fn reports(device: &Device, server: &Server) -> Vec<DeviceReport> {
    let stream = device.read("state/stream");
    let content = server.content.lock().unwrap();
    let mut reports: Vec<_> =
        content.reports.iter().filter(|report| report.stream == stream).cloned().collect();
    reports.sort_by_key(|report| report.sequence);
    reports.dedup_by_key(|report| report.sequence);
    reports
}

fn kinds(device: &Device, server: &Server) -> Vec<String> {
    reports(device, server).into_iter().map(|report| report.kind).collect()
}

/// Runs the agent until a condition on its status holds, and all is reported.
async fn run_until(device: &Device, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let agent = device.start();
    let mut status = Value::Null;
    until(what, &device.path("log"), async || {
        status = device.ask(&["status"]).await.1;
        status["is_running"] == true && status["queued_reports"] == 0 && holds(&status)
    })
    .await;
    drop(agent);
    status
}

fn is_confirmed(status: &Value) -> bool {
    status["state"]["state"] == "confirmed" && status["state"]["blessed"] == true
}

fn is_held_back(status: &Value) -> bool {
    status["state"]["state"] == "held_back"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_installed_is_confirmed_also_after_a_loss_of_the_state() {
    let server = Server::start().await;
    let digest = server.publish("v2");
    let device = Device::new(&digest, &server.host, "");
    for time in ["installed", "without state", "without state again"] {
        let status = run_until(&device, time, is_confirmed).await;
        assert_eq!(status["confirmed"]["update"]["digest"], digest.to_string(), "{status}");
        let found = reports(&device, &server);
        let kinds: Vec<&str> = found.iter().map(|report| report.kind.as_str()).collect();
        assert_eq!(kinds, ["booted", "health", "confirmed"], "{time}");
        let checks: Vec<&str> = found[1].checks.iter().map(|check| check.id.as_str()).collect();
        assert_eq!(checks, ["works"], "{time}: the checks of the image");
        std::fs::remove_dir_all(device.path("state")).unwrap();
    }
    assert_eq!(device.reboots(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_installed_and_fails_stays_and_is_reported_once() {
    let server = Server::start().await;
    let digest = server.publish_bad("v2");
    let device = Device::new(&digest, &server.host, "");
    run_until(&device, "held back", is_held_back).await;
    assert_eq!(kinds(&device, &server), ["booted", "health"]);
    // Once more by an operator, with the same result: that is no news.
    let (code, status) = device.ask(&["update", "--retry"]).await;
    assert_eq!((code, status["failed"][0]["failures"].as_u64()), (0, Some(2)), "{status}");
    run_until(&device, "held back again", is_held_back).await;
    assert_eq!(kinds(&device, &server), ["booted", "health"]);
    assert_eq!((device.booted(), device.reboots()), (digest.to_string(), 0));

    // A release that works is taken.
    let good = server.publish("v3");
    let agent = device.start();
    until("the reboot", &device.path("log"), async || device.reboots() == 1).await;
    drop(agent);
    run_until(&device, "confirmed", is_confirmed).await;
    assert_eq!(device.booted(), good.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_deployed_and_fails_is_left_for_what_was_confirmed() {
    let server = Server::start().await;
    let first = server.publish("v1");
    let device = Device::new(&first, &server.host, "");
    run_until(&device, "the first image", is_confirmed).await;

    let good = server.publish("v2");
    device.update_by_hand(&good).await;
    run_until(&device, "a good one", is_confirmed).await;
    assert_eq!((device.booted(), device.reboots()), (good.to_string(), 1));

    let bad = server.publish_bad("v3");
    device.update_by_hand(&bad).await;
    assert_eq!((device.booted(), device.reboots()), (bad.to_string(), 2));
    let agent = device.start();
    until("the reboot into v2", &device.path("log"), async || device.reboots() == 3).await;
    drop(agent);
    let status = run_until(&device, "held back", is_held_back).await;
    assert_eq!(status["state"]["update"]["digest"], bad.to_string(), "{status}");
    assert_eq!((device.booted(), device.reboots()), (good.to_string(), 3));
    let about: Vec<(String, Option<Digest>)> =
        reports(&device, &server).into_iter().map(|report| (report.kind, report.digest)).collect();
    for outcome in [("health", &bad), ("rolled_back", &bad), ("confirmed", &good), ("confirmed", &first)] {
        let count = about.iter().filter(|it| (it.0.as_str(), it.1.as_ref()) == (outcome.0, Some(outcome.1)));
        assert_eq!(count.count(), 1, "{outcome:?}: {about:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_image_passes_without_its_checks_because_the_registry_was_away() {
    let server = Server::start().await;
    let digest = server.publish_bad("v2");
    server.set_referrers(false);
    let device = Device::new(&digest, &server.host, "");
    let status = run_until(&device, "a problem", |status| status["problem"]["kind"] == "unreachable").await;
    assert!(status["problem"]["message"].as_str().unwrap().contains("the health checks of"), "{status}");
    assert!(!kinds(&device, &server).contains(&"health".to_owned()));
    server.set_referrers(true);
    let status = run_until(&device, "held back", is_held_back).await;
    assert!(status["problem"].is_null(), "{status}");
    assert_eq!(reports(&device, &server).last().unwrap().checks.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_gets_a_result_of_its_own() {
    let (first, second) = (Server::start().await, Server::start().await);
    let digest = first.publish("v2");
    let device = Device::new(&digest, &first.host, "");
    run_until(&device, "confirmed", is_confirmed).await;
    assert_eq!(second.publish("v2"), digest);
    let config = device.read("agent.toml").replace(&first.host, &second.host);
    std::fs::write(device.path("agent.toml"), config).unwrap();
    let has_it = async || second.kinds().last().is_some_and(|kind| kind == "confirmed");
    let agent = device.start();
    until("the second server", &device.path("log"), has_it).await;
    drop(agent);
    assert_eq!(second.kinds(), ["health", "confirmed"]);
}

/// Devices whose agent is killed, each after another number of writes of its state.
const KILLS: u64 = 6;

async fn kill_and_repeat(server: &Server, digest: &Digest, kill: u64, is_good: bool) {
    let device = Device::new(digest, &server.host, "");
    let agent = device.start();
    device.wait_for_writes(1 + kill % 4).await;
    tokio::time::sleep(std::time::Duration::from_millis(7 * kill)).await;
    drop(agent);
    run_until(&device, "an outcome", if is_good { is_confirmed } else { is_held_back }).await;
    let found = kinds(&device, server);
    let count = |kind: &str| found.iter().filter(|found| *found == kind).count();
    let expected = if is_good { (1, 1) } else { (1, 0) };
    assert_eq!((count("health"), count("confirmed")), expected, "{found:?}");
    assert_eq!((device.booted(), device.reboots()), (digest.to_string(), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_one_outcome() {
    for is_good in [true, false] {
        let server = Server::start().await;
        let digest = if is_good { server.publish("v2") } else { server.publish_bad("v2") };
        let (server, digest) = (&server, &digest);
        join_all((0..KILLS).map(|kill| kill_and_repeat(server, digest, kill, is_good))).await;
    }
}
