//! An image's machine as a container image, from which KubeVirt starts it: kernel, initramfs and the
//! read-only root as a disk, of which the same digest and programs give the same bytes; or one disk that
//! firmware starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use edgewright_model::names::Platform;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::Reference;
use edgewright_oci::client::QUIET;
use edgewright_oci::image::Image;
use edgewright_oci::layer::{Entry, Kind, Layer, LayerError, LayerWriter};
use edgewright_oci::media;
use jiff::Timestamp;

use crate::config::kernel_arguments;
use crate::device::qcow2;
use crate::disk::{self, Reached};
use crate::folders::blocking;
use crate::machine::{Programs, programs_archive};
use crate::{CachedImage, Context, Profile, Source, VmError};

/// The disk with the root.
pub const DISK: &str = "/disk/root.img";
/// The disk with our programs, and with what a device is offered.
pub const PROGRAMS: &str = "/disk-programs/programs.img";
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
pub(crate) const ORDER_ARGUMENTS: &str = "panic=0 tsc=unstable edgewright.order=disk";

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

/// A container image to push.
#[derive(Debug, Default)]
pub struct Files<'a> {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Absolute paths, and the files that are there.
    pub files: Vec<(&'a str, PathBuf)>,
}

/// Pushes an image's machine to the image's repository.
///
/// # Errors
/// Files cannot be read or written, or the registry refuses them.
pub async fn publish(
    image: &CachedImage,
    (programs, profile): (Programs, Profile),
    context: &Context,
) -> Result<Published, VmError> {
    let folder = tempfile::Builder::new()
        .prefix("machine-")
        .tempdir_in(&context.scratch)
        .map_err(VmError::io("create a folder in", &context.scratch))?;
    let files = match profile {
        Profile::Direct => {
            let initrd = folder.path().join("initrd");
            let (modules, to) = (image.modules(), initrd.clone());
            blocking(move || {
                let mut bytes = std::fs::read(&modules).map_err(VmError::io("read", &modules))?;
                bytes.extend_from_slice(&programs_archive(programs, false));
                std::fs::write(&to, bytes).map_err(VmError::io("write", &to))
            })
            .await?;
            let arguments = kernel_arguments(&image.facts.kernel.arguments, ORDER_ARGUMENTS);
            Files {
                labels: BTreeMap::from([(ARGUMENTS.to_owned(), arguments)]),
                files: vec![(INITRD, initrd), (KERNEL, image.vmlinuz()), (DISK, image.root())],
            }
        }
        Profile::Uefi => {
            let raw = disk::disk(image, (programs, Reached::ByOrder), context).await?;
            let disk = folder.path().join("disk.qcow2");
            qcow2(&raw, &disk, context).await?;
            Files { files: vec![(DISK, disk)], ..Files::default() }
        }
    };
    push(&image.source, files, context).await
}

/// Pushes files as a container image to the repository of another image.
///
/// # Errors
/// Files cannot be read or written, or the registry refuses them.
pub async fn push(source: &Source, files: Files<'_>, context: &Context) -> Result<Published, VmError> {
    let pushed = |error| VmError::Push(Box::new(error));
    let (client, repository) = (&source.client, &source.manifest.repository);
    let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None };
    let mut machine = Image::scratch(&platform);
    machine.add_labels(&files.labels);
    let mut image_size = 0;
    if !files.files.is_empty() {
        let target = context.scratch.join("machine.tar.zst");
        let own: Vec<(String, PathBuf)> =
            files.files.into_iter().map(|(path, file)| (path.to_owned(), file)).collect();
        let to = target.clone();
        let layer = blocking(move || write(&to, &own).map_err(VmError::Layers)).await?;
        let Layer { path, digest, size, .. } = &layer;
        client.push_blob_file(repository, path, digest, *size, QUIET).await.map_err(pushed)?;
        // If this fails, the file is removed with its folder.
        let _ = tokio::fs::remove_file(&target).await;
        image_size = layer.size;
        machine.add_layer(layer.reference(), "machine", Timestamp::UNIX_EPOCH);
    }
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
    Ok(Published { manifest, manifest_size, image_size })
}

fn write(to: &Path, files: &[(String, PathBuf)]) -> Result<Layer, LayerError> {
    let mut layer = LayerWriter::create(to, Timestamp::UNIX_EPOCH)?;
    let folders: BTreeSet<&str> =
        files.iter().filter_map(|(path, _)| Some(path.trim_start_matches('/').rsplit_once('/')?.0)).collect();
    for folder in folders {
        layer.append(&Entry::new(folder, Kind::Directory, 0o755), &mut io::empty())?;
    }
    for (path, file) in files {
        let mut file = File::open(file).map_err(LayerError::Read)?;
        let size = file.metadata().map_err(LayerError::Read)?.len();
        // KubeVirt's processes are not root.
        let entry = Entry { size, ..Entry::new(path.trim_start_matches('/'), Kind::File, 0o444) };
        layer.append(&entry, &mut file as &mut dyn Read)?;
    }
    layer.finish()
}

#[cfg(test)]
mod tests {
    use edgewright_guest::order::ORDER_ARGUMENT;
    use edgewright_oci::layer::{decompress, read_entries};

    use super::*;

    #[test]
    fn the_kernel_of_a_machine_waits_for_its_order() {
        assert!(ORDER_ARGUMENTS.split_whitespace().any(|word| word == ORDER_ARGUMENT), "{ORDER_ARGUMENTS}");
    }

    #[test]
    fn a_machine_is_files_that_everyone_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, content: &str| {
            let file = folder.path().join(content);
            std::fs::write(&file, content).unwrap();
            (path.to_owned(), file)
        };
        let files = [file(INITRD, "initrd"), file(KERNEL, "kernel"), file(DISK, "root")];
        let layer = write(&folder.path().join("layer"), &files).unwrap();
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
