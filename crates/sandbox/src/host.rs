//! What this host offers for sandboxes: what `serve` needs before the first job, and what `doctor` reports.

use std::path::Path;
use std::time::{Duration, Instant};

use edgewright_process::{ProcessContext, Stream};

use crate::launch::{Launch, Network};
use crate::{Bounds, Sandbox, SandboxError};

/// How long a trial may take on a busy host.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How many lines of a failed trial are shown.
const SHOWN_LINES: usize = 5;
/// What a trial may take.
const TRIAL_BOUNDS: Bounds = Bounds { memory_bytes: 256 * 1024 * 1024, processes: 64, cpu_weight: 100 };

/// What the kernel of a host offers, as its files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The release, such as `6.12.9`.
    pub release: String,
    /// How many user namespaces there may be; none: the kernel has none.
    pub user_namespaces: Option<u64>,
    /// Whether overlay file systems are available.
    pub overlay: bool,
    /// Which control groups there are: `v2`, `hybrid` or `v1`; empty: none are mounted.
    pub cgroups: &'static str,
    /// Whether user-mode networks can be made: `/dev/net/tun`.
    pub tun: bool,
    /// Whether there is `/dev/kvm`.
    pub kvm: bool,
}

impl Kernel {
    /// Reads the files of this host; a few, all in memory.
    pub fn read() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let exists = |path: &str| root.join(path).exists();
        let cgroups = if exists("sys/fs/cgroup/cgroup.controllers") {
            "v2"
        } else if exists("sys/fs/cgroup/unified/cgroup.procs") {
            "hybrid"
        } else if exists("sys/fs/cgroup/memory") {
            "v1"
        } else {
            ""
        };
        Self {
            release: text("proc/sys/kernel/osrelease").trim().to_owned(),
            user_namespaces: text("proc/sys/user/max_user_namespaces").trim().parse().ok(),
            // It may be a module that the first mount loads.
            overlay: text("proc/filesystems").lines().any(|line| line.trim_end().ends_with("\toverlay"))
                || exists("sys/module/overlay"),
            cgroups,
            tun: std::fs::OpenOptions::new().read(true).write(true).open(root.join("dev/net/tun")).is_ok(),
            kvm: exists("dev/kvm"),
        }
    }

    /// Whether sandboxes can be made at all.
    ///
    /// # Errors
    /// A feature of the kernel is missing or switched off, named with what to do.
    pub fn require(&self) -> Result<(), SandboxError> {
        let missing = |what, hint| Err(SandboxError::Kernel { what, hint });
        match self.user_namespaces {
            None => return missing("this kernel has no user namespaces", "use a kernel with CONFIG_USER_NS"),
            Some(0) => {
                return missing(
                    "user namespaces are switched off",
                    "set `sysctl user.max_user_namespaces=15000`",
                );
            }
            Some(_) => {}
        }
        if self.cgroups.is_empty() || self.cgroups == "v1" {
            return missing("there is no cgroup2 hierarchy", "mount one at /sys/fs/cgroup, as systemd does");
        }
        if !self.tun {
            return missing(
                "/dev/net/tun is missing, or not for this user",
                "load the module `tun`, and give the node the mode 0666, as udev does",
            );
        }
        Ok(())
    }
}

impl Sandbox {
    /// Starts `program --version` in a sandbox with a network, and returns how long its first line took. What
    /// cannot work fails here, not in the first job.
    ///
    /// # Errors
    /// The sandbox cannot be made, or the program does not succeed in it.
    pub async fn try_out(
        &self,
        program: &Path,
        processes: &ProcessContext,
    ) -> Result<Duration, SandboxError> {
        let launch = Launch {
            name: format!("trial-{}", std::process::id()),
            program: program.to_owned(),
            arguments: vec!["--version".to_owned()],
            environment: Vec::new(),
            mounts: Vec::new(),
            network: Network::Others,
            kvm: false,
            bounds: TRIAL_BOUNDS,
        };
        let began = Instant::now();
        let this = self.clone();
        let lost = |error| SandboxError::Trial { reason: format!("{error}") };
        let (command, sandboxed) =
            tokio::task::spawn_blocking(move || this.prepare(launch)).await.map_err(lost)??;
        // Until the program's first line: the end of a sandbox delays no job.
        let mut took = None;
        let on_line = |stream, _: &str| {
            if stream == Stream::Stdout {
                took.get_or_insert_with(|| began.elapsed());
            }
        };
        let finished = command.context(processes).deadline(TRIAL_TIMEOUT).run_lines_status(on_line).await;
        drop(tokio::task::spawn_blocking(move || drop(sandboxed)).await);
        let finished = finished.map_err(|error| SandboxError::Trial { reason: error.to_string() })?;
        if finished.success() {
            return Ok(took.unwrap_or_else(|| began.elapsed()));
        }
        let lines = &finished.output.stderr_tail;
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ");
        Err(SandboxError::Trial { reason: if shown.is_empty() { finished.ended.to_string() } else { shown } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        Kernel {
            release: "6.1.0".to_owned(),
            user_namespaces: Some(1000),
            overlay: true,
            cgroups: "v2",
            tun: true,
            kvm: false,
        }
    }

    #[test]
    fn each_gap_is_named_with_what_to_do() {
        assert!(kernel().require().is_ok());
        let gaps = [
            (Kernel { user_namespaces: None, ..kernel() }, "no user namespaces", "CONFIG_USER_NS"),
            (Kernel { user_namespaces: Some(0), ..kernel() }, "switched off", "max_user_namespaces"),
            (Kernel { cgroups: "v1", ..kernel() }, "no cgroup2", "/sys/fs/cgroup"),
            (Kernel { tun: false, ..kernel() }, "/dev/net/tun", "module"),
        ];
        for (kernel, what, hint) in gaps {
            let error = kernel.require().unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            let hints = error.hint().unwrap();
            assert!(hints.contains(hint) && hints.contains("--unsafe-host-tools"), "{hints}");
        }
    }

    #[test]
    fn a_host_is_read_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(Kernel::below(root.path()).cgroups, "");
        write("proc/sys/kernel/osrelease", "6.12.9\n");
        write("proc/sys/user/max_user_namespaces", "15000\n");
        write("proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n");
        write("sys/fs/cgroup/unified/cgroup.procs", "");
        write("dev/kvm", "");
        let read = Kernel::below(root.path());
        assert_eq!(
            (read.release.as_str(), read.user_namespaces, read.overlay),
            ("6.12.9", Some(15000), true)
        );
        assert_eq!((read.cgroups, read.tun, read.kvm), ("hybrid", false, true));
    }
}
