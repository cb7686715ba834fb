//! What a device is offered: one tag of one repository, served by this process on connections in memory.
//! Blobs come from the job's registry with the job's own credentials, which the device never has; what only
//! this lane knows (a bad successor, the check set) comes from memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use edgewright_checks::device::{BLOBS, MANIFESTS, OFFER, Offer, REFERRERS, TYPE};
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::{Reference, RepoName};
use edgewright_model::spec::Check;
use edgewright_oci::client::QUIET;
use edgewright_oci::image::{self, Artifact, EMPTY_CONFIG};
use edgewright_oci::{Client, Descriptor, ManifestBytes, media};
use edgewright_process::OwnedTask;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use super::settings::{ADDRESS, REPOSITORY, TAG};
use super::successor::Successor;
use crate::machine::LaneFault;

/// The most connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 16;
/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// The bytes of a connection that are in memory, in each direction.
const BUFFER_BYTES: usize = 256 * 1024;

/// Where a blob is.
#[derive(Debug, Clone)]
enum Place {
    Memory(Bytes),
    File(PathBuf),
    /// In a repository of the job's registry.
    Registry(RepoName),
}

/// What is offered.
#[derive(Debug, Default)]
struct Content {
    tag: Option<Digest>,
    manifests: BTreeMap<Digest, ManifestBytes>,
    blobs: BTreeMap<Digest, Place>,
    referrers: BTreeMap<Digest, Vec<Descriptor>>,
}

/// The registry of one device. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Registry {
    shared: Arc<Shared>,
    connections: mpsc::Sender<DuplexStream>,
    _server: OwnedTask<()>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    /// Where blobs are kept that came from the job's registry.
    folder: PathBuf,
    content: Mutex<Content>,
    /// One blob is fetched at a time.
    fetching: tokio::sync::Mutex<()>,
    sent: AtomicU64,
}

impl Registry {
    /// Keeps what it fetches in a folder, which exists. Nothing is offered yet.
    pub(super) fn serve(client: Client, folder: &Path) -> Self {
        let shared = Arc::new(Shared {
            client,
            folder: folder.to_owned(),
            content: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            sent: AtomicU64::new(0),
        });
        let (connections, waiting) = mpsc::channel(MAX_CONNECTIONS);
        let server = OwnedTask::spawn(accept(waiting, Arc::clone(&shared)));
        Self { shared, connections, _server: server }
    }

    /// A new connection. Beyond the most at once it is closed.
    pub(super) fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(BUFFER_BYTES);
        // A stream that is dropped is closed, which its client reports.
        let _ = self.connections.try_send(theirs);
        ours
    }

    /// Bytes of blobs that the device received.
    pub(super) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Offers an image of the job's registry, with its checks.
    pub(super) async fn offer(&self, image: &ManifestRef, checks: &[Check]) -> Result<(), LaneFault> {
        let reference = Reference::Digest(image.digest.clone());
        let manifest = self.shared.client.pull_manifest(&image.repository, &reference).await;
        let manifest = manifest.map_err(|error| {
            LaneFault::of_host(format!("cannot offer {}: {}", image.digest, Chain(&error)))
        })?;
        let mut places = Vec::new();
        let malformed = |error: image::ImageError| LaneFault::of_image(error.to_string());
        let layers = image::layers(&manifest.bytes).map_err(malformed)?;
        let config = image::config(&manifest.bytes).map_err(malformed)?;
        for blob in layers.into_iter().chain([config]) {
            places.push((blob.digest, Place::Registry(image.repository.clone())));
        }
        self.shared.add(manifest, places, checks);
        Ok(())
    }

    /// Writes all that is offered into a folder, which exists and is empty, for the check runner to offer.
    pub(super) async fn lay(&self, folder: &Path) -> Result<(), LaneFault> {
        self.shared.lay(folder).await.map_err(|reason| {
            LaneFault::of_host(format!("cannot write what the device is offered: {reason}"))
        })
    }

    /// Offers a successor of an image that was offered before.
    pub(super) fn offer_successor(&self, successor: &Successor, checks: &[Check]) {
        let Ok(config) = image::config(&successor.manifest.bytes) else { return };
        let places = vec![
            (config.digest, Place::Memory(successor.config.clone())),
            (successor.layer.digest.clone(), Place::File(successor.layer.path.clone())),
        ];
        self.shared.add(successor.manifest.clone(), places, checks);
    }
}

impl Shared {
    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this manifest the tag's.
    fn add(&self, manifest: ManifestBytes, places: Vec<(Digest, Place)>, checks: &[Check]) {
        // Plain values always serialise.
        let checks = serde_json::to_vec(checks).unwrap_or_default();
        let artifact = Artifact {
            artifact_type: media::CHECK_SET.to_owned(),
            subject: Some(manifest.descriptor()),
            layers: vec![Descriptor::of(media::CHECK_SET, &checks)],
            annotations: BTreeMap::new(),
        };
        let artifact = artifact.manifest();
        let mut referrer = Descriptor::of(media::MANIFEST, &artifact);
        referrer.artifact_type = Some(media::CHECK_SET.to_owned());
        let artifact = ManifestBytes {
            media_type: media::MANIFEST.to_owned(),
            digest: referrer.digest.clone(),
            bytes: artifact.into(),
        };
        let mut content = self.content();
        for bytes in [Bytes::from(checks), Bytes::from_static(EMPTY_CONFIG)] {
            content.blobs.insert(Digest::of(&bytes), Place::Memory(bytes));
        }
        content.blobs.extend(places);
        content.referrers.insert(manifest.digest.clone(), vec![referrer]);
        content.tag = Some(manifest.digest.clone());
        for manifest in [manifest, artifact] {
            content.manifests.insert(manifest.digest.clone(), manifest);
        }
    }

    async fn lay(&self, folder: &Path) -> Result<(), String> {
        let (tag, manifests, blobs, referrers) = {
            let content = self.content();
            let digest = content.tag.clone().ok_or("nothing is offered")?;
            (digest, content.manifests.clone(), content.blobs.clone(), content.referrers.clone())
        };
        let write = async |path: PathBuf, bytes: &[u8]| {
            tokio::fs::write(&path, bytes).await.map_err(|error| format!("{}: {error}", path.display()))
        };
        for kind in [MANIFESTS, REFERRERS, BLOBS] {
            let path = folder.join(kind);
            tokio::fs::create_dir(&path).await.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        for (digest, manifest) in &manifests {
            let path = folder.join(MANIFESTS).join(digest.hex());
            write(path.with_extension(TYPE), manifest.media_type.as_bytes()).await?;
            write(path, &manifest.bytes).await?;
            let found = referrers.get(digest).map(Vec::as_slice).unwrap_or_default();
            write(folder.join(REFERRERS).join(digest.hex()), &image::index_of(found)).await?;
        }
        for (digest, place) in &blobs {
            let path = folder.join(BLOBS).join(digest.hex());
            let from = match place {
                Place::Memory(bytes) => {
                    write(path, bytes).await?;
                    continue;
                }
                Place::File(from) => from.clone(),
                Place::Registry(repository) => self.fetch(repository, digest).await?,
            };
            tokio::fs::copy(&from, &path).await.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let (repository, tag_name) = (REPOSITORY.to_owned(), TAG.to_owned());
        let offer = Offer { address: ADDRESS.to_owned(), repository, tag: tag_name, digest: tag };
        // A plain struct of strings always serialises.
        write(folder.join(OFFER), &serde_json::to_vec(&offer).unwrap_or_default()).await
    }

    async fn respond(&self, request: &Parts) -> Response<Body> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        let path = request.uri.path();
        if matches!(path, "/v2" | "/v2/") {
            return whole("application/json", Bytes::from_static(b"{}"));
        }
        let rest = path.strip_prefix("/v2/").and_then(|path| path.strip_prefix(REPOSITORY));
        let Some((kind, name)) = rest.and_then(|path| path.strip_prefix('/')?.split_once('/')) else {
            return empty(StatusCode::NOT_FOUND);
        };
        match kind {
            "manifests" => self.manifest(name),
            "referrers" => self.referrers(name),
            "blobs" => self.blob(name, request).await,
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    fn manifest(&self, name: &str) -> Response<Body> {
        let content = self.content();
        let digest = if name == TAG { content.tag.clone() } else { name.parse().ok() };
        let Some(found) = digest.and_then(|digest| content.manifests.get(&digest)) else {
            return empty(StatusCode::NOT_FOUND);
        };
        let mut response = whole(&found.media_type, found.bytes.clone());
        if let Ok(digest) = found.digest.to_string().parse() {
            response.headers_mut().insert("docker-content-digest", digest);
        }
        response
    }

    fn referrers(&self, name: &str) -> Response<Body> {
        let Ok(digest) = name.parse::<Digest>() else { return empty(StatusCode::BAD_REQUEST) };
        let found = self.content().referrers.get(&digest).cloned().unwrap_or_default();
        whole(media::INDEX, image::index_of(&found).into())
    }

    async fn blob(&self, name: &str, request: &Parts) -> Response<Body> {
        let place = name.parse().ok().and_then(|digest: Digest| {
            let place = self.content().blobs.get(&digest).cloned()?;
            Some((digest, place))
        });
        let Some((digest, place)) = place else { return empty(StatusCode::NOT_FOUND) };
        let path = match place {
            Place::Memory(bytes) => return whole("application/octet-stream", bytes),
            Place::File(path) => path,
            Place::Registry(repository) => match self.fetch(&repository, &digest).await {
                Ok(path) => path,
                Err(reason) => {
                    tracing::warn!(blob.digest = %digest, %reason, "a device does not get a blob");
                    return empty(StatusCode::BAD_GATEWAY);
                }
            },
        };
        self.file(&path, request).await.unwrap_or_else(|error| {
            tracing::warn!(blob.digest = %digest, %error, "a device does not get a blob");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        })
    }

    /// A blob of the job's registry, as a file.
    async fn fetch(&self, repository: &RepoName, digest: &Digest) -> Result<PathBuf, String> {
        let _turn = self.fetching.lock().await;
        let path = self.folder.join(digest.hex());
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Ok(path);
        }
        let new = path.with_extension("new");
        let pulled = self.client.pull_blob_file(repository, digest, &new, QUIET).await;
        pulled.map_err(|error| Chain(&error).to_string())?;
        tokio::fs::rename(&new, &path).await.map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// A file, or the rest of it.
    async fn file(&self, path: &Path, request: &Parts) -> io::Result<Response<Body>> {
        let mut file = tokio::fs::File::open(path).await?;
        let length = file.metadata().await?.len();
        let range = request.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        let start = range.and_then(first_byte);
        let from = start.unwrap_or(0);
        if start.is_some() && from >= length {
            return Ok(empty(StatusCode::RANGE_NOT_SATISFIABLE));
        }
        let left = length - from;
        let body = if request.method == Method::HEAD {
            Body::empty()
        } else {
            file.seek(io::SeekFrom::Start(from)).await?;
            self.sent.fetch_add(left, Ordering::Relaxed);
            Body::from_stream(ReaderStream::with_capacity(file.take(left), 256 * 1024))
        };
        let mut response = Response::builder()
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::ACCEPT_RANGES, "bytes")
            .header(header::CONTENT_LENGTH, left);
        if start.is_some() {
            let last = length - 1;
            response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {from}-{last}/{length}"));
        }
        response.body(body).map_err(io::Error::other)
    }
}

/// The first byte of a range that has no end: clients resume with it.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn whole(media_type: &str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    if let Ok(value) = media_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// Serves connections until it is dropped.
async fn accept(mut waiting: mpsc::Receiver<DuplexStream>, shared: Arc<Shared>) {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(stream) = waiting.recv(), if open.len() < MAX_CONNECTIONS => {
                open.push(serve(stream, Arc::clone(&shared)));
            }
            Some(()) = open.next(), if !open.is_empty() => {}
            else => return,
        }
    }
}

async fn serve(stream: DuplexStream, shared: Arc<Shared>) {
    let service = service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        let (request, _) = request.into_parts();
        async move { Ok::<_, std::convert::Infallible>(shared.respond(&request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of a device failed");
    }
}

#[cfg(test)]
mod tests;
