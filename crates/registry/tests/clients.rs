//! Common clients: skopeo, podman and buildah push and pull.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers fail a test, or skip it with a message"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Devices, Server, TwoOperators};
use edgewright_model::Digest;
use edgewright_process::Command;
use edgewright_registry::Target;
use serde_json::{Value, json};

async fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let command = Command::new(program).args(arguments.iter().copied()).deadline(Duration::from_mins(2));
    match command.run().await {
        Ok(output) => output.stdout,
        Err(error) => panic!("{program} {arguments:?}: {error:?}"),
    }
}

/// An OCI layout with one image of two layers; gives the manifest's digest.
fn make_layout(folder: &Path) -> Digest {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let tar = |name: &str, content: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
        tar.into_inner().unwrap()
    };
    let layers = [tar("etc/one", b"one"), tar("etc/large", &edgewright_testkit::noise(3_000_000))];
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers.each_ref().map(Digest::of)},
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": common::IMAGE,
        "config": put(common::CONFIG, config.to_string().as_bytes()),
        "layers": layers.each_ref().map(|layer| put("application/vnd.oci.image.layer.v1.tar", layer)),
    });
    let mut entry = put(common::IMAGE, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "mediaType": common::INDEX, "manifests": [entry]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Digest::of(manifest.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_podman_and_buildah_push_and_pull() {
    if !edgewright_testkit::has(&["skopeo", "podman", "buildah"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let server = Server::start(&folder.path().join("registry")).await;
    let digest = make_layout(Path::new(&path("layout")));
    let image = |name: &str| format!("{}/{name}", server.address);
    let remote = |name: &str| format!("docker://{}", image(name));

    // skopeo: the pulled bytes equal the pushed ones, for every transport.
    let from = format!("oci:{}:v1", path("layout"));
    // Otherwise skopeo compresses layers itself.
    let push = ["--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false"];
    run("skopeo", &[&push[..], &[&from, &remote("plant/image:v1")]].concat()).await;
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &remote("plant/image:v1")]).await;
    assert_eq!(Digest::of(&raw), digest);
    for (kind, suffix) in [("dir", ""), ("oci", ":v1")] {
        let to = format!("{kind}:{}{suffix}", path(kind));
        run(
            "skopeo",
            &["--insecure-policy", "copy", "--src-tls-verify=false", &remote("plant/image:v1"), &to],
        )
        .await;
    }
    assert_eq!(Digest::of(std::fs::read(path("dir/manifest.json")).unwrap()), digest);
    // From registry to registry: blobs are mounted.
    let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    run("skopeo", &[&copy[..], &[&remote("plant/image:v1"), &remote("other:copy")]].concat()).await;
    let from = format!("dir:{}", path("dir"));
    run("skopeo", &["--insecure-policy", "copy", "--dest-tls-verify=false", &from, &remote("from-dir:v1")])
        .await;
    let tags = run("skopeo", &["list-tags", "--tls-verify=false", &remote("other")]).await;
    assert_eq!(serde_json::from_slice::<Value>(&tags).unwrap()["Tags"], json!(["copy"]));
    run("skopeo", &["delete", "--tls-verify=false", &remote("other:copy")]).await;

    // podman and buildah, each with a storage of its own.
    let (root, runroot) = (path("storage"), path("run"));
    let storage = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
    let tls = "--tls-verify=false";
    for (program, repository) in [("podman", "by-podman"), ("buildah", "by-buildah")] {
        let source = format!("{}@{digest}", image("plant/image"));
        run(program, &[&storage[..], &["pull", tls, &source]].concat()).await;
        let target = remote(&format!("{repository}:v1"));
        run(program, &[&storage[..], &["push", tls, &source, &target]].concat()).await;
        let pushed = image(&format!("{repository}:v1"));
        run(program, &[&storage[..], &["rmi", "--all", "--force"]].concat()).await;
        run(program, &[&storage[..], &["pull", tls, &pushed]].concat()).await;
    }
    let repositories = server.registry.repositories().await.unwrap();
    let names: Vec<&str> = repositories.iter().map(edgewright_model::reference::RepoName::as_str).collect();
    assert_eq!(names, ["by-buildah", "by-podman", "from-dir", "other", "plant/image"]);
    server.close().await;
}

/// Runs a command that must fail; gives its error.
async fn fails(program: &str, arguments: &[&str]) -> String {
    let command = Command::new(program).args(arguments.iter().copied()).deadline(Duration::from_mins(2));
    format!("{:?}", command.run().await.expect_err("the registry refuses it"))
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_and_podman_pull_without_credentials_and_push_with_the_right_ones() {
    if !edgewright_testkit::has(&["skopeo", "podman"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let digest = make_layout(Path::new(&path("layout")));
    let target = Target { repository: "plants/hmi".parse().unwrap(), digest: digest.clone() };
    let devices = Devices([("one", target)].into());
    let registry = folder.path().join("registry");
    let server = Server::with(&registry, Arc::new(devices), Arc::new(TwoOperators)).await;
    let remote = |name: &str| format!("docker://{}/{name}", server.address);

    let (from, to) = (format!("oci:{}:v1", path("layout")), remote("plants/hmi:v1"));
    let push = ["--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", "--authfile"];
    let none = path("none.json");
    std::fs::write(&none, "{}").unwrap();
    let push = [&push[..], &[&none]].concat();
    assert!(fails("skopeo", &[&push[..], &[&from, &to]].concat()).await.contains("the token is wrong"));
    let wrong = ["--dest-creds", "any:wrong", from.as_str(), to.as_str()];
    fails("skopeo", &[&push[..], &wrong].concat()).await;
    run("skopeo", &[&push[..], &["--dest-creds", "any:one", &from, &to]].concat()).await;

    let inspect = ["inspect", "--raw", "--tls-verify=false"];
    let raw = run("skopeo", &[&inspect[..], &["--authfile", &none, &to]].concat()).await;
    assert_eq!(Digest::of(&raw), digest, "anyone may pull");
    fails("skopeo", &[&inspect[..], &["--creds", "any:wrong", &to]].concat()).await;

    // A virtual repository: manifest and blobs under its own name, for principals with a target.
    let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", "--authfile", &none];
    let (own, device) = (format!("dir:{}", path("own")), remote("device/self:current"));
    run("skopeo", &[&copy[..], &["--src-creds", "any:one", &device, &own]].concat()).await;
    assert_eq!(Digest::of(std::fs::read(path("own/manifest.json")).unwrap()), digest);
    fails("skopeo", &[&copy[..], &["--src-creds", "any:two", &device, &own]].concat()).await;

    let (auth, host) = (path("auth.json"), server.address.to_string());
    let login = ["login", "--tls-verify=false", "--authfile", &auth, "--username", "any", "--password"];
    fails("podman", &[&login[..], &["wrong", &host]].concat()).await;
    run("podman", &[&login[..], &["two", &host]].concat()).await;
    let (root, runroot) = (path("storage"), path("run"));
    let storage = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
    let tls = ["--tls-verify=false", "--authfile"];
    let image = format!("{host}/plants/hmi:v1");
    run("podman", &[&storage[..], &["pull"], &tls, &[&none, &image]].concat()).await;
    let pushed = remote("by-podman:v1");
    fails("podman", &[&storage[..], &["push"], &tls, &[&none, &image, &pushed]].concat()).await;
    run("podman", &[&storage[..], &["push"], &tls, &[&auth, &image, &pushed]].concat()).await;
    server.close().await;
}
