//! A build secret is available to the `RUN` that mounts it, and nowhere afterwards.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use common::{World, has_tools, repo, task};
use edgewright_build::execute;
use edgewright_model::order::{Base, Context, StepAction};
use edgewright_model::outcome::FailureKind;
use edgewright_model::reference::Reference;
use edgewright_model::spec::SecretRef;

const SECRET: &str = "s3cr3t-4711-do-not-keep";

/// What a Containerfile needs to run a shell: the host's, with its libraries.
fn shell() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for path in ["bin/sh", "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"] {
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

/// The files below a folder that hold a text.
fn holders(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && has(&std::fs::read(entry.path()).unwrap_or_default(), text) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_used_and_left_nowhere() {
    if !has_tools() || !Path::new("/lib64/ld-linux-x86-64.so.2").exists() {
        return;
    }
    let world = World::new().await;
    let client = &world.ctx.client;
    let entries = Context::Blob(client.push_blob_bytes(&repo("t/contexts"), shell()).await.unwrap());
    let context = world.push_tar(&[]).await;
    let text = "ARG BASE\nFROM ${BASE}\nRUN --mount=type=secret,id=npm read token < /run/secrets/npm; \
                case $token in s3cr3t-*) echo used > /proof;; *) exit 1;; esac\n";
    let actions = vec![
        StepAction::Files { entries, delete: Vec::new() },
        StepAction::Containerfile {
            context,
            containerfile: text.to_owned(),
            args: std::collections::BTreeMap::new(),
            target: None,
            secrets: vec![SecretRef { id: "npm".to_owned(), version: "1".to_owned() }],
            images: Vec::new(),
        },
    ];
    let order = task(Base::Scratch, "t/system", actions);
    assert!(!serde_json::to_string(&order).unwrap().contains(SECRET));

    let unknown = execute(&order, &world.job("unknown"), &|_| {}).await.result.unwrap_err();
    assert_eq!(unknown.kind, FailureKind::Infrastructure, "{unknown:?}");
    assert!(unknown.message.contains("cannot read the build secret `npm`"), "{unknown:?}");

    let mut ctx = world.job("known");
    ctx.secrets.insert("npm".to_owned(), SECRET.as_bytes().to_vec());
    let events = Mutex::new(String::new());
    let hear = |event| events.lock().unwrap().push_str(&serde_json::to_string(&event).unwrap());
    let built = execute(&order, &ctx, &hear).await.result.unwrap();
    let events = events.into_inner().unwrap();
    assert!(!events.contains(SECRET), "{events}");

    let manifest =
        client.pull_manifest(&built.repository, &Reference::Digest(built.digest.clone())).await.unwrap();
    let config = edgewright_oci::image::config(&manifest.bytes).unwrap();
    let config = client.pull_blob_bytes(&built.repository, &config.digest, 1 << 20).await.unwrap();
    let image = edgewright_oci::image::Image::parse(&manifest.bytes, &config).unwrap();
    assert!(!has(&manifest.bytes, SECRET) && !has(&config, SECRET));
    let mut all = Vec::new();
    for layer in image.layers() {
        let path = ctx.scratch.join("layer-to-look-at");
        let quiet = edgewright_oci::client::QUIET;
        client.pull_blob_file(&built.repository, &layer.descriptor.digest, &path, quiet).await.unwrap();
        let tar = common::read_layer(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(!has(&tar, SECRET), "a layer has the secret");
        all.extend(tar);
    }
    assert!(has(&all, "proof") && has(&all, "used\n"), "the secret was used");
    // The rest is removed with the job's folder; the shared storage must not have it either.
    let remains = [holders(&ctx.storage, SECRET), holders(&ctx.cache, SECRET)].concat();
    assert!(remains.is_empty(), "{remains:?}");
}
