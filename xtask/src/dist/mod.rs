//! `dist`: a Debian package and a tarball of the same files, and what images of devices need, in
//! `target/dist`; the same bytes for the same commit.
//!
//! The package is made by `dpkg-deb`, which is part of every Debian. `cargo-deb` would do as well, but it is
//! compiled from source for minutes on every fresh machine, and man pages, completions and documents have to
//! be made before it starts in any case: only the archive would be left to it. Where `dpkg-deb` is missing,
//! only the tarball is made.

mod deb;
pub(crate) mod image_parts;
mod tarball;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::command::{Run, is_installed};
use crate::workspace;

/// What is packaged, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Compile without optimisation and compress little: for tests.
    is_dev: bool,
    /// A program that exists already; otherwise it is compiled.
    binary: Option<PathBuf>,
    /// The version of the package, if it is not the workspace's: for tests of upgrades.
    version: String,
    out: PathBuf,
}

impl Options {
    fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            is_dev: false,
            binary: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            out: workspace::target().join("dist"),
        };
        for pair in arguments.chunks(2) {
            match *pair {
                ["--profile", "dev"] => options.is_dev = true,
                ["--profile", "release"] => options.is_dev = false,
                ["--binary", path] => options.binary = Some(path.into()),
                ["--version", version] => version.clone_into(&mut options.version),
                ["--out", folder] => options.out = folder.into(),
                _ => bail!(
                    "invalid arguments of dist: `{}`; want --profile release|dev, --binary FILE, --version V, --out DIR",
                    pair.join(" ")
                ),
            }
        }
        Ok(options)
    }
}

/// What both archives need to know.
#[derive(Debug)]
struct Release {
    version: String,
    /// The time of the last commit, in seconds since 1970: the time of every file.
    epoch: u64,
    is_dev: bool,
    out: PathBuf,
}

/// Makes the archives and prints where they are; after the word `image-parts`, only that for images.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let (are_parts, arguments) = match arguments {
        ["image-parts", arguments @ ..] => (true, arguments),
        arguments => (false, arguments),
    };
    let options = Options::parse(arguments)?;
    if are_parts {
        let Options { version, is_dev, out, .. } = options;
        print(&image_parts::write(&Release { version, epoch: epoch()?, is_dev, out })?);
        return Ok(());
    }
    let has_parts = options.binary.is_none();
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => compile(options.is_dev)?,
    };
    let release =
        Release { version: options.version, epoch: epoch()?, is_dev: options.is_dev, out: options.out };
    let stage = release.out.join("stage");
    remove(&stage)?;
    tree::write(&stage, &binary, &release)?;
    print(&tarball::write(&stage, &release)?);
    if is_installed("dpkg-deb") {
        print(&deb::write(&stage, &binary, &release)?);
    } else {
        println!("dist: no Debian package: dpkg-deb is not installed");
    }
    if has_parts {
        print(&image_parts::write(&release)?);
    }
    remove(&stage)
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn print(path: &Path) {
    println!("dist: {}", workspace::shown(path));
}

pub(crate) fn compile(is_dev: bool) -> anyhow::Result<PathBuf> {
    let (profile, folder) = if is_dev { ("dev", "debug") } else { ("release", "release") };
    let arguments = ["build", "--locked", "--package", "edgewright", "--profile", profile];
    Run::new("cargo").args(arguments).cwd(workspace::root()).run()?;
    Ok(workspace::target().join(folder).join("edgewright"))
}

fn epoch() -> anyhow::Result<u64> {
    let time = Run::new("git").args(["log", "-1", "--format=%ct"]).cwd(workspace::root()).output()?;
    time.trim().parse().with_context(|| format!("git printed no time of the last commit: {time:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_pairs() {
        let default = Options::parse(&[]).unwrap();
        assert_eq!((default.is_dev, default.binary), (false, None));
        let options = Options::parse(&["--profile", "dev", "--version", "1.2.3", "--out", "/out"]).unwrap();
        assert_eq!((options.is_dev, options.version.as_str()), (true, "1.2.3"));
        assert_eq!(options.out, Path::new("/out"));
        for wrong in [&["--profile"][..], &["--profile", "test"], &["x", "y"]] {
            assert!(Options::parse(wrong).unwrap_err().to_string().contains(wrong[0]));
        }
    }
}
