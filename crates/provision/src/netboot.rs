//! An installer that a machine loads over the network: kernel, the image's own initramfs, and a second one
//! with the image and the settings of the device. It asks nothing.
//!
//! Everything is in memory, so neither kernel nor initramfs need a driver of a network.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use edgewright_vm::CachedImage;
use edgewright_vm::cpio::Archive;

use crate::{ProvisionError, output, unattended};

/// The first loop device: the service below attaches the root first.
const ROOT: &str = "/dev/loop0";
const SERVICE: &str = "etc/systemd/system/edgewright-netboot.service";
const WANTED: &str = "etc/systemd/system/sysinit.target.wants/edgewright-netboot.service";
/// Attaches both files in the initramfs. Mounts below `/run` stay when the root is changed.
const SERVICE_TEXT: &str = "[Unit]
Description=Files of the installer
DefaultDependencies=no

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=-modprobe loop
ExecStart=mkdir -p /run/edgewright/root /run/edgewright/medium
ExecStart=mount -t erofs -o loop,ro /edgewright/root.erofs /run/edgewright/root
ExecStart=mount -t erofs -o loop,ro /edgewright/medium.erofs /run/edgewright/medium
StandardOutput=journal+console
";

/// The folder that is made. It has a temporary name until it is complete.
#[derive(Debug)]
pub(crate) struct Folder {
    new: tempfile::TempDir,
    target: PathBuf,
}

impl Folder {
    /// Begins a folder.
    ///
    /// # Errors
    /// There is one of this name, or its parent is not writable.
    pub(crate) async fn create(target: &Path) -> Result<Self, ProvisionError> {
        let path = target.to_owned();
        let made = tokio::task::spawn_blocking(move || {
            if path.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let new =
                tempfile::Builder::new().prefix(".edgewright-netboot-").tempdir_in(output::folder(&path))?;
            Ok(Self { new, target: path })
        });
        let made = made.await.map_err(|_| ProvisionError::Cancelled)?;
        made.map_err(ProvisionError::io("create the folder", target))
    }

    /// Writes all files, and gives the folder its name.
    pub(crate) async fn write(self, image: &CachedImage, medium: &Path) -> Result<(), ProvisionError> {
        let files = [(image.vmlinuz(), "vmlinuz"), (unattended::initramfs(image)?, "initramfs.img")];
        let arguments = unattended::arguments(&image.facts.kernel.arguments, ROOT);
        let (root, medium, target) = (image.root(), medium.to_owned(), self.target.clone());
        let written = tokio::task::spawn_blocking(move || {
            let folder = self.new.path();
            for (from, name) in files {
                fs::copy(from, folder.join(name))?;
            }
            align(&folder.join("initramfs.img"))?;
            write_files(&folder.join("edgewright.img"), &root, &medium)?;
            fs::write(folder.join("boot.ipxe"), script(&arguments))?;
            // It has the credentials of a device.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
            for entry in fs::read_dir(folder)? {
                File::open(entry?.path())?.sync_all()?;
            }
            fs::rename(folder, &self.target)?;
            let _ = self.new.keep();
            Ok(())
        });
        let written = written.await.map_err(|_| ProvisionError::Cancelled)?;
        written.map_err(ProvisionError::io("write", target))
    }
}

/// The kernel finds an archive that follows another one only at a multiple of four bytes.
fn align(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(file.metadata()?.len().next_multiple_of(4))
}

/// The second initramfs.
fn write_files(path: &Path, root: &Path, medium: &Path) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut archive = Archive::new();
    for folder in ["etc", "etc/systemd", "etc/systemd/system", "etc/systemd/system/sysinit.target.wants"] {
        archive.folder(folder);
    }
    archive.folder("edgewright");
    archive.file(SERVICE, 0o644, SERVICE_TEXT.as_bytes());
    archive.link(WANTED, &format!("/{SERVICE}"));
    for (from, name) in [(root, "edgewright/root.erofs"), (medium, "edgewright/medium.erofs")] {
        let file = File::open(from)?;
        let bytes = file.metadata()?.len();
        archive.stream(&mut out, name, file, bytes)?;
    }
    out.write_all(&archive.finish())?;
    out.flush()
}

/// What iPXE reads: paths are relative to the script.
fn script(arguments: &str) -> String {
    format!(
        "#!ipxe\nkernel vmlinuz initrd=initramfs.img initrd=edgewright.img {arguments}\n\
         initrd --name initramfs.img initramfs.img\ninitrd --name edgewright.img edgewright.img\nboot\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_initramfs_has_both_files_and_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("root"), b"the root").unwrap();
        fs::write(path("medium"), b"the medium").unwrap();
        write_files(&path("out"), &path("root"), &path("medium")).unwrap();
        let bytes = fs::read(path("out")).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for part in
            ["edgewright/root.erofs", "the root", "the medium", "ExecStart=mount", WANTED, "TRAILER!!!"]
        {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn the_first_initramfs_ends_where_the_second_may_begin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("initramfs.img");
        for (before, after) in [(0, 0), (4, 4), (5, 8), (7, 8)] {
            fs::write(&path, vec![1; before]).unwrap();
            align(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), after, "{before}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_exists_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let error = Folder::create(folder.path()).await.unwrap_err();
        assert!(error.to_string().contains("create the folder"), "{error}");
        let new = folder.path().join("new");
        let made = Folder::create(&new).await.unwrap();
        assert!(!new.exists());
        drop(made);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
