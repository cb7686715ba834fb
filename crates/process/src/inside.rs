//! Processes inside containers whose engine was killed: they are not in a process group of this process and
//! do not have its environment variables, but their root is an overlay of its folders.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// Kills the processes whose root file system is an overlay of folders below `folder`; gives their number.
pub fn kill_inside(folder: &Path) -> usize {
    let inside = inside(folder);
    for pid in &inside {
        // It may be gone already.
        let _ = kill_process(*pid, Signal::KILL);
    }
    inside.len()
}

fn inside(folder: &Path) -> Vec<Pid> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter(|pid| {
        let of = |name: &str| format!("/proc/{}/{name}", pid.as_raw_nonzero());
        let table = || fs::read(of("mountinfo")).unwrap_or_default();
        fs::read_link(of("ns/mnt")).ok() != own && has_root_below(&table(), folder)
    })
    .collect()
}

/// Whether the table's *root* is an overlay of folders below `folder`. Services of the host with a mount
/// namespace of their own see our mounts as well, but not as their root.
fn has_root_below(table: &[u8], folder: &Path) -> bool {
    let mut below = escaped(folder.as_os_str().as_bytes());
    below.push(b'/');
    let needles = ["upperdir=", "lowerdir=", "workdir="].map(|option| [option.as_bytes(), &below].concat());
    table.split(|&byte| byte == b'\n').any(|line| {
        let is_root = line.split(|&byte| byte == b' ').nth(4) == Some(b"/");
        let has = |needle: &Vec<u8>| line.windows(needle.len()).any(|window| window == needle);
        is_root && needles.iter().any(has)
    })
}

/// A path as the kernel escapes it in its tables.
fn escaped(path: &[u8]) -> Vec<u8> {
    path.iter().fold(Vec::new(), |mut escaped, &byte| {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => escaped.push(byte),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_root_of_ours_counts() {
        let folder = Path::new("/data/a b/jobs/1");
        let options = "rw,lowerdir=/x/l,upperdir=/data/a\\040b/jobs/1/storage/overlay/5/diff,workdir=/x/w";
        let mounted = |at: &str| {
            format!("22 1 0:30 / /proc rw - proc proc rw\n31 22 0:26 / {at} rw - overlay overlay {options}\n")
        };
        assert!(has_root_below(mounted("/").as_bytes(), folder));
        // A service of the host that sees the container's mount from outside.
        assert!(!has_root_below(mounted("/data/a\\040b/jobs/1/merged").as_bytes(), folder));
        assert!(!has_root_below(mounted("/").as_bytes(), Path::new("/data/a b/jobs/10")));
        assert!(!has_root_below(mounted("/").as_bytes(), Path::new("/data/a")));
        assert_eq!(inside(Path::new("/no/such/folder")), []);
    }
}
