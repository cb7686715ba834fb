//! Two devices of a rollout report a failure: how long until the rollout is stopped?

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::enrol::Device;
use crate::phases::OWN;

/// What the channel of the devices has completed.
const TAG: &str = "/v2/fleet/press/manifests/stable";
/// How many of the first devices must fail until the gate stops a rollout, whatever the baseline.
const FAILURES: usize = 2;
/// How long a rollout may take to begin, and to be stopped.
const LIMIT: Duration = Duration::from_mins(1);
/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Lets the devices of the newest rollout's first stage ask, until two have its release; those fail.
pub(crate) async fn decide(server: SocketAddr, operator: &str, devices: &[Device]) -> anyhow::Result<Value> {
    let mut connection = Connection::open(server, 0).await?;
    let begin = Instant::now();
    while newest(&mut connection, operator).await?.is_none_or(|rollout| rollout["state"] != "active") {
        ensure!(begin.elapsed() < LIMIT, "no rollout is active after {} s", LIMIT.as_secs());
        sleep(LOOK_AGAIN).await;
    }
    // The channel's tag stays until the rollout is complete.
    let old = digest(&mut connection, TAG, operator).await?;
    let mut failing = Vec::new();
    for device in devices {
        let digest = digest(&mut connection, OWN, &device.authorization).await?;
        if digest != old {
            failing.push((device, digest));
        }
        if failing.len() == FAILURES {
            break;
        }
    }
    ensure!(failing.len() == FAILURES, "{} devices have the release", failing.len());
    for (device, digest) in &failing {
        let path = format!("/v2/device/self/failed/manifests/{digest}");
        let answer = connection.get(&path, Some(&device.authorization)).await?;
        ensure!(answer.status == StatusCode::OK, "the report: {}", answer.status);
    }
    let reported = Instant::now();
    while reported.elapsed() < LIMIT {
        let rollout = newest(&mut connection, operator).await?;
        if rollout.is_some_and(|rollout| rollout["state"] == "stopped") {
            return Ok(json!({ "decision_s": reported.elapsed().as_secs_f64() }));
        }
        sleep(LOOK_AGAIN).await;
    }
    bail!("the rollout was not stopped within {} s", LIMIT.as_secs())
}

async fn newest(connection: &mut Connection, operator: &str) -> anyhow::Result<Option<Value>> {
    let answer = connection.get("/api/v1/rollouts?limit=1", Some(operator)).await?;
    ensure!(answer.status == StatusCode::OK, "the rollouts: {}", answer.status);
    let list: Value = serde_json::from_slice(&answer.body)?;
    Ok(list.get(0).cloned())
}

async fn digest(connection: &mut Connection, path: &str, authorization: &str) -> anyhow::Result<String> {
    let answer = connection.get(path, Some(authorization)).await?;
    ensure!(answer.status == StatusCode::OK, "{path}: {}", answer.status);
    answer.digest.with_context(|| format!("{path}: the answer has no digest"))
}
