//! The image as a read-only disk: an OCI layout in an erofs, as the registry has its blobs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::reference::Reference;
use edgewright_oci::image;
use edgewright_oci::layout::Layout;
use edgewright_oci::media::Descriptor;
use edgewright_vm::Context;

use crate::ProvisionError;
use crate::order::DiskOrder;

/// The largest config of an image that is read, in bytes.
const CONFIG_LIMIT: u64 = 8 << 20;
/// The settings of the device for an installer, beside the layout.
const SETTINGS: &str = "installer.json";
/// How long packing an image for the installer may take.
const MAKING_TIMEOUT: Duration = Duration::from_mins(20);

/// The disk; it is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Medium {
    folder: tempfile::TempDir,
}

impl Medium {
    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("medium.erofs")
    }
}

/// Downloads the image, and packs it.
pub(crate) async fn make(order: &DiskOrder, context: &Context) -> Result<Medium, ProvisionError> {
    let folder = tempfile::Builder::new()
        .prefix("medium-")
        .tempdir_in(&context.scratch)
        .map_err(ProvisionError::io("create a folder in", &context.scratch))?;
    let medium = Medium { folder };
    let layout = medium.folder.path().join("layout");
    download(order, &layout).await?;
    if order.format.is_installer() {
        let path = layout.join(SETTINGS);
        tokio::fs::write(&path, settings(order)?).await.map_err(ProvisionError::io("write", &path))?;
    }
    let command = context.tools.command("mkfs.erofs").arg("--quiet").args(["-T", "0"]);
    let command = command.arg(medium.path()).arg(&layout).deadline(MAKING_TIMEOUT);
    command
        .context(&context.processes)
        .run()
        .await
        .map_err(|source| ProvisionError::Command { action: "pack the image", source })?;
    tokio::fs::remove_dir_all(&layout).await.map_err(ProvisionError::io("remove", &layout))?;
    Ok(medium)
}

/// What an installer reads.
fn settings(order: &DiskOrder) -> Result<Vec<u8>, ProvisionError> {
    let device: serde_json::Value =
        serde_json::from_slice(&order.device).map_err(|error| ProvisionError::Document(error.to_string()))?;
    let (reference, disk) = (&order.reference, &order.target_disk);
    Ok(serde_json::json!({"reference": reference, "disk": disk, "device": device}).to_string().into_bytes())
}

async fn download(order: &DiskOrder, folder: &Path) -> Result<(), ProvisionError> {
    let (client, wanted) = (&order.source.client, &order.source.manifest);
    let pull = |error| ProvisionError::Pull(Box::new(error));
    let document = |error: &dyn std::fmt::Display| ProvisionError::Document(error.to_string());
    let reference = Reference::Digest(wanted.digest.clone());
    let manifest = client.pull_manifest(&wanted.repository, &reference).await.map_err(pull)?;
    let config = image::config(&manifest.bytes).map_err(|e| document(&e))?.digest;
    let text = client.pull_blob_bytes(&wanted.repository, &config, CONFIG_LIMIT).await.map_err(pull)?;
    let layers = image::layers(&manifest.bytes).map_err(|e| document(&e))?;
    let (target, descriptor) = (folder.to_owned(), manifest.descriptor());
    let layout = tokio::task::spawn_blocking(move || {
        let layout = Layout::create(&target)?;
        layout.add_blob(&manifest.bytes)?;
        layout.add_blob(&text)?;
        layout.set_manifests(&[Descriptor::new(
            &descriptor.media_type,
            descriptor.digest,
            descriptor.size,
        )])?;
        Ok::<Layout, edgewright_oci::layout::LayoutError>(layout)
    });
    let layout = layout.await.map_err(|_| ProvisionError::Cancelled)?.map_err(|e| document(&e))?;
    let digests: BTreeSet<Digest> = layers.into_iter().map(|layer| layer.digest).collect();
    for digest in digests {
        client
            .pull_blob_file(&wanted.repository, &digest, &layout.blob_path(&digest), &|_, _| {})
            .await
            .map_err(pull)?;
    }
    Ok(())
}
