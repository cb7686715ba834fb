//! The cgroup of a cluster: which processes are its own, and their end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::place::Place;
use crate::command::Run;

/// How long killed processes may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// The cluster's cgroups, one in each hierarchy.
fn folders(place: &Place) -> anyhow::Result<Vec<PathBuf>> {
    let name = place.cgroup();
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let folders = hierarchies(&mounts).map(|point| Path::new(point).join(&name));
    Ok(folders.filter(|folder| folder.is_dir()).collect())
}

fn hierarchies(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        (matches!(kind, "cgroup" | "cgroup2") && point.starts_with("/sys/fs/cgroup")).then_some(point)
    })
}

/// All processes of the cluster, by their ids on the host.
pub(super) fn processes(place: &Place) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for folder in folders(place)? {
        collect(&folder, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Groups may end while they are read: then they have no processes.
fn collect(folder: &Path, found: &mut Vec<u32>) {
    let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect(&entry.path(), found);
    }
}

/// The id of the node's process 1 on the host, if the node runs.
pub(super) fn first_process(place: &Place) -> anyhow::Result<Option<u32>> {
    let is_first = |process: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        is_first_of_a_namespace(&status)
    };
    Ok(processes(place)?.into_iter().find(is_first))
}

/// Whether a process has the id 1 in the namespace below the host's. Those of pods are further below.
fn is_first_of_a_namespace(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    ids.len() == 2 && ids[1] == "1"
}

/// Kills all processes of the cluster, and removes its cgroups.
pub(super) fn remove(place: &Place) -> anyhow::Result<()> {
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        let left = processes(place)?;
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("killed processes of the cluster are still there: {left:?}");
        }
        // Some may have ended in the meantime.
        Run::as_root("kill")?.arg("-KILL").args(left.iter().map(u32::to_string)).succeeds();
        std::thread::sleep(PAUSE);
    }
    loop {
        let left = folders(place)?;
        if left.is_empty() {
            return Ok(());
        }
        // The kernel removes what ended a moment later: a group may be busy once.
        Run::as_root("find")?
            .args(&left)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
            .succeeds();
        if Instant::now() > deadline {
            bail!("cannot remove the cluster's cgroups: {left:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup /tmp/x/cpu cgroup rw,cpu 0 0\n";
        let found: Vec<&str> = hierarchies(mounts).collect();
        assert_eq!(found, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified"]);
    }

    #[test]
    fn the_first_process_is_neither_the_hosts_nor_a_pods() {
        assert!(is_first_of_a_namespace("Name:\tbash\nNSpid:\t812\t1\n"));
        for ids in ["1", "812\t7", "812\t9\t1", ""] {
            assert!(!is_first_of_a_namespace(&format!("NSpid:\t{ids}\n")), "{ids}");
        }
    }
}
