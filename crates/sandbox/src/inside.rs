//! What a program in a sandbox does first.

use std::path::Path;

use crate::SandboxError;
use crate::cgroup::SETTLED;

/// Moves this process out of the root of the sandbox's cgroup tree, so that cgroups of containers may be made
/// in it (cgroup v2: no processes in inner nodes).
///
/// # Errors
/// The tree cannot be written: this process is not in a sandbox.
pub fn settle() -> Result<(), SandboxError> {
    let folder = &Path::new("/sys/fs/cgroup").join(SETTLED);
    std::fs::create_dir_all(folder).map_err(SandboxError::io("create the cgroup", folder))?;
    let processes = folder.join("cgroup.procs");
    // The init process of the sandbox, and this one.
    for process in ["1", "0"] {
        std::fs::write(&processes, process).map_err(SandboxError::io("enter the cgroup", &processes))?;
    }
    Ok(())
}
