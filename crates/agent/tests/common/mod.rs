//! A registry with images, and a server that takes reports; a device whose `bootc` is a shell script.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path as Captured, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use edgewright_api::{DeviceReport, DeviceReports};
use edgewright_model::Digest;
use edgewright_oci::image::{self, Artifact, EMPTY_CONFIG, LayerRef};
use edgewright_oci::media::{self, Descriptor};
use edgewright_process::{Command, Tasks};
use edgewright_testkit::bootc::{BootcDevice, Disk};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{
    self,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::server::TlsStream;

#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Manifests by tag and digest: media type and bytes.
    manifests: HashMap<String, (String, Vec<u8>)>,
    blobs: HashMap<String, Vec<u8>>,
    referrers: HashMap<String, Vec<Descriptor>>,
    pub(crate) reports: Vec<DeviceReport>,
    /// Whether the server takes reports.
    pub(crate) is_online: bool,
    /// Whether the server can list what refers to an image.
    pub(crate) has_referrers: bool,
    /// Credentials that are asked for, as the value of `Authorization`.
    pub(crate) authorization: Option<String>,
    /// Every request: path, user agent.
    pub(crate) requests: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) content: Arc<Mutex<Content>>,
    pub(crate) host: String,
    tasks: Tasks,
}

type Shared = Arc<Mutex<Content>>;

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // A client that does not trust the certificate ends the connection.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn registry(State(content): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let mut content = content.lock().unwrap();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content.requests.push((uri.path().to_owned(), text("user-agent").to_owned()));
    if let Some(wanted) = &content.authorization
        && text("authorization") != wanted
    {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"r\"")]).into_response();
    }
    let Some((kind, name)) = uri.path().strip_prefix("/v2/a/b/").and_then(|rest| rest.split_once('/')) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if kind == "referrers" && !content.has_referrers {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let found = match kind {
        "manifests" => content.manifests.get(name).cloned(),
        "blobs" => content.blobs.get(name).map(|blob| ("application/octet-stream".to_owned(), blob.clone())),
        "referrers" => {
            let listed = content.referrers.get(name).cloned().unwrap_or_default();
            let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": listed});
            Some((media::INDEX.to_owned(), index.to_string().into_bytes()))
        }
        _ => None,
    };
    match found {
        Some((media_type, bytes)) => ([("content-type", media_type)], bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn reports(
    State(content): State<Shared>,
    Captured(device): Captured<String>,
    headers: HeaderMap,
    Json(body): Json<DeviceReports>,
) -> Response {
    let mut content = content.lock().unwrap();
    assert_eq!((device.as_str(), headers["authorization"].to_str().unwrap()), ("press-1", "Bearer ewdev_0"));
    if !content.is_online {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let added = body.reports.len();
    content.reports.extend(body.reports);
    Json(json!({"added": added})).into_response()
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        Self::serve(listener, host)
    }

    /// A server with TLS.
    pub(crate) async fn start_tls(certificate: &Path, key: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        Self::serve(Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config.unwrap())) }, host)
    }

    fn serve(listener: impl Listener<Addr: std::fmt::Debug>, host: String) -> Self {
        let content = Shared::default();
        content.lock().unwrap().is_online = true;
        content.lock().unwrap().has_referrers = true;
        let app = Router::new()
            .route("/api/v1/devices/{device}/reports", post(reports))
            .route("/v2/{*rest}", get(registry))
            .fallback(any(|| async { StatusCode::NOT_FOUND }))
            .with_state(Arc::clone(&content));
        let tasks = Tasks::new();
        tasks.spawn("server", async move {
            let _ = axum::serve(listener, app).await;
        });
        Self { content, host, tasks }
    }

    /// Publishes an image with a check that holds, as `stable`; returns its digest.
    pub(crate) fn publish(&self, version: &str) -> Digest {
        // On a machine that is busy even `true` needs its time.
        self.publish_with(version, "true", "5m")
    }

    /// Publishes an image with a check that never holds.
    pub(crate) fn publish_bad(&self, version: &str) -> Digest {
        self.publish_with(version, "false", "1s")
    }

    /// Publishes an image with a check that runs a program, as `stable`; returns its digest.
    fn publish_with(&self, version: &str, check: &str, within: &str) -> Digest {
        let layer = vec![0; 1000];
        let mut image = image::Image::scratch(&edgewright_agent::fetch::host_platform());
        let descriptor = Descriptor::of(media::LAYER_GZIP, &layer);
        image.add_layer(
            LayerRef { descriptor, diff_id: Digest::of(&layer) },
            version,
            jiff::Timestamp::UNIX_EPOCH,
        );
        let documents = image.documents(jiff::Timestamp::UNIX_EPOCH);
        let digest = documents.manifest_descriptor.digest.clone();
        let checks = json!([{
            "id": "works", "assert": {"kind": "command", "argv": [check], "exit": 0, "stdout": null}, "within": within,
        }]);
        let checks = checks.to_string().into_bytes();
        let artifact = Artifact {
            artifact_type: media::CHECK_SET.to_owned(),
            subject: Some(documents.manifest_descriptor.clone()),
            layers: vec![Descriptor::of(media::CHECK_SET, &checks)],
            annotations: std::collections::BTreeMap::new(),
        };
        let artifact = artifact.manifest();
        let mut referrer = Descriptor::of(media::MANIFEST, &artifact);
        referrer.artifact_type = Some(media::CHECK_SET.to_owned());
        let mut content = self.content.lock().unwrap();
        for blob in [&layer[..], &documents.config, &checks, EMPTY_CONFIG] {
            content.blobs.insert(Digest::of(blob).to_string(), blob.to_vec());
        }
        let manifest = (media::MANIFEST.to_owned(), documents.manifest.to_vec());
        content.manifests.insert("stable".to_owned(), manifest.clone());
        content.manifests.insert(digest.to_string(), manifest);
        let artifact_digest = Digest::of(&artifact).to_string();
        content.manifests.insert(artifact_digest, (media::MANIFEST.to_owned(), artifact));
        content.referrers.insert(digest.to_string(), vec![referrer]);
        digest
    }

    pub(crate) fn set_online(&self, is_online: bool) {
        self.content.lock().unwrap().is_online = is_online;
    }

    pub(crate) fn set_referrers(&self, has_referrers: bool) {
        self.content.lock().unwrap().has_referrers = has_referrers;
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.content.lock().unwrap().reports.iter().map(|report| report.kind.clone()).collect()
    }
}

/// A device: a folder with what the agent reads and writes, and a `bootc`.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) folder: tempfile::TempDir,
    bootc: BootcDevice,
}

impl Device {
    pub(crate) fn new(booted: &Digest, host: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bootc = BootcDevice::new(folder.path(), &format!("{host}/a/b:stable"), &booted.to_string());
        let device = Self { folder, bootc };
        std::fs::write(device.path("token"), "ewdev_0").unwrap();
        std::fs::set_permissions(device.path("token"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "image = \"{host}/a/b:stable\"\ninterval = \"10s\"\njitter = \"0\"\n{more}\n[health]\ntarget = \"\"\n\
             greenboot = false\n[report]\nurl = \"http://{host}\"\ntoken_file = \"token\"\ndevice = \"press-1\"\n"
        );
        std::fs::write(device.path("agent.toml"), config).unwrap();
        device
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A disk with one image; `-` for one that bootc does not know.
    pub(crate) fn set_booted(&self, booted: &str) {
        self.bootc.set_booted(booted);
    }

    pub(crate) fn disk(&self) -> Disk {
        self.bootc.disk()
    }

    pub(crate) fn booted(&self) -> String {
        self.disk().booted
    }

    pub(crate) fn reboots(&self) -> usize {
        self.disk().reboots
    }

    /// A person deploys an image and reboots, past the agent.
    pub(crate) async fn update_by_hand(&self, digest: &Digest) {
        let target = format!("registry.example/a@{digest}");
        let bootc: [&[&str]; 2] =
            [&["switch", "--download-only", "--quiet", &target], &["upgrade", "--from-downloaded"]];
        for arguments in bootc {
            Command::new(self.bootc.bootc()).args(arguments).run().await.unwrap();
        }
        Command::new(self.bootc.reboot()).run().await.unwrap();
    }

    /// Waits until the state was seen to be written so many times, or the update is done.
    pub(crate) async fn wait_for_writes(&self, writes: u64) {
        wait_for_writes(self, (None, self.reboots()), writes).await;
    }

    /// The stored state; null if there is none.
    pub(crate) fn state(&self) -> Value {
        let text = self.read("state/state.json");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// Whether by the stored state the update is done.
    pub(crate) fn is_confirmed(&self) -> bool {
        let state = self.state();
        state["state"]["state"] == "confirmed" && state["state"]["blessed"] == true
    }

    /// The agent's command line.
    #[expect(clippy::disallowed_methods, reason = "the test starts the program as its users do")]
    pub(crate) fn agent(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edgewright-agent"));
        let option = |name: &str| self.path(name).into_os_string();
        command.args(["--config".into(), option("agent.toml"), "--state".into(), option("state")]);
        command.args(["--run".into(), option("run")]);
        command.arg("--bootc").arg(self.bootc.bootc()).arg("--reboot").arg(self.bootc.reboot());
        command.args(arguments);
        command
    }

    /// Runs a command to its end: exit code, standard output as JSON.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> (i32, Value) {
        let mut command = self.agent(arguments);
        command.arg("--json");
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json = serde_json::from_str(&text)
            .or_else(|_| serde_json::from_slice(&output.stderr))
            .unwrap_or(Value::Null);
        (output.status.code().unwrap_or(-1), json)
    }

    /// Starts the daemon.
    pub(crate) fn start(&self) -> Running {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        Running(self.agent(&["run"]).stderr(log).spawn().unwrap())
    }
}

/// A running agent; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long a test waits for what must happen: only a defect takes so long, however busy the machine is.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_mins(10);

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, log: &Path, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + WAIT_LIMIT;
    while !holds().await {
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(tokio::time::Instant::now() < deadline, "never: {what}\n{}", log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What differs from one write of the state to the next.
pub(crate) type Written = Option<(u64, i64)>;

pub(crate) fn written(device: &Device) -> Written {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(device.path("state/state.json")).ok()?;
    Some((file.ino(), file.mtime_nsec()))
}

/// Waits until the state was seen to be written so many times, the device goes down, or the update is done.
pub(crate) async fn wait_for_writes(device: &Device, (mut last, reboots): (Written, usize), mut writes: u64) {
    let deadline = tokio::time::Instant::now() + WAIT_LIMIT;
    while writes > 0 && device.reboots() == reboots && !device.is_confirmed() {
        assert!(tokio::time::Instant::now() < deadline, "{writes} writes are left\n{}", device.read("log"));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = written(device);
        if now != last {
            (last, writes) = (now, writes - 1);
        }
    }
}
