//! The programs and the source of the test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::random::Random;
use crate::command::Run;
use crate::demo::place::Place;
use crate::demo::source::Source;
use crate::dist::image_parts;
use crate::{setup, workspace};

/// Programs that the image parts bring into the image.
const PROGRAMS: [&str; 2] = ["edgewright-agent", "edgewright-setup-root"];

/// The version that devices keep, and what it brings: without data there would be nothing to download.
const GOOD_UPDATE: u32 = 2;
const DATA_FILES: u64 = 64;
const DATA_BYTES: usize = 1 << 17;
/// The lanes of the test's role.
const UNTESTED: &str = "test: none";
/// A role that differs from the test's in all that roles have.
const OTHER: &str = "from: base\nsteps:\n  - files: files\ntest: none\n";
/// The channels of a source whose lanes update devices.
const CHANNELS: &str = "channels:
  stable: {follows: default-branch}
  late: {follows: {channel: stable}}
";

/// How the programs of the image parts are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Programs {
    /// As `cargo xtask test` compiles them.
    Tested,
    /// As they are shipped.
    Released,
}

/// Folders and programs.
#[derive(Debug)]
pub(crate) struct World {
    /// Folders below `target/e2e`.
    pub(crate) place: Place,
    /// The tool image.
    pub(crate) tools: PathBuf,
    /// Where the programs of the image parts were compiled to.
    programs: PathBuf,
}

impl World {
    /// Compiles, and makes the source's repository.
    pub(crate) fn prepare(programs: Programs) -> anyhow::Result<Self> {
        setup::run()?;
        let place = Place::prepare("e2e")?;
        // What `cargo xtask test` compiles, with the same features: nothing is compiled again after it.
        let build = ["build", "--workspace", "--locked", "--bins", "--examples"];
        Run::new("cargo").args(build).cwd(workspace::root()).run()?;
        let programs = match programs {
            Programs::Tested => workspace::target().join("debug"),
            Programs::Released => image_parts::compile(false)?,
        };
        // Copies, so that a build beside the test does not take programs away.
        std::fs::copy(workspace::target().join("debug/edgewright"), &place.program)?;
        let tools = setup::tool_image(&place.program)?;
        Run::new("git")
            .args(["init", "--quiet", "--initial-branch=main"])
            .arg(&place.source)
            .env("HOME", &place.home)
            .run()?;
        Ok(Self { place, tools, programs })
    }

    /// Commits the image that all others start from, alone. Gives the commit.
    pub(super) fn debian(&self) -> anyhow::Result<String> {
        let (from, to) = (source_folder(), &self.place.source);
        let image = "images/debian";
        std::fs::copy(from.join("edgewright.yaml"), to.join("edgewright.yaml"))?;
        std::fs::create_dir_all(to.join("images"))?;
        copy(&from.join(image), &to.join(image))?;
        self.commit("debian")
    }

    /// Commits a version of the role. Gives the commit.
    pub(super) fn version(&self, version: u32) -> anyhow::Result<String> {
        self.lay_out(version)?;
        self.commit(&format!("version {version}"))
    }

    /// Commits a version of the role with a fleet, whose channel has a rollout policy. Gives the commit.
    pub(super) fn fleet_version(&self, version: u32) -> anyhow::Result<String> {
        self.lay_out(version)?;
        copy(&folder().join("fleet"), &self.place.source)?;
        self.commit(&format!("version {version} for the fleet"))
    }

    /// Commits a version of the role with this in place of `test: none`, and beside it the role `other`.
    /// Gives the commit.
    pub(super) fn tested_version(&self, version: u32, test: &str) -> anyhow::Result<String> {
        self.lay_out(version)?;
        let images = self.place.source.join("images");
        let path = images.join("device/image.yaml");
        let role = std::fs::read_to_string(&path)?;
        ensure!(role.contains(UNTESTED), "the test's role has no line `{UNTESTED}`");
        std::fs::write(&path, role.replace(UNTESTED, test))?;
        let files = images.join("other/files/usr/lib/e2e");
        std::fs::create_dir_all(&files)?;
        std::fs::write(files.join("role"), "other\n")?;
        std::fs::write(images.join("other/image.yaml"), OTHER)?;
        let definition = source_folder().join("edgewright.yaml");
        let definition = format!("{}{CHANNELS}", std::fs::read_to_string(definition)?);
        std::fs::write(self.place.source.join("edgewright.yaml"), definition)?;
        self.commit(&format!("version {version}: {}", test.lines().last().unwrap_or_default()))
    }

    /// Lays a version of the role into the source.
    fn lay_out(&self, version: u32) -> anyhow::Result<()> {
        let source = &self.place.source;
        for name in ["images", "edgewright.yaml"] {
            Run::new("rm").args(["--recursive", "--force"]).arg(source.join(name)).run()?;
        }
        copy(&source_folder(), source)?;
        let parts = source.join("images/base/image-parts");
        copy(&workspace::root().join("packaging/image-parts"), &parts)?;
        self.copy_programs(&parts.join("bin"))?;
        let files = folder().join("versions").join(version.to_string());
        let of_role = source.join("images/device/files");
        copy(&files, &of_role)?;
        if version == GOOD_UPDATE {
            write_data(&of_role.join("usr/share/plant"))?;
        }
        Ok(())
    }

    /// Copies what the image parts need, made once: `strip` gives the same bytes, but takes its time.
    fn copy_programs(&self, to: &Path) -> anyhow::Result<()> {
        let stripped = self.place.root.join("programs");
        if !stripped.exists() {
            std::fs::create_dir_all(&stripped)?;
            for name in PROGRAMS {
                let built = self.programs.join(name);
                // Most of a program is for debuggers.
                let strip = Run::new("strip").arg("-o").arg(stripped.join(name)).arg(built);
                strip.run().with_context(|| format!("cannot copy {name}"))?;
            }
        }
        copy(&stripped, to)
    }

    fn commit(&self, message: &str) -> anyhow::Result<String> {
        Source::open(&self.place.source).commit(message)
    }

    /// Where the disk of the device is.
    pub(super) fn disk(&self) -> PathBuf {
        self.place.root.join("disk.raw")
    }

    /// Where the stick with the installer is.
    pub(super) fn stick(&self) -> PathBuf {
        self.place.root.join("stick.iso")
    }
}

/// Files that no compression makes smaller, the same each time.
fn write_data(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for number in 0..DATA_FILES {
        let mut random = Random::new(number);
        let bytes: Vec<u8> = (0..DATA_BYTES).map(|_| random.byte()).collect();
        std::fs::write(folder.join(format!("data-{number}")), bytes)?;
    }
    Ok(())
}

/// The test's own files.
fn folder() -> PathBuf {
    workspace::root().join("e2e/device")
}

/// The source that the test starts with.
pub(super) fn source_folder() -> PathBuf {
    folder().join("source")
}

/// Copies the contents of a folder, with links as they are.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    Run::new("cp").args(["-a", "--no-target-directory"]).arg(from).arg(to).run()
}
