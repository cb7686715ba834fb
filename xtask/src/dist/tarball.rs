//! `edgewright-VERSION-TRIPLE.tar.gz`: for systems without `dpkg`, unpacked over `/`.

use std::path::{Path, PathBuf};

use super::{Release, tree};
use crate::command::Run;

/// Makes the tarball from the staged files.
pub(super) fn write(stage: &Path, release: &Release) -> anyhow::Result<PathBuf> {
    let name = format!("edgewright-{}-{}-unknown-linux-gnu", release.version, std::env::consts::ARCH);
    let tar = release.out.join(format!("{name}.tar"));
    Run::new("tar")
        .args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{}", release.epoch))
        .arg(format!("--transform=s,^\\.,{name},"))
        .arg("--file")
        .arg(&tar)
        .arg("--directory")
        .arg(stage)
        .arg(".")
        .run()?;
    let packed = release.out.join(format!("{name}.tar.gz"));
    if packed.exists() {
        std::fs::remove_file(&packed)?;
    }
    if release.is_dev {
        // A program with debug information is large, and is not published.
        Run::new("gzip").arg("-1n").arg(&tar).run()?;
    } else {
        tree::compress(&[&tar])?;
    }
    Ok(packed)
}
