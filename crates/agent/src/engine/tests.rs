//! Bad days of a device: what `status` shows, that nothing is harmed, and that it continues by itself.
//!
//! The updater is a shelf in memory: a real one needs a boot loader. All else is real.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_oci::media::Descriptor;
use edgewright_process::{CancellationToken, Clock};
use serde_json::Value;

use super::*;
use crate::fetch::tests::{Fake, Fault, TestImage, noise};
use crate::updater::{BoxFuture, Deployment, Deployments, Image, Progress};

/// How long a test waits for what must happen.
const WAIT_LIMIT: Duration = Duration::from_mins(10);

#[derive(Debug, Default)]
struct Shelf {
    staged: Mutex<Option<Digest>>,
}

fn deployment(digest: &Digest) -> Deployment {
    let digest = digest.clone();
    Deployment { digest, reference: None, verity: false, entry: None, tries_left: None, is_next: false }
}

impl Updater for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn status(&self) -> BoxFuture<'_, Result<Deployments, UpdateError>> {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Deployments {
            booted: Some(deployment(&Digest::of("v1"))),
            fallback: None,
            staged: staged.as_ref().map(deployment),
        };
        Box::pin(async { Ok(found) })
    }

    fn missing<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Vec<Descriptor>, UpdateError>> {
        Box::pin(async { Ok(edgewright_oci::image::layers(&image.manifest.bytes).unwrap()) })
    }

    fn stage<'a>(&'a self, image: &'a Image, _: &'a Progress) -> BoxFuture<'a, Result<(), UpdateError>> {
        for layer in edgewright_oci::image::layers(&image.manifest.bytes).unwrap() {
            let bytes = std::fs::read(image.blob_path(&layer.digest)).unwrap();
            assert_eq!(Digest::of(&bytes), layer.digest, "only what is verified is staged");
        }
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(image.digest().clone());
        Box::pin(async { Ok(()) })
    }

    fn arm<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<(), UpdateError>> {
        Box::pin(async { panic!("the policy is to download") })
    }

    fn bless(&self) -> BoxFuture<'_, Result<(), UpdateError>> {
        Box::pin(async { Ok(()) })
    }

    fn roll_back(&self) -> BoxFuture<'_, Result<(), UpdateError>> {
        Box::pin(async { Err(UpdateError::NoFallback) })
    }

    fn collect(&self) -> BoxFuture<'_, Result<Option<u64>, UpdateError>> {
        Box::pin(async { Ok(None) })
    }
}

/// A device that follows a registry, with a clock that the test sets.
struct Device {
    folder: tempfile::TempDir,
    engine: Engine,
    questions: Questions,
    clock: Clock,
    fake: Fake,
    image: TestImage,
}

impl Device {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = TestImage::new(&[noise(1, 300_000), noise(2, 200_000)]);
        let fake = Fake::start(&[&image]).await;
        let clock = Clock::fixed("2026-11-28T06:00:00Z".parse().unwrap());
        let (engine, questions) = start(folder.path(), &fake.url, &clock).await;
        Self { folder, engine, questions, clock, fake, image }
    }

    /// Lets the agent work until a condition on `status --json` holds; returns that document.
    async fn work_until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let cancel = CancellationToken::new();
        let questions = self.questions.clone();
        let observe = async {
            let deadline = Instant::now() + WAIT_LIMIT;
            loop {
                let (sender, receiver) = oneshot::channel();
                questions.send(Question::Status(sender)).await.unwrap();
                let status = serde_json::to_value(receiver.await.unwrap()).unwrap();
                assert_eq!(status["deployments"]["booted"]["digest"], Digest::of("v1").to_string());
                if holds(&status) {
                    cancel.cancel();
                    return status;
                }
                assert!(Instant::now() < deadline, "never: {what}: {status:#}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (ended, status) = tokio::join!(self.engine.run(&cancel, &|| ()), observe);
        ended.unwrap();
        status
    }

    /// Lets it work until it is at rest with a problem of a kind, and nothing is staged.
    async fn work_until_problem(&mut self, kind: &str) -> Value {
        let status = self.work_until(kind, |it| it["problem"]["kind"] == kind && it["doing"].is_null()).await;
        assert_eq!(status["state"]["state"], "idle", "{status:#}");
        assert!(status["deployments"]["staged"].is_null(), "{status:#}");
        assert!(status["problem"]["hint"].is_string(), "{status:#}");
        status
    }

    /// The cause is gone: it continues by itself when the pause is over, and has the image.
    async fn assert_continues(&mut self) {
        self.clock.advance(Duration::from_hours(1));
        let digest = self.image.digest().to_string();
        let status = self.work_until("staged", |it| it["state"]["state"] == "staged").await;
        assert_eq!(status["deployments"]["staged"]["digest"], digest, "{status:#}");
        assert!(status["problem"].is_null(), "{status:#}");
    }
}

async fn start(folder: &Path, registry: &str, clock: &Clock) -> (Engine, Questions) {
    let path = folder.join("agent.toml");
    let text = format!(
        "image = \"r.example/a/b:stable\"\nregistry = \"{registry}\"\npolicy = \"download\"\njitter = \"0\"\n"
    );
    std::fs::write(&path, text).unwrap();
    let config = Config::read(&path).unwrap();
    let runner =
        Runner { program: "/bin/false".into(), settings: config.health.clone(), root: folder.to_owned() };
    let setup = Setup {
        config,
        updater: Box::new(Shelf::default()),
        state: StateFolder::open(&folder.join("state")).unwrap(),
        downloads: folder.join("downloads"),
        runner,
        reboot: vec!["/bin/false".to_owned()],
        clock: clock.clone(),
    };
    Engine::start(setup, "boot-1".to_owned()).await.unwrap()
}

#[tokio::test]
async fn the_registry_goes_away_in_the_middle_of_a_download() {
    let mut device = Device::new().await;
    device.fake.set(Fault::CutAfter(150_000));
    let digest = device.image.descriptors()[0].digest.clone();
    let partial = device.folder.path().join("downloads/partial").join(format!("sha256-{}", digest.hex()));
    let kept = move || std::fs::metadata(&partial).map_or(0, |file| file.len());
    let fake = device.fake.clone();
    let status = device
        .work_until("cut", |status| {
            if kept() >= 150_000 {
                fake.cut();
            }
            status["problem"]["kind"] == "unreachable"
        })
        .await;
    assert_eq!(status["state"]["state"], "idle", "{status:#}");
    let kept = kept();
    assert_eq!(kept, device.fake.sent() as u64, "what arrived is kept");

    device.fake.set(Fault::None);
    device.assert_continues().await;
    assert_eq!(device.fake.content.lock().unwrap().ranges, [format!("bytes={kept}-")]);
    assert_eq!(device.fake.sent(), 500_000, "no byte is sent twice");
}

#[tokio::test]
async fn the_registry_is_gone_or_denies() {
    let cases = [
        (Fault::Status(503), "unreachable"),
        (Fault::Status(401), "denied"),
        (Fault::Status(403), "denied"),
        (Fault::Blobs(401), "denied"),
        (Fault::Blobs(403), "denied"),
        (Fault::Status(404), "not_found"),
    ];
    // At the same time: most of it is pauses of the agent.
    futures::future::join_all(cases.map(|(fault, kind)| assert_survives(fault, kind))).await;
}

async fn assert_survives(fault: Fault, kind: &str) {
    let mut device = Device::new().await;
    device.fake.set(fault);
    device.work_until_problem(kind).await;
    // It is asked again and again, in growing pauses.
    device.clock.advance(Duration::from_hours(1));
    let again = |it: &Value| it["problem"]["failures"] == 2 && it["doing"].is_null();
    device.work_until("the second failure", again).await;
    device.fake.set(Fault::None);
    device.assert_continues().await;
}

#[tokio::test]
async fn every_source_sends_wrong_bytes() {
    let mut device = Device::new().await;
    device.fake.set(Fault::Wrong);
    device.work_until_problem("corrupt").await;
    device.fake.set(Fault::None);
    device.assert_continues().await;
}

#[tokio::test]
async fn an_update_that_is_too_large_is_not_begun() {
    let mut device = Device::new().await;
    let large = TestImage::claiming(&device.image.layers, Some(1 << 50));
    device.fake.publish(&large);
    let status = device.work_until_problem("space").await;
    assert!(status["problem"]["message"].as_str().unwrap().contains("are free"), "{status:#}");
    assert_eq!(device.fake.sent(), 0);
    let image = TestImage::new(&device.image.layers);
    device.fake.publish(&image);
    device.assert_continues().await;
}

#[tokio::test]
async fn the_clock_is_set_back_by_a_year() {
    let mut device = Device::new().await;
    // The device starts with a clock that is a year ahead, and finds nothing.
    let (right, ahead) = (device.clock.clone(), Clock::fixed("2027-11-28T06:00:00Z".parse().unwrap()));
    drop(device.engine);
    (device.engine, device.questions) = start(device.folder.path(), &device.fake.url, &ahead).await;
    device.fake.set(Fault::Status(503));
    device.work_until_problem("unreachable").await;
    // Its next check is a year away, by the right clock; it does not wait for it.
    device.fake.set(Fault::None);
    drop(device.engine);
    (device.engine, device.questions) = start(device.folder.path(), &device.fake.url, &right).await;
    let status = device.work_until("staged", |it| it["state"]["state"] == "staged").await;
    assert!(status["next_check"].as_str().unwrap().starts_with("2026-11-28"), "{status:#}");
}
