//! The files of both archives, below one folder, with the modes and the time that they get.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use super::Release;
use crate::command::Run;
use crate::workspace;

/// The settings file may hold credentials of sources.
pub(super) const SETTINGS: &str = "etc/edgewright/edgewright.toml";
const DOCS: &str = "usr/share/doc/edgewright";

/// Files of `packaging/`, each with its place and mode.
const FILES: [(&str, &str, u32); 6] = [
    ("edgewright.service", "usr/lib/systemd/system/edgewright.service", 0o644),
    ("edgewright-backup.service", "usr/lib/systemd/system/edgewright-backup.service", 0o644),
    ("edgewright-backup.timer", "usr/lib/systemd/system/edgewright-backup.timer", 0o644),
    ("backup", "usr/lib/edgewright/backup", 0o755),
    ("edgewright.toml", SETTINGS, 0o600),
    ("unprivileged.conf", "usr/share/doc/edgewright/examples/unprivileged.conf", 0o644),
];

/// A shell, and where distributions keep its completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/edgewright"),
    ("zsh", "usr/share/zsh/vendor-completions/_edgewright"),
    ("fish", "usr/share/fish/vendor_completions.d/edgewright.fish"),
];

/// Writes all files below `stage`.
pub(super) fn write(stage: &Path, binary: &Path, release: &Release) -> anyhow::Result<()> {
    let packaging = workspace::root().join("packaging");
    copy(binary, &stage.join("usr/bin/edgewright"), 0o755)?;
    for (file, to, mode) in FILES {
        copy(&packaging.join(file), &stage.join(to), mode)?;
    }
    let example = stage.join(DOCS).join("examples/edgewright.toml");
    copy(&packaging.join("edgewright.toml"), &example, 0o644)?;
    for (shell, to) in COMPLETIONS {
        let script = Run::new(binary).args(["completions", shell]).output()?;
        put(&stage.join(to), script.as_bytes(), 0o644)?;
    }
    let man = stage.join("usr/share/man/man1");
    fs::create_dir_all(&man)?;
    Run::new(binary).arg("man").arg(&man).output()?;
    documents(stage)?;
    compress(&workspace::files_below(&man)?)?;
    settle(stage, SystemTime::UNIX_EPOCH + Duration::from_secs(release.epoch))
}

fn documents(stage: &Path) -> anyhow::Result<()> {
    let root = workspace::root();
    let to = stage.join(DOCS);
    for file in ["README.md", "CHANGELOG.md"] {
        copy(&root.join(file), &to.join(file), 0o644)?;
    }
    for file in workspace::files_below(&root.join("docs"))? {
        copy(&file, &to.join(file.strip_prefix(root)?), 0o644)?;
    }
    copy(&root.join("packaging/deb/copyright"), &to.join("copyright"), 0o644)
}

/// Compresses files in place. `-n`: neither name nor time, so that the bytes depend on the content alone.
pub(super) fn compress(files: &[impl AsRef<Path>]) -> anyhow::Result<()> {
    Run::new("gzip").arg("-9n").args(files.iter().map(AsRef::as_ref)).run()
}

pub(super) fn copy(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    put(to, &bytes, mode)
}

/// Writes one file and the folders above it.
pub(super) fn put(to: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(to, bytes)?;
        fs::set_permissions(to, Permissions::from_mode(mode))
    };
    write().with_context(|| format!("cannot write {}", to.display()))
}

/// Gives everything the release's time, and folders and generated files a mode that does not depend on the
/// umask.
pub(super) fn settle(path: &Path, time: SystemTime) -> anyhow::Result<()> {
    let found = path.symlink_metadata()?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), time)?;
        }
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    } else if path.extension().is_some_and(|extension| extension == "gz") {
        fs::set_permissions(path, Permissions::from_mode(0o644))?;
    }
    File::open(path)?.set_modified(time).with_context(|| format!("cannot set the time of {}", path.display()))
}
