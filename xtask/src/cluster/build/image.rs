//! Container images in one OCI archive, without a registry or a container: layers are tar files that zstd
//! compressed.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cluster::part;
use crate::command::Run;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A layer of an archive.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// The digest of the uncompressed tar file.
    diff_id: String,
    digest: String,
    size: u64,
}

/// What an image is, beside its layers.
#[derive(Debug, Default)]
pub(super) struct Image<'a> {
    /// With its tag. Another tag than `latest`: the node pulls no image that it has.
    pub(super) name: String,
    pub(super) entrypoint: Option<&'a str>,
    pub(super) user: &'a str,
}

/// An archive that is being made.
#[derive(Debug)]
pub(super) struct Archive {
    folder: PathBuf,
    manifests: Vec<Value>,
}

impl Archive {
    /// An empty one, with its files in this folder.
    pub(super) fn begin(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder.join("blobs/sha256"))?;
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { folder: folder.to_owned(), manifests: Vec::new() })
    }

    /// A layer of all files of a folder. All are root's.
    pub(super) fn layer(&self, root: &Path) -> anyhow::Result<Layer> {
        let tar = self.folder.join("layer.tar");
        // File capabilities are root's to read.
        Run::as_root("tar")?
            .args(["--create", "--format=posix", "--sort=name", "--numeric-owner", "--owner=0", "--group=0"])
            .args(["--mtime=@0", "--pax-option=delete=atime,delete=ctime"])
            .args(["--xattrs", "--xattrs-include=security.capability"])
            .arg(format!("--file={}", tar.display()))
            .arg(format!("--directory={}", root.display()))
            .arg(".")
            .run()?;
        self.layer_of_tar(&tar)
    }

    /// A layer of a tar file, which is removed.
    pub(super) fn layer_of_tar(&self, tar: &Path) -> anyhow::Result<Layer> {
        let compressed = self.folder.join("layer.tar.zst");
        Run::new("zstd").args(["-3", "-T0", "--quiet", "--force", "-o"]).arg(&compressed).arg(tar).run()?;
        let diff_id = sha256(tar)?;
        part::remove(tar)?;
        let (digest, size) = self.keep(&compressed)?;
        Ok(Layer { diff_id, digest, size })
    }

    /// An image of these layers.
    pub(super) fn add(&mut self, image: &Image<'_>, layers: &[Layer]) -> anyhow::Result<()> {
        let config = self.document(&config(image, layers))?;
        let layers: Vec<Value> = layers.iter().map(Layer::descriptor).collect();
        let manifest = self.document(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        }))?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        // The name for containerd, and for other clients.
        entry["annotations"] = json!({
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name,
        });
        self.manifests.push(entry);
        Ok(())
    }

    /// Writes the archive, and removes its folder.
    pub(super) fn finish(self, output: &Path) -> anyhow::Result<()> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.manifests,
        });
        std::fs::write(self.folder.join("index.json"), index.to_string())?;
        Run::new("tar")
            .args(["--create", "--sort=name", "--mtime=@0"])
            .arg(format!("--file={}", output.display()))
            .arg(format!("--directory={}", self.folder.display()))
            .args(["oci-layout", "index.json", "blobs"])
            .run()?;
        part::remove(&self.folder)
    }

    fn document(&self, document: &Value) -> anyhow::Result<(String, u64)> {
        let file = self.folder.join("document");
        std::fs::write(&file, document.to_string())?;
        self.keep(&file)
    }

    /// Moves a file to its place. Its digest and size.
    fn keep(&self, file: &Path) -> anyhow::Result<(String, u64)> {
        let digest = sha256(file)?;
        let size = std::fs::metadata(file)?.len();
        std::fs::rename(file, self.folder.join("blobs/sha256").join(&digest))?;
        Ok((digest, size))
    }
}

impl Layer {
    fn descriptor(&self) -> Value {
        descriptor("application/vnd.oci.image.layer.v1.tar+zstd", &(self.digest.clone(), self.size))
    }
}

fn descriptor(media_type: &str, (digest, size): &(String, u64)) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

fn config(image: &Image<'_>, layers: &[Layer]) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let mut config = json!({ "Env": [PATH], "WorkingDir": "/", "User": image.user });
    if let Some(entrypoint) = image.entrypoint {
        config["Entrypoint"] = json!([entrypoint]);
    }
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

/// This machine's architecture as OCI and Go name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let output = Run::new("sha256sum").arg(file).output()?;
    let digest = output.split_whitespace().next().context("`sha256sum` printed nothing")?;
    Ok(digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_have_the_digests_that_documents_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = Archive::begin(&folder.path().join("image")).unwrap();
        let tar = folder.path().join("a.tar");
        std::fs::write(&tar, [0; 1024]).unwrap();
        let layer = archive.layer_of_tar(&tar).unwrap();
        let image = Image { name: "localhost/a:1".to_owned(), entrypoint: Some("/a"), user: "1" };
        archive.add(&image, &[layer]).unwrap();
        let root = archive.folder.clone();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
            let file = root.join("blobs/sha256").join(&digest);
            assert_eq!(sha256(&file).unwrap(), digest);
            assert_eq!(std::fs::metadata(&file).unwrap().len(), descriptor["size"].as_u64().unwrap());
            std::fs::read(file).unwrap()
        };
        let manifest: Value = serde_json::from_slice(&blob(&archive.manifests[0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        blob(&manifest["layers"][0]);
        assert_eq!(config["config"]["Entrypoint"], json!(["/a"]));
        // The digest of 1024 zero bytes.
        let zeros = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
        assert_eq!(config["rootfs"]["diff_ids"], json!([zeros]));
        let output = folder.path().join("images.tar");
        archive.finish(&output).unwrap();
        let files = Run::new("tar").arg("--list").arg("--file").arg(&output).output().unwrap();
        assert_eq!(
            files.lines().filter(|line| line.starts_with("blobs/sha256/") && line.len() > 13).count(),
            3
        );
    }
}
