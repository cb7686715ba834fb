//! `edgewright-VERSION-TRIPLE.tar.gz`: for systems without `dpkg`, unpacked over `/`.

use std::path::{Path, PathBuf};

use super::{Release, tree};
use crate::command::Run;

/// Makes the tarball from the staged files.
pub(super) fn write(stage: &Path, release: &Release) -> anyhow::Result<PathBuf> {
    let name = format!("edgewright-{}-{}", release.version, triple());
    pack(stage, &name, &name, release)
}

/// Rust's name of the platform.
pub(super) fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Packs a folder, which is called `top` in the archive.
pub(super) fn pack(stage: &Path, name: &str, top: &str, release: &Release) -> anyhow::Result<PathBuf> {
    let tar = release.out.join(format!("{name}.tar"));
    Run::new("tar")
        .args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{}", release.epoch))
        .arg("--mode=u+rwX,go+rX,go-w")
        // Names only, not what links lead to.
        .arg(format!("--transform=s,^\\.,{top},S"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_they_did_and_modes_do_not_follow_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let stage = folder.path().join("stage");
        std::fs::create_dir_all(stage.join("wants")).unwrap();
        std::fs::write(stage.join("a.service"), "a").unwrap();
        std::fs::set_permissions(
            stage.join("a.service"),
            std::os::unix::fs::PermissionsExt::from_mode(0o660),
        )
        .unwrap();
        std::os::unix::fs::symlink("../a.service", stage.join("wants/a.service")).unwrap();
        let out = folder.path().to_owned();
        let release = Release { version: "1".to_owned(), epoch: 7, is_dev: true, out };
        let packed = pack(&stage, "parts-1", "parts", &release).unwrap();
        let listed = Run::new("tar").args(["--list", "--verbose", "--file"]).arg(packed).output().unwrap();
        assert!(listed.contains(" parts/wants/a.service -> ../a.service\n"), "{listed}");
        assert!(listed.contains("-rw-r--r-- 0/0"), "{listed}");
    }
}
