//! A small operating system with systemd, hosted by another Edgewright: what tests of machines start from.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use edgewright_model::reference::{Reference, RepoName};
use edgewright_oci::Client;
use edgewright_oci::client::QUIET;
use edgewright_process::Command;
use serde_json::json;

use crate::server::Server;

/// The suite and its packages; the name of the cached tar contains both.
const SUITE: &str = "trixie";
const PACKAGES: &str = "systemd,systemd-sysv,dbus";

/// A registry that hosts the system as `upstream/os:1`.
pub(crate) struct Upstream {
    server: Server,
}

impl Upstream {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::hosting(folder, &bootstrap().await).await
    }

    /// One with a kernel.
    pub(crate) async fn with_kernel(folder: &Path) -> Self {
        let made = tokio::task::spawn_blocking(edgewright_testkit::system::with_kernel);
        Self::hosting(folder, &made.await.unwrap()).await
    }

    async fn hosting(folder: &Path, tar: &Path) -> Self {
        let server = Server::start(&folder.join("upstream"), &[]).await;
        let client = Client::new(&server.registry()).unwrap();
        let repository: RepoName = "upstream/os".parse().unwrap();
        let (digest, size) = digest_of(tar);
        client.push_blob_file(&repository, tar, &digest, size, QUIET).await.unwrap();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest]},
        });
        let config = client.push_blob_bytes(&repository, config.to_string().into_bytes()).await.unwrap();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest, "size": config.size},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size}],
        });
        let tag: Reference = "1".parse().unwrap();
        let bytes = manifest.to_string().into_bytes();
        client.push_manifest(&repository, &tag, media_type, bytes).await.unwrap();
        Self { server }
    }

    /// Its address as an image's `from:`.
    pub(crate) fn from(&self) -> String {
        format!("{}/upstream/os:1", self.server.address)
    }
}

fn digest_of(path: &Path) -> (Digest, u64) {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let bytes = fs::read(path).unwrap();
    hasher.update(&bytes);
    (hasher.finish(), bytes.len() as u64)
}

/// The bootstrapped system as a tar, kept between test runs and shared with the tests of `lab`.
async fn bootstrap() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("cache");
    fs::create_dir_all(&folder).unwrap();
    let tar = folder.join(format!("{SUITE}-{}.tar", PACKAGES.replace(',', "+")));
    // Tests run in processes of their own: only the first one makes it.
    let lock = fs::File::create(tar.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !tar.is_file() {
        let made = tempfile::Builder::new().suffix(".tar").tempfile_in(&folder).unwrap();
        let include = format!("--include={PACKAGES}");
        let command =
            Command::new("mmdebstrap").args(["--variant=minbase", &include, SUITE]).arg(made.path());
        command.deadline(Duration::from_mins(10)).run().await.unwrap();
        made.persist(&tar).unwrap();
    }
    tar
}
