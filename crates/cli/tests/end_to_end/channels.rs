//! Channels and sites as an operator works with them, and a cancel that survives a kill.

use edgewright_model::run::RunState;

use crate::server::Server;
use crate::world::{Repository, edgewright, until};

#[tokio::test]
async fn an_operator_holds_pins_and_lists_channels_and_sites() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a", "b"]).await;
    let server = Server::start(&folder.path().join("data"), &["--source", repository.url()]).await;
    let commit = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.ended(&commit).await.run.state, RunState::Passed);
    let channel = async |arguments: &[&str]| {
        let all = [&["channel"], arguments, &["--json"]].concat();
        edgewright(folder.path(), &all).await.ends(0).json()
    };

    let held = channel(&["hold", "stable", "--reason", "a fault"]).await;
    assert_eq!((&held["hold"], &held["release"]), (&"a fault".into(), &1.into()));
    repository.write("sites/a/files/etc/site", "another");
    let second = repository.commit("second").await;
    assert_eq!(server.builds(&second).await.run.state, RunState::Passed);
    let listed = edgewright(folder.path(), &["channels"]).await.ends(0);
    assert!(listed.out.contains("held: a fault") && listed.out.contains("default branch"), "{listed:?}");
    assert_eq!(server.release().await.number.0, 2);
    assert_eq!(channel(&["resume", "stable"]).await["release"], 2);
    let pinned = channel(&["pin", "stable", "1", "--reason", "2 fails"]).await;
    assert_eq!((&pinned["release"], &pinned["pin_reason"]), (&1.into(), &"2 fails".into()));
    assert_eq!(channel(&["unpin", "stable"]).await["release"], 2);
    let missing = edgewright(folder.path(), &["channel", "pin", "stable", "9", "--reason", "x"]).await;
    assert!(missing.code == 3 && missing.errors.contains("has no release 9"), "{missing:?}");
    let unknown = edgewright(folder.path(), &["channel", "resume", "nothing"]).await;
    assert!(unknown.code == 3 && unknown.errors.contains("`edgewright channels` lists them"), "{unknown:?}");
    let trail = edgewright(folder.path(), &["audit", "--object", "plants/channels/stable"]).await.ends(0);
    for operation in ["channel.hold", "channel.resume", "channel.pin", "channel.unpin", "channel.move"] {
        assert!(trail.out.contains(operation), "{operation}: {}", trail.out);
    }

    let sites = edgewright(folder.path(), &["sites", "--json"]).await.ends(0).json();
    let names: Vec<_> =
        sites["sites"].as_array().unwrap().iter().map(|site| site["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    let site = edgewright(folder.path(), &["site", "show", "a", "--json"]).await.ends(0).json();
    assert!(!site["slots"].as_array().unwrap().is_empty(), "{site}");
    let slot = ["disk", "--slot", "a/nothing", "--output", "x.raw"];
    let slot = edgewright(folder.path(), &slot).await;
    assert!(slot.code == 3 && slot.errors.contains("site a has no slot nothing"), "{slot:?}");
    let nowhere = edgewright(folder.path(), &["site", "show", "nowhere"]).await;
    assert!(nowhere.code == 3 && nowhere.errors.contains("site `nowhere` not found"), "{nowhere:?}");

    let status = edgewright(folder.path(), &["status", "--verbose"]).await.ends(0);
    for reconciler in ["runs", "channels", "retention", "update checks", "source plants"] {
        assert!(status.out.contains(reconciler), "{reconciler}: {}", status.out);
    }
    let plain = edgewright(folder.path(), &["status"]).await.ends(0);
    assert!(!plain.out.contains("update checks"), "{}", plain.out);
}

#[tokio::test]
async fn an_acknowledged_cancel_survives_a_kill_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    // A lane without a verdict keeps the run open.
    repository.write(
        "images/base/image.yaml",
        "from: scratch\nsteps: [files: files/]\ntest: {lanes: [external]}\n",
    );
    let commit = repository.commit("external").await;
    let data = folder.path().join("data");
    let arguments = ["--source", repository.url()];
    let server = Server::start(&data, &arguments).await;
    let run = until("a run that waits", async || {
        let run = server.client.runs(None, 1).await.unwrap().pop()?;
        (run.commit == commit && run.state == RunState::Running).then_some(run.number)
    })
    .await;
    edgewright(folder.path(), &["run", "cancel", &run.to_string()]).await.ends(0);
    server.kill();

    let server = Server::start(&data, &arguments).await;
    let ended = server.ended(&commit).await;
    assert_eq!((ended.run.number, ended.run.state), (run, RunState::Cancelled));
    let over = edgewright(folder.path(), &["run", "cancel", &run.to_string()]).await;
    assert!(over.code != 0 && over.errors.contains("is over"), "{over:?}");
    assert!(server.client.releases(None, 1).await.unwrap().is_empty());
}
