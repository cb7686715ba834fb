//! Common OCI clients pull what is hosted, and only Edgewright tags and judges images.

use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::reference::{Reference, RepoName};
use edgewright_model::run::RunState;
use edgewright_oci::Client;
use edgewright_process::Command;
use serde_json::json;

use crate::server::Server;
use crate::world::Repository;

async fn served() -> (tempfile::TempDir, Server, RepoName, String) {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let server = Server::start(&folder.path().join("data"), &["--source", repository.url()]).await;
    let first = repository.git(&["rev-parse", "HEAD"]).await;
    assert_eq!(server.ended(&first).await.run.state, RunState::Passed);
    let entry = server.release().await.entries.into_iter().find(|entry| entry.variant.to_string() == "hmi/a");
    let entry = entry.unwrap();
    (folder, server, entry.repository, entry.digest.to_string())
}

async fn call(program: &str, arguments: &[&str]) -> String {
    let command = Command::new(program).args(arguments.iter().copied());
    command.run().await.unwrap_or_else(|error| panic!("{program} {arguments:?}: {error:?}")).text()
}

#[tokio::test]
async fn skopeo_and_podman_pull_by_channel_and_by_digest() {
    if !edgewright_testkit::has(&["skopeo", "podman"]) {
        return;
    }
    let (folder, server, repository, digest) = served().await;
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let image = format!("{}/{repository}", server.address);
    let (tag, exact) = (format!("docker://{image}:stable"), format!("docker://{image}@{digest}"));
    let tls = "--tls-verify=false";
    let tags = call("skopeo", &["list-tags", tls, &format!("docker://{image}")]).await;
    assert!(tags.contains("\"stable\""), "{tags}");
    let index = Command::new("skopeo").args(["inspect", "--raw", tls, &tag]).run().await.unwrap().stdout;
    assert_eq!(Digest::of(&index).to_string(), digest);
    for (number, from) in [&tag, &exact].into_iter().enumerate() {
        let to = format!("oci:{}:x", path(&format!("layout-{number}")));
        call("skopeo", &["--insecure-policy", "copy", "--src-tls-verify=false", from, &to]).await;
    }
    let (root, runroot) = (path("storage"), path("run"));
    let storage = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
    for from in [format!("{image}:stable"), format!("{image}@{digest}")] {
        call("podman", &[&storage[..], &["pull", "--quiet", tls, &from]].concat()).await;
    }
    let pulled = call("podman", &[&storage[..], &["images", "--quiet"]].concat()).await;
    assert_eq!(pulled.lines().collect::<std::collections::BTreeSet<_>>().len(), 1, "one image by two names");
}

#[tokio::test]
async fn oras_pulls_pushes_attaches_and_copies() {
    let Some(program) = edgewright_testkit::oras() else { return };
    let (folder, server, repository, digest) = served().await;
    let host = &server.address;
    let image = format!("{host}/{repository}:stable");
    let oras = async |arguments: &[&str]| {
        let command = Command::new(&program).args(arguments.iter().copied()).cwd(folder.path());
        // Where the login stays.
        let command = command.env("DOCKER_CONFIG", folder.path().join("docker"));
        command.run().await.unwrap_or_else(|error| panic!("oras {arguments:?}: {error:?}")).text()
    };
    let plain = "--plain-http";
    assert!(oras(&["repo", "tags", plain, &format!("{host}/{repository}")]).await.contains("stable"));
    assert!(oras(&["resolve", plain, &image]).await.contains(&digest));
    let found = oras(&["discover", plain, "--format", "json", &image]).await;
    assert!(found.contains("application/vnd.edgewright.provenance.v1+json"), "{found}");

    // What was read until here needed no login; what is written needs one.
    oras(&["login", plain, "--username", "any", "--password", &server.token(), host]).await;
    std::fs::write(folder.path().join("report.json"), "{\"fit\": true}").unwrap();
    let report = format!("{host}/tools/report:1");
    let kind = ["--artifact-type", "application/vnd.example.report"];
    oras(&[&["push", plain], &kind[..], &[&report, "report.json"]].concat()).await;
    oras(&["pull", plain, "--output", "pulled", &report]).await;
    assert_eq!(std::fs::read(folder.path().join("pulled/report.json")).unwrap(), b"{\"fit\": true}");

    let kind = ["--artifact-type", "application/spdx+json"];
    oras(&[&["attach", plain], &kind[..], &[&image, "report.json"]].concat()).await;
    let found = oras(&["discover", plain, "--format", "json", kind[0], kind[1], &image]).await;
    assert!(found.contains("application/spdx+json") && !found.contains("provenance"), "{found}");
    // What others attach changes nothing of the image.
    assert!(oras(&["resolve", plain, &image]).await.contains(&digest));
    oras(&["cp", "--from-plain-http", "--to-oci-layout", "--recursive", &image, "backup:1"]).await;
    let copied = oras(&["discover", "--oci-layout", "--format", "json", "backup:1"]).await;
    assert!(copied.contains("provenance") && copied.contains("spdx"), "{copied}");
    // And a copy of the image goes to another repository, as a mirror's does.
    let copy = format!("{host}/mirror/hmi:1");
    oras(&["cp", "--from-plain-http", "--to-plain-http", &image, &copy]).await;
    assert!(oras(&["resolve", plain, &copy]).await.contains(&digest));
}

#[tokio::test]
async fn a_client_moves_no_channel_and_posts_no_verdict() {
    let (_folder, server, repository, digest) = served().await;
    let client = Client::new(&server.registry()).unwrap();
    let exact: Reference = digest.parse().unwrap();
    let index = client.pull_manifest(&repository, &exact).await.unwrap();

    let stable: Reference = "stable".parse().unwrap();
    let refused = client.push_manifest(&repository, &stable, &index.media_type, index.bytes.clone());
    let error = refused.await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Conflict, "{error:?}");
    assert!(format!("{error} {error:?}").contains("stable"), "{error:?}");

    let empty = client.push_blob_bytes(&repository, b"{}".to_vec()).await.unwrap();
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.digest, "size": 2});
    let verdict = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.edgewright.verdict.v1+json",
        "config": &config, "layers": [&config],
        "subject": {"mediaType": index.media_type, "digest": digest, "size": index.bytes.len()},
    })
    .to_string()
    .into_bytes();
    let reference = Reference::Digest(Digest::of(&verdict));
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let error = client.push_manifest(&repository, &reference, manifest, verdict).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{error:?}");

    // Ordinary tags stay ordinary, and what the channel points to is what it was.
    let mine: Reference = "mine".parse().unwrap();
    client.push_manifest(&repository, &mine, &index.media_type, index.bytes.clone()).await.unwrap();
    let now = client.pull_manifest(&repository, &stable).await.unwrap();
    assert_eq!(now.digest.to_string(), digest);
}
