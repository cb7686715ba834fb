//! Blobs of a virtual repository that are in an external registry, too.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use common::{Devices, IMAGE, Server, TwoOperators, code, header};
use edgewright_model::Digest;
use edgewright_model::principal::Principal;
use edgewright_model::reference::{RepoName, Tag};
use edgewright_registry::{
    CopyBytes, CopyError, External, ExternalCopy, ExternalTraffic, Lookup, Redirection, Registry,
    RegistrySettings, Resolution, TagResolver, Target,
};
use edgewright_testkit::noise;
use futures::future::{BoxFuture, ready};
use futures::{FutureExt as _, StreamExt as _, stream};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

/// Three chunks and a bit.
const SIZE: usize = 3 * 256 * 1024 + 70;

/// How many blobs one client may read there at a time.
const SHARE: usize = 2;

/// What an external registry does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Missing,
    Away,
    /// It ends each response after so many bytes.
    Breaks(usize),
    /// The byte at this place is another one.
    Wrong(usize),
    /// It sends a first chunk and then nothing.
    Stalls,
}

/// An external registry that has one image.
#[derive(Debug)]
struct Shelf {
    image: Digest,
    content: Bytes,
    mood: Mutex<Mood>,
    redirection: Mutex<Redirection>,
    requests: Mutex<Vec<Range<u64>>>,
    /// Lives as long as the newest response.
    reading: Mutex<Weak<()>>,
}

impl ExternalCopy for Shelf {
    fn host(&self) -> &'static str {
        "shelf.example"
    }

    fn open<'a>(&'a self, _: &'a Digest, part: Range<u64>) -> BoxFuture<'a, Result<CopyBytes, CopyError>> {
        self.requests.lock().unwrap().push(part.clone());
        let (start, end) = (usize::try_from(part.start).unwrap(), usize::try_from(part.end).unwrap());
        let mut content = self.content.to_vec();
        let mood = *self.mood.lock().unwrap();
        let end = match mood {
            Mood::Missing => return ready(Err(CopyError::Missing)).boxed(),
            Mood::Away => return ready(Err(CopyError::Unavailable("away".to_owned()))).boxed(),
            Mood::Breaks(after) => end.min(start + after),
            Mood::Wrong(at) => {
                content[at] ^= 1;
                end
            }
            Mood::Good | Mood::Stalls => end,
        };
        let alive = Arc::new(());
        *self.reading.lock().unwrap() = Arc::downgrade(&alive);
        let pieces: Vec<_> =
            content[start..end].chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let pieces = stream::iter(pieces);
        let pieces = match mood {
            Mood::Stalls => pieces.take(3).chain(stream::pending()).boxed(),
            _ => pieces.boxed(),
        };
        let pieces = pieces.inspect(move |_| _ = &alive);
        ready(Ok(pieces.boxed())).boxed()
    }
}

/// Devices with an external registry.
#[derive(Debug)]
struct World {
    devices: Devices,
    shelf: Arc<Shelf>,
}

impl TagResolver for World {
    fn resolve<'a>(
        &'a self,
        principal: &'a Principal,
        repository: &'a RepoName,
        lookup: Lookup<'a>,
    ) -> BoxFuture<'a, Resolution> {
        self.devices.resolve(principal, repository, lookup)
    }

    fn tags<'a>(&'a self, principal: &'a Principal, repository: &'a RepoName) -> BoxFuture<'a, Vec<Tag>> {
        self.devices.tags(principal, repository)
    }

    fn external(&self) -> Option<&dyn External> {
        Some(self)
    }
}

impl External for World {
    fn is_used(&self) -> bool {
        true
    }

    fn redirect<'a>(&'a self, images: &'a [Digest], _: &'a Digest) -> BoxFuture<'a, Redirection> {
        let redirection = self.shelf.redirection.lock().unwrap().clone();
        ready(if images.contains(&self.shelf.image) { redirection } else { Redirection::None }).boxed()
    }

    fn copies(&self, images: &[Digest]) -> Vec<Arc<dyn ExternalCopy>> {
        let copy = images.contains(&self.shelf.image).then(|| Arc::clone(&self.shelf));
        copy.into_iter().map(|copy| copy as Arc<dyn ExternalCopy>).collect()
    }
}

struct Setup {
    server: Server,
    shelf: Arc<Shelf>,
    content: Bytes,
    folder: tempfile::TempDir,
}

impl Setup {
    /// A registry with an image of one large layer, and an external one that has the image, too.
    async fn new() -> Self {
        let content = Bytes::from(noise(SIZE));
        let layer =
            json!({"mediaType": common::LAYER, "digest": Digest::of(&content), "size": content.len()});
        let config = common::descriptor(common::CONFIG, "{}");
        let image =
            json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [layer]}).to_string();
        let digest = Digest::of(&image);
        let shelf = Arc::new(Shelf {
            image: digest.clone(),
            content: content.clone(),
            mood: Mutex::new(Mood::Good),
            redirection: Mutex::new(Redirection::None),
            requests: Mutex::default(),
            reading: Mutex::default(),
        });
        let target = Target { repository: "plants/hmi".parse().unwrap(), digest };
        let world = World { devices: Devices([("one", target)].into()), shelf: Arc::clone(&shelf) };
        let folder = tempfile::tempdir().unwrap();
        let settings = RegistrySettings {
            max_proxied_downloads_per_peer: SHARE,
            idle_limit: Duration::from_secs(2),
            ..RegistrySettings::new(folder.path())
        };
        let registry = Registry::open(settings, Arc::new(world), Arc::new(TwoOperators)).await.unwrap();
        let server = Server::serve(registry).await;
        let home: RepoName = "plants/hmi".parse().unwrap();
        for blob in [Bytes::from("{}"), content.clone(), Bytes::from("without an image")] {
            server.registry.put_blob(&home, blob).await.unwrap();
        }
        server.registry.put_manifest(&home, None, IMAGE, image.into()).await.unwrap();
        Self { server, shelf, content, folder }
    }

    /// The files are lost, as after a restored backup.
    fn lose(&self) {
        std::fs::remove_dir_all(self.folder.path().join("blobs")).unwrap();
        std::fs::create_dir(self.folder.path().join("blobs")).unwrap();
    }

    fn mood(&self, mood: Mood) {
        *self.shelf.mood.lock().unwrap() = mood;
    }

    fn path(&self, repository: &str) -> String {
        format!("/v2/{repository}/blobs/{}", Digest::of(&self.content))
    }

    async fn ask(&self, method: Method, headers: &[(&str, &str)]) -> Response {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let url = format!("http://{}{}", self.server.address, self.path("device/self"));
        let mut request = client.request(method, url).bearer_auth("one");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    fn traffic(&self) -> ExternalTraffic {
        self.server.registry.external_traffic()
    }
}

/// The bytes until the response ends, and whether it ended as it should.
async fn received(mut answer: Response) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, true),
            Err(_) => return (bytes, false),
        }
    }
}

#[tokio::test]
async fn a_lost_blob_is_read_in_the_external_registry() {
    let setup = Setup::new().await;
    let own = setup.ask(Method::GET, &[]).await;
    assert_eq!(own.bytes().await.unwrap(), setup.content);
    assert_eq!(*setup.shelf.requests.lock().unwrap(), [], "the own copy comes first");
    setup.lose();

    let whole = setup.ask(Method::GET, &[]).await;
    assert_eq!((whole.status(), whole.content_length()), (StatusCode::OK, Some(SIZE as u64)));
    assert_eq!(header(&whole, "docker-content-digest"), Digest::of(&setup.content).to_string());
    assert_eq!(whole.bytes().await.unwrap(), setup.content);
    assert_eq!(setup.traffic(), ExternalTraffic { proxied_bytes: SIZE as u64, redirects: 0, failures: 0 });

    let head = setup.ask(Method::HEAD, &[]).await;
    assert_eq!((head.status(), header(&head, "content-length")), (StatusCode::OK, SIZE.to_string()));
    for (range, expected) in [
        ("bytes=300000-300009", 300_000..300_010),
        ("bytes=262143-", 262_143..SIZE),
        ("bytes=-5", SIZE - 5..SIZE),
        ("bytes=0-0", 0..1),
    ] {
        let part = setup.ask(Method::GET, &[("range", range)]).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        let content_range = format!("bytes {}-{}/{SIZE}", expected.start, expected.end - 1);
        assert_eq!(header(&part, "content-range"), content_range);
        assert_eq!(part.bytes().await.unwrap(), setup.content[expected], "{range}");
    }
    // Whole chunks are read, and not more of them than needed.
    assert_eq!(setup.shelf.requests.lock().unwrap()[1], 262_144..524_288);
    // Many parts are one response with everything.
    let parts = setup.ask(Method::GET, &[("range", "bytes=0-1,300000-300009")]).await;
    assert_eq!(parts.status(), StatusCode::OK);
    assert_eq!(parts.bytes().await.unwrap(), setup.content);
    let beyond = setup.ask(Method::GET, &[("range", "bytes=9999999-")]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);

    // Only virtual repositories, and only clients that may read them.
    let ordinary = setup.path("plants/hmi");
    assert_eq!(setup.server.status(Method::GET, &ordinary).await, StatusCode::NOT_FOUND);
    let stranger = setup.path("device/self");
    assert_eq!(setup.server.status(Method::GET, &stranger).await, StatusCode::NOT_FOUND);
    let other = setup.server.request(Method::GET, &stranger).bearer_auth("two").send().await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    setup.server.close().await;
}

#[tokio::test]
async fn an_external_registry_that_breaks_off_is_asked_for_the_rest() {
    let setup = Setup::new().await;
    setup.lose();
    setup.mood(Mood::Breaks(400_000));
    let (bytes, is_complete) = received(setup.ask(Method::GET, &[]).await).await;
    assert!(is_complete && bytes == setup.content);
    let chunk = 256 * 1024;
    let starts: Vec<_> = setup.shelf.requests.lock().unwrap().iter().map(|part| part.start).collect();
    assert_eq!(starts, [0, chunk, 2 * chunk], "each at the chunk that was not complete");
}

#[tokio::test]
async fn an_external_registry_without_the_blob_or_without_a_response_gives_an_error() {
    let setup = Setup::new().await;
    setup.lose();
    setup.mood(Mood::Missing);
    let answer = setup.ask(Method::GET, &[]).await;
    assert_eq!((answer.status(), code(answer).await.as_str()), (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"));
    setup.mood(Mood::Away);
    let answer = setup.ask(Method::GET, &[]).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&answer, "retry-after"), "30");
    assert_eq!(code(answer).await, "UNAVAILABLE");
    assert_eq!(setup.traffic().failures, 2);
    setup.mood(Mood::Good);
    assert_eq!(setup.ask(Method::GET, &[]).await.bytes().await.unwrap(), setup.content);
}

#[tokio::test]
async fn wrong_content_is_never_sent() {
    let setup = Setup::new().await;
    setup.lose();
    // In the first chunk: an error. Later: the response ends before the chunk.
    setup.mood(Mood::Wrong(7));
    assert_eq!(setup.ask(Method::GET, &[]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    for (wrong, last_good) in [(600_000, 524_288), (SIZE - 1, 786_432)] {
        setup.mood(Mood::Wrong(wrong));
        let answer = setup.ask(Method::GET, &[]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let (bytes, is_complete) = received(answer).await;
        assert!(!is_complete && bytes == setup.content[..last_good], "{wrong}: {}", bytes.len());
    }
    // A part that ends with the wrong chunk.
    let answer = setup.ask(Method::GET, &[("range", "bytes=300000-")]).await;
    let (bytes, is_complete) = received(answer).await;
    assert!(!is_complete && bytes == setup.content[300_000..786_432]);
}

#[tokio::test]
async fn content_with_the_checksums_of_another_blob_does_not_complete() {
    let setup = Setup::new().await;
    setup.lose();
    // As if the external registry knew content with the same checksums: 64 bits for each chunk.
    let mut wrong = setup.content.to_vec();
    wrong[7] ^= 1;
    let mut summer = edgewright_blobs::checksum::Summer::default();
    summer.update(&wrong);
    forge(setup.folder.path(), &Digest::of(&setup.content), &summer.finish().to_bytes()).await;
    setup.mood(Mood::Wrong(7));
    let (bytes, is_complete) = received(setup.ask(Method::GET, &[]).await).await;
    assert!(!is_complete && bytes == wrong[..786_432], "all but the last chunk: {}", bytes.len());
}

async fn forge(folder: &Path, blob: &Digest, checksums: &[u8]) {
    use sqlx::Connection as _;
    let path = format!("sqlite://{}", folder.join("registry.db").display());
    let mut db = sqlx::SqliteConnection::connect(&path).await.unwrap();
    let update = sqlx::query("UPDATE blobs SET checksums = ? WHERE digest = ?");
    let done = update.bind(checksums).bind(blob.to_string()).execute(&mut db).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

#[tokio::test]
async fn nothing_is_read_for_a_client_that_left() {
    let setup = Setup::new().await;
    setup.lose();
    setup.mood(Mood::Stalls);
    let mut answer = setup.ask(Method::GET, &[]).await;
    assert!(answer.chunk().await.unwrap().is_some());
    assert!(setup.shelf.reading.lock().unwrap().upgrade().is_some());
    drop(answer);
    while setup.shelf.reading.lock().unwrap().upgrade().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_client_does_not_take_all_reads_of_the_external_registry() {
    let setup = Setup::new().await;
    setup.lose();
    setup.mood(Mood::Stalls);
    let mut open = Vec::new();
    for _ in 0..SHARE {
        let answer = setup.ask(Method::GET, &[]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        open.push(answer);
    }
    let answer = setup.ask(Method::GET, &[]).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(code(answer).await, "TOOMANYREQUESTS");
    drop(open);
    setup.mood(Mood::Good);
    assert_eq!(setup.ask(Method::GET, &[]).await.bytes().await.unwrap(), setup.content);
}

#[tokio::test]
async fn clients_are_redirected_and_get_the_own_copy_otherwise() {
    let setup = Setup::new().await;
    let url = "https://shelf.example/v2/plants/blobs/x";
    let set = |redirection| *setup.shelf.redirection.lock().unwrap() = redirection;
    set(Redirection::To(url.to_owned()));
    for (method, headers) in
        [(Method::GET, &[][..]), (Method::HEAD, &[]), (Method::GET, &[("range", "bytes=1-2")])]
    {
        let answer = setup.ask(method, headers).await;
        assert_eq!(
            (answer.status(), header(&answer, "location")),
            (StatusCode::TEMPORARY_REDIRECT, url.to_owned())
        );
    }
    assert_eq!(setup.traffic().redirects, 3);
    // Neither what no image of the external registry refers to, nor other names and clients.
    let path = format!("/v2/device/self/blobs/{}", Digest::of("without an image"));
    let answer = setup.server.request(Method::GET, &path).bearer_auth("one").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "without an image");
    assert_eq!(setup.server.status(Method::GET, &setup.path("plants/hmi")).await, StatusCode::OK);
    assert_eq!(setup.server.status(Method::GET, &setup.path("device/self")).await, StatusCode::NOT_FOUND);

    // A client would send its credentials to another port of the same host.
    set(Redirection::To("http://127.0.0.1:9/v2/plants/blobs/x".to_owned()));
    assert_eq!(setup.ask(Method::GET, &[]).await.bytes().await.unwrap(), setup.content);
    set(Redirection::Unavailable);
    assert_eq!(setup.ask(Method::GET, &[]).await.bytes().await.unwrap(), setup.content);
    assert_eq!(setup.traffic().redirects, 3);
}
