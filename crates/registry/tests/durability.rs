//! Durability: kill -9, failing and full disks, damaged files.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Server, header, image};
use edgewright_blobs::testing::{Fault, MemoryStore, Operation};
use edgewright_model::Digest;
use edgewright_process::OwnedTask;
use edgewright_registry::{NoReservedTags, Open, Registry, RegistrySettings};
use edgewright_testkit::noise;
use futures::StreamExt as _;
use reqwest::{Body, Client, Method, StatusCode};

fn blob_file(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs").join(digest.algorithm().name()).join(&digest.hex()[..2]).join(digest.hex())
}

#[tokio::test]
async fn a_damaged_blob_is_never_served_and_a_push_repairs_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let bytes = noise(1_000_000);
    let digest = server.push_blob("a", bytes.clone()).await;
    let path = format!("/v2/a/blobs/{digest}");
    let file = blob_file(folder.path(), &digest);

    // Damaged in the middle: the response has begun, so it is reset.
    let mut damaged = bytes.clone();
    damaged[600_000] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let answer = server.get(&path).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.bytes().await.is_err(), "the answer never completes");
    assert_eq!(server.status(Method::HEAD, &path).await, StatusCode::NOT_FOUND, "once detected it is hidden");
    server.push_blob("a", bytes.clone()).await;
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), bytes);

    // Damaged at the beginning, truncated, missing: not found, and repaired each time.
    let mut first = bytes.clone();
    first[0] ^= 1;
    for torn in [Some(&first[..]), Some(&bytes[..500_000]), None] {
        match torn {
            Some(torn) => std::fs::write(&file, torn).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        assert_eq!(server.status(Method::GET, &path).await, StatusCode::NOT_FOUND);
        assert_eq!(server.status(Method::HEAD, &path).await, StatusCode::NOT_FOUND);
        server.push_blob("a", bytes.clone()).await;
        assert_eq!(server.get(&path).await.bytes().await.unwrap(), bytes);
    }
    server.close().await;
}

async fn open_memory(folder: &Path, store: &MemoryStore) -> Server {
    let (resolver, authorizer) = (Arc::new(NoReservedTags), Arc::new(Open::new(None)));
    let settings = RegistrySettings::new(folder);
    let registry =
        Registry::open_with(settings, Arc::new(store.clone()), resolver, authorizer).await.unwrap();
    Server::serve(registry).await
}

#[tokio::test]
async fn a_failing_store_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let store = MemoryStore::default();
    let server = open_memory(folder.path(), &store).await;
    let steps =
        [Operation::Create, Operation::Append, Operation::Sync, Operation::Publish, Operation::PublishSync];
    let faults =
        [(Fault::Io, StatusCode::INTERNAL_SERVER_ERROR), (Fault::NoSpace, StatusCode::INSUFFICIENT_STORAGE)];
    for (number, step) in steps.into_iter().enumerate() {
        for (fault, expected) in faults {
            let content = format!("{number} {fault:?}");
            let digest = Digest::of(&content);
            let push = format!("/v2/a/blobs/uploads/?digest={digest}");
            store.fail(step, fault);
            let answer = server.request(Method::POST, &push).body(content.clone()).send().await.unwrap();
            assert_eq!(answer.status(), expected, "{step:?} {fault:?}");
            store.heal();
            assert_eq!(store.open_uploads(), 0, "{step:?} {fault:?} keeps no space");
            let path = format!("/v2/a/blobs/{digest}");
            assert_eq!(server.status(Method::HEAD, &path).await, StatusCode::NOT_FOUND);
            assert!(!store.has(&digest), "{step:?} {fault:?} leaves no blob without a row");
            server.push_blob("a", content.clone()).await;
            assert_eq!(server.get(&path).await.text().await.unwrap(), content);
        }
    }
    server.close().await;
}

#[tokio::test]
async fn abandoned_uploads_expire() {
    let folder = tempfile::tempdir().unwrap();
    let store = MemoryStore::default();
    let server = open_memory(folder.path(), &store).await;
    let location = server.begin("a").await;
    let now = edgewright_process::Clock::system().now();
    let later = now + Duration::from_hours(25);
    assert_eq!(server.registry.maintenance(now).await.unwrap().expired_uploads, 0);
    assert_eq!(store.open_uploads(), 1);
    assert_eq!(server.registry.maintenance(later).await.unwrap().expired_uploads, 1);
    assert_eq!(store.open_uploads(), 0);
    assert_eq!(server.get(&location).await.status(), StatusCode::NOT_FOUND);
    server.close().await;
}

#[tokio::test]
async fn too_many_uploads_get_429_with_the_time_of_another_try() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = RegistrySettings::new(folder.path());
    settings.max_uploads_per_identity = 2;
    let registry =
        Registry::open(settings, Arc::new(NoReservedTags), Arc::new(Open::new(None))).await.unwrap();
    let server = Server::serve(registry).await;
    let (first, _) = (server.begin("a").await, server.begin("a").await);
    let third = server.request(Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap();
    assert_eq!(
        (third.status(), header(&third, "retry-after").as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "30")
    );
    assert_eq!(server.status(Method::DELETE, &first).await, StatusCode::NO_CONTENT);
    server.begin("a").await;
    server.close().await;
}

#[tokio::test]
async fn a_stalled_client_times_out_and_may_resume() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = RegistrySettings::new(folder.path());
    settings.idle_limit = Duration::from_millis(200);
    let registry =
        Registry::open(settings, Arc::new(NoReservedTags), Arc::new(Open::new(None))).await.unwrap();
    let server = Server::serve(registry).await;
    let location = server.begin("a").await;
    let stalled = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"hello "))]);
    let stalled = Body::wrap_stream(stalled.chain(futures::stream::pending()));
    let answer = server.request(Method::PATCH, &location).body(stalled).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(header(&server.get(&location).await, "range"), "0-5", "what arrived is kept");
    let put = format!("{location}?digest={}", Digest::of("hello world"));
    let answer = server.request(Method::PUT, &put).body("world").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    server.close().await;
}

/// The registry as a process of its own.
struct Process {
    child: Child,
    base: String,
}

impl Process {
    fn start(folder: &Path) -> Self {
        let binary = edgewright_testkit::example("serve");
        #[expect(clippy::disallowed_methods, reason = "a child that is killed with SIGKILL on purpose")]
        let mut command = std::process::Command::new(binary);
        let mut child = command.arg(folder).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, base: format!("http://{}", address.trim()) }
    }

    /// Kills the process with SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged_and_uploads_continue() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new();
    let process = Process::start(folder.path());
    let bytes = noise(3_000_000);
    let digest = Digest::of(&bytes);
    let post = |base: &str, path: &str| client.post(format!("{base}/v2/a/blobs/uploads/{path}"));
    let whole = Digest::of("whole");
    let pushed = post(&process.base, &format!("?digest={whole}")).body("whole").send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::CREATED);
    let begun = post(&process.base, "").send().await.unwrap();
    let location = header(&begun, "location");

    // An acknowledged chunk, and one that is incomplete when the process is killed.
    let url = format!("{}{location}", process.base);
    let first = client.patch(&url).body(bytes[..1_000_000].to_vec()).send().await.unwrap();
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    let half = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(
        &bytes[1_000_000..2_000_000],
    ))]);
    let half = Body::wrap_stream(half.chain(futures::stream::pending()));
    let stalled = OwnedTask::spawn(client.patch(&url).body(half).send());
    let uploads = folder.path().join("uploads");
    let deadline = Instant::now() + Duration::from_secs(30);
    let written = || {
        let entries = std::fs::read_dir(&uploads).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).max().unwrap_or(0)
    };
    while written() <= 1_000_000 {
        assert!(Instant::now() < deadline, "the second chunk never arrived");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.kill();
    drop(stalled);

    let process = Process::start(folder.path());
    let got = client.get(format!("{}/v2/a/blobs/{whole}", process.base)).send().await.unwrap();
    assert_eq!(got.text().await.unwrap(), "whole");
    let url = format!("{}{location}", process.base);
    let status = client.get(&url).send().await.unwrap();
    let last: usize = header(&status, "range").strip_prefix("0-").unwrap().parse().unwrap();
    assert!((1_000_000..2_000_000).contains(&last), "{last}");
    let rest = bytes[last + 1..].to_vec();
    let put =
        client.put(format!("{url}?digest={digest}")).header("content-range", format!("{}-2999999", last + 1));
    assert_eq!(put.body(rest).send().await.unwrap().status(), StatusCode::CREATED);
    let got = client.get(format!("{}/v2/a/blobs/{digest}", process.base)).send().await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), bytes);
    process.kill();
}

/// A small file system that is unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`: this user may not mount.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", folder.path().to_str().unwrap()],
        )
        .then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["--lazy", self.0.path().to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "mounts a disk for one test")]
    let mut command = std::process::Command::new(program);
    command.args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_full_disk_changes_no_tag_and_its_space_comes_back() {
    let disk = SmallDisk::mount("16m");
    if !edgewright_testkit::has_if(disk.is_some(), "root to mount a tmpfs") {
        return;
    }
    let disk = disk.unwrap();
    let folder = disk.0.path().join("registry");
    let server = Server::start(&folder).await;
    let (_, old) = server.push_image("a", "v1", "old layer").await;
    server.push_blob("a", "new layer").await;
    let available = async || server.registry.disk_usage().await.unwrap().available;
    let before = available().await;

    let large = noise(30_000_000);
    let digest = Digest::of(&large);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let answer = server.request(Method::POST, &path).body(large.clone()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert!(available().await + 1_000_000 > before, "the space came back without a restart");
    let location = server.begin("a").await;
    let answer = server.request(Method::PATCH, &location).body(large).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert!(available().await + 1_000_000 > before, "the space came back without a restart");

    // Now another file fills the disk to the last byte: manifests fail, the tag is unchanged, reads succeed.
    let filler = disk.0.path().join("filler");
    let mut annotated = image("new layer");
    annotated["annotations"] = serde_json::json!({"large": "x".repeat(2_000_000)});
    assert!(std::fs::write(&filler, noise(20_000_000)).is_err(), "the disk is full");
    let answer = server.put_manifest("a", "v1", &annotated).await;
    assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE);
    let tag = server.get("/v2/a/manifests/v1").await;
    assert_eq!(header(&tag, "docker-content-digest"), old.to_string());
    let blob = server.get(&format!("/v2/a/blobs/{}", Digest::of("old layer"))).await;
    assert_eq!(blob.text().await.unwrap(), "old layer");
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(server.put_manifest("a", "v1", &annotated).await.status(), StatusCode::CREATED);
    let tag = server.get("/v2/a/manifests/v1").await;
    assert_eq!(header(&tag, "docker-content-digest"), Digest::of(annotated.to_string()).to_string());
    server.close().await;
}
