//! Every document that commands print with `--json`. `Ended::json` holds each against its published schema.

use edgewright_api::documents::DOCUMENTS;
use edgewright_model::run::RunState;
use serde_json::Value;

use crate::server::Server;
use crate::world::{Repository, edgewright, until};

/// Calls commands in a folder, and notes which documents they printed.
struct Caller<'a> {
    folder: &'a std::path::Path,
    seen: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

impl Caller<'_> {
    async fn call(&self, arguments: &[&str], code: i32) -> Value {
        let ended = edgewright(self.folder, &[arguments, &["--json"]].concat()).await.ends(code);
        let document = if ended.out.is_empty() { ended.error() } else { ended.json() };
        self.note(&document);
        document
    }

    fn note(&self, document: &Value) {
        let identifier = document["schema"].as_str().unwrap();
        let name = identifier.split('/').nth(1).unwrap().to_owned();
        self.seen.borrow_mut().insert(name);
    }
}

#[tokio::test]
async fn every_document_is_as_its_schema_describes_it() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["plant-a", "plant-b"]).await;
    let caller = Caller { folder: folder.path(), seen: std::cell::RefCell::default() };
    of_a_folder(&caller, &repository).await;

    // The image of the second commit waits for the verdict of another system.
    let image = "from: base\nper: site\nsteps: [files: files/]\ntest: {lanes: [external]}\n";
    repository.write("images/hmi/image.yaml", image);
    repository.write("images/hmi/files/etc/hmi", "another\n");
    let channels = "channels: {stable: {follows: default-branch, rollout: careful}}\n";
    let policies = "rollouts: {careful: {stages: [{name: canary, count: 1}]}}\n";
    repository.write("edgewright.yaml", format!("edgewright: 1\nname: plants\n{channels}{policies}"));
    repository.commit("hmi: another file").await;
    let server = Server::start(&folder.path().join("data"), &["--source", repository.url()]).await;
    of_runs(&caller, &server).await;
    of_releases(&caller).await;
    of_rollouts(&caller).await;
    of_users(&caller).await;
    assert_eq!(server.stop().await, Some(0));

    let missing: Vec<_> = DOCUMENTS
        .iter()
        .map(|document| document.name)
        .filter(|name| !caller.seen.borrow().contains(*name))
        .collect();
    assert_eq!(missing, [""; 0], "documents that no command printed");
}

async fn of_a_folder(caller: &Caller<'_>, repository: &Repository) {
    caller.call(&["check", "plants"], 0).await;
    repository.write("images/extra/image.yaml", "from: nothing\ntest: none\n");
    let report = caller.call(&["check", "plants"], 1).await;
    assert_eq!(report["diagnostics"][0]["severity"], "error", "{report:#}");
    let plan = caller.call(&["plan", "plants"], 1).await;
    assert_eq!(plan["diagnostics"], report["diagnostics"]);
    repository.git(&["clean", "--quiet", "-fd"]).await;

    let declare = "declare: {panel: {type: string, default: wide}}\n";
    repository.write(
        "images/base/image.yaml",
        format!("from: scratch\nsteps: [files: files/]\ntest: none\n{declare}"),
    );
    repository.commit("a variable").await;
    let vars = caller.call(&["vars", "hmi/plant-a", "--dir", "plants"], 0).await;
    assert_eq!(vars["vars"]["panel"]["origin"]["layer"], "default", "{vars:#}");
    let run = caller.call(&["run", "plants"], 0).await;
    assert_eq!((&run["number"], &run["state"]), (&1.into(), &"passed".into()));
    repository.write("sites/plant-a/files/etc/site", "another\n");
    let plan = caller.call(&["plan", "plants", "--since", "HEAD"], 0).await;
    assert_eq!((&plan["counts"]["build"], &plan["summary"]), (&1.into(), &summary().into()));
    caller.call(&["plan", "plants", "--explain", "hmi/plant-a"], 0).await;
    let slots = "id: s-plant-a\nslots: [{id: press-1, image: hmi, channel: stable}]\n";
    repository.write("sites/plant-a/site.yaml", slots);
    let simulation = caller.call(&["rollout", "simulate", "plants", "--runs", "1"], 0).await;
    assert_eq!(simulation["devices"], 1, "{simulation:#}");
    repository.git(&["checkout", "--quiet", "."]).await;
    let update = caller.call(&["update", "--dir", "plants"], 0).await;
    assert_eq!(update["updates"], serde_json::json!([]));
    caller.call(&["runs", "--limit", "none"], 2).await;
    // Its exit code depends on the machine.
    caller.note(&edgewright(caller.folder, &["doctor", "--json"]).await.json());
}

const fn summary() -> &'static str {
    "builds 1 of 3 variants, because files sites/plant-a/files changed: etc/site"
}

async fn of_runs(caller: &Caller<'_>, server: &Server) {
    let waiting = until("a node that waits", async || {
        let runs = server.client.runs(None, 1).await.unwrap();
        let run = server.client.run(runs.first()?.number).await.unwrap();
        let nodes = run.nodes.into_iter().filter(|node| !node.notes.is_empty() && node.digest.is_some());
        let digests: Vec<String> = nodes.filter_map(|node| Some(node.digest?.to_string())).collect();
        (digests.len() == 2).then_some((run.run.number, digests))
    })
    .await;
    let (number, digests) = waiting;
    let shown = caller.call(&["run", "show", &number.to_string()], 0).await;
    assert_eq!((&shown["number"], &shown["state"]), (&number.0.into(), &"running".into()));
    caller.call(&["status"], 0).await;
    for digest in digests {
        let verdict = caller.call(&["verdict", "post", &digest, "--passed"], 0).await;
        assert_eq!(verdict["run"], number.0);
    }
    until("the end of the run", async || {
        (server.client.run(number).await.unwrap().run.state == RunState::Passed).then_some(())
    })
    .await;
    let runs = caller.call(&["runs"], 0).await;
    let shown = caller.call(&["run", "show", &number.to_string()], 0).await;
    for (name, value) in runs["runs"][0].as_object().unwrap() {
        assert_eq!(&shown[name], value, "a field has the same value in the list");
    }
    let evidence = caller.call(&["evidence", &number.to_string(), "hmi/plant-a"], 0).await;
    assert_eq!(evidence["evidence"], serde_json::json!([]), "{evidence:#}");
    let update = caller.call(&["update", "--source", "plants"], 0).await;
    assert!(update["run"].as_u64() > Some(u64::from(number.0)), "{update:#}");
    let rebuild = caller.call(&["rebuild", "hmi/plant-a"], 0).await;
    assert_eq!(rebuild["results"][0]["result"], "proved");
}

async fn of_users(caller: &Caller<'_>) {
    edgewright(caller.folder, &["user", "add", "anna", "--role", "approver:channel=stable"]).await.ends(0);
    let users = caller.call(&["user", "list"], 0).await;
    assert_eq!(users["users"][0]["name"], "anna", "{users:#}");
    let identity = caller.call(&["whoami"], 0).await;
    assert_eq!(identity["principal"], "operator:token", "{identity:#}");
}

/// The channel was pinned to release 1. With a device, its way to release 2 is a rollout.
async fn of_rollouts(caller: &Caller<'_>) {
    caller.call(&["device", "enrol", "s-plant-a/one"], 0).await;
    let device = caller.call(&["device", "enrol", "s-plant-a/one", "--out", "one"], 0).await;
    let device = device["device"].as_str().unwrap();
    caller.call(&["device", "show", device], 0).await;
    caller.call(&["devices"], 0).await;
    caller.call(&["channel", "unpin", "stable"], 0).await;
    let rollout = until("a rollout", async || {
        let rollouts = caller.call(&["rollouts"], 0).await;
        rollouts["rollouts"].as_array().unwrap().first().cloned()
    })
    .await;
    let shown = caller.call(&["rollout", "show", "stable"], 0).await;
    for (name, value) in rollout.as_object().unwrap() {
        assert_eq!(&shown[name], value, "a field has the same value in the list");
    }
    let explained = caller.call(&["rollout", "explain", "stable", device], 0).await;
    assert_eq!(explained["devices"][0]["reason"], "it is the turn of this device");
    caller.call(&["quarantine", "list"], 0).await;
    assert_eq!(caller.call(&["rollout", "pause", "stable"], 0).await["state"], "paused");
    let missing = caller.call(&["rollout", "show", "99"], 3).await;
    assert_eq!(missing["error"]["code"], "not_found");
}

async fn of_releases(caller: &Caller<'_>) {
    let images = caller.call(&["images"], 0).await;
    let image = caller.call(&["image", "show", "hmi/plant-a"], 0).await;
    let listed = images["images"].as_array().unwrap().iter().find(|other| other["variant"] == "hmi/plant-a");
    for (name, value) in listed.unwrap().as_object().unwrap() {
        assert_eq!(&image[name], value, "a field has the same value in the list");
    }
    assert_eq!(caller.call(&["releases"], 0).await["releases"].as_array().unwrap().len(), 2);
    let release = caller.call(&["release", "show", "2"], 0).await;
    assert_eq!(release["entries"].as_array().unwrap().len(), 3);
    assert_eq!(caller.call(&["source", "list"], 0).await["sources"][0]["name"], "plants");
    let channels = caller.call(&["channels"], 0).await;
    let held = caller.call(&["channel", "hold", "stable", "--reason", "maintenance"], 0).await;
    assert_eq!(held["hold"], "maintenance");
    let resumed = caller.call(&["channel", "resume", "stable"], 0).await;
    assert_eq!(resumed["release"], channels["channels"][0]["release"]);
    caller.call(&["channel", "pin", "stable", "1", "--reason", "a fault in 2"], 0).await;
    let sites = caller.call(&["sites"], 0).await;
    let site = caller.call(&["site", "show", "plant-a"], 0).await;
    assert_eq!(site["slots"].as_array().unwrap().len(), 1);
    assert_eq!(site["slot_count"], sites["sites"][0]["slot_count"]);
    caller.call(&["audit", "--limit", "3"], 0).await;
    caller.call(&["status", "--verbose"], 0).await;
    let missing = caller.call(&["image", "show", "nothing"], 3).await;
    assert_eq!(missing["error"]["code"], "not_found");
}
