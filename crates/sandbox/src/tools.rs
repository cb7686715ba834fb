//! The tool image: a root folder with the programs that jobs use, the same on every host.
//!
//! ```text
//! FOLDER/root/            the root file system, read-only for jobs
//! FOLDER/tools.json       its suite and the versions of its packages
//! FOLDER.old/             the image before, for jobs that still run; the next update removes it
//! ```
//!
//! It is made by mmdebstrap in a temporary folder beside its place and moved there when it is complete.
//! Programs of the image run on the host through the image's own loader, so the host needs none of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use edgewright_model::tools::upstream;
use edgewright_process::{Command, ProcessContext};
use serde::{Deserialize, Serialize};

use crate::SandboxError;

/// The Debian suite that tool images are made from.
const SUITE: &str = "trixie";

/// The packages of the tool image; what they depend on comes along.
pub const PACKAGES: [&str; 22] = [
    "buildah",
    "ca-certificates",
    "catatonit",
    "crun",
    // Virtual machines: file systems and disks without loop devices, and their firmware.
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "fdisk",
    // What lets mkfs.ext4 read a tar.
    "libarchive13t64",
    "mtools",
    "ovmf",
    "qemu-system-x86",
    // Formats of disks.
    "qemu-utils",
    "systemd-boot-efi",
    "iproute2",
    "mmdebstrap",
    "netavark",
    "aardvark-dns",
    "nftables",
    "podman",
    "slirp4netns",
    "util-linux",
];

/// Folders of the image that sandboxes mount on. A read-only root cannot get them later.
const MOUNT_POINTS: [&str; 3] = ["opt/edgewright", "work", "var/lib/containers"];

/// A file to mount the job program on.
const PROGRAM: &str = "opt/edgewright/edgewright";

/// What the packages bring and no job uses: other emulators, and firmware of other machines.
const SUPERFLUOUS: [&str; 12] = [
    "usr/bin/qemu-system-i386",
    "usr/bin/qemu-system-x86_64-microvm",
    "usr/bin/qemu-vmsr-helper",
    "usr/lib/ipxe",
    "usr/share/OVMF/OVMF_CODE_4M.ms.fd",
    "usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
    "usr/share/OVMF/OVMF_CODE_4M.secboot.strictnx.fd",
    "usr/share/OVMF/OVMF_CODE_4M.snakeoil.fd",
    "usr/share/OVMF/OVMF_VARS_4M.ms.fd",
    "usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
    "usr/share/qemu/skiboot.lid",
    "usr/share/qemu/hppa-firmware*.img",
];

/// Programs that a tool image must have, below its root.
const REQUIRED: [&str; 10] = [
    "usr/bin/buildah",
    "usr/bin/catatonit",
    "usr/bin/crun",
    "usr/bin/ip",
    "usr/bin/mkfs.erofs",
    "usr/bin/mmdebstrap",
    "usr/bin/podman",
    "usr/bin/qemu-system-x86_64",
    "usr/bin/setpriv",
    "usr/bin/slirp4netns",
];

/// The time between two attempts to lock.
const TURN_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Version of `tools.json`, and of what this program needs of a tool image. Images of earlier versions are
/// made again.
const VERSION: u32 = 4;

/// What `tools.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    version: u32,
    /// The Debian suite; empty for an image that a user brought.
    pub suite: String,
    /// Versions of all packages in the image.
    pub packages: BTreeMap<String, String>,
}

/// A tool image that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolImage {
    root: PathBuf,
    loader: PathBuf,
    libraries: OsString,
    description: Description,
}

/// A program whose mounts end with its last process: a killed mmdebstrap leaves the host's `/proc` and `/sys`
/// in its folder.
fn in_namespace(program: &str) -> Command {
    match edgewright_process::which(program) {
        None => Command::new(program),
        Some(_) => Command::new("unshare").args(["--mount", "--propagation", "private", "--", program]),
    }
}

impl ToolImage {
    /// Opens the image in a folder.
    ///
    /// # Errors
    /// There is none, or it has no loader or no OCI runtime.
    pub fn open(folder: &Path) -> Result<Self, SandboxError> {
        let root = folder.join("root");
        let text = match std::fs::read(folder.join("tools.json")) {
            Ok(text) => text,
            Err(_) if !root.is_dir() => return Err(SandboxError::NoTools { path: folder.to_owned() }),
            Err(error) => return Err(SandboxError::io("read", folder.join("tools.json"))(error)),
        };
        let invalid = |reason: String| SandboxError::InvalidTools { path: folder.to_owned(), reason };
        let description: Description =
            serde_json::from_slice(&text).map_err(|error| invalid(format!("tools.json: {error}")))?;
        if description.version < VERSION && !description.suite.is_empty() {
            return Err(SandboxError::OldTools { path: folder.to_owned() });
        }
        if description.version != VERSION {
            return Err(invalid(format!("tools.json has version {}, not {VERSION}", description.version)));
        }
        if let Some(missing) = REQUIRED.iter().find(|path| !root.join(path).is_file()) {
            return Err(invalid(format!("{missing} is missing")));
        }
        let loader = loader(&root).ok_or_else(|| invalid("no dynamic loader in lib64 or lib".to_owned()))?;
        Ok(Self { libraries: libraries(&root), loader, root, description })
    }

    /// [`ToolImage::open`], on a thread where it may block.
    ///
    /// # Errors
    /// As for [`ToolImage::open`].
    pub async fn load(folder: &Path) -> Result<Self, SandboxError> {
        let folder = folder.to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::open(&folder)).await;
        opened.unwrap_or_else(|error| Err(SandboxError::Trial { reason: error.to_string() }))
    }

    /// Makes the image in a folder that may exist: the old image is replaced when the new one is complete.
    /// Lines of mmdebstrap go to `progress`.
    ///
    /// # Errors
    /// mmdebstrap is missing or fails, or the folder cannot be written.
    pub async fn make(
        folder: &Path,
        processes: &ProcessContext,
        progress: impl FnMut(&str) + Send,
    ) -> Result<Self, SandboxError> {
        let mut progress = progress;
        let parent = folder.parent().unwrap_or(Path::new("/"));
        tokio::fs::create_dir_all(parent).await.map_err(SandboxError::io("create", parent))?;
        let new = tempfile::Builder::new()
            .prefix(".tools-")
            .tempdir_in(parent)
            .map_err(SandboxError::io("create a folder in", parent))?;
        let root = new.path().join("root");
        let made = in_namespace("mmdebstrap")
            .args(["--variant=minbase", "--mode=root"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            // What no job reads.
            .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
            .args([
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                "--customize-hook=rm -rf \"$1\"/var/cache/apt/*",
            ])
            .arg(format!("--customize-hook=cd \"$1\" && rm -rf {}", SUPERFLUOUS.join(" ")))
            .args([SUITE.into(), root.clone().into_os_string()])
            .context(processes)
            .run_lines(|_, line| progress(line))
            .await;
        made.map_err(SandboxError::Make)?;
        let folder = folder.to_owned();
        let placed = tokio::task::spawn_blocking(move || {
            finish(new.path(), &root)?;
            place(new, &folder)?;
            Self::open(&folder)
        });
        placed.await.map_err(|error| SandboxError::io("write", parent)(std::io::Error::other(error)))?
    }

    /// The image in a folder; where there is none, or one that an earlier version of this program made, it is
    /// made first. A process that makes the same image at the same time is waited for.
    ///
    /// # Errors
    /// As for [`ToolImage::open`] and [`ToolImage::make`].
    pub async fn open_or_make(
        folder: &Path,
        processes: &ProcessContext,
        progress: impl FnMut(&str) + Send,
    ) -> Result<Self, SandboxError> {
        match Self::load(folder).await {
            Err(SandboxError::NoTools { .. } | SandboxError::OldTools { .. }) => {}
            other => return other,
        }
        let _turn = turn(folder, processes).await?;
        match Self::load(folder).await {
            Err(SandboxError::NoTools { .. } | SandboxError::OldTools { .. }) => {
                Self::make(folder, processes, progress).await
            }
            other => other,
        }
    }

    /// The version of a package without Debian's revision, such as `1.39.3`.
    pub fn version(&self, package: &str) -> Option<&str> {
        self.description.packages.get(package).map(|version| upstream(version))
    }

    /// The versions that matter most, in a line.
    pub fn versions(&self) -> String {
        let named = [
            ("buildah", "buildah"),
            ("podman", "podman"),
            ("crun", "crun"),
            ("mmdebstrap", "mmdebstrap"),
            ("qemu-system-x86", "qemu"),
        ];
        let versions =
            named.map(|(package, name)| format!("{name} {}", self.version(package).unwrap_or("unknown")));
        let Description { suite, .. } = &self.description;
        let suite = if suite.is_empty() { String::new() } else { format!(" ({suite})") };
        format!("{}{suite}", versions.join(", "))
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Suite and versions.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// A program of the image as a command line for the host: the image's loader, its libraries, the program.
    pub fn program(&self, name: &str) -> Vec<OsString> {
        let mut words = self.loader();
        words.push(self.root.join("usr/bin").join(name).into());
        words
    }

    /// What comes before a program of the image, to start it on the host.
    pub fn loader(&self) -> Vec<OsString> {
        vec![self.loader.clone().into(), "--library-path".into(), self.libraries.clone()]
    }
}

/// Waits until no other process makes the image of a folder; the lock ends with the file.
async fn turn(folder: &Path, processes: &ProcessContext) -> Result<std::fs::File, SandboxError> {
    let mut name = folder.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let parent = folder.parent().unwrap_or(Path::new("/"));
    tokio::fs::create_dir_all(parent).await.map_err(SandboxError::io("create", parent))?;
    let file = tokio::fs::File::create(&path).await.map_err(SandboxError::io("create", &path))?;
    let file = file.into_std().await;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(SandboxError::io("lock", &path)(error)),
        }
        tokio::select! {
            () = tokio::time::sleep(TURN_PAUSE) => {}
            () = processes.cancel().cancelled() => {
                let stopped = std::io::Error::from(std::io::ErrorKind::Interrupted);
                return Err(SandboxError::io("wait for", &path)(stopped));
            }
        }
    }
}

/// Puts a complete image in its place. The one before stays beside it: jobs that run have it mounted.
fn place(new: tempfile::TempDir, folder: &Path) -> Result<(), SandboxError> {
    let mut name = folder.as_os_str().to_owned();
    name.push(".old");
    let old = PathBuf::from(name);
    if old.exists() {
        std::fs::remove_dir_all(&old).map_err(SandboxError::io("remove", &old))?;
    }
    if folder.exists() {
        std::fs::rename(folder, &old).map_err(SandboxError::io("replace", folder))?;
    }
    if let Err(error) = std::fs::rename(new.path(), folder) {
        // Back to the image before, if there is one.
        let _ = std::fs::rename(&old, folder);
        return Err(SandboxError::io("write", folder)(error));
    }
    // It has another name now, so there is nothing to remove.
    let _ = new.keep();
    Ok(())
}

/// Adds mount points and `tools.json`.
fn finish(folder: &Path, root: &Path) -> Result<(), SandboxError> {
    for point in MOUNT_POINTS {
        let point = root.join(point);
        std::fs::create_dir_all(&point).map_err(SandboxError::io("create", &point))?;
    }
    for file in [PROGRAM, "etc/resolv.conf"] {
        let file = root.join(file);
        std::fs::write(&file, "").map_err(SandboxError::io("write", &file))?;
    }
    let status = root.join("var/lib/dpkg/status");
    let text = std::fs::read_to_string(&status).map_err(SandboxError::io("read", &status))?;
    let description = Description { version: VERSION, suite: SUITE.to_owned(), packages: packages(&text) };
    let path = folder.join("tools.json");
    let text = serde_json::to_vec_pretty(&description).unwrap_or_default();
    std::fs::write(&path, text).map_err(SandboxError::io("write", &path))?;
    // A folder of tempfile is private; jobs run as other IDs.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, open).map_err(SandboxError::io("open", folder))
}

/// Names and versions in dpkg's status file.
fn packages(status: &str) -> BTreeMap<String, String> {
    let paragraphs = status.split("\n\n");
    let field = |paragraph: &str, name: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    let package = |paragraph| Some((field(paragraph, "Package:")?, field(paragraph, "Version:")?));
    paragraphs.filter_map(package).collect()
}

/// The dynamic loader of an image, whatever its processor.
fn loader(root: &Path) -> Option<PathBuf> {
    ["lib64", "lib", "usr/lib64", "usr/lib"].iter().find_map(|folder| {
        let mut found: Vec<PathBuf> = std::fs::read_dir(root.join(folder))
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("ld-linux") && name.contains(".so")
            })
            .collect();
        found.sort();
        found.into_iter().next()
    })
}

/// The library folders of an image, as the loader takes them.
fn libraries(root: &Path) -> OsString {
    let triplet = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let mut text = OsString::new();
    for folder in [triplet.as_str(), "usr/lib64", "usr/lib"] {
        let folder = root.join(folder);
        if folder.is_dir() {
            if !text.is_empty() {
                text.push(":");
            }
            text.push(folder);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_dpkgs_status() {
        let status =
            "Package: crun\nStatus: install ok installed\nVersion: 1.21-1\n\nPackage: git\nVersion: 1:2.47\n";
        let expected = [("crun", "1.21-1"), ("git", "1:2.47")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(packages(status), BTreeMap::from(expected));
        assert!(packages("").is_empty());
    }

    #[test]
    fn a_folder_without_an_image_is_named_with_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(ToolImage::open(folder.path()), Err(SandboxError::NoTools { .. })));
        std::fs::create_dir_all(folder.path().join("root/usr/bin")).unwrap();
        std::fs::write(
            folder.path().join("tools.json"),
            format!(r#"{{"version":{VERSION},"suite":"","packages":{{}}}}"#),
        )
        .unwrap();
        let error = ToolImage::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("usr/bin/buildah is missing"), "{error}");
        let earlier = r#"{"version":1,"suite":"trixie","packages":{}}"#;
        std::fs::write(folder.path().join("tools.json"), earlier).unwrap();
        assert!(matches!(ToolImage::open(folder.path()), Err(SandboxError::OldTools { .. })));
    }
}
