//! `edgewright-image-parts-VERSION-TRIPLE.tar.gz`: what makes a Debian image one for devices, with its
//! programs; to be unpacked beside its `image.yaml`.

use std::path::PathBuf;

use anyhow::Context as _;

use super::{Release, remove, tarball, tree};
use crate::command::Run;
use crate::workspace;

/// The folder in the archive.
const FOLDER: &str = "image-parts";
/// The programs of `bin`, all of one package.
const PROGRAMS: [&str; 2] = ["edgewright-agent", "edgewright-setup-root"];
const PACKAGE: &str = "edgewright-agent";

/// Compiles the programs and makes the tarball.
pub(super) fn write(release: &Release) -> anyhow::Result<PathBuf> {
    let programs = compile(release.is_dev)?;
    let stage = release.out.join(FOLDER);
    remove(&stage)?;
    std::fs::create_dir_all(&release.out)
        .with_context(|| format!("cannot create {}", release.out.display()))?;
    Run::new("cp").arg("-a").arg(workspace::root().join("packaging").join(FOLDER)).arg(&stage).run()?;
    for program in PROGRAMS {
        tree::copy(&programs.join(program), &stage.join("bin").join(program), 0o755)?;
    }
    let name = format!("edgewright-{FOLDER}-{}-{}", release.version, tarball::triple());
    let packed = tarball::pack(&stage, &name, FOLDER, release)?;
    remove(&stage)?;
    Ok(packed)
}

/// Compiles the programs. Gives their folder.
pub(crate) fn compile(is_dev: bool) -> anyhow::Result<PathBuf> {
    let (profile, folder) = if is_dev { ("dev", "debug") } else { ("agent", "agent") };
    let arguments = ["build", "--locked", "--package", PACKAGE, "--bins", "--profile", profile];
    Run::new("cargo").args(arguments).cwd(workspace::root()).run()?;
    Ok(workspace::target().join(folder))
}
