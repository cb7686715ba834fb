//! The programs and the source of the test.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command::Run;
use crate::demo::place::Place;
use crate::demo::source::Source;
use crate::{setup, workspace};

/// Programs that the image parts bring into the image.
const PROGRAMS: [&str; 2] = ["edgewright-agent", "edgewright-setup-root"];

/// Folders and programs.
#[derive(Debug)]
pub(crate) struct World {
    /// Folders below `target/e2e`.
    pub(crate) place: Place,
    /// The tool image.
    pub(crate) tools: PathBuf,
}

impl World {
    /// Compiles, and lays out the source.
    pub(crate) fn prepare() -> anyhow::Result<Self> {
        setup::run()?;
        let place = Place::prepare("e2e")?;
        let build = ["build", "--locked", "--package", "edgewright", "--package", "edgewright-agent"];
        Run::new("cargo").args(build).cwd(workspace::root()).run()?;
        // Copies, so that a build beside the test does not take programs away.
        std::fs::copy(workspace::target().join("debug/edgewright"), &place.program)?;
        let tools = setup::tool_image(&place.program)?;
        let world = Self { place, tools };
        world.lay_out()?;
        Ok(world)
    }

    fn lay_out(&self) -> anyhow::Result<()> {
        let source = &self.place.source;
        let parts = source.join("images/base/image-parts");
        copy(&folder().join("source"), source)?;
        copy(&workspace::root().join("packaging/image-parts"), &parts)?;
        let programs = parts.join("bin");
        std::fs::create_dir_all(&programs)?;
        for name in PROGRAMS {
            let built = workspace::target().join("debug").join(name);
            // Most of a program is for debuggers.
            Run::new("strip").arg("-o").arg(programs.join(name)).arg(built).run()?;
        }
        Run::new("git")
            .args(["init", "--quiet", "--initial-branch=main"])
            .arg(source)
            .env("HOME", &self.place.home)
            .run()
    }

    /// The source as a repository.
    pub(crate) fn source(&self) -> Source<'_> {
        Source::open(&self.place.source)
    }

    /// Commits a version of the role. Gives the commit.
    pub(crate) fn version(&self, version: u32) -> anyhow::Result<String> {
        let role = self.place.source.join("images/device/files");
        std::fs::remove_dir_all(&role).context("the source of the test has no role")?;
        copy(&folder().join("source/images/device/files"), &role)?;
        copy(&folder().join("versions").join(version.to_string()), &role)?;
        self.source().commit(&format!("version {version}"))
    }

    /// Where the disk of the device is.
    pub(crate) fn disk(&self) -> PathBuf {
        self.place.root.join("disk.raw")
    }
}

/// The test's own files.
fn folder() -> PathBuf {
    workspace::root().join("e2e/device")
}

/// Copies the contents of a folder, with links as they are.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    Run::new("cp").args(["-a", "--no-target-directory"]).arg(from).arg(to).run()
}
