//! An image's machine as a container image, from which KubeVirt starts it: kernel and initramfs, and the
//! read-only root as a disk. The same digest and programs give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use edgewright_guest::order::ORDER_ARGUMENT;
use edgewright_model::names::Platform;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::Reference;
use edgewright_oci::client::QUIET;
use edgewright_oci::image::Image;
use edgewright_oci::layer::{Entry, Kind, Layer, LayerError, LayerWriter};
use edgewright_oci::media;
use jiff::Timestamp;

use crate::config::kernel_arguments;
use crate::folders::blocking;
use crate::machine::{Programs, programs_archive};
use crate::{CachedImage, Context, VmError};

/// The disk with the root.
pub const DISK: &str = "/disk/root.img";
/// The kernel.
pub const KERNEL: &str = "/boot/vmlinuz";
/// The initramfs.
pub const INITRD: &str = "/boot/initrd";
/// The label with the kernel's arguments.
pub const ARGUMENTS: &str = "dev.edgewright.machine.arguments";
/// A machine without `-no-reboot` stays where its kernel panicked: its console is the evidence.
///
/// On a busy node an emulated guest measured its TSC at a fifteenth of its rate: its clock ran fifteen times
/// too fast, and so did its time limits. Here, unlike in our own machines, it has an HPET.
const OWN_ARGUMENTS: &str = "panic=0 tsc=unstable";

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The container image; it has no tag.
    pub manifest: ManifestRef,
    /// Length of its manifest in bytes.
    pub manifest_size: u64,
    /// Length of its layer in bytes.
    pub image_size: u64,
}

/// Pushes an image's machine to the image's repository.
///
/// # Errors
/// Files cannot be read or written, or the registry refuses them.
pub async fn publish(
    image: &CachedImage,
    programs: Programs,
    context: &Context,
) -> Result<Published, VmError> {
    let pushed = |error| VmError::Push(Box::new(error));
    let (client, repository) = (&image.source.client, &image.source.manifest.repository);
    let layer = layer(image, programs, context).await?;
    client.push_blob_file(repository, &layer.path, &layer.digest, layer.size, QUIET).await.map_err(pushed)?;
    let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None };
    let mut machine = Image::scratch(&platform);
    let words = format!("{OWN_ARGUMENTS} {ORDER_ARGUMENT}");
    let arguments = kernel_arguments(&image.facts.kernel.arguments, &words);
    machine.add_labels(&BTreeMap::from([(ARGUMENTS.to_owned(), arguments)]));
    machine.add_layer(layer.reference(), "machine", Timestamp::UNIX_EPOCH);
    let documents = machine.documents(Timestamp::UNIX_EPOCH);
    client.push_blob_bytes(repository, documents.config).await.map_err(pushed)?;
    let manifest_size = documents.manifest.len() as u64;
    let digest = documents.manifest_descriptor.digest;
    let reference = Reference::Digest(digest.clone());
    client
        .push_manifest(repository, &reference, media::MANIFEST, documents.manifest)
        .await
        .map_err(pushed)?;
    let manifest = ManifestRef { repository: repository.clone(), digest };
    Ok(Published { manifest, manifest_size, image_size: layer.size })
}

async fn layer(image: &CachedImage, programs: Programs, context: &Context) -> Result<Layer, VmError> {
    let target = context.scratch.join("machine.tar.zst");
    let initrd = [image.modules(), image.vmlinuz(), image.root()];
    blocking(move || {
        let [modules, kernel, root] = initrd;
        let mut initrd = std::fs::read(&modules).map_err(VmError::io("read", &modules))?;
        initrd.extend_from_slice(&programs_archive(programs, false));
        write(&target, &initrd, [(KERNEL, &kernel), (DISK, &root)]).map_err(VmError::Layers)
    })
    .await
}

fn write(to: &Path, initrd: &[u8], files: [(&str, &PathBuf); 2]) -> Result<Layer, LayerError> {
    let mut layer = LayerWriter::create(to, Timestamp::UNIX_EPOCH)?;
    for folder in ["boot", "disk"] {
        layer.append(&Entry::new(folder, Kind::Directory, 0o755), &mut io::empty())?;
    }
    // KubeVirt's processes are not root.
    let entry = |path: &str, size| Entry { size, ..Entry::new(&path[1..], Kind::File, 0o444) };
    layer.append(&entry(INITRD, initrd.len() as u64), &mut &*initrd)?;
    for (path, file) in files {
        let mut file = File::open(file).map_err(LayerError::Read)?;
        let size = file.metadata().map_err(LayerError::Read)?.len();
        layer.append(&entry(path, size), &mut file as &mut dyn Read)?;
    }
    layer.finish()
}

#[cfg(test)]
mod tests {
    use edgewright_oci::layer::{decompress, read_entries};

    use super::*;

    #[test]
    fn a_machine_is_files_that_everyone_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let (kernel, root) = (folder.path().join("kernel"), folder.path().join("root"));
        std::fs::write(&kernel, "kernel").unwrap();
        std::fs::write(&root, "root").unwrap();
        let layer =
            write(&folder.path().join("layer"), b"initrd", [(KERNEL, &kernel), (DISK, &root)]).unwrap();
        let file = io::BufReader::new(File::open(&layer.path).unwrap());
        let mut found = Vec::new();
        read_entries(decompress(file, media::LAYER_ZSTD).unwrap(), |entry, content| {
            let mut text = String::new();
            content.read_to_string(&mut text).unwrap();
            found.push((String::from_utf8(entry.path).unwrap(), entry.mode, text));
            Ok(())
        })
        .unwrap();
        let expected = [
            ("boot", 0o755, ""),
            ("disk", 0o755, ""),
            ("boot/initrd", 0o444, "initrd"),
            ("boot/vmlinuz", 0o444, "kernel"),
            ("disk/root.img", 0o444, "root"),
        ];
        assert_eq!(found, expected.map(|(path, mode, text)| (path.to_owned(), mode, text.to_owned())));
    }
}
