//! Rollouts with real clients: skopeo with the credential of each device, and the commands of an operator.

use std::path::Path;

use edgewright_model::Digest;
use serde_json::Value;

use crate::devices::{self, Device, released, serve};
use crate::server::Server;
use crate::world::{Repository, edgewright, until};

const SOURCE: &str = "channels: {stable: {follows: default-branch, rollout: careful}}
rollouts:
  careful: {stages: [{name: canary, count: 2, ended: 100}, {name: half, percent: 50, approval: true}]}
";

/// What a command prints as JSON.
pub(crate) async fn json(folder: &Path, arguments: &[&str]) -> Value {
    edgewright(folder, &[arguments, &["--json"]].concat()).await.ends(0).json()
}

/// A source whose site `a` has so many slots, with a policy.
pub(crate) async fn plants(folder: &Path, slots: usize, policy: &str) -> Repository {
    let repository = devices::plants(folder, slots).await;
    let path = folder.join("plants/edgewright.yaml");
    let source = std::fs::read_to_string(&path).unwrap();
    let without: Vec<&str> = source.lines().filter(|line| !line.starts_with("channels")).collect();
    repository.write("edgewright.yaml", format!("{}\n{policy}", without.join("\n")));
    repository.commit("a policy").await;
    repository
}

/// A commit, its run, and the rollout of its release.
pub(crate) async fn release(folder: &Path, server: &Server, repository: &Repository, text: &str) -> Digest {
    repository.write("images/hmi/files/etc/hmi", text);
    let commit = repository.commit(text).await;
    server.poll().await;
    let number = server.ended(&commit).await.run.release.unwrap();
    until("its rollout", async || {
        let rollouts = json(folder, &["rollouts"]).await;
        (rollouts["rollouts"][0]["release"] == number.0).then_some(())
    })
    .await;
    released(server, "hmi/a").await
}

async fn having<'a>(server: &Server, devices: &'a [Device], digest: &Digest) -> Vec<&'a Device> {
    let mut having = Vec::new();
    for device in devices {
        if device.asks(server, "self:current").await.as_ref() == Some(digest) {
            having.push(device);
        }
    }
    having
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn a_release_goes_by_in_stages_a_bad_one_stops_and_goes_back() {
    if !edgewright_testkit::has(&["skopeo"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (folder, repository) = (folder.path(), plants(folder.path(), 6, SOURCE).await);
    let server = serve(folder, &repository).await;
    let first = released(&server, "hmi/a").await;
    let mut devices = Vec::new();
    for slot in 0..6 {
        devices.push(Device::enrol(folder, &format!("s-a/press-{slot}")).await);
    }
    assert_eq!(having(&server, &devices, &first).await.len(), 6);
    let confirm = async |device: &Device, digest: &Digest| {
        device.asks(&server, &format!("self/healthy@{digest}")).await;
    };
    for device in &devices {
        confirm(device, &first).await;
    }

    // Two canaries; the tag of the channel stays.
    let second = release(folder, &server, &repository, "second\n").await;
    let canaries = having(&server, &devices, &second).await;
    assert_eq!(canaries.len(), 2);
    let channel = json(folder, &["channel", "show", "stable"]).await;
    assert_eq!((&channel["release"], &channel["target_release"]), (&1.into(), &2.into()));
    let early = edgewright(folder, &["rollout", "approve", "stable"]).await;
    assert_eq!(early.code, 4, "{early:?}");
    for device in &canaries {
        confirm(device, &second).await;
    }
    let waiting = until("the next stage", async || {
        let shown = json(folder, &["rollout", "show", "stable"]).await;
        (shown["stage"] == "half").then_some(shown)
    })
    .await;
    let explanation = waiting["explanation"].as_str().unwrap();
    assert!(explanation.contains("waits for an approval"), "{explanation}");
    let explained = json(folder, &["rollout", "explain", "stable"]).await;
    let reasons: Vec<&str> =
        explained["devices"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert!(reasons.contains(&"stage half waits for an approval"), "{reasons:?}");
    json(folder, &["rollout", "approve", "stable"]).await;
    json(folder, &["rollout", "approve", "stable"]).await;
    let complete = until("the end of the rollout", async || {
        for device in having(&server, &devices, &second).await {
            confirm(device, &second).await;
        }
        let shown = json(folder, &["rollout", "show", "stable"]).await;
        (shown["state"] == "complete").then_some(shown)
    })
    .await;
    assert_eq!((&complete["healthy"], &complete["failed"]), (&6.into(), &0.into()), "{complete:#}");
    assert_eq!(json(folder, &["channel", "show", "stable"]).await["release"], 2);

    // A bad one: both canaries report that it failed. A kill in between changes nothing.
    let third = release(folder, &server, &repository, "third\n").await;
    let canaries = having(&server, &devices, &third).await;
    assert_eq!(canaries.len(), 2);
    server.kill();
    let server = Server::start(&folder.join("data"), &["--source", repository.url()]).await;
    assert_eq!(having(&server, &devices, &third).await.len(), 2);
    for device in &canaries {
        device.asks(&server, &format!("self/failed@{third}")).await;
    }
    let stopped = until("the gate", async || {
        let shown = json(folder, &["rollout", "show", "stable"]).await;
        (shown["state"] == "stopped").then_some(shown)
    })
    .await;
    assert!(stopped["explanation"].as_str().unwrap().contains("too many of the first devices failed"));
    assert_eq!(having(&server, &devices, &second).await.len(), 6, "nothing is left of it");
    let channel = json(folder, &["rollback", "stable", "--reason", "presses stop"]).await;
    assert!(channel["hold"].as_str().unwrap().contains("presses stop"), "{channel:#}");
    until("the former release", async || {
        (json(folder, &["channel", "show", "stable"]).await["release"] == 4).then_some(())
    })
    .await;
    let quarantine = json(folder, &["quarantine", "list"]).await;
    let digests: Vec<&str> = quarantine["quarantine"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["digest"].as_str().unwrap())
        .collect();
    assert!(digests.contains(&third.to_string().as_str()), "{digests:?}");
    let promoted = edgewright(folder, &["promote", "stable", "3", "--reason", "again"]).await;
    assert_eq!(promoted.code, 4, "{promoted:?}");
    let cleared = json(folder, &["quarantine", "clear", digests[0]]).await;
    assert_eq!(cleared["quarantine"].as_array().unwrap().len(), digests.len() - 1);
    let ended = edgewright(folder, &["rollout", "abort", "2"]).await;
    assert!(ended.code == 4 && ended.errors.contains("it has ended"), "{ended:?}");
    let trail = edgewright(folder, &["audit", "--limit", "200"]).await.ends(0);
    for operation in ["rollout.approve", "rollout.move", "channel.roll_back", "quarantine.clear"] {
        assert!(trail.out.contains(operation), "{operation}: {}", trail.out);
    }
}
