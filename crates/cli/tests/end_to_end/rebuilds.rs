//! Rebuilds, with a server and without one, and whether they prove an image reproducible; build secrets.

use std::fs;

use serde_json::Value;

use crate::server::Server;
use crate::systems::Upstream;
use crate::world::{Repository, edgewright};

#[tokio::test]
async fn a_rebuild_has_the_same_result_with_a_server_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["plant-a"]).await;
    let data = folder.path().join("data");
    let server = Server::start(&data, &["--source", repository.url()]).await;
    let commit = repository.git(&["rev-parse", "HEAD"]).await;
    server.builds(&commit).await;
    let asked = edgewright(folder.path(), &["rebuild", "hmi/plant-a", "--json"]).await.ends(0);
    let documents = asked.json();
    assert_eq!(documents["results"][0]["result"], "proved", "{documents:#}");
    assert_eq!(documents["results"][0]["steps"].as_array().map(Vec::len), Some(3));
    let missing = format!("sha256:{}", "0".repeat(64));
    let refused = edgewright(folder.path(), &["rebuild", &missing]).await.ends(3);
    assert!(refused.errors.contains("no run of this data folder built that"), "{}", refused.errors);
    assert_eq!(server.stop().await, Some(0));
    let alone = edgewright(folder.path(), &["rebuild", "hmi/plant-a", "--json"]).await.ends(0);
    assert_eq!(alone.json()["results"], documents["results"]);
}

#[tokio::test]
async fn a_containerfile_with_random_output_is_not_reproducible() {
    if !edgewright_testkit::has_as_root(&["podman", "buildah", "mmdebstrap"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(folder.path()).await;
    let repository = Repository::make(folder.path().join("dice")).await;
    repository.write("edgewright.yaml", "edgewright: 1\nname: dice\n");
    let from = upstream.from();
    for (image, command) in [
        ("fixed", "test \"$(cat /run/secrets/npm)\" = hunter2 && echo six > /etc/dice"),
        ("dice", "head -c 16 /dev/urandom > /etc/dice"),
    ] {
        let secrets = if image == "fixed" { ", secrets: [{id: npm, version: one}]" } else { "" };
        let mount = if image == "fixed" { "--mount=type=secret,id=npm " } else { "" };
        let text =
            format!("from: {from}\nsteps: [containerfile: {{file: Containerfile{secrets}}}]\ntest: none\n");
        repository.write(&format!("images/{image}/image.yaml"), text);
        let text = format!("ARG BASE\nFROM ${{BASE}}\nRUN {mount}{command}\n");
        repository.write(&format!("images/{image}/Containerfile"), text);
    }
    repository.commit("first").await;
    let secret = folder.path().join("npm");
    fs::write(&secret, "hunter2\n").unwrap();
    let settings = folder.path().join("edgewright.toml");
    fs::write(&settings, format!("[secrets]\nnpm = {secret:?}\n")).unwrap();
    let settings = settings.to_str().unwrap();

    let unknown = edgewright(folder.path(), &["run", "dice", "--only", "fixed"]).await.ends(1);
    assert!(unknown.out.contains("cannot read the build secret `npm`"), "{}", unknown.out);
    let run = ["run", "dice", "--config", settings, "--verify-reproducible"];
    // All is built, and not all of it is proved.
    let ended = edgewright(folder.path(), &run).await.ends(1);
    assert!(ended.errors.contains("fixed linux/") && ended.errors.contains("refuted"), "{}", ended.errors);

    let refuted = edgewright(folder.path(), &["rebuild", "dice", "--json"]).await.ends(1).json();
    assert_eq!(refuted["results"][0]["result"], "refuted", "{refuted:#}");
    let text = edgewright(folder.path(), &["rebuild", "dice"]).await.ends(1).out;
    assert!(text.contains("containerfile images/dice/Containerfile gave"), "{text}");
    let flag = format!("npm={}", secret.display());
    let proved =
        edgewright(folder.path(), &["rebuild", "fixed", "--secret", &flag, "--json"]).await.ends(0).json();
    assert_eq!(proved["results"][0]["result"], "proved", "{proved:#}");
    let shown = edgewright(folder.path(), &["image", "show", "dice", "--json"]).await.ends(0).json();
    let steps = shown["builds"][0]["steps"].as_array().unwrap();
    let proofs: Vec<&Value> = steps.iter().map(|step| &step["proof"]).collect();
    assert_eq!(proofs, ["refuted"]);
}
