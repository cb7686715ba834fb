//! `cargo xtask dist` with the program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_process::Command;

use crate::machine::environment;

/// A package and a tarball.
#[derive(Debug)]
pub(crate) struct Packages {
    pub(crate) deb: PathBuf,
    pub(crate) tarball: PathBuf,
}

/// Makes the packages of a version in a folder.
pub(crate) async fn make(version: &str, folder: &Path) -> Packages {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new("cargo")
        .args(["run", "--quiet", "--locked", "--package", "xtask", "--", "dist", "--profile", "dev"])
        .args(["--binary", env!("CARGO_BIN_EXE_edgewright"), "--version", version])
        .args(["--out".into(), folder.as_os_str().to_owned()])
        .cwd(root)
        .deadline(Duration::from_mins(10));
    for name in ["CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL"] {
        if let Some(value) = environment(name) {
            command = command.env(name, value);
        }
    }
    command.run().await.unwrap_or_else(|error| panic!("{error:?}"));
    let with = |end: &str| {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_wanted = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.contains(version) && name.ends_with(end)
        };
        files.into_iter().find(is_wanted).unwrap_or_else(|| panic!("no {end} of {version}"))
    };
    Packages { deb: with(".deb"), tarball: with(".tar.gz") }
}

#[tokio::test]
async fn the_same_commit_gives_the_same_bytes() {
    if !edgewright_testkit::has(&["dpkg-deb", "objdump"]) {
        return;
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = make("1.2.3", folders[0].path()).await;
    let second = make("1.2.3", folders[1].path()).await;
    for (one, other) in [(&first.deb, &second.deb), (&first.tarball, &second.tarball)] {
        assert_eq!(one.file_name(), other.file_name());
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{} differs", one.display());
    }
    let listed = Command::new("dpkg-deb").arg("--contents").arg(&first.deb).run().await.unwrap().text();
    for (mode, path) in [
        ("-rwxr-xr-x root/root", "./usr/bin/edgewright"),
        ("-rw-r--r-- root/root", "./usr/lib/systemd/system/edgewright.service"),
        ("-rw------- root/root", "./etc/edgewright/edgewright.toml"),
        ("-rw-r--r-- root/root", "./usr/share/man/man1/edgewright.1.gz"),
        ("-rw-r--r-- root/root", "./usr/share/bash-completion/completions/edgewright"),
        ("-rw-r--r-- root/root", "./usr/share/doc/edgewright/docs/how-to/production.md"),
    ] {
        let is_listed = |line: &str| line.starts_with(mode) && line.ends_with(path);
        assert!(listed.lines().any(is_listed), "no {mode} {path} in\n{listed}");
    }
}
