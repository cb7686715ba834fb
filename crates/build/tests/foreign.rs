//! Containerfiles with other images, a `SHELL`, and a final stage from scratch.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;

use common::{World, has_tools, repo, task};
use edgewright_build::{execute, resolve_lock};
use edgewright_model::containerfile::ForeignImage;
use edgewright_model::lock::{LockRequest, LockedImage};
use edgewright_model::order::{Base, Context, ImageTask, LockTask, ManifestRef, StepAction};
use edgewright_model::outcome::FailureKind;
use edgewright_model::reference::Reference;
use edgewright_oci::image::Image;
use edgewright_oci::layer::Kind;
use edgewright_process::Command;

/// Files of the host, so that a Containerfile can run them.
fn of_host(paths: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for path in paths {
        let bytes = std::fs::read(Path::new("/").join(path)).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

const SHELLS: [&str; 5] = [
    "bin/sh",
    "bin/bash",
    "lib64/ld-linux-x86-64.so.2",
    "lib/x86_64-linux-gnu/libc.so.6",
    "lib/x86_64-linux-gnu/libtinfo.so.6",
];

/// All layers of an image above the first `below`, as tars one after the other, and its documents.
async fn above(world: &World, at: &ManifestRef, below: usize) -> (String, Image) {
    let client = &world.ctx.client;
    let manifest = client.pull_manifest(&at.repository, &Reference::Digest(at.digest.clone())).await.unwrap();
    let config = edgewright_oci::image::config(&manifest.bytes).unwrap();
    let config = client.pull_blob_bytes(&at.repository, &config.digest, 1 << 20).await.unwrap();
    let image = Image::parse(&manifest.bytes, &config).unwrap();
    let mut all = Vec::new();
    for layer in &image.layers()[below..] {
        let path = world.folder.path().join("layer");
        let quiet = edgewright_oci::client::QUIET;
        client.pull_blob_file(&at.repository, &layer.descriptor.digest, &path, quiet).await.unwrap();
        all.extend(common::read_layer(&path));
        std::fs::remove_file(&path).unwrap();
    }
    (String::from_utf8_lossy(&all).into_owned(), image)
}

fn containerfile(context: &Context, text: &str, images: &[LockedImage]) -> StepAction {
    StepAction::Containerfile {
        context: context.clone(),
        containerfile: text.to_owned(),
        args: std::collections::BTreeMap::new(),
        target: None,
        secrets: Vec::new(),
        images: images.to_vec(),
    }
}

/// A lock of `images`, as an update check resolves it.
async fn lock(world: &World, images: &[ForeignImage]) -> Result<Vec<LockedImage>, FailureKind> {
    let request = LockRequest {
        base: None,
        bootstrap: Vec::new(),
        platforms: vec!["linux/amd64".parse().unwrap()],
        images: images.to_vec(),
        refresh: None,
    };
    let image = "x".parse().unwrap();
    let task = LockTask { image, request, keys: std::collections::BTreeMap::new(), now: common::epoch() };
    let lock = resolve_lock(&task, &world.job("lock"), &|_| {}).await;
    lock.map(|lock| lock.images).map_err(|failure| failure.kind)
}

async fn tag(world: &World, at: &ManifestRef, tag: &str) {
    let client = &world.ctx.client;
    let manifest = client.pull_manifest(&at.repository, &Reference::Digest(at.digest.clone())).await.unwrap();
    let reference: Reference = tag.parse().unwrap();
    let pushed = client.push_manifest(&at.repository, &reference, &manifest.media_type, manifest.bytes);
    pushed.await.unwrap();
}

async fn has_safe_mounts() -> bool {
    let version = Command::new("buildah").arg("--version").run().await.unwrap().text();
    let number = version.split(' ').nth(2).unwrap_or_default();
    let mut parts = number.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(1), Some(39))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_images_shells_and_stages_from_scratch_work() {
    if !has_tools() || !SHELLS.iter().all(|path| Path::new("/").join(path).exists()) {
        return;
    }
    let world = World::new().await;
    let files = |entries| StepAction::Files { entries, delete: Vec::new() };
    let built = async |order: ImageTask, job: &str| execute(&order, &world.job(job), &|_| {}).await.result;
    let client = &world.ctx.client;
    let shells = Context::Blob(client.push_blob_bytes(&repo("t/contexts"), of_host(&SHELLS)).await.unwrap());
    let base = built(task(Base::Scratch, "t/system", vec![files(shells)]), "base").await.unwrap();
    let tool = files(world.push_tar(&[("bin/tool", Kind::File, "the tool\n")]).await);
    let tools = built(task(Base::Scratch, "t/tools", vec![tool]), "tools").await.unwrap();
    tag(&world, &tools, "1").await;

    let host = client.host();
    let image = |tag: &str| ForeignImage {
        reference: format!("{host}/t/tools:{tag}").parse().unwrap(),
        platform: "linux/amd64".parse().unwrap(),
    };
    let images = lock(&world, &[image("1")]).await.unwrap();
    assert_eq!(images[0].digest, tools.digest);
    assert_eq!(lock(&world, &[image("2")]).await, Err(FailureKind::Image));

    let context = world.push_tar(&[]).await;
    // An older buildah gets no mounts.
    let (mount, found) = if has_safe_mounts().await {
        (format!("--mount=from={host}/t/tools:1,target=/t"), "/t/bin/tool")
    } else {
        (String::new(), "/opt/copied")
    };
    let base_of = || Base::Manifest(base.clone());
    let text = format!(
        "\u{feff}ARG BASE\r\nARG HOST={host}\r\nARG IMAGE=${{NO:-${{HOST}}/t/tools}}\r\n\
         FROM ${{IMAGE}}:1 AS tools\r\nFROM no.example/unused AS unused\r\nFROM ${{BASE}}\r\n\
         SHELL [\"/bin/bash\", \"-euo\", \"pipefail\", \"-c\"]\r\n\
         COPY --from=0 /bin/tool /opt/copied\r\n\
         RUN {mount} \\\r\n# c\r\n\r\n  [[ -e {found} ]] && echo found > /proof\r\n\
         CMD start it\r\n"
    );
    let order = task(base_of(), "t/one", vec![containerfile(&context, &text, &images)]);
    let one = built(order, "one").await.unwrap();
    let (layers, image_of_one) = above(&world, &one, 1).await;
    assert!(layers.contains("opt/copied") && layers.contains("the tool\n") && layers.contains("found\n"));
    let runtime = serde_json::to_string(&image_of_one.runtime()).unwrap();
    assert!(runtime.contains(r#"["/bin/bash","-euo","pipefail","-c","start it"]"#), "{runtime}");

    let text =
        "ARG BASE\nFROM $BASE AS full\nRUN echo kept > /kept\nFROM scratch\nCOPY --from=full /kept /kept\n";
    let order = task(base_of(), "t/two", vec![containerfile(&context, text, &[])]);
    let two = built(order, "two").await.unwrap();
    let (layers, two) = above(&world, &two, 0).await;
    assert_eq!(two.layers().len(), 1, "without the base's layers");
    assert!(layers.contains("kept\n") && !layers.contains("bin/bash"));

    let pipe = "ARG BASE\nFROM $BASE\nSHELL [\"/bin/bash\", \"-euo\", \"pipefail\", \"-c\"]\n\
                RUN test -e /no | true && echo broken > /pipe\n";
    let order = task(base_of(), "t/three", vec![containerfile(&context, pipe, &[])]);
    assert_eq!(built(order, "three").await.unwrap_err().kind, FailureKind::Image);
}
