//! Go programs, from the public module proxy. The caches of modules and of compiled packages take gigabytes:
//! they are in the cache folder during a build, and removed after it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::cluster::part;
use crate::command::Run;
use crate::setup;

/// The toolchain. An older or newer `go` fetches it as a module.
pub(in crate::cluster) const GO: &str = "1.26.8";
/// How often a build reports where it is.
const PROGRESS: Duration = Duration::from_secs(15);

/// The tool with its caches.
#[derive(Debug)]
pub(super) struct Go {
    program: PathBuf,
    caches: PathBuf,
}

/// One `go build`.
#[derive(Debug)]
pub(super) struct Build<'a> {
    pub(super) what: &'a str,
    /// The folder of the module.
    pub(super) module: &'a Path,
    pub(super) packages: &'a [&'a str],
    /// A file, or a folder if it ends in `/`.
    pub(super) output: String,
    pub(super) flags: &'a [&'a str],
    pub(super) link: String,
    /// With C code in it.
    pub(super) has_c: bool,
}

impl Go {
    /// Finds or installs the tool.
    pub(super) fn prepare() -> anyhow::Result<Self> {
        Ok(Self { program: setup::go()?, caches: part::folder()?.join("go") })
    }

    /// Where a module's files are, once it was built.
    pub(super) fn module(&self, name: &str) -> PathBuf {
        self.caches.join("modules").join(name)
    }

    /// Fetches a module that another one requires. Gives its folder.
    pub(super) fn download(&self, of: &Path, module: &str) -> anyhow::Result<PathBuf> {
        let download = self.command(of, false).args(["mod", "download", "-modcacherw", "-json", module]);
        let answer = download.output().with_context(|| format!("cannot fetch {module}"))?;
        let answer: serde_json::Value = serde_json::from_str(&answer).context("go printed no JSON")?;
        Ok(answer["Dir"].as_str().context("the module has a folder")?.into())
    }

    /// Builds, with progress.
    pub(super) fn build(&self, build: &Build<'_>) -> anyhow::Result<()> {
        let packages = self.count(build)?;
        println!("cluster: compiling {}: {packages} packages", build.what);
        let mut reported = Instant::now();
        let mut compiled = 0;
        let mut line = |line: &str| {
            if line.contains(' ') {
                // Not a package's name: a download, or an error.
                if !line.starts_with("go: downloading") {
                    println!("cluster: {line}");
                }
                return;
            }
            compiled += 1;
            if reported.elapsed() >= PROGRESS {
                reported = Instant::now();
                println!("cluster: compiling {}: {compiled} of up to {packages} packages", build.what);
            }
        };
        self.run(build)
            .args(["build", "-v", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false"])
            .args(build.flags)
            .args(["-ldflags", &format!("-s -w {}", build.link), "-o", &build.output])
            .args(build.packages)
            .output_with_progress(&mut line)
            .with_context(|| format!("cannot compile {}", build.what))?;
        Ok(())
    }

    /// How many packages a build has. Downloads them.
    fn count(&self, build: &Build<'_>) -> anyhow::Result<usize> {
        println!("cluster: fetching the sources of {}", build.what);
        let list = self
            .run(build)
            .args(["list", "-deps", "-mod=readonly", "-modcacherw"])
            .args(build.flags)
            .args(build.packages);
        let packages = list.output().with_context(|| {
            format!("cannot fetch the sources of {}: is https://proxy.golang.org reachable", build.what)
        })?;
        Ok(packages.lines().count())
    }

    fn run(&self, build: &Build<'_>) -> Run {
        self.command(build.module, build.has_c)
    }

    fn command(&self, module: &Path, has_c: bool) -> Run {
        Run::new(&self.program)
            .cwd(module)
            .env("GOTOOLCHAIN", format!("go{GO}"))
            .env("GOFLAGS", "")
            .env("GOWORK", "off")
            .env("GOMODCACHE", self.caches.join("modules"))
            .env("GOCACHE", self.caches.join("build"))
            .env("CGO_ENABLED", if has_c { "1" } else { "0" })
    }
}

/// Removes the caches, once no other process builds with them.
pub(in crate::cluster) fn remove_caches() -> anyhow::Result<()> {
    let folder = part::folder()?;
    let _lock = part::lock(&folder.join("lock"))?;
    part::remove(&folder.join("go"))
}
