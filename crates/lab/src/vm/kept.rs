//! Virtual machines that were started with `--keep`: QEMU outlives its job, in a folder of its own, until it
//! is removed or the host restarts. There is at most one for each repository.
//!
//! ```text
//! WORK/vm/kept/NAME/repository   the repository of its image
//! WORK/vm/kept/NAME/guest.sock   the channel into the guest
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use edgewright_model::reference::RepoName;
use edgewright_vm::machine::{attach, quit};
use edgewright_vm::{Channel, ChannelError};

use super::host;
use crate::LabError;
use crate::machine::LaneFault;

const REPOSITORY: &str = "repository";

/// A kept virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVm {
    /// The repository of its image, such as `plant-os/hmi/plant-a`.
    pub repository: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether it runs.
    pub runs: bool,
}

/// The folder of a machine that is about to be kept; one of the same repository ends.
pub(super) async fn make(vm: &Path, repository: &RepoName) -> Result<PathBuf, LaneFault> {
    let folder = vm.join("kept").join(repository.to_string().replace('/', "."));
    let failed =
        |error: io::Error| LaneFault::of_host(format!("cannot create {}: {error}", folder.display()));
    quit(&folder).await;
    let (path, text) = (folder.clone(), repository.to_string());
    let made = tokio::task::spawn_blocking(move || {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&path)?;
        fs::write(path.join(REPOSITORY), text)
    });
    made.await.map_err(io::Error::other).flatten().map_err(failed)?;
    Ok(folder)
}

/// The kept virtual machines of a work folder, by repository.
///
/// # Errors
/// Their folder cannot be read.
pub async fn list(work: &Path) -> Result<Vec<KeptVm>, LabError> {
    let folder = host::folder(work).join("kept");
    let listed = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || entries(&folder)
    });
    let found = listed.await.map_err(io::Error::other).flatten().map_err(LabError::io("read", &folder))?;
    let mut kept = Vec::new();
    for (repository, folder) in found {
        let runs = attach(&folder).await.is_ok();
        kept.push(KeptVm { repository, folder, runs });
    }
    kept.sort_by(|a, b| a.repository.cmp(&b.repository));
    Ok(kept)
}

fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let named = |entry: fs::DirEntry| {
        let repository = fs::read_to_string(entry.path().join(REPOSITORY)).ok()?;
        Some((repository, entry.path()))
    };
    Ok(entries.flatten().filter_map(named).collect())
}

/// Ends kept virtual machines and removes their files.
///
/// # Errors
/// Their files cannot be removed.
pub async fn remove(machines: &[KeptVm]) -> Result<(), LabError> {
    for machine in machines {
        quit(&machine.folder).await;
        tokio::fs::remove_dir_all(&machine.folder).await.map_err(LabError::io("remove", &machine.folder))?;
    }
    Ok(())
}

/// Connects to a kept virtual machine.
///
/// # Errors
/// It does not run.
pub async fn enter(machine: &KeptVm) -> Result<Channel, ChannelError> {
    let channel = attach(&machine.folder).await?;
    channel.greeting().await?;
    Ok(channel)
}
