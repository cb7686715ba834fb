//! `edgewright_VERSION_ARCH.deb`, by `dpkg-deb`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};

use super::{Release, tree};
use crate::command::Run;
use crate::workspace;

/// Libraries of the packages that `packaging/deb/control` names.
const LIBRARIES: [&str; 5] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libz.so.1", "ld-linux"];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Makes the package from the staged files, which get Debian's own beside them.
pub(super) fn write(stage: &Path, binary: &Path, release: &Release) -> anyhow::Result<PathBuf> {
    let architecture = architecture()?;
    changelog(stage, release)?;
    let files = workspace::files_below(stage)?;
    let relative = files.iter().map(|file| Ok(file.strip_prefix(stage)?.to_owned()));
    let relative: Vec<PathBuf> = relative.collect::<anyhow::Result<_>>()?;
    let sums = Run::new("md5sum").args(&relative).cwd(stage).output()?;
    let bytes: u64 = files.iter().filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum();

    let folder = workspace::root().join("packaging/deb");
    let control = fs::read_to_string(folder.join("control"))?
        .replace("@VERSION@", &release.version)
        .replace("@ARCH@", architecture)
        .replace("@SIZE@", &bytes.div_ceil(1024).to_string())
        .replace("@GLIBC@", &glibc(binary)?);
    let debian = stage.join("DEBIAN");
    tree::put(&debian.join("control"), control.as_bytes(), 0o644)?;
    tree::put(&debian.join("conffiles"), format!("/{}\n", tree::SETTINGS).as_bytes(), 0o644)?;
    tree::put(&debian.join("md5sums"), sums.as_bytes(), 0o644)?;
    for script in SCRIPTS {
        tree::put(&debian.join(script), &fs::read(folder.join(script))?, 0o755)?;
    }
    tree::settle(stage, SystemTime::UNIX_EPOCH + Duration::from_secs(release.epoch))?;

    let package = release.out.join(format!("edgewright_{}_{architecture}.deb", release.version));
    Run::new("dpkg-deb")
        .args(["--root-owner-group", if release.is_dev { "-Znone" } else { "-Zxz" }, "--build"])
        .args([stage, &package])
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        // More threads compress to other bytes.
        .env("DPKG_DEB_THREADS_MAX", "1")
        .output()?;
    Ok(package)
}

/// Debian's changelog has one entry: what changed is in CHANGELOG.md beside it.
fn changelog(stage: &Path, release: &Release) -> anyhow::Result<()> {
    let date = Run::new("date").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{}", release.epoch));
    let date = date.env("LC_ALL", "C").output()?;
    let text = format!(
        "edgewright ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- Edgewright developers <edgewright@localhost>  {date}",
        release.version
    );
    let file = stage.join("usr/share/doc/edgewright/changelog");
    tree::put(&file, text.as_bytes(), 0o644)?;
    tree::compress(&[file])
}

/// Debian's name of this machine's architecture.
fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        "riscv64" => Ok("riscv64"),
        other => bail!("unknown architecture {other}: add Debian's name of it to xtask/src/dist/deb.rs"),
    }
}

/// The oldest C library that runs a program, such as `2.36`.
fn glibc(binary: &Path) -> anyhow::Result<String> {
    let headers = Run::new("objdump").arg("-p").arg(binary).output().context("objdump is of binutils")?;
    oldest_glibc(&headers)
}

fn oldest_glibc(headers: &str) -> anyhow::Result<String> {
    for line in headers.lines() {
        if let Some(library) = line.trim().strip_prefix("NEEDED") {
            let library = library.trim();
            ensure!(
                LIBRARIES.iter().any(|known| library.starts_with(known)),
                "the program needs {library}: add its package to packaging/deb/control, and it to LIBRARIES"
            );
        }
    }
    let versions = headers.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_2."));
    let newest = versions.filter_map(|minor| minor.split('.').next()?.parse::<u32>().ok()).max();
    Ok(format!("2.{}", newest.context("the program names no version of the C library")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_c_library_is_the_newest_that_is_asked_for() {
        let headers = "  NEEDED               libc.so.6\n\n    0x0 0x00 07 GLIBC_2.4\n    0x0 0x00 07 GLIBC_2.34\n    0x0 0x00 07 GLIBC_2.2.5\n";
        assert_eq!(oldest_glibc(headers).unwrap(), "2.34");
        assert!(oldest_glibc("").is_err());
        let other = oldest_glibc("  NEEDED  libssl.so.3\n GLIBC_2.34").unwrap_err();
        assert!(other.to_string().contains("libssl.so.3"), "{other}");
    }
}
