//! A small Debian with a kernel and an initramfs where bootc images have them: what tests of virtual machines
//! start from.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of the system: another number where its packages or the hooks change.
const VERSION: u32 = 1;
const SUITE: &str = "trixie";
const PACKAGES: &str =
    "systemd,systemd-sysv,udev,dbus,dbus-daemon,kmod,mount,libcap2-bin,linux-image-cloud-amd64,dracut";
/// An initramfs for any machine.
const DRACUT: &str = "mkdir -p \"$1\"/etc/dracut.conf.d && \
    printf 'hostonly=no\\ncompress=zstd\\nadd_drivers+=\" virtio_blk ext4 \"\\n' > \"$1\"/etc/dracut.conf.d/all.conf";
/// Kernel and initramfs where bootc images have them, and a program with a capability.
const FINISH: &str = r#"v=$(ls "$1/usr/lib/modules"); m="$1/usr/lib/modules/$v"
cp "$1/boot/vmlinuz-$v" "$m/vmlinuz"; cp "$1/boot/initrd.img-$v" "$m/initramfs.img"; rm -rf "$1"/boot/*
cp "$1/bin/true" "$1/usr/bin/capable"; chroot "$1" setcap cap_net_raw=ep /usr/bin/capable
rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/doc "$1"/usr/share/locale"#;

/// The system as a tar of 190 MB, kept in the user's cache folder: the first test that needs it makes it, in
/// about two minutes, and others wait. Needs root and mmdebstrap.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn with_kernel() -> PathBuf {
    let folder = crate::cache().expect("HOME is set").join("edgewright");
    made(&folder).unwrap_or_else(|error| panic!("cannot make a system in {}: {error}", folder.display()))
}

fn made(folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let name = format!("vm-{SUITE}-{VERSION}");
    let tar = folder.join(format!("{name}.tar"));
    let lock = File::create(folder.join(format!("{name}.lock")))?;
    lock.lock()?;
    if tar.is_file() {
        return Ok(tar);
    }
    // A killed test leaves it; the next one replaces it.
    let new = folder.join(format!("{name}.new.tar"));
    #[expect(clippy::disallowed_methods, reason = "testkit has no async runtime")]
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=minbase", "--mode=root", &format!("--include={PACKAGES}")])
        .arg(format!("--essential-hook={DRACUT}"))
        .arg(format!("--customize-hook={FINISH}"))
        .arg(SUITE)
        .arg(&new);
    let status = command.status()?;
    if !status.success() {
        return Err(io::Error::other(format!("mmdebstrap ends with {status}")));
    }
    fs::rename(new, &tar)?;
    Ok(tar)
}
