//! The clients that people have: skopeo, podman and buildah push and pull.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail the test, or skip it loudly"
)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::Server;
use edgewright_model::Digest;
use edgewright_process::Command;
use serde_json::{Value, json};

/// Whether all tools are here. Where tests require them their absence fails.
async fn has_tools(tools: &[&str]) -> bool {
    for tool in tools {
        if Command::new(*tool).arg("--version").run().await.is_err() {
            #[expect(clippy::disallowed_methods, reason = "set by `cargo xtask test`")]
            let is_required = std::env::var_os("EDGEWRIGHT_TESTS_REQUIRE").is_some();
            assert!(!is_required, "needs {tool}: run cargo xtask setup");
            eprintln!("SKIPPED: needs {tool}: run cargo xtask setup");
            return false;
        }
    }
    true
}

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
    let layers = [tar("etc/one", b"one"), tar("etc/large", &common::noise(3_000_000))];
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
    if !has_tools(&["skopeo", "podman", "buildah"]).await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let server = Server::start(&folder.path().join("registry")).await;
    let digest = make_layout(Path::new(&path("layout")));
    let image = |name: &str| format!("{}/{name}", server.address);
    let remote = |name: &str| format!("docker://{}", image(name));

    // skopeo: the bytes come back as they went, from every kind of place.
    let from = format!("oci:{}:v1", path("layout"));
    // Else it compresses layers on its own.
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
