//! `edgewright-setup-root`: mounts the root file system of a deployment in the initramfs.
//!
//! It runs when the device's own file system is mounted at `/sysroot`, and replaces that by the image:
//!
//! ```text
//! /sysroot            the image: erofs, with the repository's files below, read-only
//! /sysroot/sysroot    the device's file system
//! /sysroot/etc        the image's /etc, with the changes of the deployment above
//! /sysroot/var        shared by all deployments
//! ```
//!
//! It is a program of its own so that the initramfs stays small, and it does no more than that: an error is
//! an exit code, the initramfs reboots, and the boot loader counts.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use composefs_ioctls::fsverity::fs_ioc_measure_verity;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

const SYSROOT: &str = "/sysroot";
const IMAGE: &str = "/run/edgewright/image";
const SHA256_BYTES: usize = 32;
/// The number of SHA-256 in the kernel's interface of fs-verity.
const SHA256_ALGORITHM: u8 = 1;

/// What failed, and why.
struct Failure(String);

impl Failure {
    fn new(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |why| Self(format!("cannot {what}: {why}"))
    }
}

/// What the kernel's command line demands.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// The digest of the root file system, in hexadecimal digits.
    root: String,
    /// Whether fs-verity must protect it.
    is_verity: bool,
    /// The deployment.
    deployment: u64,
}

fn wanted(line: &str) -> Result<Wanted, Failure> {
    let argument = |name: &str| {
        let found = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| Failure(format!("the kernel's command line has no `{name}=`")))
    };
    let digest = argument("composefs.digest")?;
    let (is_verity, digest) = match digest.strip_prefix('?') {
        Some(digest) => (false, digest),
        None => (true, digest),
    };
    let root = digest.strip_prefix("v1-sha256-12:").unwrap_or_default();
    let is_hex = root.len() == 2 * SHA256_BYTES
        && root.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !is_hex {
        return Err(Failure(format!("invalid composefs.digest `{digest}`: expected v1-sha256-12:HEX")));
    }
    let deployment = argument("edgewright.deployment")?;
    let deployment =
        deployment.parse().map_err(|_| Failure(format!("invalid edgewright.deployment `{deployment}`")))?;
    Ok(Wanted { root: root.to_owned(), is_verity, deployment })
}

fn main() -> ExitCode {
    match set_up() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            use std::io::Write as _;
            let _ = writeln!(io::stderr(), "edgewright-setup-root: {text}");
            ExitCode::FAILURE
        }
    }
}

fn set_up() -> Result<(), Failure> {
    let line = fs::read_to_string("/proc/cmdline").map_err(Failure::new("read /proc/cmdline"))?;
    let wanted = wanted(&line)?;
    let objects = Path::new(SYSROOT).join("composefs/objects");
    let image = open_image(&objects, &wanted)?;
    mount_image(image)?;
    let root = overlay_root(&objects, wanted.is_verity)?;
    // Cloned before the image covers it.
    let device = open_tree(CWD, SYSROOT, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(|e| Failure::new(format!("clone the mount of {SYSROOT}"))(e.into()))?;
    attach(&root, SYSROOT)?;
    attach(&device, "/sysroot/sysroot")?;
    let state = PathBuf::from("/sysroot/sysroot/edgewright");
    mount_etc(&state.join("deploy").join(wanted.deployment.to_string()).join("etc"))?;
    let var = state.join("var");
    let shared = open_tree(CWD, &var, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(|e| Failure::new(format!("clone the mount of {}", var.display()))(e.into()))?;
    attach(&shared, "/sysroot/var")
}

/// Opens the file of the root file system, and compares its fs-verity digest: the kernel then guards every
/// byte that is read from it.
fn open_image(objects: &Path, wanted: &Wanted) -> Result<File, Failure> {
    let path = objects.join(&wanted.root[..2]).join(&wanted.root[2..]);
    let file = File::open(&path).map_err(Failure::new(format!("open {}", path.display())))?;
    if wanted.is_verity {
        let digest: [u8; SHA256_BYTES] = fs_ioc_measure_verity(&file, SHA256_ALGORITHM)
            .map_err(|e| Failure(format!("cannot read the fs-verity digest of {}: {e}", path.display())))?;
        let hex = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        if hex != wanted.root {
            return Err(Failure(format!("{} has the fs-verity digest {hex}", path.display())));
        }
    }
    Ok(file)
}

fn mount_image(image: File) -> Result<(), Failure> {
    let fault = |e: rustix::io::Errno| Failure::new("mount the image's erofs")(e.into());
    fs::create_dir_all(IMAGE).map_err(Failure::new(format!("make {IMAGE}")))?;
    let erofs = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fault)?;
    fsconfig_set_flag(erofs.as_fd(), "ro").map_err(fault)?;
    let source = format!("/proc/self/fd/{}", image.as_raw_fd());
    fsconfig_set_string(erofs.as_fd(), "source", source).map_err(fault)?;
    fsconfig_create(erofs.as_fd()).map_err(fault)?;
    let mounted = fsmount(erofs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY);
    drop(image);
    attach(&mounted.map_err(fault)?, IMAGE)
}

/// The image's tree over the files of the repository.
fn overlay_root(objects: &Path, is_verity: bool) -> Result<OwnedFd, Failure> {
    let lower = format!("{IMAGE}::{}", objects.display());
    let mut options = vec![("source", "edgewright"), ("metacopy", "on"), ("redirect_dir", "on")];
    if is_verity {
        options.push(("verity", "require"));
    }
    options.push(("lowerdir", &lower));
    overlay(&options, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Changes are whole files in the upper folder, so that an update can read and merge them.
fn mount_etc(state: &Path) -> Result<(), Failure> {
    let (upper, work) = (state.join("upper"), state.join("work"));
    let options = [
        ("source", "etc"),
        ("metacopy", "off"),
        ("redirect_dir", "off"),
        ("lowerdir", "/sysroot/etc"),
        ("upperdir", &upper.to_string_lossy()),
        ("workdir", &work.to_string_lossy()),
    ];
    attach(&overlay(&options, MountAttrFlags::empty())?, "/sysroot/etc")
}

fn overlay(options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Failure> {
    let fault = |what: &str| {
        let what = format!("mount the overlay of {what}");
        move |e: rustix::io::Errno| Failure::new(what)(e.into())
    };
    let filesystem = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fault("files"))?;
    for (key, value) in options {
        fsconfig_set_string(filesystem.as_fd(), *key, *value).map_err(fault(&format!("{key}={value}")))?;
    }
    let source = options.last().map_or("", |(_, value)| value);
    fsconfig_create(filesystem.as_fd()).map_err(fault(source))?;
    fsmount(filesystem.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fault(source))
}

fn attach(mount: &OwnedFd, path: &str) -> Result<(), Failure> {
    let moved = move_mount(mount.as_fd(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    moved.map_err(|e| Failure::new(format!("mount {path}"))(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "8b7df143d91c716ecfa5fc1730022f6b421b05cedee8fd52b1fc65a96030ad52";

    #[test]
    fn the_command_line_is_read() {
        let line = format!("root=X composefs.digest=v1-sha256-12:{HEX} edgewright.deployment=7 quiet");
        let expected = Wanted { root: HEX.to_owned(), is_verity: true, deployment: 7 };
        assert_eq!(wanted(&line).ok(), Some(expected));
        let insecure = line.replace("digest=", "digest=?");
        assert_eq!(wanted(&insecure).ok().map(|wanted| wanted.is_verity), Some(false));
    }

    #[test]
    fn an_invalid_command_line_is_an_error() {
        for line in [
            "quiet".to_owned(),
            format!("composefs.digest=v1-sha256-12:{HEX}"),
            format!("composefs.digest={HEX} edgewright.deployment=7"),
            format!("composefs.digest=v1-sha256-12:../{} edgewright.deployment=7", &HEX[3..]),
            format!("composefs.digest=v1-sha256-12:{HEX} edgewright.deployment=../x"),
        ] {
            assert!(wanted(&line).is_err(), "{line}");
        }
    }
}
