//! The composefs updater on a device of folders: no fs-verity, no boot loader, no virtual machine.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use edgewright_agent::composefs::Composefs;
use edgewright_agent::composefs::entry::DeploymentNumber;
use edgewright_agent::composefs::esp::EspSource;
use edgewright_agent::composefs::layout::{DeviceRecord, Folders};
use edgewright_agent::composefs::store::Store;
use edgewright_agent::updater::{Image, Progress, UpdateError, Updater as _};
use edgewright_model::Digest;
use edgewright_oci::ManifestBytes;
use edgewright_oci::image::{Image as Documents, LayerRef};
use edgewright_oci::layout::Layout;
use edgewright_oci::media::{self, Descriptor};

const BASE: &[(&str, &str)] = &[
    ("usr/lib/os-release", "PRETTY_NAME=\"Test 1\"\n"),
    (
        "usr/lib/modules/6.1/vmlinuz",
        "the kernel, which is longer than what is stored inline: 0123456789 0123456789",
    ),
    ("usr/lib/modules/6.1/initramfs.img", "the initramfs"),
    ("usr/lib/bootc/kargs.d/10.toml", "kargs = [\"console=ttyS0\"]\n"),
    ("etc/plant.conf", "speed=1\n"),
    ("etc/plant.d/a", "a\n"),
    ("boot/", ""),
    ("sysroot/", ""),
    ("var/", ""),
];

struct Device {
    folder: tempfile::TempDir,
}

impl Device {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let device = Self { folder };
        let folders = Folders::at(&device.sysroot());
        fs::create_dir_all(folders.deployments()).unwrap();
        Store::create(&folders.repository(), false).unwrap();
        let record = DeviceRecord {
            version: 1,
            esp: "ESP".to_owned(),
            root: "ROOT".to_owned(),
            boot_tries: 2,
            kernel_arguments: vec!["quiet".to_owned()],
        };
        folders.write_record(&record).unwrap();
        device
    }

    fn sysroot(&self) -> PathBuf {
        let path = self.folder.path().join("sysroot");
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn esp(&self) -> PathBuf {
        let path = self.folder.path().join("esp");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// The updater after a boot into a deployment.
    fn boot(&self, number: Option<u64>) -> Composefs {
        Composefs::at(&self.sysroot(), EspSource::Folder(self.esp()), number.map(DeploymentNumber))
    }

    fn entries(&self) -> Vec<String> {
        let Ok(read) = fs::read_dir(self.esp().join("loader/entries")) else { return Vec::new() };
        let mut names: Vec<_> = read.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn upper(&self, number: u64) -> PathBuf {
        Folders::at(&self.sysroot()).etc(DeploymentNumber(number)).join("upper")
    }
}

fn layer(layout: &Layout, files: &[(&str, &str)]) -> LayerRef {
    let mut archive = tar::Builder::new(Vec::new());
    let parents: BTreeSet<String> = files
        .iter()
        .flat_map(|(path, _)| Path::new(path.trim_end_matches('/')).ancestors().skip(1))
        .filter_map(|parent| Some(format!("{}/", parent.to_str().filter(|parent| !parent.is_empty())?)))
        .collect();
    let parents: Vec<(&str, &str)> = parents.iter().map(|parent| (parent.as_str(), "")).collect();
    for (path, content) in parents.iter().chain(files) {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(if path.ends_with('/') { 0o755 } else { 0o644 });
        header.set_entry_type(if path.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        archive.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    let bytes = archive.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let blob = gzip.finish().unwrap();
    layout.add_blob(&blob).unwrap();
    LayerRef { descriptor: Descriptor::of(media::LAYER_GZIP, &blob), diff_id: Digest::of(&bytes) }
}

fn image(folder: &Path, layers: &[&[(&str, &str)]]) -> Image {
    let layout = Layout::create(folder).unwrap();
    let mut documents = Documents::scratch(&"linux/amd64".parse().unwrap());
    for files in layers {
        documents.add_layer(layer(&layout, files), "test", jiff::Timestamp::UNIX_EPOCH);
    }
    let documents = documents.documents(jiff::Timestamp::UNIX_EPOCH);
    layout.add_blob(&documents.manifest).unwrap();
    layout.add_blob(&documents.config).unwrap();
    Image {
        reference: "registry.example/plant:stable".parse().unwrap(),
        manifest: ManifestBytes {
            media_type: media::MANIFEST.to_owned(),
            digest: documents.manifest_descriptor.digest.clone(),
            bytes: documents.manifest,
        },
        config: documents.config,
        index: None,
        layout: folder.to_owned(),
    }
}

/// A device whose first image is deployment 1, booted.
async fn installed(device: &Device, folder: &Path) -> (Composefs, Image) {
    let v1 = image(&folder.join("v1"), &[BASE]);
    let installer = device.boot(None);
    installer.stage(&v1, &Progress::quiet()).await.unwrap();
    assert_eq!(device.entries(), Vec::<String>::new());
    installer.arm(v1.digest()).await.unwrap();
    assert_eq!(device.entries(), ["edgewright-1.conf"]);
    (device.boot(Some(1)), v1)
}

#[tokio::test]
async fn an_update_is_staged_armed_blessed_and_collected() {
    let (device, folder) = (Device::new(), tempfile::tempdir().unwrap());
    let (booted, v1) = installed(&device, folder.path()).await;
    fs::write(device.upper(1).join("plant.conf"), "speed=7\n").unwrap();
    let v2 = image(&folder.path().join("v2"), &[BASE, &[("etc/plant.d/a", "b\n"), ("usr/bin/new", "x")]]);
    let missing = booted.missing(&v2).await.unwrap();
    assert_eq!(missing.len(), 1, "the base's layer is here already");
    // What is here already need not be in the layout.
    fs::remove_file(v2.blob_path(&edgewright_oci::image::layers(&v2.manifest.bytes).unwrap()[0].digest))
        .unwrap();

    booted.stage(&v2, &Progress::quiet()).await.unwrap();
    booted.stage(&v2, &Progress::quiet()).await.unwrap();
    let status = booted.status().await.unwrap();
    assert_eq!(status.booted.as_ref().unwrap().digest, *v1.digest());
    assert!(status.booted.unwrap().is_next && status.fallback.is_none());
    let staged = status.staged.unwrap();
    assert_eq!((staged.digest, staged.entry), (v2.digest().clone(), None));

    booted.arm(v2.digest()).await.unwrap();
    assert_eq!(device.entries(), ["edgewright-1.conf", "edgewright-2+2.conf"]);
    assert_eq!(fs::read_to_string(device.upper(2).join("plant.conf")).unwrap(), "speed=7\n");
    assert!(!device.upper(2).join("plant.d").exists());
    let entry = fs::read_to_string(device.esp().join("loader/entries/edgewright-2+2.conf")).unwrap();
    for part in
        ["version 2\n", "title Test 1 (", "root=PARTUUID=ROOT", "=?v1-sha256-12:", "console=ttyS0 quiet"]
    {
        assert!(entry.contains(part), "{part} in {entry}");
    }

    // The boot loader counts, then the new system is good.
    let entries = device.esp().join("loader/entries");
    fs::rename(entries.join("edgewright-2+2.conf"), entries.join("edgewright-2+1-1.conf")).unwrap();
    let booted = device.boot(Some(2));
    let status = booted.status().await.unwrap();
    assert_eq!(status.booted.unwrap().tries_left, Some(1));
    assert_eq!(status.fallback.unwrap().digest, *v1.digest());
    booted.bless().await.unwrap();
    booted.bless().await.unwrap();
    assert_eq!(device.entries(), ["edgewright-1.conf", "edgewright-2.conf"]);

    let v3 = image(&folder.path().join("v3"), &[BASE, &[("usr/bin/newer", "y")]]);
    booted.stage(&v3, &Progress::quiet()).await.unwrap();
    booted.arm(v3.digest()).await.unwrap();
    let booted = device.boot(Some(3));
    booted.bless().await.unwrap();
    assert!(booted.collect().await.unwrap().is_some());
    assert_eq!(device.entries(), ["edgewright-2.conf", "edgewright-3.conf"]);
    assert_eq!(booted.missing(&v3).await.unwrap(), []);
    assert_eq!(booted.status().await.unwrap().fallback.unwrap().digest, *v2.digest());
    // One kernel for all of them.
    assert_eq!(fs::read_dir(device.esp().join("edgewright")).unwrap().count(), 2);
}

#[tokio::test]
async fn a_failed_image_leaves_the_old_one_and_is_replaced_by_the_next() {
    let (device, folder) = (Device::new(), tempfile::tempdir().unwrap());
    let (booted, v1) = installed(&device, folder.path()).await;
    let v2 = image(&folder.path().join("v2"), &[BASE, &[("usr/bin/bad", "x")]]);
    booted.stage(&v2, &Progress::quiet()).await.unwrap();
    booted.arm(v2.digest()).await.unwrap();
    // In the new system the checks fail.
    device.boot(Some(2)).roll_back().await.unwrap();
    assert_eq!(device.entries(), ["edgewright-1.conf", "edgewright-2+0-1.conf"]);
    let status = booted.status().await.unwrap();
    assert!(status.booted.unwrap().is_next);
    let failed = status.staged.unwrap();
    assert_eq!((failed.digest, failed.tries_left), (v2.digest().clone(), Some(0)));
    assert!(matches!(booted.roll_back().await, Err(UpdateError::NoFallback)));
    assert!(matches!(booted.arm(&Digest::of(b"other")).await, Err(UpdateError::NotStaged { .. })));

    let v3 = image(&folder.path().join("v3"), &[BASE, &[("usr/bin/good", "x")]]);
    booted.stage(&v3, &Progress::quiet()).await.unwrap();
    assert_eq!(device.entries(), ["edgewright-1.conf"]);
    assert_eq!(booted.status().await.unwrap().staged.unwrap().digest, *v3.digest());
    assert_eq!(booted.status().await.unwrap().booted.unwrap().digest, *v1.digest());
}

/// FAT has a new name on the disk before its content, and the boot loader skips what has none.
#[tokio::test]
async fn an_entry_that_a_power_cut_emptied_is_armed_again() {
    let (device, folder) = (Device::new(), tempfile::tempdir().unwrap());
    let (booted, v1) = installed(&device, folder.path()).await;
    let v2 = image(&folder.path().join("v2"), &[BASE, &[("usr/bin/new", "x")]]);
    booted.stage(&v2, &Progress::quiet()).await.unwrap();
    for name in ["edgewright-2+2.conf", "edgewright-2+1-1.conf", "edgewright-2.conf"] {
        booted.arm(v2.digest()).await.unwrap();
        assert_eq!(device.entries(), ["edgewright-1.conf", "edgewright-2+2.conf"], "{name}");
        let entries = device.esp().join("loader/entries");
        fs::remove_file(entries.join("edgewright-2+2.conf")).unwrap();
        fs::write(entries.join(name), "").unwrap();
        let status = booted.status().await.unwrap();
        let now = status.booted.unwrap();
        assert!(now.digest == *v1.digest() && now.is_next, "{name}");
        assert_eq!(status.staged.unwrap().entry, None, "{name}");
    }
    booted.arm(v2.digest()).await.unwrap();
    // Both names of an entry whose counter was to be removed.
    let entries = device.esp().join("loader/entries");
    fs::copy(entries.join("edgewright-2+2.conf"), entries.join("edgewright-2.conf")).unwrap();
    device.boot(Some(2)).bless().await.unwrap();
    assert_eq!(device.entries(), ["edgewright-1.conf", "edgewright-2.conf"]);
}

#[tokio::test]
async fn wrong_bytes_and_unusable_images_change_nothing() {
    let (device, folder) = (Device::new(), tempfile::tempdir().unwrap());
    let (booted, _) = installed(&device, folder.path()).await;
    let v2 = image(&folder.path().join("v2"), &[BASE, &[("usr/bin/x", "x")]]);
    let changed = booted.missing(&v2).await.unwrap().remove(0);
    fs::write(v2.blob_path(&changed.digest), "no layer").unwrap();
    assert!(booted.stage(&v2, &Progress::quiet()).await.is_err());
    // A layer of another image under this digest is found, too.
    let other = image(&folder.path().join("other"), &[&[("usr/bin/y", "y")]]);
    let layers = edgewright_oci::image::layers(&other.manifest.bytes).unwrap();
    fs::copy(other.blob_path(&layers[0].digest), v2.blob_path(&changed.digest)).unwrap();
    let failed = booted.stage(&v2, &Progress::quiet()).await;
    assert!(matches!(&failed, Err(UpdateError::Corrupt { .. })), "{failed:?}");
    fs::remove_file(v2.blob_path(&changed.digest)).unwrap();
    let failed = booted.stage(&v2, &Progress::quiet()).await;
    assert!(matches!(&failed, Err(UpdateError::Corrupt { .. })), "{failed:?}");
    assert_eq!(booted.missing(&v2).await.unwrap().len(), 1);

    let without_kernel = image(
        &folder.path().join("plain"),
        &[&[("usr/bin/x", "x"), ("etc/", ""), ("boot/", ""), ("sysroot/", "")]],
    );
    let failed = booted.stage(&without_kernel, &Progress::quiet()).await.unwrap_err();
    assert!(failed.to_string().contains("has no kernel in /usr/lib/modules"), "{failed}");

    let stopped = Progress::quiet();
    stopped.cancel().cancel();
    assert!(matches!(booted.stage(&v2, &stopped).await, Err(UpdateError::Cancelled)));
    assert_eq!(device.entries(), ["edgewright-1.conf"]);
    assert!(booted.status().await.unwrap().staged.is_none());
}
