//! The folders of a demo or an end-to-end test below `target`, and the removal of what an earlier, perhaps
//! killed, one left there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::command::Run;
use crate::workspace;

/// How long a server may take to end its jobs before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The folders and files.
#[derive(Debug)]
pub(crate) struct Place {
    /// `target/NAME`.
    pub(crate) root: PathBuf,
    /// The `edgewright` command.
    pub(crate) program: PathBuf,
    /// An empty home for programs that look for settings of their user.
    pub(crate) home: PathBuf,
    /// The git repository with the source.
    pub(crate) source: PathBuf,
    /// The server's data folder.
    pub(crate) data: PathBuf,
    /// The server's output.
    pub(crate) log: PathBuf,
    /// The server's process id.
    pub(crate) pid: PathBuf,
    /// Where an image is pulled to.
    pub(crate) pulled: PathBuf,
}

impl Place {
    /// A clean place below `target`: stops and removes what an earlier demo of this name left.
    pub(crate) fn prepare(name: &str) -> anyhow::Result<Self> {
        let root = workspace::target().join(name);
        let place = Self {
            program: root.join("edgewright"),
            home: root.join("home"),
            source: root.join("plant-os"),
            data: root.join("data"),
            log: root.join("server.log"),
            pid: root.join("server.pid"),
            pulled: root.join("pulled"),
            root,
        };
        if place.root.exists() {
            place.stop_server()?;
            place.remove_containers();
            place.unmount()?;
            Run::as_root("rm")?.arg("-rf").arg(&place.root).run()?;
        }
        std::fs::create_dir_all(&place.home)?;
        Ok(place)
    }

    /// Ends the server that the pid file names, if it is still one of ours.
    pub(crate) fn stop_server(&self) -> anyhow::Result<()> {
        let Ok(text) = std::fs::read_to_string(&self.pid) else { return Ok(()) };
        let pid: u32 = text.trim().parse().context("the pid file of the demo is not a number")?;
        if self.is_server(pid) {
            signal("TERM", pid)?;
            let deadline = Instant::now() + STOP_LIMIT;
            while self.is_server(pid) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
            if self.is_server(pid) {
                signal("KILL", pid)?;
            }
        }
        std::fs::remove_file(&self.pid)?;
        Ok(())
    }

    /// Process ids are used again: only a live process that names our data folder is our server.
    fn is_server(&self, pid: u32) -> bool {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&*self.data.to_string_lossy())
    }

    /// Containers of a killed server outlive it; the next server would reap them, but its folder is about to
    /// go.
    fn remove_containers(&self) {
        let containers = self.data.join("work/containers");
        // A file in the folder names its run-time state: podman needs short paths.
        let runroot = std::fs::read_to_string(containers.join("runroot"))
            .map_or_else(|_| containers.join("run"), PathBuf::from);
        for program in ["podman", "buildah"] {
            let Ok(command) = Run::as_root(program) else { return };
            let command =
                command.arg("--root").arg(containers.join("storage")).arg("--runroot").arg(&runroot);
            let command = if program == "podman" {
                command.args(["rm", "--force", "--all", "--time", "0"])
            } else {
                command.args(["rm", "--all"])
            };
            // Without containers, or without the program, there is nothing to do.
            command.succeeds();
        }
    }

    /// Unmounts whatever is left below, the deepest first: `rm` must not reach through a mount.
    fn unmount(&self) -> anyhow::Result<()> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let mut below: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| Path::new(point).starts_with(&self.root))
            .collect();
        below.sort_by_key(|point| std::cmp::Reverse(point.len()));
        for point in below {
            if !Run::as_root("umount")?.args(["--lazy", point]).succeeds() {
                bail!("{point} cannot be unmounted: do it by hand, then try again");
            }
        }
        Ok(())
    }
}

fn signal(name: &str, pid: u32) -> anyhow::Result<()> {
    Run::as_root("kill")?.arg(format!("-{name}")).arg(pid.to_string()).run()
}
