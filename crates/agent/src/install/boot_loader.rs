//! systemd-boot on the EFI system partition.

use std::fs;
use std::path::{Path, PathBuf};

use super::InstallError;
use crate::durable;

const FOLDER: &str = "usr/lib/systemd/boot/efi";
/// `timeout 0`: no menu, unless a key is held. An editor would let anyone change kernel arguments.
const LOADER: &[u8] = b"timeout 0\neditor no\nconsole-mode keep\n";

/// The architecture in the names of UEFI.
const fn architecture() -> Option<&'static str> {
    if cfg!(target_arch = "x86_64") {
        Some("x64")
    } else if cfg!(target_arch = "aarch64") {
        Some("aa64")
    } else {
        None
    }
}

/// The boot loader of a system: the signed one, if there is one.
///
/// # Errors
/// There is none.
pub(super) fn find(root: &Path) -> Result<PathBuf, InstallError> {
    let name = architecture().map(|architecture| format!("systemd-boot{architecture}.efi"));
    let name = name.ok_or_else(|| InstallError::Image {
        problem: "no boot loader is known for this architecture".to_owned(),
    })?;
    let folder = root.join(FOLDER);
    let candidates = [folder.join(format!("{name}.signed")), folder.join(&name)];
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| InstallError::Image {
        problem: format!("it has no /{FOLDER}/{name}: add the package `systemd-boot-efi`, or `systemd-boot`"),
    })
}

/// Installs it on the path that UEFI starts without a boot variable, so a disk can be moved.
///
/// # Errors
/// Those of the file system.
pub(super) fn install(loader: &Path, esp: &Path) -> Result<(), InstallError> {
    let fallback = format!("BOOT{}.EFI", architecture().unwrap_or_default().to_uppercase());
    let bytes = fs::read(loader).map_err(InstallError::io(format!("read {}", loader.display())))?;
    for (folder, name, bytes) in
        [("EFI/BOOT", fallback.as_str(), bytes.as_slice()), ("loader", "loader.conf", LOADER)]
    {
        let folder = esp.join(folder);
        let path = folder.join(name);
        let written = fs::create_dir_all(&folder).and_then(|()| durable::write(&path, bytes, 0o600));
        written.map_err(InstallError::io(format!("write {}", path.display())))?;
    }
    durable::sync_all(esp).map_err(InstallError::io("flush the EFI system partition"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_loader_is_preferred() {
        let root = tempfile::tempdir().unwrap();
        assert!(find(root.path()).is_err());
        let Some(architecture) = architecture() else { return };
        let path = root.path().join(FOLDER).join(format!("systemd-boot{architecture}.efi"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "plain").unwrap();
        assert_eq!(find(root.path()).unwrap(), path);
        let signed = path.with_extension("efi.signed");
        fs::write(&signed, "signed").unwrap();
        assert_eq!(find(root.path()).unwrap(), signed);
        let esp = tempfile::tempdir().unwrap();
        install(&signed, esp.path()).unwrap();
        let name = format!("BOOT{}.EFI", architecture.to_uppercase());
        assert_eq!(fs::read(esp.path().join("EFI/BOOT").join(name)).unwrap(), b"signed");
    }
}
