//! The check runner's binary in the work folder: `WORK/runner/SHA256/edgewright-checks`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use edgewright_model::Digest;

use crate::error::LabError;

/// The program's name, on the host and in the machine under test.
pub const PROGRAM: &str = "edgewright-checks";

/// A check runner on disk, alone in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// The binary.
    pub path: PathBuf,
    /// Its digest, an input of every verdict.
    pub digest: Digest,
}

impl Runner {
    /// Installs the binary in a folder that can be mounted into containers; does nothing if it is there
    /// already.
    pub fn install(work: &Path, binary: &[u8]) -> Result<Self, LabError> {
        let digest = Digest::of(binary);
        let folder = work.join("runner").join(digest.hex());
        let path = folder.join(PROGRAM);
        let is_whole = fs::metadata(&path).is_ok_and(|found| found.len() == binary.len() as u64);
        if !is_whole {
            fs::create_dir_all(&folder).map_err(LabError::io("create", &folder))?;
            let write = || -> std::io::Result<()> {
                let mut file = tempfile::NamedTempFile::new_in(work.join("runner"))?;
                file.write_all(binary)?;
                file.as_file().set_permissions(fs::Permissions::from_mode(0o755))?;
                file.as_file().sync_all()?;
                file.persist(&path)?;
                Ok(())
            };
            write().map_err(LabError::io("write", &path))?;
        }
        Ok(Self { path, digest })
    }

    /// The folder that is mounted into machines.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_once_and_repaired() {
        let work = tempfile::tempdir().unwrap();
        let runner = Runner::install(work.path(), b"#!/bin/true").unwrap();
        assert_eq!(fs::metadata(&runner.path).unwrap().permissions().mode() & 0o777, 0o755);
        let made = fs::metadata(&runner.path).unwrap().modified().unwrap();
        assert_eq!(Runner::install(work.path(), b"#!/bin/true").unwrap(), runner);
        assert_eq!(fs::metadata(&runner.path).unwrap().modified().unwrap(), made);
        fs::write(&runner.path, "cut").unwrap();
        Runner::install(work.path(), b"#!/bin/true").unwrap();
        assert_eq!(fs::read(&runner.path).unwrap(), b"#!/bin/true");
        assert_eq!(fs::read_dir(runner.folder()).unwrap().count(), 1);
    }
}
