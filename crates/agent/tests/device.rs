//! The agent as a process on a device whose bootc is a script: updates, a bad image, kills, no network.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use std::time::Duration;

use common::{Device, Server, until, wait_for_writes, written};
use edgewright_model::Digest;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_taken_by_itself_and_a_bad_one_is_left() {
    let server = Server::start().await;
    let device = Device::new(&Digest::of("v1"), &server.host, "");
    let log = device.path("log");
    let good = server.publish("v2");

    // Offline: reports wait.
    server.set_online(false);
    let agent = device.start();
    until("the reboot into v2", &log, async || device.reboots() == 1).await;
    let (code, status) = device.ask(&["status"]).await;
    assert_eq!((code, status["state"]["state"].as_str()), (0, Some("rebooting")), "{status}");
    assert!(status["queued_reports"].as_u64().unwrap() >= 3, "{status}");
    drop(agent);

    // After the boot it is checked and confirmed, without the registry.
    assert_eq!(device.booted(), good.to_string());
    server.set_online(true);
    let agent = device.start();
    let confirmed = async || {
        let (_, status) = device.ask(&["status"]).await;
        let state = &status["state"];
        state["state"] == "confirmed" && state["blessed"] == true && status["queued_reports"] == 0
    };
    until("confirmed and reported", &log, confirmed).await;
    let want = ["booted", "offered", "staged", "rebooting", "health", "confirmed"];
    assert_eq!(server.kinds(), want);
    {
        let content = server.content.lock().unwrap();
        let staged = content.reports.iter().find(|report| report.kind == "staged").unwrap();
        assert_eq!(staged.downloaded_bytes, Some(0), "the tests' images have no layers");
    }

    // A bad one is left, and not taken again.
    let bad = server.publish_bad("v3");
    until("the reboot into v3", &log, async || device.reboots() == 2).await;
    drop(agent);
    assert_eq!(device.booted(), bad.to_string());
    let agent = device.start();
    until("the reboot into v2", &log, async || device.reboots() == 3).await;
    drop(agent);
    assert_eq!(device.booted(), good.to_string());
    let _agent = device.start();
    let held = async || device.ask(&["status"]).await.1["state"]["state"] == "held_back";
    until("held back", &log, held).await;
    let (code, status) = device.ask(&["check"]).await;
    assert_eq!((code, status["state"]["why"].as_str()), (0, Some("failed")), "{status}");
    assert!(status["failed"][0]["reason"]["message"].as_str().unwrap().contains("works"), "{status}");
    assert_eq!(device.reboots(), 3);
    until("reported", &log, async || server.kinds().last().is_some_and(|kind| kind == "rolled_back")).await;
    let numbers: Vec<u64> = {
        let content = server.content.lock().unwrap();
        let health = content.reports.iter().rfind(|report| report.kind == "health").unwrap();
        assert_eq!((health.checks.len(), health.digest.as_ref()), (1, Some(&bad)));
        content.reports.iter().map(|report| report.sequence).collect()
    };
    let in_order: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, in_order);
    let (_, logs) = device.ask(&["logs"]).await;
    assert!(logs.as_array().unwrap().iter().any(|line| line["state"] == "rolling_back"), "{logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_work_without_a_running_agent() {
    let server = Server::start().await;
    let device = Device::new(&Digest::of("v1"), &server.host, "policy = \"download\"");
    let digest = server.publish("v2");
    let (code, status) = device.ask(&["hold", "--reason", "harvest"]).await;
    assert_eq!((code, status["hold"]["reason"].as_str()), (0, Some("harvest")), "{status}");
    let (code, status) = device.ask(&["check"]).await;
    assert_eq!((code, status["state"]["why"].as_str()), (0, Some("hold")), "{status}");
    let (code, error) = device.ask(&["update"]).await;
    assert_eq!((code, error["error"]["code"].as_str()), (4, Some("conflict")), "{error}");
    let (code, _) = device.ask(&["resume"]).await;
    assert_eq!(code, 0);
    let (code, status) = device.ask(&["check"]).await;
    assert_eq!((code, status["state"]["state"].as_str()), (0, Some("staged")), "{status}");
    assert_eq!(device.reboots(), 0);
    assert!(device.disk().is_locked);
    let (code, status) = device.ask(&["health"]).await;
    assert_eq!(code, 0, "{status}");

    // The registry revokes the credential: a clear state, and the running image stays.
    server.content.lock().unwrap().authorization = Some("Basic other".to_owned());
    let (code, status) = device.ask(&["check"]).await;
    assert_eq!((code, status["problem"]["kind"].as_str()), (1, Some("denied")), "{status}");
    assert_eq!(status["state"]["update"]["digest"], digest.to_string(), "{status}");
    server.content.lock().unwrap().authorization = None;
    let (code, status) = device.ask(&["check"]).await;
    assert_eq!((code, status["problem"].is_null()), (0, true), "{status}");

    // A configuration that cannot be used.
    std::fs::write(device.path("agent.toml"), "imag = 1").unwrap();
    assert_eq!(device.ask(&["check"]).await.0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_agent_runs_and_takes_commands() {
    let server = Server::start().await;
    let device = Device::new(&Digest::of("v1"), &server.host, "policy = \"download\"");
    let log = device.path("log");
    let mut agent = device.start();
    let runs = async || device.ask(&["status"]).await.1["is_running"] == true;
    until("the socket", &log, runs).await;
    assert_eq!(device.ask(&["run"]).await.0, 4);
    server.publish("v2");
    let (code, status) = device.ask(&["check"]).await;
    assert_eq!((code, status["state"]["state"].as_str()), (0, Some("staged")), "{status}");
    let (code, status) = device.ask(&["update"]).await;
    assert_eq!((code, status["state"]["state"].as_str()), (0, Some("rebooting")), "{status}");
    until("the reboot", &log, async || device.reboots() == 1).await;
    let (code, _) = device.ask(&["rollback"]).await;
    assert_eq!(code, 4, "a reboot is under way");
    let pid = rustix::process::Pid::from_child(&agent.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || agent.0.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0), "{}", device.read("log"));
}

/// Lives that end with a kill; the last one continues to its end.
const KILLS: usize = 20;
/// Writes of the state in a life that is not killed, about: lives are killed after one of them.
const WRITES: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_do_no_harm() {
    let server = Server::start().await;
    let (old, good) = (Digest::of("v1"), server.publish("v2"));
    let mut random = Random(0x5eed);
    let mut kills = 0;
    // A device is killed until it has its update: then comes the next one. What counts are writes that were
    // seen, not time, so that each life gets somewhere however slow the machine is.
    while kills < KILLS {
        let device = Device::new(&old, &server.host, "");
        while !device.is_confirmed() {
            let writes = if kills < KILLS { 1 + random.below(WRITES) } else { u64::MAX };
            let before = (written(&device), device.reboots());
            let agent = device.start();
            wait_for_writes(&device, before, writes).await;
            tokio::time::sleep(Duration::from_micros(random.below(30_000))).await;
            drop(agent);
            kills += 1;
            let booted = device.booted();
            assert!(booted == old.to_string() || booted == good.to_string(), "{booted}");
        }
        assert_eq!(device.booted(), good.to_string());
        assert!(!device.read("log").contains("damaged"), "{}", device.read("log"));
    }
}

/// Reproducible numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
