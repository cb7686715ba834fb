//! A registry with images, and a server that takes reports; a device whose `bootc` is a shell script.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::extract::{Path as Captured, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use edgewright_api::{DeviceReport, DeviceReports};
use edgewright_model::Digest;
use edgewright_oci::image::{self, Artifact, EMPTY_CONFIG, LayerRef};
use edgewright_oci::media::{self, Descriptor};
use edgewright_process::Tasks;
use serde_json::{Value, json};

#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Manifests by tag and digest: media type and bytes.
    manifests: HashMap<String, (String, Vec<u8>)>,
    blobs: HashMap<String, Vec<u8>>,
    referrers: HashMap<String, Vec<Descriptor>>,
    pub(crate) reports: Vec<DeviceReport>,
    /// Whether the server takes reports.
    pub(crate) is_online: bool,
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
        let content = Shared::default();
        content.lock().unwrap().is_online = true;
        let app = Router::new()
            .route("/api/v1/devices/{device}/reports", post(reports))
            .route("/v2/{*rest}", get(registry))
            .fallback(any(|| async { StatusCode::NOT_FOUND }))
            .with_state(Arc::clone(&content));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let tasks = Tasks::new();
        tasks.spawn("server", async move {
            let _ = axum::serve(listener, app).await;
        });
        Self { content, host, tasks }
    }

    /// Publishes an image with a check that runs a program, as `stable`; returns its digest.
    pub(crate) fn publish(&self, version: &str, check: &str) -> Digest {
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
            "id": "works", "assert": {"kind": "command", "argv": [check], "exit": 0, "stdout": null}, "within": "1s",
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

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.content.lock().unwrap().reports.iter().map(|report| report.kind.clone()).collect()
    }
}

/// A device: a folder with a `bootc` that behaves as its manual pages describe, and a `reboot`.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) folder: tempfile::TempDir,
}

const BOOTC: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >> calls
entry() {
  [ -s "$1" ] || { printf null; return; }
  printf '{"image":{"image":{"image":"HOST/a/b:stable","transport":"registry"},"imageDigest":"%s"},"downloadOnly":%s}' "$(cat $1)" "$(cat $1.locked 2>/dev/null || printf false)"
}
case "$1 $2" in
  "status --json")
    printf '{"kind":"BootcHost","status":{"staged":%s,"booted":%s,"rollback":%s,"rollbackQueued":%s}}' \
      "$(entry staged)" "$(entry booted)" "$(entry rollback)" "$(cat queued 2>/dev/null || printf false)" ;;
  "switch --download-only") printf true > staged.locked; printf '%s' "${4##*@}" > staged ;;
  "upgrade --from-downloaded") printf false > staged.locked ;;
  "rollback ") printf true > queued ;;
  *) echo "unknown: $*" >&2; exit 2 ;;
esac
"#;

/// What the machine does when it goes down: the staged image, or the one that was queued, becomes the booted
/// one.
const REBOOT: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
if [ "$(cat queued 2>/dev/null)" = true ]; then
  mv rollback next; mv booted rollback; mv next booted; rm queued
elif [ -s staged ] && [ "$(cat staged.locked)" = false ]; then
  mv booted rollback; mv staged booted; rm staged.locked
fi
echo >> reboots
"#;

impl Device {
    pub(crate) fn new(booted: &Digest, host: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let device = Self { folder };
        for (name, text) in [("bootc", BOOTC.replace("HOST", host)), ("reboot", REBOOT.to_owned())] {
            std::fs::write(device.path(name), text).unwrap();
            std::fs::set_permissions(device.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::write(device.path("booted"), booted.to_string()).unwrap();
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

    pub(crate) fn reboots(&self) -> usize {
        self.read("reboots").lines().count()
    }

    /// The agent's command line.
    #[expect(clippy::disallowed_methods, reason = "the test starts the program as its users do")]
    pub(crate) fn agent(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edgewright-agent"));
        let option = |name: &str| self.path(name).into_os_string();
        command.args(["--config".into(), option("agent.toml"), "--state".into(), option("state")]);
        command.args(["--run".into(), option("run"), "--bootc".into(), option("bootc")]);
        command.args(["--reboot".into(), option("reboot")]).args(arguments);
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

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, log: &Path, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(90);
    while !holds().await {
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(tokio::time::Instant::now() < deadline, "never: {what}\n{}", log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
