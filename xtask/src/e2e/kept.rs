//! What a server built, kept in the cache folder: bootstraps take minutes, and are not what is tested.
//!
//! A copy of the server's database and registry is kept, from before it built anything else. The server
//! decides by its keys what it reuses: an old copy costs time, and changes no result.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::command::Run;
use crate::workspace;

/// What is kept of a data folder. Everything else is made by each server.
const KEPT: [&str; 2] = ["control.db", "registry"];

/// A copy of a data folder.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    /// Whether the server runs as root: its files are root's.
    is_root: bool,
}

impl Kept {
    /// The copy of this name, for the present state of these files and folders of the workspace, and of
    /// `version`.
    pub(super) fn new(
        name: &str,
        inputs: &[&str],
        version: Option<&OsStr>,
        is_root: bool,
    ) -> anyhow::Result<Self> {
        let inputs: Vec<&str> = inputs.iter().chain(&workspace::SCHEMAS).copied().collect();
        let fingerprint = workspace::fingerprint(&inputs, version)?;
        Ok(Self { folder: workspace::cache()?.join(format!("{name}-{fingerprint:016x}")), is_root })
    }

    /// Whether there is one.
    pub(super) fn exists(&self) -> bool {
        self.folder.is_dir()
    }

    /// Lays the copy into a data folder. Whether there is one.
    pub(super) fn restore(&self, data: &Path) -> anyhow::Result<bool> {
        if !self.exists() {
            return Ok(false);
        }
        self.program("mkdir")?.args(["--parents", "--mode=0700"]).arg(data).run()?;
        self.copy(&self.folder, data)?;
        Ok(true)
    }

    /// Keeps a copy of a data folder; its server has ended.
    pub(super) fn keep(&self, data: &Path) -> anyhow::Result<()> {
        if data.join("control.db-wal").exists() {
            // The server was killed: its database is more than one file.
            return Ok(());
        }
        // Tests of other checkouts may do the same: the first one wins.
        let new = self.folder.with_extension(format!("new-{}", std::process::id()));
        self.program("mkdir")?.args(["--parents", "--mode=0700"]).arg(&new).run()?;
        self.copy(data, &new)?;
        let place = self.program("mv")?.arg("--no-target-directory").arg(&new).arg(&self.folder);
        if place.succeeds() {
            return Ok(());
        }
        self.program("rm")?.arg("--recursive").arg(&new).run()
    }

    fn copy(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let paths = KEPT.map(|name| from.join(name));
        self.program("cp")?.args(["--archive", "--reflink=auto"]).args(paths).arg(to).run()
    }

    fn program(&self, name: &str) -> anyhow::Result<Run> {
        if self.is_root { Run::as_root(name) } else { Ok(Run::new(name)) }
    }
}
