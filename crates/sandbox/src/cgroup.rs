//! Bounds for all processes of a sandbox together.
//!
//! | host | memory and processes | the sandbox's own cgroup2 tree |
//! |---|---|---|
//! | cgroup v2 | `GROUP/memory.max`, `pids.max`, `cpu.weight` | the same folder |
//! | hybrid | v1 hierarchies `memory`, `pids`, `cpu` | below `unified`, without controllers |
//!
//! The sandbox's folder of the cgroup2 tree belongs to its root, so that systemd in a container under test
//! can make cgroups in it. The bounds are files of the host's root.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::SandboxError;
use crate::launch::Bounds;

/// Where the cgroup file systems are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Where this process moves to, so that cgroups beside it can have controllers (cgroup v2 has no processes in
/// inner nodes).
const SERVER: &str = "/server";

/// Where a sandbox's own processes move to, see [`crate::inside::settle`].
pub(crate) const SETTLED: &str = "init";

/// The server's share of the processor beside its jobs: the most that there is.
const SERVER_WEIGHT: &str = "10000";

/// The cgroups of one sandbox. Dropping them kills what is left in them and removes them.
#[derive(Debug)]
pub(crate) struct Cgroups {
    /// The folder of the cgroup2 tree; none: the host has no cgroup2.
    unified: Option<PathBuf>,
    /// Folders of v1 hierarchies.
    legacy: Vec<PathBuf>,
}

/// The folders of the cgroups of a sandbox that outlives its maker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folders {
    unified: Option<PathBuf>,
    legacy: Vec<PathBuf>,
}

impl Folders {
    /// Whether processes are in them.
    pub(crate) fn are_populated(&self) -> bool {
        self.unified.iter().chain(&self.legacy).any(|folder| has_processes(folder))
    }

    /// The files that a process writes `0` to in order to be in them.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        // A sandbox that has settled has its processes in leaves.
        let settled = self.unified.iter().map(|folder| {
            let leaf = folder.join(SETTLED);
            if leaf.is_dir() { leaf } else { folder.clone() }
        });
        self.legacy.iter().cloned().chain(settled).map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// Kills what is in them, and removes them.
    pub(crate) fn clear(self) {
        drop(Cgroups { unified: self.unified, legacy: self.legacy });
    }
}

/// The cgroup trees of a host, and where this process is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Trees {
    unified: Option<(PathBuf, String)>,
    legacy: Vec<(String, PathBuf, String)>,
}

/// Reads `/proc/self/cgroup`.
fn trees(text: &str, root: &Path) -> Trees {
    let mut trees = Trees::default();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(own)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if id == "0" && controllers.is_empty() {
            let hybrid = root.join("unified");
            let mount = if hybrid.is_dir() { hybrid } else { root.to_owned() };
            trees.unified = Some((mount, own.to_owned()));
        } else if let Some(controller) =
            controllers.split(',').find(|name| ["memory", "pids", "cpu"].contains(name))
        {
            trees.legacy.push((controller.to_owned(), root.join(controller), own.to_owned()));
        }
    }
    trees
}

impl Cgroups {
    /// Makes the cgroups of a sandbox called `name`, owned by host ID `owner` where the sandbox may use them.
    ///
    /// # Errors
    /// The trees cannot be written: this process is not root, or its service has no `Delegate=yes`.
    pub(crate) fn make(name: &str, bounds: Bounds, owner: u32) -> Result<Self, SandboxError> {
        let text =
            fs::read_to_string("/proc/self/cgroup").map_err(SandboxError::cgroup("/proc/self/cgroup"))?;
        let trees = trees(&text, Path::new(ROOT));
        let mut cgroups = Self { unified: None, legacy: Vec::new() };
        let has_legacy = !trees.legacy.is_empty();
        for (controller, mount, own) in trees.legacy {
            let folder = below(&mount, &own).join(name);
            fs::create_dir_all(&folder).map_err(SandboxError::cgroup(&folder))?;
            cgroups.legacy.push(folder.clone());
            for (file, value) in legacy_bounds(&controller, bounds) {
                bound(&folder.join(file), &value);
            }
        }
        if let Some((mount, own)) = trees.unified {
            let own = below(&mount, own.strip_suffix(SERVER).unwrap_or(&own));
            if !has_legacy {
                delegate(&own);
            }
            let folder = own.join(name);
            fs::create_dir_all(&folder).map_err(SandboxError::cgroup(&folder))?;
            cgroups.unified = Some(folder.clone());
            if !has_legacy {
                for (file, value) in unified_bounds(bounds) {
                    bound(&folder.join(file), &value);
                }
            }
            for path in [folder.clone(), folder.join("cgroup.procs"), folder.join("cgroup.subtree_control")] {
                std::os::unix::fs::chown(&path, Some(owner), Some(owner))
                    .map_err(SandboxError::cgroup(&path))?;
            }
        }
        Ok(cgroups)
    }

    /// Kills and removes what an earlier process left: all cgroups of this place whose name begins with
    /// `prefix`, and is one of those. Returns how many.
    pub(crate) fn clear(prefix: &str, is_one: &dyn Fn(&str) -> bool) -> usize {
        let (unified, legacy) = found(prefix);
        let is_one =
            |folder: &PathBuf| folder.file_name().is_some_and(|name| is_one(&name.to_string_lossy()));
        let mut cleared = 0;
        for folder in unified.into_iter().filter(is_one) {
            drop(Self { unified: Some(folder), legacy: Vec::new() });
            cleared += 1;
        }
        for folder in legacy.into_iter().filter(is_one) {
            drop(Self { unified: None, legacy: vec![folder] });
        }
        cleared
    }

    /// Leaves what is in them running; their folders.
    pub(crate) fn release(mut self) -> Folders {
        Folders { unified: self.unified.take(), legacy: std::mem::take(&mut self.legacy) }
    }

    /// The files that a process writes `0` to in order to be in the cgroups.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        self.legacy.iter().chain(&self.unified).map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// The cgroup2 mount that the runtime must see at `/sys/fs/cgroup`, if it is another one there: hybrid
    /// hosts.
    pub(crate) fn covering(&self) -> Option<PathBuf> {
        let hybrid = Path::new(ROOT).join("unified");
        (self.unified.is_some() && hybrid.is_dir()).then_some(hybrid)
    }

    /// Kills every process in the cgroups.
    pub(crate) fn kill(&self) {
        if let Some(folder) = &self.unified
            && fs::write(folder.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        for folder in self.legacy.iter().chain(&self.unified) {
            for process in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Some(process) = process.parse().ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
                }
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.kill();
        for folder in self.legacy.iter().chain(&self.unified) {
            remove(folder);
        }
    }
}

/// The cgroups of this place whose name begins with `prefix`: those of the cgroup2 tree, and those of v1.
fn found(prefix: &str) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let Ok(text) = fs::read_to_string("/proc/self/cgroup") else { return Default::default() };
    let trees = trees(&text, Path::new(ROOT));
    let unified = trees.unified.map(|(mount, own)| {
        let own = below(&mount, own.strip_suffix(SERVER).unwrap_or(&own));
        with_prefix(&own, prefix)
    });
    let legacy =
        trees.legacy.into_iter().flat_map(|(_, mount, own)| with_prefix(&below(&mount, &own), prefix));
    (unified.unwrap_or_default(), legacy.collect())
}

/// Whether processes are in a cgroup or one below it.
fn has_processes(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty())
        || fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()) && has_processes(&entry.path()))
}

fn with_prefix(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path()).collect()
}

/// Removes a cgroup with those below it. Processes that were just killed keep it busy for a moment.
fn remove(folder: &Path) {
    // Killed processes leave within milliseconds.
    for _ in 0..100 {
        remove_below(folder);
        if fs::remove_dir(folder).is_ok() || !folder.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn remove_below(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_below(&entry.path());
            drop(fs::remove_dir(entry.path()));
        }
    }
}

fn below(mount: &Path, own: &str) -> PathBuf {
    mount.join(own.trim_start_matches('/'))
}

/// Hands the controllers of a service's cgroup to the cgroups below it. Where that is not permitted (a
/// session's cgroup), the files of bounds are missing.
fn delegate(own: &Path) {
    let server = own.join(SERVER.trim_start_matches('/'));
    drop(fs::create_dir(&server));
    drop(fs::write(server.join("cgroup.procs"), "0"));
    drop(fs::write(own.join("cgroup.subtree_control"), "+memory +pids +cpu"));
    // The server stays responsive, whatever its jobs do.
    drop(fs::write(server.join("cpu.weight"), SERVER_WEIGHT));
}

/// Sets a bound. A kernel without swap accounting, or a session without delegated controllers, has no file
/// for it: the job runs without this bound, which is logged.
fn bound(path: &Path, value: &str) {
    if let Err(error) = fs::write(path, value) {
        tracing::warn!(cgroup.file = %path.display(), %error, "a sandbox runs without a bound");
    }
}

fn legacy_bounds(controller: &str, bounds: Bounds) -> Vec<(&'static str, String)> {
    match controller {
        "memory" => vec![
            ("memory.limit_in_bytes", bounds.memory_bytes.to_string()),
            ("memory.memsw.limit_in_bytes", bounds.memory_bytes.to_string()),
        ],
        "pids" => vec![("pids.max", bounds.processes.to_string())],
        _ => vec![("cpu.shares", (u64::from(bounds.cpu_weight) * 1024 / 100).max(2).to_string())],
    }
}

fn unified_bounds(bounds: Bounds) -> [(&'static str, String); 4] {
    [
        ("memory.max", bounds.memory_bytes.to_string()),
        ("memory.swap.max", "0".to_owned()),
        ("pids.max", bounds.processes.to_string()),
        ("cpu.weight", bounds.cpu_weight.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_read_from_hybrid_and_unified_hosts() {
        let text = "4:memory:/a\n8:pids:/\n1:cpu,cpuacct:/b\n9:name=systemd:/\n0::/c\n";
        let found = trees(text, Path::new("/none"));
        assert_eq!(found.unified, Some(("/none".into(), "/c".to_owned())));
        let names: Vec<&str> = found.legacy.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["memory", "pids", "cpu"]);
        assert_eq!(below(Path::new("/cg/memory"), &found.legacy[0].2), Path::new("/cg/memory/a"));
        let only = trees("0::/system.slice/edgewright.service\n", Path::new("/none"));
        assert!(only.legacy.is_empty() && only.unified.is_some());
    }

    #[test]
    fn weights_of_v2_become_shares_of_v1() {
        let bounds = Bounds { memory_bytes: 1 << 30, processes: 512, cpu_weight: 50 };
        assert_eq!(legacy_bounds("cpu", bounds), [("cpu.shares", "512".to_owned())]);
        assert_eq!(unified_bounds(bounds)[3], ("cpu.weight", "50".to_owned()));
    }
}
