//! What Tekton and the kubelet would do with TaskRuns: each runs a real job process in a task of this one.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use edgewright_job::{Behaviour, JobRegistry, SimulatedExecutor};
use edgewright_process::OwnedTask;
use serde_json::{Value, json};

use super::Fake;

/// Runs TaskRuns until it is dropped.
pub(crate) struct Tekton(#[expect(dead_code, reason = "it is held for its destructor")] OwnedTask<()>);

impl Tekton {
    /// Runs every job of `fake` with a behaviour.
    pub(crate) fn start(fake: &Fake, behaviour: Behaviour) -> Self {
        let worker = SimulatedExecutor::new();
        worker.set_default(behaviour.clone());
        Self(OwnedTask::spawn(run(fake.clone(), behaviour, worker)))
    }

    /// Runs every job of `fake` well, and pushes what it builds.
    pub(crate) fn pushing(fake: &Fake, registry: JobRegistry) -> Self {
        let worker = SimulatedExecutor::new().pushing(registry);
        Self(OwnedTask::spawn(run(fake.clone(), Behaviour::Succeed, worker)))
    }
}

async fn run(fake: Fake, behaviour: Behaviour, worker: SimulatedExecutor) {
    let mut running: BTreeMap<String, OwnedTask<()>> = BTreeMap::new();
    loop {
        let known: Vec<String> = running.keys().cloned().collect();
        let there = fake
            .until(|fake| {
                let mut there = fake.names("taskruns");
                there.retain(|name| fake.get("secrets", name).is_some());
                (there != known).then_some(there)
            })
            .await;
        running.retain(|name, _| there.contains(name));
        for name in there {
            let job = || OwnedTask::spawn(job(fake.clone(), name.clone(), behaviour.clone(), worker.clone()));
            running.entry(name.clone()).or_insert_with(job);
        }
    }
}

/// One TaskRun, from its Pod to its end.
async fn job(fake: Fake, name: String, behaviour: Behaviour, worker: SimulatedExecutor) {
    let pod = start(&fake, &name);
    if behaviour == Behaviour::Crash {
        fake.write(&pod, &["segmentation fault".to_owned()]);
        return end(&fake, &name, 139, None);
    }
    let folder = tempfile::tempdir().unwrap();
    let [order, report, digest] = ["order", "report", "digest"].map(|file| folder.path().join(file));
    let secret = fake.get("secrets", &name).unwrap();
    let packed = secret["data"]["order.json.zst"].as_str().unwrap();
    std::fs::write(&order, base64::engine::general_purpose::STANDARD.decode(packed).unwrap()).unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let log = {
        let (fake, pod) = (fake.clone(), pod.clone());
        tokio::task::spawn_blocking(move || copy(reader, &fake, &pod))
    };
    let results = edgewright_cluster::in_pod::Results { report: &report, digest: Some(&digest) };
    edgewright_cluster::in_pod::serve_to(&order, results, &worker, writer).await.unwrap();
    log.await.unwrap();
    end(&fake, &name, 0, Some(std::fs::read_to_string(report).unwrap()));
}

fn copy(mut reader: impl io::Read, fake: &Fake, pod: &str) {
    let mut text = Vec::new();
    let mut buffer = vec![0; 65536];
    while let Ok(count @ 1..) = reader.by_ref().read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
        let Some(whole) = text.iter().rposition(|&byte| byte == b'\n') else { continue };
        let rest = text.split_off(whole + 1);
        let lines = String::from_utf8(std::mem::replace(&mut text, rest)).unwrap();
        fake.write(pod, &lines.lines().map(str::to_owned).collect::<Vec<_>>());
    }
}

/// Starts the Pod of a TaskRun; gives its name.
pub(crate) fn start(fake: &Fake, name: &str) -> String {
    let pod = format!("{name}-pod");
    let run = fake.get("taskruns", name).unwrap();
    let owner = json!([{ "apiVersion": "tekton.dev/v1", "kind": "TaskRun", "name": name, "uid": run["metadata"]["uid"] }]);
    let metadata = json!({ "name": pod, "labels": run["metadata"]["labels"], "ownerReferences": owner });
    fake.apply("pods", json!({ "metadata": metadata, "spec": { "containers": [] }, "status": running() }));
    let status = json!({ "podName": pod, "conditions": [condition("Unknown", "Running", "")] });
    fake.set_status("taskruns", name, status);
    pod
}

pub(crate) fn condition(status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": "Succeeded", "status": status, "reason": reason, "message": message })
}

fn running() -> Value {
    let state = json!({ "running": { "startedAt": "2026-11-28T12:00:00Z" } });
    json!({ "phase": "Running", "containerStatuses": [container(&state)] })
}

fn container(state: &Value) -> Value {
    json!({ "name": "step-job", "state": state, "image": "", "imageID": "", "ready": true, "restartCount": 0 })
}

/// Ends the Pod of a TaskRun, and the TaskRun.
pub(crate) fn end(fake: &Fake, name: &str, code: i32, report: Option<String>) {
    let pod = format!("{name}-pod");
    fake.close(&pod);
    if fake.get("pods", &pod).is_none() || fake.get("taskruns", name).is_none() {
        return;
    }
    let ended = json!({ "terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
        "startedAt": "2026-11-28T12:00:00Z", "finishedAt": "2026-11-28T12:00:01Z",
    } });
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    fake.set_status("pods", &pod, json!({ "phase": phase, "containerStatuses": [container(&ended)] }));
    let condition = if code == 0 {
        condition("True", "Succeeded", "")
    } else {
        condition("False", "Failed", "it failed")
    };
    let results: Vec<Value> = report
        .map(|digest| json!({ "name": "report", "type": "string", "value": digest }))
        .into_iter()
        .collect();
    let status = json!({ "podName": pod, "conditions": [condition], "results": results });
    fake.set_status("taskruns", name, status);
}

/// Evicts the Pod of a TaskRun, as the kubelet of a node without memory does.
pub(crate) fn evict(fake: &Fake, name: &str) {
    let pod = format!("{name}-pod");
    let message = "The node was low on resource: memory.";
    fake.close(&pod);
    fake.set_status("pods", &pod, json!({ "phase": "Failed", "reason": "Evicted", "message": message }));
    let status = json!({ "podName": pod, "conditions": [condition("False", "Failed", message)] });
    fake.set_status("taskruns", name, status);
}
