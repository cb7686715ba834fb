//! From a data folder to an archive or another registry: the folder's own registry serves it, skopeo copies.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::build::{Built, Place};
use crate::command::Run;

/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(200);
/// What the image is called where it is loaded.
const NAME: &str = concat!("localhost/edgewright:", env!("CARGO_PKG_VERSION"));
/// The annotation by which containerd names what it imports.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The annotation by which podman and skopeo do.
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// A server on a data folder; it ends with this value.
#[derive(Debug)]
pub(super) struct Registry<'a> {
    place: &'a Place,
    built: &'a Built,
    server: Child,
    address: String,
}

impl<'a> Registry<'a> {
    /// Starts it on a free port.
    pub(super) fn start(place: &'a Place, built: &'a Built) -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let serve = place.edgewright(&["serve", "--listen", &address, "--data"])?.arg(&built.data);
        // It must not outlive us, however we end.
        let server = Run::as_root("setpriv")?
            .args(["--pdeathsig", "TERM", "--"])
            .args(serve.words())
            .start_logged(&place.log())?;
        let mut registry = Self { place, built, server, address };
        let deadline = Instant::now() + START_LIMIT;
        let ready = format!("http://{}/readyz", registry.address);
        while !Run::new("curl").args(["--silent", "--fail", "--noproxy", "*", &ready]).succeeds() {
            let ended = registry.server.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("the server of the image does not respond: see {}", place.log().display());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(registry)
    }

    /// Writes the archive. Its bytes depend on the image alone.
    pub(super) fn archive(&self, to: &Path) -> anyhow::Result<PathBuf> {
        let layout = self.place.layout();
        Run::new("rm").args(["--recursive", "--force"]).arg(&layout).run()?;
        self.copy(&[], &format!("oci:{}", layout.display()))?;
        name(&layout.join("index.json"), &self.built.digest)?;
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        pack(&layout, to)?;
        Run::new("rm").args(["--recursive", "--force"]).arg(&layout).run()?;
        Ok(to.to_owned())
    }

    /// Copies it to another registry, with the user's credentials.
    pub(super) fn push(&self, reference: &str, is_plain_http: bool) -> anyhow::Result<()> {
        let options: &[&str] = if is_plain_http { &["--dest-tls-verify=false"] } else { &[] };
        self.copy(options, &format!("docker://{reference}"))
    }

    /// All of it, byte by byte: digests stay what they are.
    fn copy(&self, options: &[&str], to: &str) -> anyhow::Result<()> {
        let Built { repository, digest, .. } = self.built;
        Run::new("skopeo")
            .args(["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"])
            .args(options)
            .arg(format!("docker://{}/{repository}@{digest}", self.address))
            .arg(to)
            .run()
            .with_context(|| format!("cannot copy the image to {to}"))
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let stop = Run::as_root("kill").map(|kill| kill.arg(self.server.id().to_string()).succeeds());
        if !stop.unwrap_or_default() {
            eprintln!("warning: the server of the image may still run: process {}", self.server.id());
            return;
        }
        self.server.wait().ok();
    }
}

/// Names the only image of a layout.
fn name(index: &Path, digest: &str) -> anyhow::Result<()> {
    let text = std::fs::read(index).with_context(|| format!("cannot read {}", index.display()))?;
    let mut document: Value = serde_json::from_slice(&text)?;
    let images = document["manifests"].as_array_mut().context("the layout has no images")?;
    let [image] = images.as_mut_slice() else { bail!("the layout has {} images, not one", images.len()) };
    ensure!(image["digest"] == digest, "the layout has {}, and the registry {digest}", image["digest"]);
    image["annotations"] = json!({ CONTAINERD_NAME: NAME, REFERENCE_NAME: env!("CARGO_PKG_VERSION") });
    std::fs::write(index, serde_json::to_vec(&document)?)?;
    Ok(())
}

/// Packs a layout; blobs are compressed already.
fn pack(layout: &Path, to: &Path) -> anyhow::Result<()> {
    Run::new("tar")
        .args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mtime=@0", "--mode=u+rwX,go+rX,go-w", "--file"])
        .arg(to)
        .arg("--directory")
        .arg(layout)
        .args(["oci-layout", "index.json", "blobs"])
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

    fn layout(images: &Value) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let index = json!({ "schemaVersion": 2, "manifests": images });
        std::fs::write(folder.path().join("index.json"), index.to_string()).unwrap();
        std::fs::write(folder.path().join("oci-layout"), "{}").unwrap();
        std::fs::create_dir(folder.path().join("blobs")).unwrap();
        folder
    }

    #[test]
    fn the_image_has_a_name_for_containerd_and_one_for_podman() {
        let folder = layout(&json!([{ "digest": DIGEST, "size": 1 }]));
        let index = folder.path().join("index.json");
        name(&index, DIGEST).unwrap();
        let named: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
        let annotations = &named["manifests"][0]["annotations"];
        assert_eq!(annotations[CONTAINERD_NAME], NAME);
        assert_eq!(annotations[REFERENCE_NAME], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_layout_with_another_image_is_an_error() {
        let two = json!([{ "digest": DIGEST }, { "digest": DIGEST }]);
        for (images, words) in [(json!([]), "0 images"), (two, "2 images"), (json!([{ "digest": "x" }]), "x")]
        {
            let error = name(&layout(&images).path().join("index.json"), DIGEST).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn the_same_layout_gives_the_same_archive() {
        let images = json!([{ "digest": DIGEST }]);
        let (first, second) = (layout(&images), layout(&images));
        let owned = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(second.path().join("index.json"), owned).unwrap();
        let packed = [first, second].map(|folder| {
            let to = folder.path().join("a.tar");
            pack(folder.path(), &to).unwrap();
            std::fs::read(to).unwrap()
        });
        assert!(packed[0] == packed[1]);
    }
}
