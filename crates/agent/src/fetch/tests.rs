//! Downloads from a registry that misbehaves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use edgewright_model::Digest;
use edgewright_oci::image;
use edgewright_oci::media::{self, Descriptor};
use edgewright_process::Tasks;
use tokio::sync::Notify;

use super::*;
use crate::config::Config;
use crate::machine::{ProblemKind, Update};
use crate::updater::Progress;

/// How a fake registry behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The body of the next layer drips after this many bytes, until [`Fake::cut`] breaks the connection;
    /// requests that follow get 503.
    CutAfter(usize),
    /// Every request for a blob gets this status.
    Blobs(u16),
    /// Bytes of layers are wrong.
    Wrong,
    /// Ranges are ignored.
    NoRanges,
    /// Layers never end.
    Endless,
    /// Every request gets this status.
    Status(u16),
}

#[derive(Debug)]
pub(crate) struct Content {
    manifests: HashMap<String, (&'static str, Vec<u8>)>,
    blobs: HashMap<String, Vec<u8>>,
    fault: Fault,
    /// Bytes of layers that were sent.
    sent: usize,
    pub(crate) ranges: Vec<String>,
    cut: Arc<Notify>,
}

#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) content: Arc<Mutex<Content>>,
    pub(crate) url: String,
    _tasks: Tasks,
}

async fn manifest(State(content): State<Arc<Mutex<Content>>>, Path(name): Path<String>) -> Response {
    let content = content.lock().unwrap();
    if let Fault::Status(status) = content.fault {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    match content.manifests.get(&name) {
        Some((kind, bytes)) => ([("content-type", *kind)], bytes.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// One byte after the other until the connection is cut: all that was sent before surely arrives.
fn dripping(
    content: Arc<Mutex<Content>>,
    rest: Vec<u8>,
) -> impl futures::Stream<Item = Result<Vec<u8>, std::io::Error>> + Send {
    let cut = Arc::clone(&content.lock().unwrap().cut);
    futures::stream::unfold(rest.into_iter(), move |mut rest| {
        let (content, cut) = (Arc::clone(&content), Arc::clone(&cut));
        async move {
            tokio::select! {
                () = cut.notified() => return Some((Err(std::io::Error::other("cut")), rest)),
                () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
            }
            let byte = rest.next()?;
            content.lock().unwrap().sent += 1;
            Some((Ok(vec![byte]), rest))
        }
    })
}

async fn blob(
    State(shared): State<Arc<Mutex<Content>>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut content = shared.lock().unwrap();
    if let Fault::Status(status) | Fault::Blobs(status) = content.fault {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let Some(mut bytes) = content.blobs.get(&digest).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let is_layer = bytes.len() > 1000;
    let range = headers.get("range").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let from: usize = range
        .as_deref()
        .filter(|_| content.fault != Fault::NoRanges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0);
    content.ranges.extend(range);
    if is_layer && content.fault == Fault::Wrong {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }
    if is_layer && content.fault == Fault::Endless {
        let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 65536]));
        return Body::from_stream(chunks).into_response();
    }
    if from > 0 && from >= bytes.len() {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let rest = bytes.split_off(from);
    let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let length = rest.len().to_string();
    if let (true, Fault::CutAfter(count)) = (is_layer, content.fault) {
        content.fault = Fault::Status(503);
        content.sent += count;
        let sent: Vec<_> = rest[..count].chunks(10_000).map(|chunk| Ok(chunk.to_vec())).collect();
        let last = rest[count..].to_vec();
        drop(content);
        let drops = dripping(shared, last);
        let chunks = futures::StreamExt::chain(futures::stream::iter(sent), drops);
        return (status, [("content-length", length)], Body::from_stream(chunks)).into_response();
    }
    if is_layer {
        content.sent += rest.len();
    }
    (status, [("content-length", length)], rest).into_response()
}

impl Fake {
    pub(crate) async fn start(images: &[&TestImage]) -> Self {
        let content = Content {
            manifests: HashMap::new(),
            blobs: HashMap::new(),
            fault: Fault::None,
            sent: 0,
            ranges: Vec::new(),
            cut: Arc::default(),
        };
        let content = Arc::new(Mutex::new(content));
        let app = Router::new()
            .route("/v2/a/b/manifests/{name}", get(manifest))
            .route("/v2/a/b/blobs/{digest}", get(blob))
            .with_state(Arc::clone(&content));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tasks = Tasks::new();
        tasks.spawn("registry", async move {
            let _ = axum::serve(listener, app).await;
        });
        let fake = Self { content, url, _tasks: tasks };
        for image in images {
            fake.publish(image);
        }
        fake
    }

    pub(crate) fn publish(&self, image: &TestImage) {
        let mut content = self.content.lock().unwrap();
        for blob in image.layers.iter().chain([&image.config]) {
            content.blobs.insert(Digest::of(blob).to_string(), blob.clone());
        }
        let index = (media::INDEX, image.index.clone());
        for name in ["stable".to_owned(), Digest::of(&image.index).to_string()] {
            content.manifests.insert(name, index.clone());
        }
        content.manifests.insert(image.digest().to_string(), (media::MANIFEST, image.manifest.clone()));
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.content.lock().unwrap().fault = fault;
    }

    /// Breaks the connection of [`Fault::CutAfter`].
    pub(crate) fn cut(&self) {
        self.content.lock().unwrap().cut.notify_one();
    }

    pub(crate) fn sent(&self) -> usize {
        self.content.lock().unwrap().sent
    }
}

pub(crate) struct TestImage {
    pub(crate) layers: Vec<Vec<u8>>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

impl TestImage {
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        Self::claiming(layers, None)
    }

    /// An image whose layers claim another length.
    pub(crate) fn claiming(layers: &[Vec<u8>], size: Option<u64>) -> Self {
        let mut image = image::Image::scratch(&host_platform());
        for layer in layers {
            let mut descriptor = Descriptor::of(media::LAYER_GZIP, layer);
            descriptor.size = size.unwrap_or(descriptor.size);
            let diff_id = Digest::of(layer);
            image.add_layer(image::LayerRef { descriptor, diff_id }, "t", jiff::Timestamp::UNIX_EPOCH);
        }
        let documents = image.documents(jiff::Timestamp::UNIX_EPOCH);
        let index = image::index(&[(host_platform(), documents.manifest_descriptor.clone())]);
        Self {
            layers: layers.to_vec(),
            config: documents.config.to_vec(),
            manifest: documents.manifest.to_vec(),
            index,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub(crate) fn descriptors(&self) -> Vec<Descriptor> {
        image::layers(&self.manifest).unwrap()
    }
}

/// Bytes that do not compress and do not repeat.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn registry(folder: &std::path::Path, origin: &str, mirrors: &[&str]) -> Registry {
    let path = folder.join("agent.toml");
    let text = format!(
        "image = \"r.example/a/b:stable\"\nregistry = \"{origin}\"\nmirrors = {mirrors:?}\n[report]\nurl = \"http://x\"\ndevice = \"d\"\n"
    );
    std::fs::write(&path, text).unwrap();
    Registry::new(&Config::read(&path).unwrap()).unwrap()
}

struct World {
    folder: tempfile::TempDir,
    blobs: Blobs,
    image: TestImage,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("downloads")).unwrap();
        let image = TestImage::new(&[noise(1, 300_000), noise(2, 200_000)]);
        Self { folder, blobs, image }
    }

    fn registry(&self, origin: &Fake, mirrors: &[&Fake]) -> Registry {
        let mirrors: Vec<&str> = mirrors.iter().map(|mirror| mirror.url.as_str()).collect();
        registry(self.folder.path(), &origin.url, &mirrors)
    }

    async fn download(&self, registry: &Registry) -> Result<Fetched, FetchError> {
        let wanted = self.image.descriptors();
        registry.download(&wanted, &self.blobs, &mut Limiter::new(None), &Progress::quiet()).await
    }

    fn assert_complete(&self) {
        for layer in &self.image.layers {
            assert_eq!(std::fs::read(self.blobs.path(&Digest::of(layer))).unwrap(), *layer);
        }
    }
}

#[tokio::test]
async fn a_tag_becomes_an_image_with_its_documents() {
    let world = World::new();
    let fake = Fake::start(&[&world.image]).await;
    let registry = world.registry(&fake, &[]);
    let (update, _) = registry.resolve().await.unwrap();
    let index = Some(Digest::of(&world.image.index));
    assert_eq!(
        update,
        Update { digest: world.image.digest(), index, reference: "r.example/a/b:stable".into() }
    );
    let image = registry.documents(&update, &world.blobs).await.unwrap();
    assert_eq!(image.config, world.image.config);
    // After a restart they are not requested again.
    fake.set(Fault::Status(500));
    let again = registry.documents(&update, &world.blobs).await.unwrap();
    assert_eq!(again.manifest.bytes, image.manifest.bytes);
    let layout = edgewright_oci::layout::Layout::open(world.blobs.folder());
    assert_eq!(layout.image().unwrap().0, world.image.manifest);
    let old = Update { digest: Digest::of("x"), ..update };
    assert_eq!(registry.documents(&old, &world.blobs).await.unwrap_err().kind(), ProblemKind::Unreachable);
}

#[tokio::test]
async fn only_what_is_missing_is_downloaded() {
    let world = World::new();
    let fake = Fake::start(&[&world.image]).await;
    let registry = world.registry(&fake, &[]);
    world.download(&registry).await.unwrap();
    world.assert_complete();
    let before = fake.sent();
    assert_eq!(world.download(&registry).await.unwrap(), Fetched::default());
    assert_eq!(fake.sent(), before);
    // One changed layer costs its own size.
    let changed = TestImage::new(&[world.image.layers[0].clone(), noise(3, 5_000_000)]);
    fake.publish(&changed);
    let wanted = changed.descriptors();
    let mut limiter = Limiter::new(None);
    let fetched = registry.download(&wanted, &world.blobs, &mut limiter, &Progress::quiet()).await.unwrap();
    assert_eq!((fetched.blobs, fetched.bytes, fake.sent() - before), (1, 5_000_000, 5_000_000));
    // Old blobs make room.
    world.blobs.keep_only(&[wanted[1].digest.clone()]).unwrap();
    assert!(!world.blobs.has(&wanted[0].digest, 300_000) && world.blobs.has(&wanted[1].digest, 5_000_000));
}

#[tokio::test]
async fn a_cut_download_resumes_in_another_process() {
    let world = World::new();
    let fake = Fake::start(&[&world.image]).await;
    fake.set(Fault::CutAfter(150_000));
    let digest = &world.image.descriptors()[0].digest;
    let partial = world.blobs.partial(digest);
    let cut = async {
        while std::fs::metadata(&partial).map_or(0, |file| file.len()) < 150_000 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        fake.cut();
    };
    let registry = world.registry(&fake, &[]);
    let (ended, ()) = tokio::join!(world.download(&registry), cut);
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ProblemKind::Unreachable, "{error:?}");
    let kept = std::fs::metadata(&partial).unwrap().len();
    assert_eq!(kept, fake.sent() as u64, "what arrived is kept");
    fake.set(Fault::None);
    world.download(&world.registry(&fake, &[])).await.unwrap();
    world.assert_complete();
    // No byte is sent twice.
    assert_eq!(fake.content.lock().unwrap().ranges, [format!("bytes={kept}-")]);
    assert_eq!(fake.sent(), 500_000);
}

#[tokio::test]
async fn a_registry_without_ranges_and_a_damaged_rest_still_give_the_right_bytes() {
    let world = World::new();
    let fake = Fake::start(&[&world.image]).await;
    let registry = world.registry(&fake, &[]);
    let digest = &world.image.descriptors()[0].digest;
    std::fs::write(world.blobs.partial(digest), &world.image.layers[0][..100_000]).unwrap();
    fake.set(Fault::NoRanges);
    world.download(&registry).await.unwrap();
    world.assert_complete();

    // Zeros of a power cut; more than the whole; the whole, without its name.
    fake.set(Fault::None);
    let whole = world.image.layers[0].clone();
    for rest in [vec![0; 100_000], vec![0; 300_000], vec![0; 300_001], whole] {
        std::fs::remove_file(world.blobs.path(digest)).unwrap();
        std::fs::write(world.blobs.partial(digest), &rest).unwrap();
        world.download(&registry).await.unwrap();
        world.assert_complete();
    }
}

#[tokio::test]
async fn wrong_bytes_come_from_another_source_then_are_a_problem() {
    let world = World::new();
    let (origin, mirror) = (Fake::start(&[&world.image]).await, Fake::start(&[&world.image]).await);
    let registry = world.registry(&origin, &[&mirror]);
    for fault in [Fault::Wrong, Fault::Endless, Fault::Status(404), Fault::Status(403)] {
        mirror.set(fault);
        world.download(&registry).await.unwrap();
        world.assert_complete();
        world.blobs.keep_only(&[]).unwrap();
    }
    origin.set(Fault::Wrong);
    mirror.set(Fault::Wrong);
    let problem = world.download(&registry).await.unwrap_err().problem();
    assert_eq!(problem.kind, ProblemKind::Corrupt);
    assert!(problem.message.contains("sent wrong content"), "{}", problem.message);
    assert!(!world.blobs.partial(&world.image.descriptors()[0].digest).exists());
}

#[tokio::test]
async fn a_mirror_answers_while_the_registry_is_gone() {
    let world = World::new();
    let (origin, mirror) = (Fake::start(&[&world.image]).await, Fake::start(&[&world.image]).await);
    let registry = world.registry(&origin, &[&mirror]);
    world.download(&registry).await.unwrap();
    assert_eq!((origin.sent(), mirror.sent()), (0, 500_000));
    origin.set(Fault::Status(503));
    let (update, _) = registry.resolve().await.unwrap();
    assert_eq!(update.digest, world.image.digest());
}

#[tokio::test]
async fn denied_and_missing_are_different_problems() {
    let world = World::new();
    let fake = Fake::start(&[&world.image]).await;
    let registry = world.registry(&fake, &[]);
    for (status, kind) in [
        (401, ProblemKind::Denied),
        (403, ProblemKind::Denied),
        (404, ProblemKind::NotFound),
        (500, ProblemKind::Unreachable),
        (429, ProblemKind::Unreachable),
    ] {
        fake.set(Fault::Status(status));
        let error = registry.resolve().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error:?}");
    }
    let gone = registry_of_nowhere(&world).await;
    let problem = gone.resolve().await.unwrap_err().problem();
    assert_eq!(problem.kind, ProblemKind::Unreachable);
    assert!(problem.hint.is_some(), "{problem:?}");
}

async fn registry_of_nowhere(world: &World) -> Registry {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    registry(world.folder.path(), &url, &[])
}

#[tokio::test]
async fn what_exceeds_the_disk_is_not_begun() {
    let world = World::new();
    let fake = Fake::start(&[&world.image]).await;
    let registry = world.registry(&fake, &[]);
    let mut wanted = world.image.descriptors();
    wanted[0].size = 1 << 60;
    let mut limiter = Limiter::new(None);
    let error = registry.download(&wanted, &world.blobs, &mut limiter, &Progress::quiet()).await.unwrap_err();
    assert!(matches!(error, FetchError::Space { .. }) && error.kind() == ProblemKind::Space, "{error:?}");
    assert_eq!(fake.sent(), 0);
}

#[tokio::test]
async fn a_stopped_download_keeps_what_it_has() {
    let world = World::new();
    let fake = Fake::start(&[&world.image]).await;
    let registry = world.registry(&fake, &[]);
    let cancel = edgewright_process::CancellationToken::new();
    let token = cancel.clone();
    let progress = Progress::new(move |_| token.cancel(), cancel);
    let wanted = world.image.descriptors();
    let mut limiter = Limiter::new(None);
    let error = registry.download(&wanted, &world.blobs, &mut limiter, &progress).await.unwrap_err();
    assert!(matches!(error, FetchError::Cancelled), "{error:?}");
    world.download(&registry).await.unwrap();
    world.assert_complete();
}

#[tokio::test]
async fn an_image_for_another_platform_is_unusable() {
    let world = World::new();
    let fake = Fake::start(&[&world.image]).await;
    let other = "linux/s390x".parse().unwrap();
    let descriptor = Descriptor::of(media::MANIFEST, &world.image.manifest);
    let index = image::index(&[(other, descriptor)]);
    fake.content.lock().unwrap().manifests.insert("stable".to_owned(), (media::INDEX, index));
    let error = world.registry(&fake, &[]).resolve().await.unwrap_err();
    assert_eq!(error.kind(), ProblemKind::Image, "{error:?}");
}
